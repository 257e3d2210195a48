//! Samples on their way through two networks, the float one and the quantized one, a few nodes at a
//! time.

use crate::calibrate::{Quantizing, Tokens};
use crate::exec::{Float, Gait, Lifetimes, Spool, SpoolError, Stream, Weights, rows_on};
use crate::graph::{Graph, ValueId};
use crate::tensor::{Par, Tensor};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The graphs of the shape that samples have which run together.
pub struct Lane<'a> {
    float: &'a Graph,
    quantized: &'a Graph,
    tap: Quantizing<'a>,
    lifetimes: &'a Lifetimes,
    tokens: OnceLock<Tokens>,
}

impl<'a> Lane<'a> {
    /// `float` is without annotations; `quantized` has annotated activations and rounded constants.
    /// Values of both live as long as `lifetimes` says.
    pub fn new(float: &'a Graph, quantized: &'a Graph, lifetimes: &'a Lifetimes) -> Lane<'a> {
        let tap = Quantizing::of(quantized);
        Lane { float, quantized, tap, lifetimes, tokens: OnceLock::new() }
    }
}

/// The weights of both networks.
#[derive(Clone, Copy)]
pub struct Both<'a> {
    /// Of the checkpoint.
    pub float: &'a Weights,
    /// On their grids.
    pub rounded: &'a Weights,
}

/// What becomes of the outputs of a lane, float and quantized.
pub type End<'e, T, E> = dyn Fn(usize, [&Tensor; 2]) -> Result<T, E> + Sync + 'e;

/// The lanes' live values in both networks.
pub struct Pairs<'a> {
    lanes: Vec<Arc<Lane<'a>>>,
    /// Inputs of a lane, in the order of its graphs'.
    inputs: Box<dyn Fn(usize) -> Vec<Tensor> + Sync + 'a>,
    /// Of each lane, the float stream, then the quantized one.
    spool: Spool,
    wanted_at: Option<usize>,
    seen_at: Option<usize>,
}

/// One lane's values in both networks.
pub struct Pair<'p> {
    lane: &'p Lane<'p>,
    /// In the float network.
    pub wanted: &'p Stream,
    /// In the quantized one.
    pub seen: &'p Stream,
}

impl Pair<'_> {
    /// The rows of a layer's input that count: what the quantized network sees, and what was wanted.
    /// With `two` streams those that count in both, else those that count in the quantized one.
    pub fn rows(&self, input: ValueId, route: ValueId, two: bool) -> Option<[Vec<f32>; 2]> {
        let (here, lifetimes) = (self.seen.get(route)?, self.lane.lifetimes);
        if !two {
            let seen = self.seen.rows(lifetimes, input, [here; 2])?;
            return Some([seen.clone(), seen]);
        }
        let there = self.wanted.get(route)?;
        Some([
            self.seen.rows(lifetimes, input, [here, there])?,
            self.wanted.rows(lifetimes, input, [there, here])?,
        ])
    }

    /// The tokens of the rows that [`Pair::rows`] gives; none where the graph takes no tokens.
    pub fn positions(&self, route: ValueId, two: bool) -> Option<Vec<usize>> {
        let here = self.seen.get(route)?;
        let there = if two { self.wanted.get(route)? } else { here };
        let seq = Some(self.tokens().seq()).filter(|&seq| seq > 0)?;
        Some(rows_on([here, there]).into_iter().map(|row| row % seq).collect())
    }

    /// Where the tokens are in this lane's graphs.
    pub fn tokens(&self) -> &Tokens {
        self.lane.tokens.get_or_init(|| Tokens::of(self.lane.float))
    }

    /// Extents of a value in this lane.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.lane.float.value(id).shape
    }
}

