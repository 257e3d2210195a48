//! The float run: the calibration samples walk leg by leg while every site is observed.

use super::super::unfinished::{Unfinished, halt};
use super::super::{Error, Progress, go_on};
use super::Walk;
use super::floats::Floats;
use super::legs::Legs;
use crate::calibrate::{Observing, Plan, Statistics, Tokens, Weighing};
use crate::exec::{Room, Spool, Stream, Tap, Weights};
use crate::graph::Graph;
use crate::tensor::{Par, Products};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What observes.
pub(in super::super) struct Observation<'a> {
    pub(in super::super) plan: &'a Plan,
    pub(in super::super) legs: &'a Legs,
    pub(in super::super) floats: &'a Floats<'a>,
    /// What linear layers multiply.
    pub(in super::super) products: Products,
    pub(in super::super) progress: &'a dyn Progress,
    /// Where statistics and streams are put down between legs, if they are.
    pub(in super::super) unfinished: Option<&'a Unfinished<'a>>,
    pub(in super::super) room: &'a Arc<Room>,
}

impl Observation<'_> {
    /// Statistics of every site. The streams in `spool`, empty before, are then where the last of
    /// several legs begins, or at the end of a single one.
    pub(in super::super) fn run(
        &self,
        graph: &Graph,
        walk: &Walk<'_>,
        spool: &mut Spool,
    ) -> Result<Statistics, Error> {
        let legs = &self.legs.nodes;
        self.progress.begin("calibrate", walk.samples.len() * legs.len());
        let (first, mut base) = self.resumed(graph, walk, spool).unzip();
        let mut fresh = || Mutex::new(base.take().unwrap_or_else(|| Statistics::new(self.plan)));
        // One set of statistics a thread: their merge does not depend on which thread saw what. What
        // cannot merge is observed in order, by whatever thread this is.
        let count = if self.plan.mergeable() { rayon::current_num_threads() } else { 1 };
        let shards: Vec<Mutex<Statistics>> = (0..count).map(|_| fresh()).collect();
        for (i, nodes) in legs.iter().enumerate().skip(first.unwrap_or(0)) {
            let weights = self.floats.load(graph, nodes.clone())?.with_products(self.products);
            weights.pack(graph, nodes.clone(), false);
            let stay = i > 0 && i + 1 == legs.len();
            let step = Step { of: self, walk, weights: &weights, nodes, shards: &shards, stay };
            let gait = walk.gait(self.legs, nodes, self.plan.mergeable());
            spool.pass(gait, |lane, item, par| step.run(lane, item, par), &mut |_, _| ())?;
            if i + 1 < legs.len() {
                self.halt(graph, (walk, spool), &shards, nodes.end)?;
            }
        }
        let mut shards =
            shards.into_iter().map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut statistics = shards.next().expect("invariant: a pool has a thread");
        if self.plan.mergeable() {
            for other in shards {
                statistics.merge(&other)?;
            }
        }
        Ok(statistics)
    }

    /// The leg that an earlier run had reached, and its statistics; the streams go into `spool`.
    fn resumed(
        &self,
        graph: &Graph,
        walk: &Walk<'_>,
        spool: &mut Spool,
    ) -> Option<(usize, Statistics)> {
        let mut found = halt::read(self.unfinished?, &[walk], (self.legs, self.room))?;
        let ([Some(at), None], streams) = found.groups.pop()? else { return None };
        let leg = self.legs.nodes.iter().position(|nodes| nodes.start == at)?;
        let statistics = Statistics::from_parts(self.plan, graph, found.observed?).ok()?;
        *spool = streams;
        Some((leg, statistics))
    }

    /// Puts down what was observed before the node `at`, and the streams that stand there.
    fn halt(
        &self,
        graph: &Graph,
        (walk, spool): (&Walk<'_>, &Spool),
        shards: &[Mutex<Statistics>],
        at: usize,
    ) -> Result<(), Error> {
        // The moving average is not put down: it is observed again.
        let Some(unfinished) = self.unfinished.filter(|_| self.plan.mergeable()) else {
            return Ok(());
        };
        unfinished.put_streams(|out| {
            let mut all = Statistics::new(self.plan);
            for shard in shards {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                all.merge(&shard).map_err(io::Error::other)?;
            }
            let parts = all.into_parts(self.plan, graph).map_err(io::Error::other)?;
            halt::write(Some(parts), &[(walk, [Some(at), None], spool)], out)
        })
    }
}

/// One leg.
struct Step<'s> {
    of: &'s Observation<'s>,
    walk: &'s Walk<'s>,
    weights: &'s Weights,
    nodes: &'s Range<usize>,
    shards: &'s [Mutex<Statistics>],
    /// Whether the streams stay where they are.
    stay: bool,
}

impl Step<'_> {
    fn run(&self, lane: usize, item: &mut Vec<Stream>, par: Par) -> Result<(), Error> {
        go_on(self.of.progress, || "while calibrating".into())?;
        let shard = rayon::current_thread_index().unwrap_or(0) % self.shards.len();
        let mut statistics = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.of.plan;
        // Where samples count, each has a lane.
        statistics.begin(lane);
        let mut observing = Observing { plan, statistics: &mut statistics };
        let graph = self.walk.graph(lane);
        let (tokens, mut weighing);
        let tap: &mut dyn Tap = match plan.emphasis().is_plain() {
            true => &mut observing,
            false => {
                tokens = Tokens::of(graph);
                weighing = Weighing { observing, tokens: &tokens };
                &mut weighing
            }
        };
        if item.is_empty() {
            item.push(Stream::start(graph, self.walk.inputs(lane), tap));
        }
        let mut ahead;
        let stream = match self.stay {
            true => {
                ahead = item[0].clone();
                &mut ahead
            }
            false => &mut item[0],
        };
        let lifetimes = self.walk.lifetimes(lane);
        stream.run(graph, self.nodes.clone(), self.weights, lifetimes, tap, par);
        self.walk.lanes[lane].samples.iter().for_each(|_| self.of.progress.step());
        Ok(())
    }
}
