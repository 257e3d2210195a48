//! Against the definition, where the processor multiplies bytes.

use super::*;

#[test]
fn sums_are_those_of_all_bytes() {
    let words: Vec<f32> =
        (0..3 * 41).map(|i: u32| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect();
    let exact = |number: &dyn Fn(u8) -> i32| -> Vec<i32> {
        let bytes = |words: &[f32]| -> i32 {
            words.iter().flat_map(|word| word.to_bits().to_le_bytes()).map(number).sum()
        };
        words.chunks(41).flat_map(|row| row.chunks(18)).map(bytes).collect()
    };
    let (unsigned, signed) = (exact(&|x| x.into()), exact(&|x| x.cast_signed().into()));
    for par in [Par::Seq, Par::All] {
        let isa = Isa::bytes();
        assert!(isa.is_none_or(|isa| isa.sums::<false>(&words, 41, 18, par) == unsigned));
        assert!(isa.is_none_or(|isa| isa.sums::<true>(&words, 41, 18, par) == signed));
    }
}
