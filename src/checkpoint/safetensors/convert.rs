//! Stored floats to f32. The loops are plain so that the compiler vectorizes them; callers split
//! large tensors over threads because one thread does not saturate the memory.

use super::dtype::Dtype;

/// Elements that one task converts: 256 KiB of output stays in the second-level cache.
pub(super) const TASK: usize = 1 << 16;

/// Writes all elements of its bytes as f32.
pub(super) type Convert = fn(&[u8], &mut [f32]);

/// Bytes of an element and how `dtype` becomes f32, or nothing if it is no float. Exact: every f16
/// and bf16 is an f32.
pub(super) fn to_f32(dtype: Dtype) -> Option<(usize, Convert)> {
    Some(match dtype {
        Dtype::F32 => (4, |bytes, out| map(bytes, out, f32::from_le_bytes)),
        Dtype::Bf16 => (2, |bytes, out| {
            map(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
        }),
        Dtype::F16 => (2, |bytes, out| map(bytes, out, |b| f16_to_f32(u16::from_le_bytes(b)))),
        _ => return None,
    })
}

fn map<const N: usize>(bytes: &[u8], out: &mut [f32], one: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    assert_eq!(elements.len(), out.len(), "the header check makes bytes fill the shape");
    for (o, &e) in out.iter_mut().zip(elements) {
        *o = one(e);
    }
}

/// Without a branch: the bits go to their f32 place, which leaves the exponent 112 too small. One
/// multiplication repairs it and normalizes subnormals; infinity and NaN need their exponent set.
fn f16_to_f32(half: u16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    const INFINITY: u32 = 0x7c00 << 13;
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    let special = magnitude | 0x7f80_0000;
    f32::from_bits(sign | if magnitude >= INFINITY { special } else { finite })
}

#[cfg(test)]
mod tests {
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
}
