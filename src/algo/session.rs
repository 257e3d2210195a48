//! Rounds the linear layers of a graph in its order, each on the inputs that the layers already
//! rounded give it.

use super::{AlgoError, Layer, Moments, Rounded, Rounding, Streams, rtn::Rtn};
use crate::calibrate::{CalibrateError, Plan, Quantizing, Site};
use crate::exec::{Float, Lifetimes, Stream, Weights};
use crate::graph::{Graph, ValueId};
use crate::ops::{Binary, BinaryKind, Op};
use crate::quant::{Decision, QuantParams};
use crate::tensor::{Par, Tensor};
use rayon::prelude::*;

/// Grids finer than this are rounded to nearest: there is nothing to gain.
const WORTHWHILE_BITS: u8 = 8;

/// A calibration sample and the graphs of its length.
#[derive(Clone, Debug)]
pub struct Lane<'a> {
    /// Without annotations.
    pub float: &'a Graph,
    /// With annotated activations and rounded constants.
    pub quantized: &'a Graph,
    /// One tensor an input of the graph.
    pub inputs: Vec<Tensor>,
}

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
}

/// What a session works on.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// Sites and decisions.
    pub plan: &'a Plan,
    /// Calibration samples.
    pub lanes: &'a [Lane<'a>],
    /// Checkpoint tensors in float.
    pub float: &'a Weights,
    /// The algorithm.
    pub rounding: &'a dyn Rounding,
}

/// Both networks' live activations of one sample.
struct Pair<'a> {
    lane: &'a Lane<'a>,
    tap: Quantizing<'a>,
    lifetimes: Lifetimes,
    wanted: Option<Stream>,
    seen: Stream,
}

impl<'a> Pair<'a> {
    fn start(lane: &'a Lane<'a>, both: bool) -> Pair<'a> {
        let tap = Quantizing::of(lane.quantized);
        let seen = Stream::start(lane.quantized, lane.inputs.clone(), &mut &tap);
        let wanted = both.then(|| Stream::start(lane.float, lane.inputs.clone(), &mut Float));
        Pair { lane, lifetimes: Lifetimes::of(lane.float), wanted, seen, tap }
    }

    /// The rows of a layer's input that count in both networks: what the quantized one sees, and
    /// what was wanted.
    fn rows(&self, input: ValueId, route: ValueId) -> Option<[Vec<f32>; 2]> {
        let here = self.seen.get(route)?;
        let Some(wanted) = &self.wanted else {
            let seen = self.seen.rows(&self.lifetimes, input, [here; 2])?;
            return Some([seen.clone(), seen]);
        };
        let there = wanted.get(route)?;
        Some([
            self.seen.rows(&self.lifetimes, input, [here, there])?,
            wanted.rows(&self.lifetimes, input, [there, here])?,
        ])
    }

    fn run(&mut self, nodes: std::ops::Range<usize>, float: &Weights, rounded: &Weights) {
        let (lane, lifetimes) = (self.lane, &self.lifetimes);
        let tap = &mut &self.tap;
        self.seen.run(lane.quantized, nodes.clone(), rounded, lifetimes, tap, Par::Seq);
        if let Some(wanted) = &mut self.wanted {
            wanted.run(lane.float, nodes, float, lifetimes, &mut Float, Par::Seq);
        }
    }
}

