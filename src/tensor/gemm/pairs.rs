//! Operands of bf16 products. Where the processor multiplies pairs: two neighbours along the reduction
//! in one 32-bit word, the earlier one in its low half, as its dot product of pairs takes them.
//!
//! Words travel as the f32 of the same bits, so that they live in the stock of all payloads and in
//! the panels and tiles of f32 products; nobody computes with them as numbers.

use super::super::buffer::Buffer;
use super::super::in_pieces;
use super::super::simd::dispatch;
use super::Par;

/// The bits of a word that are its later bf16, or the rounded number itself.
const UPPER: u32 = 0xffff_0000;

/// Words of a row of `k` numbers.
pub(super) fn words(k: usize) -> usize {
    k.div_ceil(2)
}

/// Rows of `k` numbers as rows of words, each number rounded to bf16, ties to even; an odd row ends
/// with a zero.
pub(super) fn paired(data: &[f32], k: usize, par: Par) -> Buffer {
    let mut out = Buffer::arbitrary(data.len() / k.max(1) * words(k));
    in_pieces(&mut out, words(k), par, |at, out| {
        let from = at / words(k).max(1) * k;
        pair(out, &data[from..from + out.len() / words(k).max(1) * k], k);
    });
    out
}

/// Numbers rounded to bf16, ties to even, each in a word of its own: for processors that multiply f32.
pub(super) fn rounded(data: &[f32], par: Par) -> Buffer {
    let mut out = Buffer::arbitrary(data.len());
    in_pieces(&mut out, 1, par, |at, out| round(out, &data[at..at + out.len()]));
    out
}

dispatch! {
    fn round(out: &mut [f32], data: &[f32]) {
        for (out, x) in out.iter_mut().zip(data) {
            *out = f32::from_bits(nearest(*x) & UPPER);
        }
    }
}

dispatch! {
    fn pair(out: &mut [f32], data: &[f32], k: usize) {
        for (out, row) in out.chunks_exact_mut(words(k).max(1)).zip(data.chunks_exact(k.max(1))) {
            let whole = row.chunks_exact(2);
            let rest = whole.remainder();
            for (word, two) in out.iter_mut().zip(whole) {
                *word = f32::from_bits(nearest(two[0]) >> 16 | nearest(two[1]) & UPPER);
            }
            if let ([last], Some(word)) = (rest, out.last_mut()) {
                *word = f32::from_bits(nearest(*last) >> 16);
            }
        }
    }
}

/// The bits of `x`, of which the upper sixteen are its bf16; the lower ones have no meaning.
#[inline(always)]
fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // Rounding must not carry a NaN over into a number; a set quiet bit keeps it one.
    if x.is_nan() { bits | 0x0040_0000 } else { nearest }
}

#[cfg(test)]
mod tests;
