//! Against the library's bf16.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn numbers_are_rounded_as_bf16_is_defined(bits: u32, next: u32) {
        let two = [bits, next].map(f32::from_bits);
        let word = paired(&two, 2, Par::Seq)[0].to_bits();
        for (x, half) in two.into_iter().zip([word as u16, (word >> 16) as u16]) {
            let (ours, theirs) = (half::bf16::from_bits(half), half::bf16::from_f32(x));
            prop_assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{x}: {ours}");
            let apart = half::bf16::from_f32(rounded(&[x], Par::Seq)[0]);
            prop_assert!(apart == ours || apart.is_nan() && ours.is_nan(), "{x}: {apart}");
        }
    }
}

#[test]
fn odd_rows_end_with_a_zero() {
    let words: Vec<u32> = paired(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, Par::Seq)
        .iter()
        .map(|word| word.to_bits())
        .collect();
    assert_eq!(words, [0x4000_3f80, 0x0000_4040, 0x40a0_4080, 0x0000_40c0]);
}
