//! The quantized run: leg by leg, weights are rounded, put away, and used to take the samples on.

use super::codes::Codes;
use super::evaluation::{Arrival, Travellers};
use super::floats::{Floats, Trouble};
use super::legs::{self, Legs};
use super::walk::Walk;
use super::{Clock, Error, Progress, Silent};
use crate::algo::{self, AlgoSpec, Both, Rounding, Session, Streams, Watched};
use crate::calibrate::Plan;
use crate::checkpoint::Checkpoint;
use crate::cluster::Crew;
use crate::exec::Weights;
use crate::graph::Graph;
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::{self, Products, Tensor};
use std::ops::Range;

/// What the conversion works with.
pub(super) struct Conversion<'a> {
    pub(super) plan: &'a Plan,
    pub(super) rounding: &'a dyn Rounding,
    pub(super) legs: &'a Legs,
    pub(super) floats: &'a Floats<'a>,
    /// What linear layers of the calibration samples' float run multiply.
    pub(super) products: Products,
    pub(super) codes: Codes,
    pub(super) trouble: &'a Trouble,
    pub(super) progress: &'a dyn Progress,
    /// Who has samples too.
    pub(super) crew: &'a dyn Crew,
    /// The rounded weights of the legs so far.
    pub(super) done: Weights,
}

/// What came of it.
pub(super) struct Converted {
    pub(super) rounded: Weights,
    pub(super) error: ErrorFigures,
    pub(super) example: [Tensor; 2],
    pub(super) answers: Option<[AnswerScore; 2]>,
}

/// Appends the recipe's rewrites to the graph's parameters. Those that need data are fitted to the
/// samples one by one, as the rounding sees them.
pub(super) fn rewrite<'a>(
    algo: &AlgoSpec,
    graph: &mut Graph,
    plan: &Plan,
    (checkpoint, singles): (&Checkpoint, impl FnOnce() -> Result<Walk<'a>, Error>),
) -> Result<(), Error> {
    let read = |key: &str, shape: &[usize], part| {
        checkpoint.read_part(key, shape, part).map_err(Error::from)
    };
    algo.rewrite(graph, &read)?;
    if !algo.fits() {
        return Ok(());
    }
    let walk = singles()?;
    let fed = |lane| algo::Fed { graph: walk.graph(lane), inputs: walk.inputs(lane) };
    let samples: Vec<algo::Fed<'_>> = (0..walk.lanes.len()).map(fed).collect();
    algo.fit(graph, plan, &samples, &read)
}

impl Conversion<'_> {
    /// Rounds all weights; compares the outputs of the calibration samples and judges the answers of
    /// the evaluation samples. `graph` has annotated activations.
    pub(super) fn run(
        mut self,
        graph: &mut Graph,
        mut calib: Travellers<'_>,
        mut eval: Travellers<'_>,
        clock: &mut Clock,
    ) -> Result<Converted, Error> {
        let legs = self.legs;
        let progress: &dyn Progress = if legs.whole() { self.progress } else { &Silent };
        if !legs.whole() {
            self.progress.begin("convert", legs.nodes.len());
        }
        for nodes in &legs.nodes {
            let float = self.floats.load(graph, nodes.clone())?;
            let observed = float.with_products(self.products);
            let rounded = self.round(graph, nodes, [&float, &observed], &mut calib)?;
            clock.lap("convert");
            let weights = Both { float: &float, rounded: &rounded };
            let compared = Both { float: &observed, rounded: &rounded };
            if nodes.end < graph.nodes.len() {
                calib.advance(legs, nodes, compared)?;
                clock.lap("compare");
                eval.advance(legs, nodes, weights)?;
                clock.lap("evaluate");
                self.trouble.check()?;
                self.progress.step();
                drop((float, observed, rounded));
                tensor::release_memory();
                continue;
            }
            progress.begin("compare", calib.walk.samples.len());
            let gait = calib.walk.gait(legs, nodes, true);
            let (error, example) = calib.compare(Arrival { weights: compared, gait, progress })?;
            clock.lap("compare");
            progress.begin("evaluate", eval.walk.samples.len());
            let gait = eval.walk.gait(legs, nodes, true);
            let answers = eval.answers(Arrival { weights, gait, progress })?;
            clock.lap("evaluate");
            self.trouble.check()?;
            return Ok(Converted { rounded: self.done, error, example, answers });
        }
        Err(Error::NoSamples)
    }

    /// Rounds what a leg is the first to read: tables, gains and what meets data elementwise to
    /// nearest, linear layers by the recipe's rounding. All rounded weights that the leg reads.
    fn round(
        &mut self,
        graph: &mut Graph,
        nodes: &Range<usize>,
        [float, observed]: [&Weights; 2],
        calib: &mut Travellers<'_>,
    ) -> Result<Weights, Error> {
        let mut rounded = Weights::none(graph);
        let reads = legs::params(graph, nodes.clone());
        for &id in &reads {
            if let Some(tensor) = self.done.get(id) {
                rounded
                    .set(id, if self.is_large(tensor) { tensor.clone() } else { tensor.dense() });
            }
        }
        let (plan, rounding) = (self.plan, self.rounding);
        let session = Session { plan, nodes: nodes.clone(), float, rounding };
        let mut direct = session.others(graph);
        plan.quantize_weights(graph, &mut direct)?;
        for (id, tensor) in direct {
            rounded.set(id, tensor);
        }
        let (progress, whole) = (self.progress, self.legs.whole());
        if whole {
            progress.begin("round", session.layers(graph));
        }
        let gait = calib.walk.gait(self.legs, nodes, true);
        let watched = match rounding.streams() {
            Streams::Neither => None,
            Streams::Seen | Streams::Both | Streams::Drift => {
                Some(Watched { pairs: &mut calib.pairs, float: observed, gait, crew: self.crew })
            }
        };
        let step = || {
            if whole {
                progress.step()
            }
        };
        session.run(graph, &mut rounded, watched, &step)?;
        for &id in &reads {
            let (Some(tensor), None) = (rounded.get(id), self.done.get(id)) else { continue };
            let grid = graph.value(id).qparams.as_ref();
            let kept = if whole { tensor.clone() } else { self.codes.keep(tensor, grid)? };
            if self.is_large(&kept) {
                rounded.set(id, kept.clone());
            }
            self.done.set(id, kept);
        }
        Ok(rounded)
    }

    /// Whether a weight is never dense.
    fn is_large(&self, tensor: &Tensor) -> bool {
        self.legs.large.is_some_and(|large| 4 * tensor.len() as u64 > large)
    }
}
