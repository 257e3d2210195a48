//! The loops over slices, compiled once for each instruction set and chosen at run time.
//!
//! The instruction sets differ in width only: no fused multiply-add is ever emitted, so all of them give
//! the same bits.

use crate::tensor::simd::dispatch;
use rayon::prelude::*;

/// From so many elements on, one thread alone would wait for memory.
pub(super) const LARGE: usize = 1 << 20;

/// One grid, prepared for the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// `1 / scale`, rounded to f32: torch multiplies by it instead of dividing.
    pub(super) inverse: f32,
    pub(super) scale: f32,
    /// `qmin - zero_point`.
    pub(super) low: f32,
    /// `qmax - zero_point`.
    pub(super) high: f32,
}

/// Adding and subtracting it rounds |x| < 2^22 to an integer, ties to even, and turns -0 into 0 as
/// torch's integer detour does.
const ROUNDER: f32 = 12_582_912.0;

/// `clamp(rne(x / scale))` relative to the zero point; NaN goes to `low`, like torch's cast.
///
/// The bounds are integers, so clamping before rounding equals torch's clamping after it, and keeps
/// the rounding trick inside its domain.
#[inline(always)]
fn step(x: f32, grid: Grid) -> f32 {
    let x = x * grid.inverse;
    let x = if x > grid.low { x } else { grid.low };
    let x = if x < grid.high { x } else { grid.high };
    (x + ROUNDER) - ROUNDER
}

#[inline(always)]
fn fake_quant_body(data: &mut [f32], grid: Grid) {
    for x in data {
        *x = step(*x, grid) * grid.scale;
    }
}

/// The integer of a value.
#[inline(always)]
fn code(x: f32, grid: Grid, zero_point: i32) -> i32 {
    // a rounded value plus ROUNDER holds its integer in the low bits of the pattern: `as` would
    // check for NaN and overflow, which cannot happen here
    let bits = (step(x, grid) + ROUNDER).to_bits() as i32;
    bits - ROUNDER.to_bits() as i32 + zero_point
}

dispatch! {
    /// Snaps every value to `grid`.
    pub(super) fn fake_quant(data: &mut [f32], grid: Grid) {
        fake_quant_body(data, grid);
    }
}

dispatch! {
    /// Snaps the i-th value to the i-th grid.
    pub(super) fn fake_quant_row(data: &mut [f32], grids: &[Grid]) {
        for (x, &grid) in data.iter_mut().zip(grids) {
            *x = step(*x, grid) * grid.scale;
        }
    }
}

dispatch! {
    /// The integer of every value.
    pub(super) fn quantize(data: &[f32], out: &mut [i32], grid: Grid, zero_point: i32) {
        for (x, q) in data.iter().zip(out) {
            *q = code(*x, grid, zero_point);
        }
    }
}

dispatch! {
    /// The lowest bits of the integer of every value.
    pub(super) fn quantize_bytes(data: &[f32], out: &mut [u8], grid: Grid, zero_point: i32) {
        for (x, q) in data.iter().zip(out) {
            *q = code(*x, grid, zero_point) as u8;
        }
    }
}

dispatch! {
    /// The same, two bytes each, in little endian.
    pub(super) fn quantize_words(data: &[f32], out: &mut [[u8; 2]], grid: Grid, zero_point: i32) {
        for (x, q) in data.iter().zip(out) {
            *q = (code(*x, grid, zero_point) as u16).to_le_bytes();
        }
    }
}

dispatch! {
    /// The low halves of two bytes each as one byte, the first in the low half.
    pub(super) fn join_nibbles(codes: &[[u8; 2]], out: &mut [u8]) {
        for (pair, byte) in codes.iter().zip(out) {
            let pair = u16::from_le_bytes(*pair);
            *byte = (pair & 0xf | pair >> 4 & 0xf0) as u8;
        }
    }
}

/// Extremes of a slice, and the largest bit pattern of |x|: not below that of infinity exactly if
/// some value is not finite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    pub(super) min: f32,
    pub(super) max: f32,
    magnitude: u32,
}

impl Extremes {
    pub(super) fn finite(self) -> bool {
        self.magnitude < f32::INFINITY.to_bits()
    }
}

const LANES: usize = 64;

