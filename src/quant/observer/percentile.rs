//! Ranges that leave out a share of outliers.

use serde::{Deserialize, Serialize};

use super::histogram::Bucket;
use super::{Histograms, Merge, MergeError, Observer};
use crate::quant::{Grain, NoRange, Range};

/// How much of the values to keep, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Share {
    /// The middle so many: above 0, up to 100.
    Middle(f64),
    /// Those between two quantiles, the first below the second, both from 0 to 100. A symmetric
    /// grid has no two ends to choose.
    Between(f64, f64),
}

impl Share {
    /// Whether the numbers are within their bounds.
    pub fn legal(self) -> bool {
        match self {
            Share::Middle(share) => share > 0.0 && share <= 100.0,
            Share::Between(lower, upper) => 0.0 <= lower && lower < upper && upper <= 100.0,
        }
    }
}

/// Keeps a share of the values, widened to hold zero.
///
/// A symmetric grid keeps that share of the magnitudes; data of one sign loses its one tail; other
/// data loses half of the rest at either end, as in TICO. Quantiles given one by one hold whatever
/// the signs. The peer samples up to 131072 values into
/// a reservoir whose content depends on the order of batches; this counts every value in bf16
/// buckets instead, so the statistics merge and rare outliers are never missed, at the price of
/// quantiles between two values that are known only to the width of their buckets, 2^-7 of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    share: Share,
    symmetric: bool,
    values: Histograms,
}

impl Percentile {
    /// For a grid that is `symmetric` or not; one range for each part that `grain` makes. None
    /// unless
    /// `share` is legal and fits the grid.
    pub fn new(share: Share, symmetric: bool, grain: Grain) -> Option<Percentile> {
        let legal = share.legal() && !(symmetric && matches!(share, Share::Between(..)));
        legal.then(|| Percentile { share, symmetric, values: Histograms::new(grain) })
    }

    fn choose(&self, exact: Range, buckets: &[Bucket]) -> Range {
        let tail = |q| quantile(buckets, q) as f32;
        let share = match self.share {
            Share::Middle(100.0) => return exact.with_zero(),
            Share::Middle(share) => share / 100.0,
            Share::Between(lower, upper) => {
                let min = if lower == 0.0 { exact.min } else { tail(lower / 100.0) };
                let max = if upper == 100.0 { exact.max } else { tail(upper / 100.0) };
                return Range::new(min, max).with_zero();
            }
        };
        if self.symmetric {
            let bound = quantile(&magnitudes(buckets), share) as f32;
            return Range::new(-bound, bound);
        }
        let range = if exact.min >= 0.0 {
            Range::new(0.0, tail(share))
        } else if exact.max <= 0.0 {
            Range::new(tail(1.0 - share), 0.0)
        } else {
            Range::new(tail((1.0 - share) / 2.0), tail((1.0 + share) / 2.0))
        };
        range.with_zero()
    }
}

impl Observer for Percentile {
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

impl Merge for Percentile {
    fn merge(&mut self, other: &Percentile) -> Result<(), MergeError> {
        if (self.share, self.symmetric) != (other.share, other.symmetric) {
            let describe =
                |p: &Percentile| format!("percentile {:?}, symmetric {}", p.share, p.symmetric);
            return Err(MergeError::new(describe(self), describe(other)));
        }
        self.values.merge(&other.values)
    }
}

/// The buckets of |x|.
fn magnitudes(buckets: &[Bucket]) -> Vec<Bucket> {
    let fold = |b: &Bucket| {
        if b.high <= 0.0 { Bucket { low: -b.high, high: -b.low, count: b.count } } else { *b }
    };
    let mut folded: Vec<Bucket> = buckets.iter().map(fold).collect();
    // of two with one lower end, one may be cut to the extreme of its sign
    folded.sort_by(|a, b| a.low.total_cmp(&b.low).then(a.high.total_cmp(&b.high)));
    folded
}

/// The `q`-quantile, interpolated between the values of the two nearest ranks.
fn quantile(buckets: &[Bucket], q: f64) -> f64 {
    // counts of a damaged file add up to anything
    let total = buckets.iter().fold(0_u64, |total, b| total.saturating_add(b.count));
    let rank = q * (total.saturating_sub(1)) as f64;
    let below = ranked(buckets, rank.floor());
    below + (ranked(buckets, rank.ceil()) - below) * rank.fract()
}

/// The value of a rank: those of a bucket are spread evenly over it. One that is alone lies in its
/// middle, unless it is an extreme, which the outer ends are.
fn ranked(buckets: &[Bucket], rank: f64) -> f64 {
    let mut below = 0_u64;
    for (i, b) in buckets.iter().enumerate() {
        let inside = rank - below as f64;
        below = below.saturating_add(b.count);
        if rank < below as f64 {
            let share = match (b.count, i) {
                (1, 0) => 0.0,
                (1, _) if i + 1 == buckets.len() => 1.0,
                (1, _) => 0.5,
                (count, _) => inside / (count - 1) as f64,
            };
            return b.low + (b.high - b.low) * share;
        }
    }
    buckets.last().map_or(0.0, |b| b.high)
}
