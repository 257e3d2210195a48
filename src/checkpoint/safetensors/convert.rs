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
mod tests;
