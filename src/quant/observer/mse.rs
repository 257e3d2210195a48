//! Ranges that minimise the squared error of a grid.

use serde::{Deserialize, Serialize};

use super::histogram::Bucket;
use super::{Histograms, Merge, MergeError, Observer};
use crate::quant::{DType, Grain, NoRange, QuantParams, Range, Scheme};
use crate::tensor::simd::{dispatch, joined};

/// Shares of the full range that the coarse search tries.
const COARSE: usize = 48;
/// Bits of a grid whose zero point is a coarse choice.
const FEW_BITS: u8 = 4;
/// An end that is shorter than this share of the other is searched by itself.
const SHORT: f32 = 0.25;
/// Rounds of refinement; each divides the step by two.
const REFINE: usize = 5;

/// Clips where the expected squared error of a grid of `dtype` is least.
///
/// The trade of OCTAV (Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation",
/// ICML 2022): a wider range rounds coarsely, a narrower one clips more. Instead of its Newton
/// iteration under a noise model, the error is integrated over a histogram, values spread
/// evenly within a bucket, and searched directly; that holds at two bits too, and at ranges that
/// are not symmetric. Never worse under that estimate than min-max.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mse {
    dtype: DType,
    symmetric: bool,
    values: Histograms,
}

impl Mse {
    /// For a grid of `dtype` and `scheme`.
    pub fn new(dtype: DType, scheme: Scheme) -> Mse {
        Mse { dtype, symmetric: scheme.symmetric, values: Histograms::new(scheme.grain) }
    }

    fn choose(&self, exact: Range, buckets: &[Bucket]) -> Range {
        least_error(self.dtype, self.symmetric, exact, buckets)
    }
}

impl Observer for Mse {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], times: u64) {
        self.values.observe(data, shape, times);
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        self.values.ranges(|exact, buckets| self.choose(exact, buckets))
    }

    fn once(self, data: &[f32], shape: &[usize]) -> Result<Vec<Range>, NoRange> {
        self.values.once(data, shape, |exact, buckets| self.choose(exact, buckets))
    }
}

impl Merge for Mse {
    fn merge(&mut self, other: &Mse) -> Result<(), MergeError> {
        if (self.dtype, self.symmetric) != (other.dtype, other.symmetric) {
            let describe = |m: &Mse| format!("mse of {}, symmetric {}", m.dtype, m.symmetric);
            return Err(MergeError::new(describe(self), describe(other)));
        }
        self.values.merge(&other.values)
    }
}

/// A range within `exact` whose grid has little expected error: both ends shrunk together on a coarse
/// scale, then each end by itself in ever finer steps.
fn least_error(dtype: DType, symmetric: bool, exact: Range, buckets: &[Bucket]) -> Range {
    let full = if symmetric {
        let bound = exact.min.abs().max(exact.max.abs());
        Range::new(-bound, bound)
    } else {
        exact.with_zero()
    };
    let cut = |low: f32, high: f32| Range::new(full.min * low, full.max * high);
    let buckets = Columns::of(buckets);
    let error = |low: f32, high: f32| buckets.error(dtype, symmetric, cut(low, high));
    let mut best = (1.0, 1.0);
    let mut least = error(1.0, 1.0);
    let mut consider = |best: &mut (f32, f32), low: f32, high: f32| {
        let found = error(low, high);
        if found < least {
            least = found;
            *best = (low, high);
        }
    };
    for i in 1..COARSE {
        let share = i as f32 / COARSE as f32;
        consider(&mut best, share, share);
    }
    // the short end of a range decides a zero point of which there are few, each with its own least
    let (short, long) = (full.min.abs().min(full.max), full.min.abs().max(full.max));
    if !symmetric && dtype.bits() <= FEW_BITS && short < SHORT * long {
        for i in 1..COARSE {
            for share in [0.0, 0.25, 0.5, 0.75] {
                let long = i as f32 / COARSE as f32;
                let ends = if full.max > -full.min { (share, long) } else { (long, share) };
                consider(&mut best, ends.0, ends.1);
            }
        }
    }
    let mut step = 1.0 / COARSE as f32;
    for _ in 0..REFINE {
        step /= 2.0;
        let (low, high) = best;
        for delta in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0].map(|d: f32| d * step) {
            let moved = |share: f32| (share + delta).clamp(1e-3, 1.0);
            if symmetric {
                consider(&mut best, moved(low), moved(low));
            } else {
                consider(&mut best, moved(low), high);
                let low = best.0;
                consider(&mut best, low, moved(high));
            }
        }
    }
    cut(best.0, best.1)
}

