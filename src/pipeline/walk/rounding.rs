//! The quantized run: leg by leg, weights are rounded, put away, and used to take the samples on.

use super::super::clock::Clock;
use super::super::estimate::params;
use super::super::unfinished::{Fits, Unfinished, halt};
use super::super::{Error, Progress, Silent, Trouble, go_on};
use super::Walk;
use super::codes::Codes;
use super::evaluation::{Arrival, Travellers};
use super::floats::Floats;
use super::legs::Legs;
use crate::algo::{
    self, AlgoSpec, Both, Chosen, Ledger, Note, Rounding, Session, Streams, Watched,
};
use crate::calibrate::{Plan, Statistics};
use crate::checkpoint::Checkpoint;
use crate::cluster::Crew;
use crate::exec::Weights;
use crate::graph::{Graph, ValueId};
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::{self, Products, Tensor};
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the conversion works with.
pub(in super::super) struct Conversion<'a> {
    pub(in super::super) plan: &'a Plan,
    pub(in super::super) rounding: &'a dyn Rounding,
    pub(in super::super) legs: &'a Legs,
    pub(in super::super) floats: &'a Floats<'a>,
    /// What linear layers of the calibration samples' float run multiply.
    pub(in super::super) products: Products,
    pub(in super::super) codes: Codes,
    /// Where rounded layers are put down, if that is worth it.
    pub(in super::super) unfinished: Option<&'a Unfinished<'a>>,
    pub(in super::super) trouble: &'a Trouble,
    pub(in super::super) progress: &'a dyn Progress,
    /// Who has samples too.
    pub(in super::super) crew: &'a dyn Crew,
    /// The rounded weights of the legs so far.
    pub(in super::super) done: Weights,
    /// What was odd about their calibration.
    pub(in super::super) notes: Vec<Note>,
}

/// What came of it.
pub(in super::super) struct Converted {
    pub(in super::super) rounded: Weights,
    pub(in super::super) notes: Vec<Note>,
    pub(in super::super) error: ErrorFigures,
    pub(in super::super) example: [Tensor; 2],
    pub(in super::super) answers: Option<[AnswerScore; 2]>,
}

/// A note for each attention of which the mask may not hide what it is to hide.
pub(in super::super) fn unmasked(plan: &Plan, graph: &Graph, statistics: &Statistics) -> Vec<Note> {
    let note = |(scores, range): (String, crate::quant::Range)| Note::Unmasked {
        scores,
        range: [range.min, range.max],
    };
    plan.unhidden(graph, statistics).into_iter().map(note).collect()
}

/// Appends the recipe's rewrites to the graph's parameters. Those that need data are fitted to the
/// samples one by one, as the rounding sees them.
pub(in super::super) fn rewrite<'a>(
    algo: &AlgoSpec,
    graph: &mut Graph,
    (plan, fits): (&Plan, &Fits<'_>),
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
    algo.fit(graph, plan, (&samples, fits), &read)
}

