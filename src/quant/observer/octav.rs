//! Optimal clipping by fixed point: OCTAV.

use serde::{Deserialize, Serialize};

use super::histogram::Bucket;
use super::{Histograms, Merge, MergeError, Observer};
use crate::quant::{DType, NoRange, Range, Scheme};

/// Steps at most. Each moves the bound to the mean of what lies beyond it, or less, so the number
/// of steps grows with the logarithm of the number of values.
const STEPS: usize = 200;

/// Clips where rounding noise and clipping error balance: the fixed point of Sakr et al., "Optimal
/// Clipping and Magnitude-aware Differentiation for Improved Quantization-aware Training" (OCTAV),
/// ICML 2022.
///
/// | symbol | meaning |
/// |---|---|
/// | s | bound of a symmetric grid |
/// | B | bits of the grid |
///
/// The noise inside is that of a uniform error, Δ²/12 with Δ = 2s / 2^B, so the squared error is
/// least where
///
/// s = E[\|x\|; \|x\| > s] / (4^-B / 3 · P(\|x\| ≤ s) + P(\|x\| > s)).
///
/// The paper has symmetric grids. Where the grid has a zero point the same derivation gives each
/// end by itself, with Δ = (high − low) / 2^B and c = 4^-B / 12 · P(low ≤ x ≤ high):
/// high = (E[x; x > high] + c · low) / (P(x > high) + c), and the mirror image for low; both ends
/// are moved in turn. Expectations are taken over a histogram, values spread evenly in a bucket,
/// so the statistics merge. [`Mse`](super::Mse) searches the same trade without the noise model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Octav {
    bits: u8,
    symmetric: bool,
    values: Histograms,
}

impl Octav {
    /// For a grid of `dtype` and `scheme`.
    pub fn new(dtype: DType, scheme: Scheme) -> Octav {
        let values = Histograms::new(scheme.grain);
        Octav { bits: dtype.bits(), symmetric: scheme.symmetric, values }
    }

    fn choose(&self, exact: Range, buckets: &[Bucket]) -> Range {
        let fit = Fit { noise: 0.25_f64.powi(i32::from(self.bits)) / 12.0, buckets };
        match self.symmetric {
            true => fit.symmetric(exact),
            false => fit.affine(exact),
        }
    }
}

impl Observer for Octav {
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

impl Merge for Octav {
    fn merge(&mut self, other: &Octav) -> Result<(), MergeError> {
        if (self.bits, self.symmetric) != (other.bits, other.symmetric) {
            let describe =
                |o: &Octav| format!("octav of {} bits, symmetric {}", o.bits, o.symmetric);
            return Err(MergeError::new(describe(self), describe(other)));
        }
        self.values.merge(&other.values)
    }
}

/// What lies beyond a bound: how many values, and their sum.
#[derive(Clone, Copy, Default)]
struct Tail {
    count: f64,
    sum: f64,
}

struct Fit<'a> {
    /// 4^-B / 12.
    noise: f64,
    buckets: &'a [Bucket],
}

impl Fit<'_> {
    fn total(&self) -> f64 {
        self.buckets.iter().map(|b| b.count as f64).sum()
    }

    /// The values above `bound`; of a bucket that holds the bound, its share above.
    fn above(&self, bound: f64) -> Tail {
        let mut tail = Tail::default();
        for b in self.buckets.iter().rev() {
            if b.high <= bound {
                break;
            }
            let low = b.low.max(bound);
            let width = b.high - b.low;
            let share = if width > 0.0 { (b.high - low) / width } else { 1.0 };
            let count = share * b.count as f64;
            tail.count += count;
            tail.sum += count * (low + b.high) / 2.0;
        }
        tail
    }

    /// The values below `bound`.
    fn below(&self, bound: f64) -> Tail {
        let mut tail = Tail::default();
        for b in self.buckets {
            if b.low >= bound {
                break;
            }
            let high = b.high.min(bound);
            let width = b.high - b.low;
            let share = if width > 0.0 { (high - b.low) / width } else { 1.0 };
            let count = share * b.count as f64;
            tail.count += count;
            tail.sum += count * (high + b.low) / 2.0;
        }
        tail
    }

    fn symmetric(&self, exact: Range) -> Range {
        let top = f64::from(exact.min.abs().max(exact.max.abs()));
        let total = self.total();
        let mut s = 0.0;
        for _ in 0..STEPS {
            let (up, down) = (self.above(s), self.below(-s));
            let (count, sum) = (up.count + down.count, up.sum - down.sum);
            let next = sum / (4.0 * self.noise * (total - count) + count);
            if settled(s, next) {
                break;
            }
            s = next;
        }
        let s = chosen(s, top);
        Range::new(-s, s)
    }

    fn affine(&self, exact: Range) -> Range {
        let (bottom, top) = (f64::from(exact.min.min(0.0)), f64::from(exact.max.max(0.0)));
        let total = self.total();
        let (mut low, mut high) = (0.0, 0.0);
        for _ in 0..STEPS {
            let (up, down) = (self.above(high), self.below(low));
            let c = self.noise * (total - up.count - down.count).max(0.0);
            let next_high = quotient(up.sum + c * low, up.count + c).clamp(0.0, top);
            let next_low = quotient(down.sum + c * high, down.count + c).clamp(bottom, 0.0);
            let done = settled(high, next_high) && settled(low, next_low);
            (low, high) = (next_low, next_high);
            if done {
                break;
            }
        }
        Range::new(-chosen(-low, -bottom), chosen(high, top))
    }
}

fn quotient(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// Whether a step changed nothing that a grid would show; NaN, as of data without values, ends it.
fn settled(old: f64, new: f64) -> bool {
    let moved = (new - old).abs();
    moved.is_nan() || moved <= 1e-7 * old.abs().max(f64::MIN_POSITIVE)
}

/// The bound within the data; all of it if there is nothing to balance.
fn chosen(s: f64, top: f64) -> f32 {
    (if s > 0.0 { s.min(top) } else { top }) as f32
}