/// Partial sums of the error, which fix the order of addition.
const LANES: usize = 8;
/// Adding and subtracting it rounds |u| < 2^51 to an integer, ties to even.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Buckets as vector instructions take them, filled up with empty ones.
struct Columns {
    low: Vec<[f64; LANES]>,
    high: Vec<[f64; LANES]>,
    count: Vec<[f64; LANES]>,
}

impl Columns {
    fn of(buckets: &[Bucket]) -> Columns {
        let column = |of: fn(&Bucket) -> f64| {
            let lane = |part: &[Bucket], i: usize| part.get(i).map_or(0.0, of);
            let lanes = |part: &[Bucket]| std::array::from_fn(|i| lane(part, i));
            buckets.chunks(LANES).map(lanes).collect()
        };
        Columns {
            low: column(|bucket| bucket.low),
            high: column(|bucket| bucket.high),
            count: column(|bucket| bucket.count as f64),
        }
    }

    /// The mean squared error times the number of values, or infinity where there is no grid.
    fn error(&self, dtype: DType, symmetric: bool, range: Range) -> f64 {
        // searched as a per-tensor grid also for channels: the two differ on constants only
        let scheme = Scheme { symmetric, grain: Grain::Tensor };
        let grid = QuantParams::from_range(dtype, scheme, range).ok();
        let Some((scale, zero)) = grid.and_then(|grid| grid.as_per_tensor()) else {
            return f64::INFINITY;
        };
        let scale = f64::from(scale);
        let limits = [dtype.qmin() - zero, dtype.qmax() - zero].map(f64::from);
        squares(&self.low, &self.high, &self.count, scale.recip(), limits) * scale * scale
    }
}

dispatch! {
    /// Sum of squared distances from the multiples of a step within `limits`, in steps.
    fn squares(
        low: &[[f64; LANES]],
        high: &[[f64; LANES]],
        count: &[[f64; LANES]],
        inverse: f64,
        limits: [f64; 2],
    ) -> f64 {
        let mut sums = [0.0; LANES];
        for ((low, high), count) in low.iter().zip(high).zip(count) {
            for lane in 0..LANES {
                sums[lane] += distance(low[lane] * inverse, high[lane] * inverse, limits) * count[lane];
            }
        }
        joined(sums, |a, b| a + b)
    }
}

/// The mean squared distance of the numbers between two ends from the integers within `limits`.
#[inline(always)]
fn distance(from: f64, to: f64, [low, high]: [f64; 2]) -> f64 {
    let (middle, width) = ((from + to) * 0.5, to - from);
    let above = if middle > low { middle } else { low };
    let miss = middle - if above < high { above } else { high };
    let clipped = miss * miss + width * width * (1.0 / 12.0);
    let rounded = (integral(to) - integral(from)) / width;
    let point = middle - whole(middle);
    let inside = if width > 1e-9 { rounded } else { point * point };
    if middle < low - 0.5 || middle > high + 0.5 { clipped } else { inside }
}

/// The nearest integer of a number that is not far beyond a grid.
#[inline(always)]
fn whole(u: f64) -> f64 {
    (u + ROUNDER) - ROUNDER
}

/// The integral of `(u - round(u))^2` from 0 to `u`.
#[inline(always)]
fn integral(u: f64) -> f64 {
    let whole = whole(u);
    let part = u - whole;
    // every full step contributes 1/12, and the last one its own part
    whole * (1.0 / 12.0) + part * part * part * (1.0 / 3.0)
}