impl<'a> Pairs<'a> {
    /// Lanes at the start; or, given the nodes that they have reached, with a float stream and then
    /// perhaps a quantized one in `spool`.
    pub fn new(
        lanes: Vec<Arc<Lane<'a>>>,
        inputs: impl Fn(usize) -> Vec<Tensor> + Sync + 'a,
        spool: Spool,
        [wanted_at, seen_at]: [Option<usize>; 2],
    ) -> Pairs<'a> {
        Pairs { lanes, inputs: Box::new(inputs), spool, wanted_at, seen_at }
    }

    /// The nodes that the float streams and the quantized ones have reached, and where they rest.
    pub fn reached(&self) -> ([Option<usize>; 2], &Spool) {
        ([self.wanted_at, self.seen_at], &self.spool)
    }

    /// Runs both networks up to the node `to`, as far as they are behind, and shows the lanes, some
    /// at a time, in their order.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn advance(
        &mut self,
        to: usize,
        weights: Both<'_>,
        gait: Gait,
        see: &mut dyn FnMut(&[Pair<'_>]),
    ) -> Result<(), SpoolError> {
        let Pairs { lanes, inputs, spool, wanted_at, seen_at } = self;
        let step = Step { inputs, wanted_at: *wanted_at, seen_at: *seen_at, to, weights };
        step.pack(lanes.first());
        let mut show = |first: usize, items: &[Vec<Stream>]| {
            let pairs: Vec<Pair<'_>> = items
                .iter()
                .enumerate()
                .map(|(i, item)| Pair { lane: &lanes[first + i], wanted: &item[0], seen: &item[1] })
                .collect();
            see(&pairs);
        };
        let work = |i: usize, item: &mut Vec<Stream>, par: Par| {
            step.run(&lanes[i], i, item, par);
            Ok::<(), SpoolError>(())
        };
        spool.pass(gait, work, &mut show)?;
        *wanted_at = (*wanted_at).max(Some(to));
        *seen_at = Some(to);
        Ok(())
    }

    /// Runs both networks to their end, hands `end` the first outputs of every lane, float and
    /// quantized, and forgets them.
    ///
    /// # Errors
    /// Those of the spool and of `end`.
    pub fn finish<T: Send, E: Send + From<SpoolError>>(
        self,
        weights: Both<'_>,
        gait: Gait,
        end: &End<'_, T, E>,
    ) -> Result<Vec<T>, E> {
        let Some(last) = self.lanes.first().map(|lane| lane.float.nodes.len()) else {
            return Ok(Vec::new());
        };
        let Pairs { lanes, inputs, mut spool, wanted_at, seen_at } = self;
        let step = Step { inputs: &inputs, wanted_at, seen_at, to: last, weights };
        step.pack(lanes.first());
        let work = |i: usize, item: &mut Vec<Stream>, par: Par| {
            step.run(&lanes[i], i, item, par);
            let output = |k: usize| item[k].get(lanes[i].float.outputs[0]);
            let outputs = [0, 1].map(|k| output(k).expect("invariant: outputs live on"));
            let result = end(i, outputs)?;
            item.clear();
            Ok(result)
        };
        spool.pass(gait, work, &mut |_, _| ())
    }
}

/// What is to be done with every lane.
struct Step<'s> {
    inputs: &'s (dyn Fn(usize) -> Vec<Tensor> + Sync),
    wanted_at: Option<usize>,
    seen_at: Option<usize>,
    to: usize,
    weights: Both<'s>,
}

impl Step<'_> {
    /// What lanes are multiplied by; their graphs have the same nodes.
    fn pack(&self, lane: Option<&Arc<Lane<'_>>>) {
        let Some(lane) = lane else { return };
        self.weights.float.pack(lane.float, self.left(self.wanted_at), false);
        self.weights.rounded.pack(lane.quantized, self.left(self.seen_at), true);
    }

    /// The nodes that a stream has before it, standing there; none if it is further already.
    fn left(&self, at: Option<usize>) -> Range<usize> {
        let at = at.unwrap_or(0);
        at..self.to.max(at)
    }

    fn run(&self, lane: &Lane<'_>, i: usize, item: &mut Vec<Stream>, par: Par) {
        if self.wanted_at.is_none() {
            item.push(Stream::start(lane.float, (self.inputs)(i), &mut Float));
        }
        if self.seen_at.is_none() {
            item.push(Stream::start(lane.quantized, (self.inputs)(i), &mut &lane.tap));
        }
        let Both { float, rounded } = self.weights;
        let (wanted, seen) = item.split_at_mut(1);
        let lifetimes = lane.lifetimes;
        wanted[0].run(lane.float, self.left(self.wanted_at), float, lifetimes, &mut Float, par);
        seen[0].run(
            lane.quantized,
            self.left(self.seen_at),
            rounded,
            lifetimes,
            &mut &lane.tap,
            par,
        );
    }
}
