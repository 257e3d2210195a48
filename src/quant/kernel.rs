//! The loops over slices, compiled once for each instruction set and chosen at run time.
//!
//! The instruction sets differ in width only: no fused multiply-add is ever emitted, so all of them give
//! the same bits.

use crate::tensor::Par;
use crate::tensor::simd::{ROUNDER, dispatch, joined};
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

/// Lanes of the search: three arrays of them fill twelve of AVX2's sixteen registers.
const LANES: usize = 32;

/// Blocks of `N` values that cover `data`, which is not shorter; the last two may overlap, which does not
/// change an extreme.
#[inline(always)]
fn blocks<const N: usize>(data: &[f32]) -> impl Iterator<Item = &[f32; N]> {
    let (whole, rest) = data.as_chunks::<N>();
    whole.iter().chain(data.last_chunk::<N>().filter(|_| !rest.is_empty()))
}

/// Bits that order like |x|, NaN above infinity.
#[inline(always)]
fn size(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// One instruction each, unlike `f32::min` and `f32::max`: a NaN in `x` leaves the other.
#[inline(always)]
fn lower(low: f32, x: f32) -> f32 {
    if x < low { x } else { low }
}

#[inline(always)]
fn higher(high: f32, x: f32) -> f32 {
    if x > high { x } else { high }
}

#[inline(always)]
fn extremes_by<const N: usize>(data: &[f32], out: &mut Extremes) {
    let mut low = [f32::INFINITY; N];
    let mut high = [f32::NEG_INFINITY; N];
    let mut seen = [0_u32; N];
    blocks(data).for_each(|block: &[f32; N]| {
        for lane in 0..N {
            let x = block[lane];
            low[lane] = lower(low[lane], x);
            high[lane] = higher(high[lane], x);
            seen[lane] = seen[lane].max(size(x));
        }
    });
    (out.min, out.max) = (joined(low, lower), joined(high, higher));
    out.magnitude = joined(seen, u32::max);
}

dispatch! {
    /// Smallest, largest and largest-magnitude value; NaN shows in the magnitude only.
    pub(super) fn extremes_into(data: &[f32], out: &mut Extremes) {
        match data.len() {
            LANES.. => extremes_by::<LANES>(data, out),
            8.. => extremes_by::<8>(data, out),
            _ => extremes_by::<1>(data, out),
        }
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
            (*low, *high) = (lower(*low, x), higher(*high, x));
            seen = seen.max(size(x));
        }
        *magnitude = seen.max(*magnitude);
    }
}

#[inline(always)]
fn peaks_by<const N: usize>(data: &[f32], width: usize, out: &mut Extremes) {
    let mut seen = [0_u32; N];
    for row in data.chunks_exact(width) {
        let mut high = [f32::NEG_INFINITY; N];
        blocks(row).for_each(|block: &[f32; N]| {
            for lane in 0..N {
                let x = block[lane];
                high[lane] = higher(high[lane], x);
                seen[lane] = seen[lane].max(size(x));
            }
        });
        let peak = joined(high, higher);
        (out.min, out.max) = (lower(out.min, peak), higher(out.max, peak));
    }
    out.magnitude = out.magnitude.max(joined(seen, u32::max));
}

dispatch! {
    /// Smallest and largest maximum of rows of `width`; NaN shows in the magnitude only.
    pub(super) fn peaks_into(data: &[f32], width: usize, out: &mut Extremes) {
        match width {
            LANES.. => peaks_by::<LANES>(data, width, out),
            8.. => peaks_by::<8>(data, width, out),
            _ => peaks_by::<1>(data, width, out),
        }
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
    match Par::free() {
        Par::All if data.len() >= LARGE => {
            data.par_chunks(LARGE / 16).map(one).reduce(|| Extremes::NONE, Extremes::join)
        }
        _ => one(data),
    }
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