dispatch! {
    /// Smallest, largest and largest-magnitude value; NaN shows in the magnitude only.
    pub(super) fn extremes_into(data: &[f32], out: &mut Extremes) {
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        let mut magnitude = [0_u32; LANES];
        let mut chunks = data.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                let x = chunk[lane];
                low[lane] = if x < low[lane] { x } else { low[lane] };
                high[lane] = if x > high[lane] { x } else { high[lane] };
                magnitude[lane] = magnitude[lane].max(x.to_bits() & 0x7fff_ffff);
            }
        }
        for (lane, &x) in chunks.remainder().iter().enumerate() {
            low[lane] = if x < low[lane] { x } else { low[lane] };
            high[lane] = if x > high[lane] { x } else { high[lane] };
            magnitude[lane] = magnitude[lane].max(x.to_bits() & 0x7fff_ffff);
        }
        // by halves: a fold from left to right would cost more than a short row itself
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                low[lane] = if low[lane + half] < low[lane] { low[lane + half] } else { low[lane] };
                high[lane] =
                    if high[lane + half] > high[lane] { high[lane + half] } else { high[lane] };
                magnitude[lane] = magnitude[lane].max(magnitude[lane + half]);
            }
            half /= 2;
        }
        (out.min, out.max, out.magnitude) = (low[0], high[0], magnitude[0]);
    }
}

dispatch! {
    /// Folds the i-th value into the i-th extremes, and all magnitudes into one.
    pub(super) fn extremes_row(
        data: &[f32],
        low: &mut [f32],
        high: &mut [f32],
        magnitude: &mut u32,
    ) {
        let mut seen = 0;
        for ((&x, low), high) in data.iter().zip(low).zip(high) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
            seen = seen.max(x.to_bits() & 0x7fff_ffff);
        }
        *magnitude = seen.max(*magnitude);
    }
}

dispatch! {
    /// Smallest and largest maximum of rows of `width`; NaN shows in the magnitude only.
    pub(super) fn peaks_into(data: &[f32], width: usize, out: &mut Extremes) {
        const LANES: usize = 8;
        let mut magnitude = [0_u32; LANES];
        for row in data.chunks_exact(width) {
            let mut high = [f32::NEG_INFINITY; LANES];
            let chunks = row.chunks_exact(LANES);
            let rest = chunks.remainder();
            for chunk in chunks.chain([rest]) {
                for ((&x, high), seen) in chunk.iter().zip(&mut high).zip(&mut magnitude) {
                    *high = if x > *high { x } else { *high };
                    *seen = (*seen).max(x.to_bits() & 0x7fff_ffff);
                }
            }
            let peak = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
            (out.min, out.max) = (out.min.min(peak), out.max.max(peak));
        }
        out.magnitude = magnitude.into_iter().fold(out.magnitude, u32::max);
    }
}

impl Extremes {
    const NONE: Extremes = Extremes { min: f32::INFINITY, max: f32::NEG_INFINITY, magnitude: 0 };

    fn join(self, other: Extremes) -> Extremes {
        Extremes {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            magnitude: self.magnitude.max(other.magnitude),
        }
    }
}

/// Extremes of `data`; of nothing, an empty range.
pub(super) fn extremes(data: &[f32]) -> Extremes {
    let one = |data: &[f32]| {
        let mut out = Extremes::NONE;
        extremes_into(data, &mut out);
        out
    };
    if data.len() < LARGE {
        return one(data);
    }
    data.par_chunks(LARGE / 16).map(one).reduce(|| Extremes::NONE, Extremes::join)
}

/// Extremes of the maxima of rows of `width`; of nothing, an empty range.
pub(super) fn peaks(data: &[f32], width: usize) -> Extremes {
    let mut out = Extremes::NONE;
    peaks_into(data, width, &mut out);
    out
}

/// The portable versions, for comparison with whatever this machine dispatches to.
#[cfg(test)]
pub(super) mod portable {
    use super::*;

    pub(in super::super) fn fake_quant(data: &mut [f32], grid: Grid) {
        fake_quant_body(data, grid);
    }

    /// As the reference writes it: round, add the zero point, clamp, subtract it, scale.
    pub(in super::super) fn reference(x: f32, scale: f32, zero: i32, qmin: i32, qmax: i32) -> f32 {
        let q = zero as f32 + (x * (1.0 / scale)).round_ties_even();
        let q = f64::from(q).max(f64::from(qmin)).min(f64::from(qmax));
        ((q - f64::from(zero)) * f64::from(scale)) as f32
    }
}
