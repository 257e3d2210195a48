//! How far the samples walk with one load of weights: consecutive stages whose weights fit into the
//! memory that the job may use. All of them, if all fits.

use super::super::estimate::{Hold, Needs, peak};
use crate::graph::Graph;
use std::ops::Range;

/// Of the memory, what the weights of a leg may take, with all their copies.
const WEIGHTS: u64 = 2;
/// Of the memory, what a single weight may take; of larger ones rows are made on demand.
const LARGE: u64 = 16;

/// The job cut into legs, and what each part of it may take of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Legs {
    /// Consecutive nodes, all of them together.
    pub(in super::super) nodes: Vec<Range<usize>>,
    /// Bytes for values that rest between legs; none for as many as there are.
    pub(in super::super) room: Option<u64>,
    /// Which weights are dense; none for all.
    pub(in super::super) hold: Option<Hold>,
    /// Bytes for lanes that run side by side.
    working: Option<u64>,
    /// Bytes that the job takes in all.
    pub(in super::super) taken: u64,
}

impl Legs {
    /// One leg if all fits into `memory`; otherwise several, of which the last is the last stage. With
    /// dense weights if that fits, else with weights made on demand.
    pub(in super::super) fn of(needs: &Needs<'_>, memory: u64) -> Legs {
        let whole = needs.whole();
        if whole <= memory || needs.stages.len() < 2 {
            return Legs { taken: whole, ..Legs::one(needs.graph) };
        }
        let cut = |lean| Legs::cut(needs, memory, Hold { large: memory / LARGE, lean });
        let dense = cut(false);
        if dense.taken > memory && needs.lean { cut(true) } else { dense }
    }

    /// A single leg, for somebody who knows that it fits.
    pub(in super::super) fn one(graph: &Graph) -> Legs {
        let nodes = std::iter::once(0..graph.nodes.len()).collect();
        Legs { nodes, room: None, hold: None, working: None, taken: 0 }
    }

    fn cut(needs: &Needs<'_>, memory: u64, hold: Hold) -> Legs {
        let stages = &needs.stages;
        let mut nodes: Vec<Range<usize>> = Vec::new();
        let mut held = 0;
        for (i, stage) in stages.iter().enumerate() {
            let own = needs.weights(stage.clone(), hold);
            let joined = |leg: &Range<usize>| needs.leg(leg.start..stage.end, memory, hold);
            match nodes.last_mut() {
                Some(leg)
                    if held + own <= memory / WEIGHTS
                        && i + 1 < stages.len()
                        && joined(leg) <= memory =>
                {
                    leg.end = stage.end;
                    held += own;
                }
                _ => {
                    nodes.push(stage.clone());
                    held = own;
                }
            }
        }
        let most = nodes.iter().map(|leg| needs.leg(leg.clone(), memory, hold)).max();
        let most = most.unwrap_or(0);
        let room = memory.saturating_sub(most);
        let resting = nodes.iter().map(|leg| needs.resting(leg)).max().unwrap_or(0);
        let (room, taken) = (Some(room), most + room.min(resting));
        Legs { nodes, room, hold: Some(hold), working: Some(needs.working(memory)), taken }
    }

    /// The least memory in which the job can run, to a few MiB.
    pub(in super::super) fn least(needs: &Needs<'_>) -> u64 {
        let fits = |memory: u64| Legs::of(needs, memory).taken <= memory;
        let (mut low, mut high) = (0, needs.whole());
        while high - low > 4 << 20 {
            let middle = low + (high - low) / 2;
            if fits(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// Whether there is only one.
    pub(in super::super) fn whole(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Where the last begins.
    pub(in super::super) fn last_start(&self) -> usize {
        self.nodes.last().map_or(0, |nodes| nodes.start)
    }

    /// Whether lanes that walk `nodes` on `graph` may do so side by side, one for each thread.
    pub(super) fn side_by_side(&self, graph: &Graph, nodes: Range<usize>, threads: u64) -> bool {
        self.working.is_none_or(|most| threads * 2 * peak(graph, nodes) <= most)
    }
}
