//! How far the samples walk with one load of weights: consecutive stages whose weights fit into the
//! memory that the job may use. All of them, if all fits.

use crate::graph::{Graph, Source, ValueId};
use std::collections::BTreeSet;
use std::ops::Range;

/// A dense weight is held as f32, rounded, and both packed for products.
const COPIES: u64 = 4;
/// Of the memory, what the float weights of a leg may take: with all copies half of it.
const WEIGHTS: u64 = 8;
/// Of the memory, what lanes may take that run side by side.
const WORKING: u64 = 4;
/// Of the memory, what a single weight may take; of larger ones rows are made on demand.
const LARGE: u64 = 16;
/// Of the memory, what resting values get at least.
const RESTING: u64 = 16;
/// Values of a lane that are alive at once, in those of its largest.
const ALIVE: u64 = 4;
/// The program itself, tables, graphs.
const BASE: u64 = 128 << 20;

/// The job cut into legs, and what each part of it may take of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Legs {
    /// Consecutive nodes, all of them together.
    pub(super) nodes: Vec<Range<usize>>,
    /// Bytes for values that rest between legs; none for as many as there are.
    pub(super) room: Option<u64>,
    /// Bytes of a weight that is not held dense.
    pub(super) large: Option<u64>,
    /// Bytes for lanes that run side by side.
    working: Option<u64>,
}

/// How much the samples are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Bytes of all outputs of calibration.
    pub(super) outputs: u64,
    /// Bytes of the samples themselves.
    pub(super) samples: u64,
    /// Lanes that run at once.
    pub(super) threads: u64,
}

impl Legs {
    /// One leg if all fits into `memory`; otherwise several, of which the last is the last stage.
    pub(super) fn of(graph: &Graph, memory: u64, load: Load) -> Legs {
        let params: Vec<ValueId> = graph.params().map(|(id, _)| id).collect();
        let weights: u64 = params.iter().map(|&id| bytes(graph, id)).sum();
        let working = load.threads * ALIVE * heaviest(graph, 0..graph.nodes.len());
        let stages = stages(graph);
        let whole = BASE + COPIES * weights + 2 * load.outputs + load.samples + working;
        if whole <= memory || stages.len() < 2 {
            let nodes = std::iter::once(0..graph.nodes.len()).collect();
            return Legs { nodes, room: None, large: None, working: None };
        }
        let large = memory / LARGE;
        let (mut nodes, mut greatest): (Vec<Range<usize>>, u64) = (Vec::new(), 0);
        let mut held = 0;
        for (i, stage) in stages.iter().enumerate() {
            let own = weight_bytes(graph, stage.clone(), large);
            match nodes.last_mut() {
                Some(leg) if held + own <= memory / WEIGHTS && i + 1 < stages.len() => {
                    leg.end = stage.end;
                    held += own;
                }
                _ => {
                    nodes.push(stage.clone());
                    held = own;
                }
            }
            greatest = greatest.max(held);
        }
        let working = memory / WORKING;
        let taken = BASE + COPIES * greatest + working + load.samples;
        let room = memory.saturating_sub(taken).max(memory / RESTING);
        Legs { nodes, room: Some(room), large: Some(large), working: Some(working) }
    }

    /// Whether there is only one.
    pub(super) fn whole(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Where the last begins.
    pub(super) fn last_start(&self) -> usize {
        self.nodes.last().map_or(0, |nodes| nodes.start)
    }

    /// Whether lanes that walk `nodes` on `graph` may do so side by side, one for each thread.
    pub(super) fn side_by_side(&self, graph: &Graph, nodes: Range<usize>, threads: u64) -> bool {
        self.working.is_none_or(|most| threads * ALIVE * heaviest(graph, nodes) <= most)
    }
}

/// The nodes of each stage; those between stages belong to the one that follows.
fn stages(graph: &Graph) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut stages: Vec<Range<usize>> = Vec::new();
    for stage in &graph.stages {
        stages.push(at..stage.nodes.end);
        at = stage.nodes.end;
    }
    if let Some(last) = stages.last_mut() {
        last.end = graph.nodes.len();
    }
    stages
}

/// Checkpoint values that some nodes read, ascending.
pub(super) fn params(graph: &Graph, nodes: Range<usize>) -> BTreeSet<ValueId> {
    let operands = graph.nodes[nodes].iter().flat_map(|node| &node.inputs);
    operands.copied().filter(|id| matches!(graph.value(*id).source, Source::Param(_))).collect()
}

fn bytes(graph: &Graph, id: ValueId) -> u64 {
    4 * graph.value(id).shape.iter().product::<usize>() as u64
}

/// Bytes of the weights that some nodes hold dense.
fn weight_bytes(graph: &Graph, nodes: Range<usize>, large: u64) -> u64 {
    let all = params(graph, nodes).into_iter().map(|id| bytes(graph, id));
    all.filter(|&bytes| bytes <= large).sum()
}

/// Bytes of the largest value that some nodes make.
fn heaviest(graph: &Graph, nodes: Range<usize>) -> u64 {
    graph.nodes[nodes].iter().map(|node| bytes(graph, node.output)).max().unwrap_or(0)
}

/// Three quarters of the memory that is free, where the system tells; else 8 GiB.
pub(super) fn available() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
    });
    told.map_or(8 << 30, |bytes| bytes / 4 * 3)
}
