//! Rounds the linear layers of a graph in its order, each on the inputs that the layers already
//! rounded give it.

use super::coded::Coded;
use super::intake::{self, Intake};
use super::rows::ROWS;
use super::rtn::Rtn;
use super::{AlgoError, Both, Layer, Moments, Note, Pairs, Rounded, Rounding, Streams};
use crate::calibrate::{CalibrateError, Plan, Site};
use crate::cluster::{self, Crew};
use crate::exec::{Gait, SpoolError, Weights};
use crate::graph::{Graph, ValueId};
use crate::ops::{Binary, BinaryKind, Op};
use crate::quant::{self, Decision, QuantParams};
use crate::tensor::{self, Tensor};
use std::ops::Range;

/// Grids finer than this are rounded to nearest: there is nothing to gain.
const WORTHWHILE_BITS: u8 = 8;

/// Elements that are rounded at once of a matrix that is never dense: 16 MiB.
pub(crate) const AT_ONCE: usize = 1 << 22;

/// Why the layers could not be rounded, with the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The algorithm gave up.
    #[error("{name}: {source}")]
    Layer {
        /// The weight.
        name: String,
        /// Why.
        source: AlgoError,
    },
    /// A grid or bias that cannot be.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// What another process sent is not what was expected.
    #[error(transparent)]
    Crew(#[from] cluster::ClusterError),
    /// The samples' values could not be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What a session works on: some consecutive nodes and their weights.
#[derive(Clone)]
pub struct Session<'a> {
    /// Sites and decisions.
    pub plan: &'a Plan,
    /// The nodes whose layers are rounded.
    pub nodes: Range<usize>,
    /// Checkpoint tensors that these nodes read, in float.
    pub float: &'a Weights,
    /// The algorithm.
    pub rounding: &'a dyn Rounding,
}

/// The calibration samples, where the rounding looks at them.
pub struct Watched<'p, 'a> {
    /// Their values in both networks.
    pub pairs: &'p mut Pairs<'a>,
    /// What their float network multiplies with.
    pub float: &'p Weights,
    /// How they walk.
    pub gait: Gait,
    /// The processes that have samples too; those of all count.
    pub crew: &'p dyn Crew,
}

/// What becomes of rounded layers, and which are known from before.
pub trait Ledger<E>: Sync {
    /// Grid and values of a weight that need not be rounded again, and what was odd about it.
    fn known(&self, graph: &Graph, weight: ValueId) -> Option<(Chosen, Vec<Note>)>;
    /// Told of every weight as soon as its grid and values are known, and of what was odd about its
    /// calibration; an error ends the session.
    ///
    /// # Errors
    /// What hinders it from going on.
    fn done(&self, graph: &Graph, layer: ValueId, rounded: (&Chosen, &[Note])) -> Result<(), E>;
}

