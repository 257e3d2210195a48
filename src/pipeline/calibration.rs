//! The calibration samples on their way through the job: observed in float, used to round weights,
//! compared in the end.

use super::walk::{self, Lane, Variants};
use super::{Error, Progress};
use crate::calibrate::{Observing, Plan, Quantizing, Statistics};
use crate::dataset::Sample;
use crate::exec::{Float, Weights};
use crate::report::{ErrorFigures, ErrorSummary};
use crate::tensor::Tensor;
use std::sync::{Mutex, PoisonError};

/// The samples, each at its own length: padding must not widen any range.
pub(super) struct Calibration<'a> {
    pub(super) samples: &'a [Sample],
    pub(super) lanes: Vec<Lane>,
    /// The float graph of each lane's shape.
    pub(super) variants: Variants,
}

impl Calibration<'_> {
    /// The float run over the calibration samples: their outputs, and statistics of every site.
    pub(super) fn observe(
        &self,
        plan: &Plan,
        weights: &Weights,
        progress: &dyn Progress,
    ) -> Result<(Vec<Tensor>, Statistics), Error> {
        let fresh = || Mutex::new(Statistics::new(plan));
        // One set of statistics a thread: their merge does not depend on which thread saw what.
        let shards: Vec<Mutex<Statistics>> =
            (0..rayon::current_num_threads()).map(|_| fresh()).collect();
        let outputs = walk::each_lane(&self.lanes, plan.mergeable(), |lane, par| {
            let shard = rayon::current_thread_index().unwrap_or(0) % shards.len();
            let mut statistics = shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
            let mut tap = Observing { plan, statistics: &mut statistics };
            let outputs =
                lane.walk(&self.variants[&lane.shape()], self.samples, weights, &mut tap, par)?;
            lane.samples.iter().for_each(|_| progress.step());
            Ok(outputs)
        })?;
        let mut shards =
            shards.into_iter().map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut statistics = shards.next().expect("invariant: a pool has a thread");
        if plan.mergeable() {
            for other in shards {
                statistics.merge(&other)?;
            }
        }
        Ok((outputs, statistics))
    }

    /// The float run alone.
    pub(super) fn float(
        &self,
        weights: &Weights,
        progress: &dyn Progress,
    ) -> Result<Vec<Tensor>, Error> {
        walk::each_lane(&self.lanes, true, |lane, par| {
            let variant = &self.variants[&lane.shape()];
            let outputs = lane.walk(variant, self.samples, weights, &mut Float, par)?;
            lane.samples.iter().for_each(|_| progress.step());
            Ok(outputs)
        })
    }

    /// Runs the quantized graphs on the calibration samples beside the float outputs.
    pub(super) fn compare(
        &self,
        quantized: &Variants,
        float: &[Tensor],
        rounded: &Weights,
        progress: &dyn Progress,
    ) -> Result<(ErrorFigures, [Tensor; 2]), Error> {
        let outputs = walk::each_lane(&self.lanes, true, |lane, par| {
            let variant = &quantized[&lane.shape()];
            let tap = Quantizing::of(variant);
            let outputs = lane.walk(variant, self.samples, rounded, &mut &tap, par)?;
            let pairs = lane.samples.iter().zip(outputs).map(|(&i, output)| {
                progress.step();
                let mut summary = ErrorSummary::default();
                summary.add(float[i].data(), output.data());
                (summary, output)
            });
            Ok(pairs.collect())
        })?;
        let mut total = ErrorSummary::default();
        for (summary, _) in &outputs {
            total.merge(summary);
        }
        let error = total.figures().ok_or(Error::NoSamples)?;
        Ok((error, [float[0].clone(), outputs[0].1.clone()]))
    }
}
