//! Numbers on a grid become integers, two or four of them a word. They are checked on the way: a wrong
//! claim about a grid costs time, not truth.

use super::super::buffer::Buffer;
use super::super::in_pieces;
use super::super::simd::{ROUNDER, dispatch};
use super::{Par, Steps};
use std::sync::atomic::{AtomicBool, Ordering};

/// How far from a whole number a multiple may lie: rounding to f32 takes it 2⁻⁷ away at most.
const TOLERANCE: f32 = 1.0 / 32.0;

/// Rows of `k` numbers as rows of words of `of` multiples each, from which `lows` are taken, all the same
/// or one for each row, or nothing if there are none; none if one of them is no such multiple, or does not
/// fit.
pub(super) fn gathered(
    data: &[f32],
    k: usize,
    steps: Steps<'_>,
    (of, lows): (usize, &[i32]),
    par: Par,
) -> Option<Buffer> {
    let (k, width) = (k.max(1), k.div_ceil(of).max(1));
    let mut out = Buffer::arbitrary(data.len() / k * width);
    let wrong = AtomicBool::new(false);
    let limits = steps.limits.map(|limit| limit as f32);
    // Full rows of one step are one long row.
    let long = k.is_multiple_of(of) && steps.sizes.len() == 1 && lows.len() <= 1;
    in_pieces(&mut out, width, par, |at, out| {
        let each = if long { out.len() } else { width };
        for (i, out) in out.chunks_exact_mut(each).enumerate() {
            let row = (at + i * each) / width;
            let inverse = steps.sizes[if steps.sizes.len() == 1 { 0 } else { row }].recip();
            let low = match lows {
                [] => 0,
                [low] => *low,
                lows => lows[row],
            };
            let row = &data[row * k..][..each / width * k];
            let right = match of {
                4 => fours(out, row, inverse, limits, low.cast_unsigned()),
                _ => pairs(out, row, inverse, limits),
            };
            if !right {
                wrong.store(true, Ordering::Relaxed);
            }
        }
    });
    (!wrong.into_inner()).then_some(out)
}

/// Numbers that are rounded at a time.
const BLOCK: usize = 16;

/// Numbers that have been rounded: whether one was far from a whole one, and the extremes, in lanes.
struct Seen {
    off: [u32; BLOCK],
    least: [f32; BLOCK],
    most: [f32; BLOCK],
}

impl Seen {
    fn nothing() -> Seen {
        Seen { off: [0; BLOCK], least: [0.0; BLOCK], most: [0.0; BLOCK] }
    }

    /// A number that should be whole, two's complement in the lower 22 bits.
    #[inline(always)]
    fn whole(&mut self, lane: usize, x: f32) -> u32 {
        let rounded = x + ROUNDER;
        let whole = rounded - ROUNDER;
        // NaN is near to nothing.
        self.off[lane] |= if (x - whole).abs() <= TOLERANCE { 0 } else { u32::MAX };
        self.least[lane] = if whole < self.least[lane] { whole } else { self.least[lane] };
        self.most[lane] = if whole > self.most[lane] { whole } else { self.most[lane] };
        rounded.to_bits()
    }

    /// Whether all were whole and within these limits.
    #[inline(always)]
    fn right(&self, limits: [f32; 2]) -> bool {
        self.off == [0; BLOCK]
            && self.least.into_iter().all(|least| limits[0] <= least)
            && self.most.into_iter().all(|most| most <= limits[1])
    }
}

/// A loop over blocks of numbers and what is left of them, the same for words of two and of four.
macro_rules! packed {
    ($out:ident, $row:ident, $inverse:ident, $of:literal, $part:ty, |$whole:ident| $bits:expr, $word:expr) => {{
        let (blocks, rest) = $row.as_chunks::<BLOCK>();
        let (words, last) = $out.split_at_mut(blocks.len() * BLOCK / $of);
        let mut seen = Seen::nothing();
        for (words, block) in words.as_chunks_mut::<{ BLOCK / $of }>().0.iter_mut().zip(blocks) {
            let mut parts: [$part; BLOCK] = [0; BLOCK];
            for i in 0..BLOCK {
                let $whole = seen.whole(i, block[i] * $inverse);
                parts[i] = $bits;
            }
            for (word, parts) in words.iter_mut().zip(parts.as_chunks::<$of>().0) {
                *word = f32::from_bits($word(*parts));
            }
        }
        for (word, some) in last.iter_mut().zip(rest.chunks($of)) {
            let mut parts: [$part; $of] = [0; $of];
            for (part, x) in parts.iter_mut().zip(some) {
                let $whole = seen.whole(0, x * $inverse);
                *part = $bits;
            }
            *word = f32::from_bits($word(parts));
        }
        seen
    }};
}

dispatch! {
    fn pairs(out: &mut [f32], row: &[f32], inverse: f32, limits: [f32; 2]) -> bool {
        let word = |[low, high]: [u16; 2]| u32::from(low) | u32::from(high) << 16;
        packed!(out, row, inverse, 2, u16, |whole| whole as u16, word).right(limits)
    }
}

dispatch! {
    fn fours(out: &mut [f32], row: &[f32], inverse: f32, limits: [f32; 2], low: u32) -> bool {
        let bytes = packed!(out, row, inverse, 4, u8, |whole| whole.wrapping_sub(low) as u8, u32::from_le_bytes);
        bytes.right(limits)
    }
}

dispatch! {
    /// The smallest and the largest of multiples of a step; NaN is neither.
    pub(super) fn range(numbers: &[f32], inverse: f32) -> [f32; 2] {
        let mut seen = Seen::nothing();
        let (blocks, rest) = numbers.as_chunks::<BLOCK>();
        for block in blocks {
            for (i, x) in block.iter().enumerate() {
                seen.whole(i, x * inverse);
            }
        }
        rest.iter().for_each(|x| _ = seen.whole(0, x * inverse));
        let least = seen.least.into_iter().fold(0.0, f32::min);
        [least, seen.most.into_iter().fold(0.0, f32::max)]
    }
}

#[cfg(test)]
mod tests;