impl Session<'_> {
    /// Rounds every linear layer's weight and bias of the annotated `graph` into `rounded`, which
    /// must hold all other weights of the nodes; `ledger` is told of every layer. What was odd about
    /// their calibration, in graph order.
    ///
    /// # Errors
    /// The layer and what is wrong with it or its inputs; those of the ledger.
    ///
    /// # Panics
    /// If the rounding wants to see inputs and there are none: a mistake of ours.
    pub fn run<E: From<SessionError> + Send>(
        &self,
        graph: &mut Graph,
        rounded: &mut Weights,
        watched: Option<Watched<'_, '_>>,
        ledger: &dyn Ledger<E>,
    ) -> Result<Vec<Note>, E> {
        let targets = self.targets(graph);
        let streams = self.rounding.streams();
        if streams == Streams::Neither {
            let chosen = tensor::each(&targets, |target| {
                let chosen = match ledger.known(graph, target.weight) {
                    Some((chosen, _)) => chosen,
                    None => self.choose(graph, target, None)?,
                };
                ledger.done(graph, target.weight, (&chosen, &[]))?;
                Ok::<Chosen, E>(chosen)
            })?;
            for (layer, chosen) in targets.iter().zip(chosen) {
                self.settle(graph, rounded, layer, chosen)?;
            }
            return Ok(Vec::new());
        }
        let mut watched = watched.expect("invariant: the rounding's inputs are watched");
        let mut moments: Option<((ValueId, Option<ValueId>), Moments)> = None;
        let mut notes = Vec::new();
        for (i, layer) in targets.iter().enumerate() {
            if let Some((chosen, odd)) = ledger.known(graph, layer.weight) {
                ledger.done(graph, layer.weight, (&chosen, &odd))?;
                self.settle(graph, rounded, layer, chosen)?;
                notes.extend(odd);
                continue;
            }
            let mut own = false;
            let known = if worthwhile(self.plan, layer.weight) {
                let key = (layer.input, layer.routed);
                // The first of those that share the input, even if that one is known already.
                let before = targets[..=i].iter().rev().filter(|t| worthwhile(self.plan, t.weight));
                let first = before.take_while(|t| (t.input, t.routed) == key).last();
                let first = first.unwrap_or(layer);
                own = first.weight == layer.weight;
                if moments.as_ref().is_none_or(|(of, _)| *of != key) {
                    drop(moments.take());
                    moments = Some((key, self.gather(rounded, &mut watched, first)?));
                }
                // What sees no token of the quantized network, or zeros alone, is rounded to nearest.
                moments.as_ref().map(|(_, moments)| moments).filter(|of| !of.is_silent())
            } else {
                None
            };
            let chosen = self.choose(graph, layer, known)?;
            let odd = moments.as_ref().filter(|_| own);
            let odd = odd.map_or_else(Vec::new, |(_, moments)| self.odd(graph, layer, moments));
            ledger.done(graph, layer.weight, (&chosen, &odd))?;
            self.settle(graph, rounded, layer, chosen)?;
            notes.extend(odd);
        }
        Ok(notes)
    }

    /// What is odd about the inputs of the first layer that reads them: fewer tokens than it has
    /// inputs, nothing but zeros, more damping than it asked for.
    fn odd(&self, graph: &Graph, layer: &Target, moments: &Moments) -> Vec<Note> {
        let (tokens, channels) = (moments.tokens(), moments.width());
        let name = || graph.value(layer.weight).name.clone();
        let sparse = match tokens {
            0 if layer.routed.is_some() => Some(Note::Unreached { layer: name() }),
            _ if moments.is_silent() => Some(Note::Silent { layer: name() }),
            // The scale search of single inputs needs no full rank.
            _ if tokens < channels as u64 && self.rounding.factors() => {
                Some(Note::FewTokens { layer: name(), tokens, channels })
            }
            _ => None,
        };
        let damped = moments.raised_damping();
        let damped = damped.map(|[asked, needed]| Note::Damped { layer: name(), asked, needed });
        sparse.into_iter().chain(damped).collect()
    }

    /// Takes the samples to a layer; moments of its input over all of them, in their order.
    fn gather(
        &self,
        rounded: &Weights,
        watched: &mut Watched<'_, '_>,
        layer: &Target,
    ) -> Result<Moments, SessionError> {
        let asked = self.rounding.streams();
        let emphasis = self.plan.emphasis();
        let weights = Both { float: watched.float, rounded };
        let (crew, two) = (watched.crew, asked >= Streams::Both);
        let mut moments = None;
        let mut own: Vec<Vec<u8>> = Vec::new();
        watched.pairs.advance(layer.node, weights, watched.gait, &mut |pairs| {
            let intakes: Vec<Intake<'_>> =
                pairs.iter().map(|pair| Intake::of(pair, layer, asked, emphasis)).collect();
            match crew.size() {
                1 => {
                    let width = intakes.first().map_or(0, Intake::width);
                    let new = || Moments::new(width, two);
                    intake::add(moments.get_or_insert_with(new), &intakes);
                }
                _ => own.extend(intakes.iter().map(Intake::to_bytes)),
            }
        })?;
        match crew.size() {
            1 => Ok(moments.unwrap_or_else(|| Moments::new(0, two))),
            _ => Ok(intake::together(crew, own, two)?),
        }
    }

    /// The float tensors that [`Session::run`] leaves alone and nothing before these nodes reads:
    /// neither weights nor biases of layers.
    pub fn others(&self, graph: &Graph) -> Vec<(ValueId, Tensor)> {
        let mut taken = vec![false; graph.values.len()];
        for node in first_readers(graph, self.plan) {
            for id in &graph.nodes[node].inputs[1..] {
                taken[id.index()] = true;
            }
        }
        for node in &graph.nodes[..self.nodes.start] {
            node.inputs.iter().for_each(|id| taken[id.index()] = true);
        }
        let mut others = Vec::new();
        for id in graph.nodes[self.nodes.clone()].iter().flat_map(|node| &node.inputs) {
            if graph.param(*id).is_some() && !std::mem::replace(&mut taken[id.index()], true) {
                others.push((*id, self.tensor(*id)));
            }
        }
        others
    }

    /// The weights that [`Session::run`] will round.
    pub fn weights(&self, graph: &Graph) -> Vec<ValueId> {
        self.layers(graph).map(|node| graph.nodes[node].inputs[1]).collect()
    }

    /// The nodes of the layers that [`Session::run`] will round.
    fn layers(&self, graph: &Graph) -> impl Iterator<Item = usize> {
        first_readers(graph, self.plan).into_iter().filter(|node| self.nodes.contains(node))
    }

    fn targets(&self, graph: &Graph) -> Vec<Target> {
        let target = |node: usize| {
            let &[input, weight, ref bias @ ..] = &graph.nodes[node].inputs[..] else {
                return None;
            };
            let (bias, routed) = (bias.first().copied(), graph.nodes[node].routed);
            let residual = residual(graph, graph.nodes[node].output);
            Some(Target { node, input, weight, bias, routed, residual })
        };
        self.layers(graph).filter_map(target).collect()
    }

    fn tensor(&self, id: ValueId) -> Tensor {
        self.float.get(id).cloned().expect("invariant: every weight of these nodes was loaded")
    }

    /// Grid and values of a weight.
    fn choose(
        &self,
        graph: &Graph,
        &Target { weight, input, bias, .. }: &Target,
        moments: Option<&Moments>,
    ) -> Result<Chosen, SessionError> {
        let tensor = self.tensor(weight);
        let name = &graph.value(weight).name;
        let grid = self.plan.weight_grid(weight, name, &tensor)?;
        let (Some(decision), Some(grid)) = (self.plan.weight_decision(weight), &grid) else {
            return Ok((None, tensor.dense()));
        };
        let least =
            bias.and_then(|id| self.plan.least_scales(graph, [input, id], &self.tensor(id)));
        let least = least.unwrap_or_default();
        let layer = Layer { weight: &tensor, decision, grid, moments };
        if tensor.is_made()
            && let Some(chosen) = self.choose_by_rows(&layer, name, &least)?
        {
            return Ok(chosen);
        }
        let layer = Layer { weight: &tensor.dense(), ..layer };
        let Rounded { grid, weight } = self.rounded(&layer, name, &least)?;
        Ok((Some(grid), weight))
    }

    /// What the rounding finds, on scales that leave the bias room; `least` tells them by row.
    fn rounded(
        &self,
        layer: &Layer<'_>,
        name: &str,
        least: &[f32],
    ) -> Result<Rounded, SessionError> {
        let result = match (self.rounding.streams(), layer.moments) {
            (Streams::Seen | Streams::Both | Streams::Drift, None) => Rtn {}.round(layer),
            _ => self.rounding.round(layer),
        };
        let mut rounded =
            result.map_err(|source| SessionError::Layer { name: name.into(), source })?;
        if rounded.grid.coarsen(least) {
            quant::round(&rounded.grid, &mut rounded.weight);
        }
        Ok(rounded)
    }

    /// The same of a matrix that is never dense: rows are rounded alone, some at a time. None where
    /// that cannot be.
    fn choose_by_rows(
        &self,
        whole: &Layer<'_>,
        name: &str,
        least: &[f32],
    ) -> Result<Option<Chosen>, SessionError> {
        // What the stream lost is known for all rows together.
        let alone = whole.moments.is_none_or(|moments| moments.drift().is_none());
        let (&[n, k], true) = (whole.weight.shape(), alone) else { return Ok(None) };
        let Some(mut coded) = Coded::new(whole.grid, [n, k]) else { return Ok(None) };
        let step = (AT_ONCE / k.max(1)).next_multiple_of(ROWS).max(ROWS);
        for first in (0..n).step_by(step) {
            let rows = first..n.min(first + step);
            let part = Tensor::written([rows.len(), k], |out| whole.weight.read_rows(first, out));
            // One grid for all has room for all.
            let own = if whole.grid.is_per_tensor() { 0..n } else { rows.clone() };
            let grid = &whole.grid.of_rows(rows, k);
            let layer = Layer { weight: &part, grid, ..*whole };
            let least = least.get(own).unwrap_or_default();
            let Rounded { grid, weight } = self.rounded(&layer, name, least)?;
            coded.push(&grid, &weight);
        }
        Ok(coded.finish(n).map(|(grid, tensor)| (Some(grid), tensor)))
    }

    /// Puts a layer's choice, and its bias on the grid that follows from it, in their places.
    fn settle(
        &self,
        graph: &mut Graph,
        rounded: &mut Weights,
        layer: &Target,
        (grid, weight): Chosen,
    ) -> Result<(), SessionError> {
        if grid.is_some() {
            graph.values[layer.weight.index()].qparams = grid;
        }
        rounded.set_rounded(graph, layer.weight, weight);
        if let Some(bias) = layer.bias {
            let mut tensor = self.tensor(bias);
            self.plan.quantize_bias(graph, bias, &mut tensor, [layer.input, layer.weight])?;
            rounded.set(bias, tensor);
        }
        Ok(())
    }
}

