//! From annotated activations to rounded weights.

use super::walk::{self, Variants};
use super::{Error, Progress, prompt};
use crate::algo::{self, AlgoSpec, Session, Streams};
use crate::calibrate::Plan;
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::Weights;
use crate::graph::Graph;

/// What the rounding works with.
pub(super) struct Round<'a> {
    pub(super) plan: &'a Plan,
    /// Every calibration sample.
    pub(super) samples: &'a [Sample],
    pub(super) weights: &'a Weights,
    pub(super) algo: &'a AlgoSpec,
}

/// Appends the recipe's rewrites to the graph's parameters. Those that need data are fitted to the
/// samples one by one, as [`Round::run`] sees them.
pub(super) fn rewrite(
    algo: &AlgoSpec,
    graph: &mut Graph,
    plan: &Plan,
    samples: &[Sample],
    (checkpoint, singles): (&Checkpoint, impl FnOnce() -> Result<Variants, Error>),
) -> Result<(), Error> {
    let read = |key: &str, shape: &[usize], part| {
        checkpoint.read_part(key, shape, part).map_err(Error::from)
    };
    algo.rewrite(graph, &read)?;
    if !algo.fits() {
        return Ok(());
    }
    let variants = singles()?;
    let fed = |lane: walk::Lane| {
        let graph = &variants[&lane.shape()];
        let members: Vec<&Sample> = lane.samples.iter().map(|&i| &samples[i]).collect();
        Ok(algo::Fed { graph, inputs: prompt::inputs(graph, &members)? })
    };
    let samples: Vec<algo::Fed<'_>> =
        walk::one_by_one(samples).into_iter().map(fed).collect::<Result<_, Error>>()?;
    algo.fit(graph, plan, &samples, &read)
}

impl Round<'_> {
    /// Rounds all weights: tables, gains and what meets data elementwise to nearest, linear layers
    /// by the recipe's rounding. Samples go one by one, whatever the number of threads, so that sums
    /// over tokens are always made in the same order; `singles` makes graphs of one sample of each
    /// length.
    pub(super) fn run(
        &self,
        graph: &mut Graph,
        singles: impl FnOnce() -> Result<Variants, Error>,
        progress: &dyn Progress,
    ) -> Result<Weights, Error> {
        let rounding = self.algo.rounding()?;
        let variants = match rounding.streams() {
            Streams::Neither => Variants::new(),
            Streams::Seen | Streams::Both | Streams::Drift => singles()?,
        };
        let annotated = walk::annotated(variants.clone(), graph);
        let lanes = if variants.is_empty() { vec![] } else { self.lanes(&variants, &annotated)? };
        let (plan, rounding) = (self.plan, rounding.as_ref());
        let session = Session { plan, lanes: &lanes, float: self.weights, rounding };
        let mut rounded = Weights::none(graph);
        let mut direct = session.others(graph);
        plan.quantize_weights(graph, &mut direct)?;
        for (id, tensor) in direct {
            rounded.set(id, tensor);
        }
        progress.begin("round", session.layers(graph));
        session.run(graph, &mut rounded, &|| progress.step())?;
        Ok(rounded)
    }

    /// Every sample with its two graphs.
    fn lanes<'a>(
        &self,
        float: &'a Variants,
        quantized: &'a Variants,
    ) -> Result<Vec<algo::Lane<'a>>, Error> {
        let lane = |lane: walk::Lane| {
            let (float, quantized) = (&float[&lane.shape()], &quantized[&lane.shape()]);
            let members: Vec<&Sample> = lane.samples.iter().map(|&i| &self.samples[i]).collect();
            let inputs = prompt::inputs(float, &members)?;
            Ok(algo::Lane { float, quantized, inputs })
        };
        walk::one_by_one(self.samples).into_iter().map(lane).collect()
    }
}
