//! What rounding one weight costs, all others as they are.

use super::super::walk::Walk;
use super::super::{Error, Means, Progress, go_on};
use super::setting::Judge;
use crate::exec::{Float, Gait, Room, Spool, Stream, Weights};
use crate::tensor::Tensor;

/// Samples on their way through the float network. They stand before the first node that reads the
/// weight in question: up to there nothing depends on how it is rounded.
pub(super) struct Losses<'a> {
    walk: &'a Walk<'a>,
    spool: Spool,
    at: usize,
    gait: Gait,
    judge: Judge,
    progress: &'a dyn Progress,
}

impl<'a> Losses<'a> {
    /// The samples of `walk`, before the first node; `weights` are those of the float network.
    pub(super) fn start(
        walk: &'a Walk<'a>,
        weights: &Weights,
        gait: Gait,
        (means, progress): (&Means, &'a dyn Progress),
    ) -> Result<Losses<'a>, Error> {
        let spool = Spool::new(walk.lanes.len(), Room::new(None, &means.folder()));
        let mut losses = Losses { walk, spool, at: 0, gait, judge: Judge::default(), progress };
        let start = |lane, streams: &mut Vec<Stream>, _| -> Result<(), Error> {
            let inputs = walk.inputs(lane);
            streams.push(Stream::start(walk.graph(lane), inputs, &mut Float));
            Ok(())
        };
        losses.spool.pass(gait, start, &mut |_, _| ())?;
        losses.judge = Judge::new(losses.ends(weights, |_, output| output.clone())?);
        Ok(losses)
    }

    /// Takes the samples to the node `at` of the float network.
    pub(super) fn advance(&mut self, at: usize, weights: &Weights) -> Result<(), Error> {
        let nodes = self.at..at;
        let Losses { walk, spool, gait, progress, .. } = self;
        let go = |lane: usize, streams: &mut Vec<Stream>, par| {
            go_on(*progress, || "while measuring losses".into())?;
            let (graph, lifetimes) = (walk.graph(lane), walk.lifetimes(lane));
            streams[0].run(graph, nodes.clone(), weights, lifetimes, &mut Float, par);
            Ok::<(), Error>(())
        };
        spool.pass(*gait, go, &mut |_, _| ())?;
        self.at = at;
        Ok(())
    }

    /// Mean KL divergence from the float network, over all tokens and in nats, where the nodes still
    /// to come read these weights.
    pub(super) fn of(&mut self, weights: &Weights) -> Result<f64, Error> {
        let (walk, judge) = (self.walk, self.judge.clone());
        let found = self.ends(weights, |lane, output| judge.parts(walk, lane, output))?;
        Ok(Judge::mean(walk, found))
    }

    /// What becomes of each lane's output at the end; the samples stay where they are.
    fn ends<T: Send>(
        &mut self,
        weights: &Weights,
        end: impl Fn(usize, &Tensor) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let Losses { walk, spool, at, gait, progress, .. } = self;
        let go = |lane: usize, streams: &mut Vec<Stream>, par| {
            go_on(*progress, || "while measuring losses".into())?;
            let graph = walk.graph(lane);
            let mut ahead = streams[0].clone();
            let nodes = *at..graph.nodes.len();
            ahead.run(graph, nodes, weights, walk.lifetimes(lane), &mut Float, par);
            let output = ahead.get(graph.outputs[0]).expect("invariant: outputs live on");
            Ok::<T, Error>(end(lane, output))
        };
        spool.pass(*gait, go, &mut |_, _| ())
    }
}