/// Whether data matters to the rounding of a weight: its grid is coarse enough.
pub(crate) fn worthwhile(plan: &Plan, weight: ValueId) -> bool {
    matches!(plan.weight_decision(weight),
        Some(Decision::Affine { dtype, .. }) if dtype.bits() <= WORTHWHILE_BITS)
}

/// The nodes of the linear layers, in graph order; of several that read one weight, the first, if
/// nothing else has read it before.
pub(crate) fn first_readers(graph: &Graph, plan: &Plan) -> Vec<usize> {
    let mut read = vec![false; graph.values.len()];
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        if let (Op::Linear(_), [_, weight, ..]) = (&node.op, &node.inputs[..])
            && plan.sites.site(*weight) == Site::Weight
            && !read[weight.index()]
        {
            found.push(n);
        }
        node.inputs.iter().for_each(|id| read[id.index()] = true);
    }
    found
}

/// A linear layer whose weight nobody read before.
pub(super) struct Target {
    node: usize,
    pub(super) input: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    /// Where this is zero, a row of the input does not count.
    pub(super) routed: Option<ValueId>,
    /// What its output is added to, if that is all that happens to it.
    pub(super) residual: Option<ValueId>,
}

/// The other summand of a value that is only added to something.
fn residual(graph: &Graph, output: ValueId) -> Option<ValueId> {
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&output));
    let (reader, none) = (readers.next()?, readers.next());
    let Op::Binary(Binary { kind: BinaryKind::Add }) = &reader.op else { return None };
    match (&reader.inputs[..], none) {
        (&[a, b], None) if a != b => Some(if a == output { b } else { a }),
        _ => None,
    }
}

/// A weight's grid, if it is not to stay float, and its values on it.
pub type Chosen = (Option<QuantParams>, Tensor);
