//! Observers chosen at run time.

use serde::{Deserialize, Serialize};

use super::{Ema, Merge, MergeError, MinMax, Mse, Observer, Octav, Percentile, SoftmaxLogits};
use crate::quant::{NoRange, Range};

/// Whatever a recipe asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnyObserver {
    /// Statistics of shards can be joined.
    Mergeable(MergeableObserver),
    /// They cannot: batches count in order.
    Ordered(Ema),
}

/// Whatever a recipe asked for, where shards must be joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MergeableObserver {
    /// Exact extremes.
    MinMax(MinMax),
    /// Extremes without outliers.
    Percentile(Percentile),
    /// Least squared error.
    Mse(Mse),
    /// Optimal clipping by fixed point.
    Octav(Octav),
    /// Masked attention logits.
    SoftmaxLogits(SoftmaxLogits),
}

impl MergeableObserver {
    fn name(&self) -> &'static str {
        match self {
            MergeableObserver::MinMax(_) => "min-max",
            MergeableObserver::Percentile(_) => "percentile",
            MergeableObserver::Mse(_) => "mse",
            MergeableObserver::Octav(_) => "octav",
            MergeableObserver::SoftmaxLogits(_) => "softmax logits",
        }
    }
}

/// What `$does` says of whichever observer it is.
macro_rules! whichever {
    ($self:expr, $observer:ident => $does:expr) => {
        match $self {
            MergeableObserver::MinMax($observer) => $does,
            MergeableObserver::Percentile($observer) => $does,
            MergeableObserver::Mse($observer) => $does,
            MergeableObserver::Octav($observer) => $does,
            MergeableObserver::SoftmaxLogits($observer) => $does,
        }
    };
}

impl Observer for MergeableObserver {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], times: u64) {
        whichever!(self, observer => observer.observe_times(data, shape, times));
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        whichever!(self, observer => observer.ranges())
    }

    fn once(self, data: &[f32], shape: &[usize]) -> Result<Vec<Range>, NoRange> {
        whichever!(self, observer => observer.once(data, shape))
    }
}

impl Merge for MergeableObserver {
    fn merge(&mut self, other: &MergeableObserver) -> Result<(), MergeError> {
        use MergeableObserver as M;
        match (self, other) {
            (M::MinMax(a), M::MinMax(b)) => a.merge(b),
            (M::Percentile(a), M::Percentile(b)) => a.merge(b),
            (M::Mse(a), M::Mse(b)) => a.merge(b),
            (M::Octav(a), M::Octav(b)) => a.merge(b),
            (M::SoftmaxLogits(a), M::SoftmaxLogits(b)) => a.merge(b),
            (a, b) => Err(MergeError::new(a.name(), b.name())),
        }
    }
}

impl AnyObserver {
    /// Whether it counts values, so that how often one came matters.
    pub fn counts(&self) -> bool {
        use MergeableObserver as M;
        matches!(self, AnyObserver::Mergeable(M::Percentile(_) | M::Mse(_) | M::Octav(_)))
    }

    /// What is observed from now on is of this batch, or of none, where batches count; see
    /// [`Ema::begin`].
    pub fn begin(&mut self, batch: Option<usize>) {
        if let AnyObserver::Ordered(ema) = self {
            ema.begin(batch);
        }
    }

    /// Observes a batch by pieces, in any order and from any thread; together they must be whole
    /// batches. `None` if the observer must see a batch as a whole.
    pub fn piecewise(&mut self) -> Option<impl Fn(&[f32]) + Sync + '_> {
        match self {
            AnyObserver::Mergeable(MergeableObserver::MinMax(observer)) => observer.piecewise(),
            _ => None,
        }
    }

    /// The mergeable observer, or the moving average back if that is what it is.
    pub fn into_mergeable(self) -> Result<MergeableObserver, Ema> {
        match self {
            AnyObserver::Mergeable(observer) => Ok(observer),
            AnyObserver::Ordered(ema) => Err(ema),
        }
    }
}

impl Observer for AnyObserver {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], times: u64) {
        match self {
            AnyObserver::Mergeable(observer) => observer.observe_times(data, shape, times),
            AnyObserver::Ordered(ema) => ema.observe_times(data, shape, times),
        }
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        match self {
            AnyObserver::Mergeable(observer) => observer.ranges(),
            AnyObserver::Ordered(ema) => ema.ranges(),
        }
    }

    fn once(self, data: &[f32], shape: &[usize]) -> Result<Vec<Range>, NoRange> {
        match self {
            AnyObserver::Mergeable(observer) => observer.once(data, shape),
            AnyObserver::Ordered(ema) => ema.once(data, shape),
        }
    }
}
