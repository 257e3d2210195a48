//! Where ranges come from: statistics of what calibration shows.
//!
//! An [`Observer`] folds batches in and names a range per tensor or per channel; it forgets nothing
//! that is not finite. [`Merge`] is for statistics that do not depend on order, which is what lets
//! calibration be split over threads, machines and restarts. [`Ema`] depends on order and has no
//! `merge`, so such a split is refused by the compiler.

mod any;
mod ema;
mod histogram;
mod minmax;
mod mse;
mod octav;
mod percentile;
mod softmax;
mod spec;

pub use any::{AnyObserver, MergeableObserver};
pub use ema::Ema;
pub use histogram::{Histogram, Histograms};
pub use minmax::MinMax;
pub use mse::Mse;
pub use octav::Octav;
pub use percentile::{Percentile, Share};
pub use softmax::SoftmaxLogits;
pub use spec::{ObserverSpec, ParseObserverError};

use super::{NoRange, Range};

/// Watches one tensor during calibration and says which range of reals to keep.
pub trait Observer {
    /// Folds in one batch, a row-major tensor of `shape`.
    ///
    /// # Panics
    /// If `data` does not fill `shape`, or the channel axis is outside it or changes its extent: a
    /// mistake of ours, the graph is static.
    fn observe(&mut self, data: &[f32], shape: &[usize]) {
        self.observe_times(data, shape, 1);
    }

    /// Folds in one batch whose values count so many times where values are counted; extremes and
    /// their averages are what they are.
    ///
    /// # Panics
    /// As [`observe`](Observer::observe).
    fn observe_times(&mut self, data: &[f32], shape: &[usize], times: u64);

    /// The ranges to keep: one, or one per channel. [`NoRange`] if nothing was seen or something not
    /// finite was.
    fn ranges(&self) -> Result<Vec<Range>, NoRange>;

    /// What a fresh one would say after `data` alone, a row-major tensor of `shape`: of weights, which
    /// need no statistics to be kept.
    ///
    /// # Panics
    /// As [`observe`](Observer::observe).
    fn once(mut self, data: &[f32], shape: &[usize]) -> Result<Vec<Range>, NoRange>
    where
        Self: Sized,
    {
        self.observe(data, shape);
        self.ranges()
    }

    /// The range that holds all of [`ranges`](Observer::ranges).
    fn range(&self) -> Result<Range, NoRange> {
        Ok(self.ranges()?.into_iter().fold(Range::EMPTY, Range::union))
    }
}

/// Statistics of two shards that can be joined: observing all the batches equals observing each
/// part apart, then merging, in any order.
pub trait Merge: Observer {
    /// Joins the statistics of another shard of the same tensor.
    fn merge(&mut self, other: &Self) -> Result<(), MergeError>;
}

/// Two statistics that are not of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("statistics of different sites cannot be merged: {one} and {other}")]
pub struct MergeError {
    /// What one watches.
    pub one: String,
    /// What the other watches.
    pub other: String,
}

impl MergeError {
    fn new(one: impl ToString, other: impl ToString) -> MergeError {
        MergeError { one: one.to_string(), other: other.to_string() }
    }
}
