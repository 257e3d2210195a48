use super::*;

fn converted<const N: usize>(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / N];
    to_f32(dtype).unwrap().1(bytes, &mut out);
    out
}

#[test]
fn every_f16_equals_the_half_crate() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let ours = converted::<2>(&bytes, Dtype::F16);
    for (bits, ours) in (0..=u16::MAX).zip(ours) {
        let theirs = half::f16::from_bits(bits).to_f32();
        if theirs.is_nan() {
            assert!(ours.is_nan(), "{bits:#x}");
        } else {
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#x}");
        }
    }
}

#[test]
fn bf16_and_f32_keep_their_bits() {
    let bf16 = [0x80, 0x3f, 0x80, 0xbf, 0x01, 0x00];
    let expected = [1.0, -1.0, f32::from_bits(1 << 16)];
    assert_eq!(converted::<2>(&bf16, Dtype::Bf16), expected);
    let long: Vec<f32> = (0u16..u16::MAX).flat_map(|i| [f32::from(i), -0.5]).collect();
    let bytes: Vec<u8> = long.iter().flat_map(|f| f.to_le_bytes()).collect();
    assert_eq!(converted::<4>(&bytes, Dtype::F32), long);
}

#[test]
fn integers_are_not_read_as_floats() {
    assert!(to_f32(Dtype::I64).is_none());
}
