//! Rounds the linear layers of a graph in its order, each on the inputs that the layers already
//! rounded give it.

use super::{AlgoError, Layer, Moments, Rounded, Rounding, Streams, rtn::Rtn};
use crate::calibrate::{CalibrateError, Plan, Quantizing, Site};
use crate::exec::{Float, Lifetimes, Stream, Weights};
use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::quant::Decision;
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
        let seen = Stream::start(lane.quantized, &lane.inputs, &mut &tap);
        let wanted = both.then(|| Stream::start(lane.float, &lane.inputs, &mut Float));
        Pair { lane, lifetimes: Lifetimes::of(lane.float), wanted, seen, tap }
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
        step: &dyn Fn(),
    ) -> Result<(), SessionError> {
        let streams = self.rounding.streams();
        let mut pairs: Vec<Pair<'_>> = match streams {
            Streams::Neither => Vec::new(),
            Streams::Seen | Streams::Both => {
                self.lanes.iter().map(|l| Pair::start(l, streams == Streams::Both)).collect()
            }
        };
        let mut at = 0;
        let mut moments: Option<(ValueId, Moments)> = None;
        for n in 0..graph.nodes.len() {
            let Some([input, weight]) = self.target(graph, n) else { continue };
            let worthwhile = matches!(self.plan.weight_decision(weight),
                Some(Decision::Affine { dtype, .. }) if dtype.bits() <= WORTHWHILE_BITS);
            if !pairs.is_empty() && worthwhile {
                pairs.par_iter_mut().for_each(|pair| pair.run(at..n, self.float, rounded));
                at = n;
                if moments.as_ref().is_none_or(|(of, _)| *of != input) {
                    moments = Some((input, gather(&pairs, input)));
                }
            }
            let known = moments.as_ref().filter(|(of, _)| *of == input).map(|(_, m)| m);
            self.layer(graph, rounded, weight, known.filter(|_| worthwhile))?;
            if let Some(&bias) = graph.nodes[n].inputs.get(2) {
                let mut tensor = self.tensor(bias);
                self.plan.quantize_bias(graph, bias, &mut tensor, [input, weight])?;
                rounded.set(bias, tensor);
            }
            step();
        }
        Ok(())
    }

    /// The float tensors that [`Session::run`] leaves alone: neither weights nor biases of layers.
    pub fn others(&self, graph: &Graph) -> Vec<(ValueId, Tensor)> {
        let mut mine = vec![false; graph.values.len()];
        for n in 0..graph.nodes.len() {
            if self.target(graph, n).is_some() {
                for id in &graph.nodes[n].inputs[1..] {
                    mine[id.index()] = true;
                }
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
        (0..graph.nodes.len()).filter(|&n| self.target(graph, n).is_some()).count()
    }

    /// Input and weight of node `n`, if it is a linear layer whose weight it is the first to read.
    fn target(&self, graph: &Graph, n: usize) -> Option<[ValueId; 2]> {
        let node = &graph.nodes[n];
        let weight = *node.inputs.get(1)?;
        let linear =
            matches!(node.op, Op::Linear(_)) && self.plan.sites.site(weight) == Site::Weight;
        let first = linear && !graph.nodes[..n].iter().any(|node| node.inputs.contains(&weight));
        first.then_some([node.inputs[0], weight])
    }

    fn tensor(&self, id: ValueId) -> Tensor {
        self.float.get(id).cloned().expect("invariant: every weight of the graph was loaded")
    }

    fn layer(
        &self,
        graph: &mut Graph,
        rounded: &mut Weights,
        weight: ValueId,
        moments: Option<&Moments>,
    ) -> Result<(), SessionError> {
        let tensor = self.tensor(weight);
        let name = graph.value(weight).name.clone();
        let grid = self.plan.weight_grid(weight, &name, &tensor)?;
        let (Some(decision), Some(grid)) = (self.plan.weight_decision(weight), &grid) else {
            rounded.set(weight, tensor);
            return Ok(());
        };
        let layer = Layer { weight: &tensor, decision, grid, moments };
        let result = match (self.rounding.streams(), moments) {
            (Streams::Seen | Streams::Both, None) => Rtn {}.round(&layer),
            _ => self.rounding.round(&layer),
        };
        let Rounded { grid, weight: tensor } =
            result.map_err(|source| SessionError::Layer { name, source })?;
        graph.values[weight.index()].qparams = Some(grid);
        rounded.set(weight, tensor);
        Ok(())
    }
}

/// Moments of a value over all samples, in their order.
fn gather(pairs: &[Pair<'_>], input: ValueId) -> Moments {
    let two = pairs.iter().all(|pair| pair.wanted.is_some());
    let live = "invariant: the input of a layer about to run is live";
    let mut moments: Option<Moments> = None;
    for pair in pairs {
        let seen = pair.seen.get(input).expect(live);
        let wanted = pair.wanted.as_ref().map_or(seen, |stream| stream.get(input).expect(live));
        let width = seen.shape().last().copied().unwrap_or(0);
        moments.get_or_insert_with(|| Moments::new(width, two)).add(seen.data(), wanted.data());
    }
    moments.expect("invariant: there are samples")
}