impl Session<'_> {
    /// Rounds every linear layer's weight and bias of the annotated `graph` into `rounded`, which
    /// must hold all other weights; `step` is told of every layer.
    ///
    /// # Errors
    /// The layer and what is wrong with it or its inputs.
    pub fn run(
        &self,
        graph: &mut Graph,
        rounded: &mut Weights,
        step: &(dyn Fn() + Sync),
    ) -> Result<(), SessionError> {
        let targets = self.targets(graph);
        let streams = self.rounding.streams();
        if streams == Streams::Neither {
            let chosen: Vec<Chosen> = targets
                .par_iter()
                .map(|target| {
                    let chosen = self.choose(graph, target.weight, None);
                    step();
                    chosen
                })
                .collect::<Result<_, _>>()?;
            let mut layers = targets.iter().zip(chosen);
            return layers
                .try_for_each(|(layer, chosen)| self.settle(graph, rounded, layer, chosen));
        }
        let start = |lane| Pair::start(lane, streams >= Streams::Both);
        let mut pairs: Vec<Pair<'_>> = self.lanes.iter().map(start).collect();
        let mut at = 0;
        let mut moments: Option<((ValueId, Option<ValueId>), Moments)> = None;
        for layer in &targets {
            let known = if self.worthwhile(layer.weight) {
                let nodes = at..layer.node;
                pairs.par_iter_mut().for_each(|pair| pair.run(nodes.clone(), self.float, rounded));
                at = layer.node;
                let key = (layer.input, layer.routed);
                if moments.as_ref().is_none_or(|(of, _)| *of != key) {
                    let residual = layer.residual.filter(|_| streams == Streams::Drift);
                    moments = Some((key, gather(&pairs, layer, residual)));
                }
                // What no token of the quantized network is sent to is rounded to nearest.
                let seen = |moments: &&Moments| layer.routed.is_none() || moments.tokens() > 0;
                moments.as_ref().map(|(_, moments)| moments).filter(seen)
            } else {
                None
            };
            let chosen = self.choose(graph, layer.weight, known)?;
            self.settle(graph, rounded, layer, chosen)?;
            step();
        }
        Ok(())
    }

    /// Whether the weight's grid is coarse enough for data to matter.
    fn worthwhile(&self, weight: ValueId) -> bool {
        matches!(self.plan.weight_decision(weight),
            Some(Decision::Affine { dtype, .. }) if dtype.bits() <= WORTHWHILE_BITS)
    }

    /// The float tensors that [`Session::run`] leaves alone: neither weights nor biases of layers.
    pub fn others(&self, graph: &Graph) -> Vec<(ValueId, Tensor)> {
        let mut mine = vec![false; graph.values.len()];
        for layer in self.targets(graph) {
            for id in &graph.nodes[layer.node].inputs[1..] {
                mine[id.index()] = true;
            }
        }
        graph
            .params()
            .filter(|(id, _)| !mine[id.index()])
            .map(|(id, _)| (id, self.tensor(id)))
            .collect()
    }

    /// Number of layers that [`Session::run`] will round.
    pub fn layers(&self, graph: &Graph) -> usize {
        self.targets(graph).len()
    }

    /// The linear layers, in graph order; of several that read one weight, the first.
    fn targets(&self, graph: &Graph) -> Vec<Target> {
        let mut read = vec![false; graph.values.len()];
        let mut targets = Vec::new();
        for (node, n) in graph.nodes.iter().zip(0..) {
            if let (Op::Linear(_), [input, weight, bias @ ..]) = (&node.op, &node.inputs[..])
                && self.plan.sites.site(*weight) == Site::Weight
                && !read[weight.index()]
            {
                let (input, weight, bias) = (*input, *weight, bias.first().copied());
                let (residual, routed) = (residual(graph, node.output), node.routed);
                targets.push(Target { node: n, input, weight, bias, routed, residual });
            }
            node.inputs.iter().for_each(|id| read[id.index()] = true);
        }
        targets
    }

    fn tensor(&self, id: ValueId) -> Tensor {
        self.float.get(id).cloned().expect("invariant: every weight of the graph was loaded")
    }

    /// Grid and values of a weight.
    fn choose(
        &self,
        graph: &Graph,
        weight: ValueId,
        moments: Option<&Moments>,
    ) -> Result<Chosen, SessionError> {
        let tensor = self.tensor(weight);
        let name = &graph.value(weight).name;
        let grid = self.plan.weight_grid(weight, name, &tensor)?;
        let (Some(decision), Some(grid)) = (self.plan.weight_decision(weight), &grid) else {
            return Ok((None, tensor));
        };
        let layer = Layer { weight: &tensor, decision, grid, moments };
        let result = match (self.rounding.streams(), moments) {
            (Streams::Seen | Streams::Both | Streams::Drift, None) => Rtn {}.round(&layer),
            _ => self.rounding.round(&layer),
        };
        let Rounded { grid, weight } =
            result.map_err(|source| SessionError::Layer { name: name.clone(), source })?;
        Ok((Some(grid), weight))
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
        rounded.set(layer.weight, weight);
        if let Some(bias) = layer.bias {
            let mut tensor = self.tensor(bias);
            self.plan.quantize_bias(graph, bias, &mut tensor, [layer.input, layer.weight])?;
            rounded.set(bias, tensor);
        }
        Ok(())
    }
}

/// A linear layer whose weight nobody read before.
struct Target {
    node: usize,
    input: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    /// Where this is zero, a row of the input does not count.
    routed: Option<ValueId>,
    /// What its output is added to, if that is all that happens to it.
    residual: Option<ValueId>,
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
type Chosen = (Option<QuantParams>, Tensor);

/// Moments of a layer's input over all samples, in their order.
fn gather(pairs: &[Pair<'_>], layer: &Target, residual: Option<ValueId>) -> Moments {
    let (input, routed) = (layer.input, layer.routed);
    let two = pairs.iter().all(|pair| pair.wanted.is_some());
    let live = "invariant: the input of a layer about to run is live";
    if let Some(route) = routed {
        let rows = pairs.iter().map(|pair| pair.rows(input, route).expect(live));
        let width = pairs.first().map_or(0, |pair| pair.lane.float.value(input).shape[2]);
        let mut moments = Moments::new(width, two);
        rows.for_each(|[seen, wanted]| moments.add(&seen, &wanted));
        return moments;
    }
    let samples: Vec<(&[f32], &[f32])> = pairs
        .iter()
        .map(|pair| {
            let seen = pair.seen.get(input).expect(live);
            let wanted = pair.wanted.as_ref().map_or(seen, |stream| stream.get(input).expect(live));
            (seen.data(), wanted.data())
        })
        .collect();
    let first =
        pairs.first().and_then(|pair| pair.seen.get(input)).expect("invariant: there are samples");
    let mut moments = Moments::new(first.shape().last().copied().unwrap_or(0), two);
    moments.add_all(&samples);
    let streams = |id: ValueId| -> Option<Vec<[&Tensor; 3]>> {
        pairs
            .iter()
            .map(|pair| {
                Some([pair.seen.get(input)?, pair.wanted.as_ref()?.get(id)?, pair.seen.get(id)?])
            })
            .collect()
    };
    if let Some(streams) = residual.and_then(streams)
        && let Some(out) = streams[0][1].shape().last().copied()
    {
        let streams: Vec<[&[f32]; 3]> = streams.iter().map(|s| s.map(Tensor::data)).collect();
        moments.add_drift(&streams, out);
    }
    moments
}