impl Conversion<'_> {
    /// Rounds all weights; compares the outputs of the calibration samples and judges the answers of
    /// the evaluation samples. `graph` has annotated activations.
    pub(in super::super) fn run(
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
        let all = 0..graph.nodes.len();
        let session =
            Session { plan: self.plan, nodes: all, float: &self.done, rounding: self.rounding };
        let layers = Layers::of(&self, session.weights(graph).len());
        for nodes in &legs.nodes {
            let float = self.floats.load(graph, nodes.clone())?;
            let observed = float.with_products(self.products);
            let rounded = self.round(graph, (nodes, &layers), [&float, &observed], &mut calib)?;
            clock.lap("convert");
            let weights = Both { float: &float, rounded: &rounded };
            let compared = Both { float: &observed, rounded: &rounded };
            if nodes.end < graph.nodes.len() {
                // An earlier run may have taken them further.
                if calib.pairs.reached().0[1] < Some(nodes.end) {
                    calib.advance(legs, nodes, compared)?;
                    clock.lap("compare");
                    eval.advance(legs, nodes, weights)?;
                    clock.lap("evaluate");
                    self.trouble.check()?;
                    let groups = [&calib, &eval].map(Travellers::standing);
                    let halt = |out: &mut dyn Write| halt::write(None, &groups, out);
                    self.unfinished.map_or(Ok(()), |unfinished| unfinished.put_streams(halt))?;
                }
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
            let (rounded, notes) = (self.done, self.notes);
            return Ok(Converted { rounded, notes, error, example, answers });
        }
        Err(Error::NoSamples)
    }

    /// Rounds what a leg is the first to read: tables, gains and what meets data elementwise to
    /// nearest, linear layers by the recipe's rounding. All rounded weights that the leg reads.
    fn round(
        &mut self,
        graph: &mut Graph,
        (nodes, layers): (&Range<usize>, &Layers<'_>),
        [float, observed]: [&Weights; 2],
        calib: &mut Travellers<'_>,
    ) -> Result<Weights, Error> {
        let mut rounded = Weights::none(graph);
        let reads = params(graph, nodes.clone());
        for &id in &reads {
            if let Some(tensor) = self.done.get(id) {
                let tensor = if self.is_large(graph, id) { tensor.clone() } else { tensor.dense() };
                rounded.set_rounded(graph, id, tensor);
            }
        }
        let (plan, rounding) = (self.plan, self.rounding);
        let session = Session { plan, nodes: nodes.clone(), float, rounding };
        let mut direct = session.others(graph);
        plan.quantize_weights(graph, &mut direct)?;
        for (id, tensor) in direct {
            rounded.set_rounded(graph, id, tensor);
        }
        let whole = self.legs.whole();
        if whole {
            self.progress.begin("round", session.weights(graph).len());
        }
        let gait = calib.walk.gait(self.legs, nodes, true);
        let watched = match rounding.streams() {
            Streams::Neither => None,
            Streams::Seen | Streams::Both | Streams::Drift => {
                Some(Watched { pairs: &mut calib.pairs, float: observed, gait, crew: self.crew })
            }
        };
        self.notes.extend(session.run(graph, &mut rounded, watched, layers)?);
        for &id in &reads {
            let (Some(tensor), None) = (rounded.get(id), self.done.get(id)) else { continue };
            let grid = graph.value(id).qparams.as_ref();
            let name = &graph.value(id).name;
            let kept = match (whole, self.unfinished) {
                (true, _) => tensor.clone(),
                (false, None) => self.codes.keep(tensor, grid)?,
                (false, Some(unfinished)) => match unfinished.made(name)? {
                    Some(made) => made,
                    None => self.codes.keep(tensor, grid)?,
                },
            };
            if self.is_large(graph, id) {
                rounded.set_rounded(graph, id, kept.clone());
            }
            self.done.set_rounded(graph, id, kept);
        }
        Ok(rounded)
    }

    /// Whether a weight is never dense.
    fn is_large(&self, graph: &Graph, id: ValueId) -> bool {
        self.legs.hold.is_some_and(|hold| !hold.dense(graph, id))
    }
}

/// Counts layers and puts them down.
struct Layers<'a> {
    unfinished: Option<&'a Unfinished<'a>>,
    progress: &'a dyn Progress,
    /// Whether the progress counts layers.
    counted: bool,
    done: AtomicUsize,
    all: usize,
}

/// Refuses groups that the rounding called `name` does not take, before anything is computed.
///
/// # Errors
/// The keys that do not go together, and the first weight that they meet in.
pub(in super::super) fn suits(
    graph: &Graph,
    plan: &Plan,
    rounding: &dyn Rounding,
    name: Option<&str>,
) -> Result<(), Error> {
    let groups = graph.ids().find_map(|id| Some((id, plan.weight_decision(id)?.group()?)));
    match groups.filter(|_| !rounding.groups()) {
        Some((id, group)) => Err(Error::NoGroups {
            rounding: name.unwrap_or("rtn").into(),
            group,
            weight: graph.value(id).name.clone(),
        }),
        None => Ok(()),
    }
}

impl<'a> Layers<'a> {
    fn of(conversion: &Conversion<'a>, all: usize) -> Layers<'a> {
        let Conversion { unfinished, progress, legs, .. } = *conversion;
        Layers { unfinished, progress, counted: legs.whole(), done: AtomicUsize::new(0), all }
    }
}

impl Ledger<Error> for Layers<'_> {
    fn known(&self, graph: &Graph, weight: ValueId) -> Option<(Chosen, Vec<Note>)> {
        let value = graph.value(weight);
        let (grid, tensor, notes) = self.unfinished?.known(&value.name, &value.shape)?;
        Some(((Some(grid), tensor), notes))
    }

    fn done(
        &self,
        graph: &Graph,
        layer: ValueId,
        ((grid, tensor), notes): (&Chosen, &[Note]),
    ) -> Result<(), Error> {
        if let (Some(unfinished), Some(grid)) = (self.unfinished, grid) {
            unfinished.put((&graph.value(layer).name, tensor, grid, notes))?;
        }
        if self.counted {
            self.progress.step();
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let stop = go_on(self.progress, || format!("after {done} of {} layers", self.all));
        if let (Err(_), Some(unfinished)) = (&stop, self.unfinished) {
            unfinished.seal()?;
        }
        stop
    }
}
