//! The moving average of batch extremes.

use serde::{Deserialize, Serialize};

use super::Observer;
use crate::quant::{NoRange, Range, kernel};

/// Averages the extremes of batches: `momentum * old + (1 - momentum) * new`, each end by itself;
/// the first batch initialises. All that is seen between two calls of [`Ema::begin`] is one batch.
///
/// The result depends on the order of the batches, so this is no [`Merge`](super::Merge): offered
/// because TICO's users have it. There is one range, as for an activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ema {
    momentum: f32,
    /// By number; none of which nothing was seen.
    batches: Vec<Option<Range>>,
    /// What is in every batch.
    always: Option<Range>,
    /// The batch that is being seen.
    at: Option<usize>,
    non_finite: bool,
}

impl Ema {
    /// None unless `0 < momentum < 1`.
    pub fn new(momentum: f32) -> Option<Ema> {
        let legal = momentum > 0.0 && momentum < 1.0;
        let (batches, always, at) = (Vec::new(), None, None);
        legal.then_some(Ema { momentum, batches, always, at, non_finite: false })
    }

    /// What is observed from now on is of this batch; of none, as at first: the range holds it whatever
    /// the average is.
    pub fn begin(&mut self, batch: Option<usize>) {
        self.at = batch;
        if let Some(batch) = batch {
            self.batches.resize(self.batches.len().max(batch + 1), None);
        }
    }
}

impl Observer for Ema {
    fn observe_times(&mut self, data: &[f32], _: &[usize], _: u64) {
        let new = kernel::extremes(data);
        if data.is_empty() {
            return;
        }
        self.non_finite |= !new.finite();
        let seen = match self.at {
            Some(batch) => &mut self.batches[batch],
            None => &mut self.always,
        };
        let new = Range::new(new.min, new.max);
        *seen = Some(seen.map_or(new, |seen| seen.union(new)));
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        if self.non_finite {
            return Err(NoRange::NonFinite);
        }
        let mix = |old: f32, new: f32| self.momentum * old + (1.0 - self.momentum) * new;
        let average = self
            .batches
            .iter()
            .flatten()
            .copied()
            .reduce(|old, new| Range::new(mix(old.min, new.min), mix(old.max, new.max)));
        let ranges = average.into_iter().chain(self.always).reduce(Range::union);
        ranges.map(|range| vec![range]).ok_or(NoRange::Unseen)
    }
}
