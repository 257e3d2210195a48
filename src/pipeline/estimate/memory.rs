//! What the job takes of memory, counted on its graph before anything runs. `walk/legs.rs` cuts the job
//! by it, and the plan prints it.

use super::super::Recipe;
use super::super::walk::EXAMPLE;
use crate::algo::{self, Rounding, Streams};
use crate::calibrate::{Plan, Statistics};
use crate::dataset::Sample;
use crate::exec::{AHEAD, Lifetimes};
use crate::graph::{Graph, Param, Source, ValueId};
use crate::quant::Decision;
use crate::tensor::{LARGE, Products, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The program itself, its tables and graphs.
const BASE: u64 = 16 << 20;
/// What the stock of tensors and the allocator keep of what rounding took, at most.
const KEPT: u64 = 128 << 20;
/// Of the memory, what lanes may take that run side by side.
const WORKING: u64 = 4;
/// Rows from which a matrix is worth making anew for one product.
const LONG: u64 = 128;

/// Weights of at most so many elements are always in memory.
pub(in super::super) const SMALL: usize = 1 << 14;

/// Which weights are not dense in memory, but made on demand, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Hold {
    /// Bytes of a weight that is made on demand in any case.
    pub(in super::super) large: u64,
    /// Whether all are whose rows are as they are stored, apart from scales.
    pub(in super::super) lean: bool,
}

impl Hold {
    /// Whether a weight is dense.
    pub(in super::super) fn dense(self, graph: &Graph, id: ValueId) -> bool {
        let shape = &graph.value(id).shape;
        let plain = |param: &Param| param.by_rows(shape);
        let matrix = shape.len() == 2 && shape.iter().product::<usize>() > SMALL;
        let lean = self.lean && matrix && graph.param(id).is_some_and(plain);
        !lean && bytes(graph, id) <= self.large
    }
}

/// How much the samples are.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Load {
    /// Calibration samples.
    pub(in super::super) samples: u64,
    /// Samples with answers.
    pub(in super::super) eval: u64,
    /// Bytes of all pictures.
    pub(in super::super) pixels: u64,
    /// Tokens of a calibration sample in the mean.
    pub(in super::super) tokens: u64,
    /// Samples that run together, and lanes that run at once.
    pub(in super::super) lanes: [u64; 2],
}

impl Load {
    /// That of calibration and evaluation samples.
    pub(in super::super) fn of([calib, eval]: [&[Sample]; 2], batch: usize) -> Load {
        let pixels = |sample: &Sample| sample.pixel_values.as_ref().map_or(0, Tensor::len);
        let tokens = calib.iter().map(|sample| sample.input_ids.len()).sum::<usize>();
        let held = calib.iter().chain(eval).map(pixels).sum::<usize>();
        Load {
            samples: calib.len() as u64,
            eval: eval.len() as u64,
            pixels: 4 * held as u64,
            tokens: (tokens / calib.len().max(1)) as u64,
            lanes: [batch as u64, rayon::current_num_threads() as u64],
        }
    }
}

/// The needs of a job by the parts of its graph.
pub(in super::super) struct Needs<'a> {
    pub(in super::super) graph: &'a Graph,
    /// Nodes of each stage; those between stages belong to the one that follows.
    pub(in super::super) stages: Vec<Range<usize>>,
    pub(in super::super) load: Load,
    /// Of one sample, bytes alive while a node runs, and after it.
    live: Vec<[u64; 2]>,
    /// What rounding the weight of a node takes.
    rounding: Vec<Option<Rounded>>,
    /// Bytes of the integers of each weight.
    integers: BTreeMap<ValueId, u64>,
    streams: Streams,
    products: Products,
    /// Bytes of what is seen of the samples: by one thread, and by all where lanes are side by side.
    statistics: [u64; 2],
    /// Whether matrices may be made on demand for every lane: nothing costly is done to their rows,
    /// and enough of them are multiplied at a time.
    pub(in super::super) lean: bool,
}

impl<'a> Needs<'a> {
    /// Counts.
    pub(in super::super) fn of(
        graph: &'a Graph,
        plan: &Plan,
        rounding: &dyn Rounding,
        recipe: &Recipe,
        load: Load,
    ) -> Needs<'a> {
        let streams = rounding.streams();
        let scratch = roundings(graph, plan, streams);
        let (live, products) = (live(graph), recipe.products);
        let lean = recipe.algo.rotate.is_none() && load.tokens >= LONG;
        let (stages, rounding) = (stages(graph), scratch);
        let sets = if plan.mergeable() { load.lanes[1].min(load.samples) } else { 1 };
        let statistics = [1, sets].map(|sets| sets * Statistics::bytes(plan, graph));
        let size = |(id, _)| Some((id, integers(graph, id, plan.weight_decision(id)?)));
        let integers = graph.params().filter_map(size).collect();
        Needs { graph, stages, load, live, rounding, integers, streams, products, statistics, lean }
    }

    /// Bytes with all weights and all samples in memory.
    pub(in super::super) fn whole(&self) -> u64 {
        let all = 0..self.graph.nodes.len();
        let [batch, threads] = self.load.lanes;
        let most = |at| self.most(all.clone(), at);
        let rest = match self.streams {
            Streams::Neither => self.live.last().map_or(0, |live| live[1]),
            Streams::Seen | Streams::Both | Streams::Drift => 2 * most(1),
        };
        let running = self.load.samples * rest + batch * threads * most(0);
        let weights: u64 = params(self.graph, all.clone()).iter().map(|id| self.copies(*id)).sum();
        let running = self.rounding(all, running, None).max(running + self.statistics[1]);
        BASE + self.load.pixels + weights + running + self.example()
    }

    /// Bytes for lanes that run side by side, beside what all threads see of them.
    pub(in super::super) fn working(&self, memory: u64) -> u64 {
        (memory / WORKING).saturating_sub(self.statistics[1])
    }

    /// Bytes that a leg takes beside what rests.
    pub(in super::super) fn leg(&self, nodes: Range<usize>, memory: u64, hold: Hold) -> u64 {
        let weights = self.weights(nodes.clone(), hold);
        let [_, threads] = self.load.lanes;
        // One network runs while the other one's values rest.
        let (lane, rest) = (self.most(nodes.clone(), 0), self.most(nodes.clone(), 1));
        let side_by_side = threads * 2 * lane <= self.working(memory);
        let running = match side_by_side {
            true => threads * (lane + rest + (AHEAD as u64 - 1) * 2 * self.after(&nodes)),
            false => lane + rest,
        };
        let last = if nodes.end == self.graph.nodes.len() { self.example() } else { 0 };
        let made = self.integers_made(nodes.clone(), hold);
        // What threads have seen is joined before anything is rounded.
        let seen = running + self.statistics[usize::from(side_by_side)];
        let running = self.rounding(nodes, running, Some(hold)).max(seen);
        BASE + self.load.pixels + weights + made + running + last
    }

    /// Bytes of the integers of those that are not dense: together in memory until all are rounded.
    fn integers_made(&self, nodes: Range<usize>, hold: Hold) -> u64 {
        let made = params(self.graph, nodes).into_iter().filter(|id| !hold.dense(self.graph, *id));
        made.filter_map(|id| self.integers.get(&id)).sum()
    }

    /// Bytes of all live values that rest after a leg, of both networks; none rest after the last.
    pub(in super::super) fn resting(&self, nodes: &Range<usize>) -> u64 {
        2 * self.after(nodes) * (self.load.samples + self.load.eval)
    }

    /// Bytes of the dense weights that some nodes read, with all their copies.
    pub(in super::super) fn weights(&self, nodes: Range<usize>, hold: Hold) -> u64 {
        let ids = params(self.graph, nodes).into_iter();
        ids.filter(|id| hold.dense(self.graph, *id)).map(|id| self.copies(id)).sum()
    }

    /// Of one sample in one network.
    fn after(&self, nodes: &Range<usize>) -> u64 {
        match nodes.end == self.graph.nodes.len() {
            true => 0,
            false => self.live[..nodes.end].last().map_or(0, |live| live[1]),
        }
    }

    fn example(&self) -> u64 {
        let outputs: u64 = self.graph.outputs.iter().map(|id| bytes(self.graph, *id)).sum();
        2 * outputs.min(4 * EXAMPLE as u64)
    }

    /// The greatest of what rounding takes while lanes that take `running` walk, and afterwards.
    fn rounding(&self, nodes: Range<usize>, running: u64, hold: Option<Hold>) -> u64 {
        let taken = |r: &Rounded| {
            let dense = hold.is_none_or(|hold| hold.dense(self.graph, r.weight));
            let all = r.sums + r.factor + r.rows[usize::from(!dense)];
            // Most of it is taken again by the next.
            (running + r.sums).max(all) + KEPT.min(all / 4)
        };
        self.rounding[nodes].iter().flatten().map(taken).max().unwrap_or(running)
    }

    /// The most that is alive of a sample while one of some nodes runs, or after it.
    fn most(&self, nodes: Range<usize>, at: usize) -> u64 {
        self.live[nodes].iter().map(|live| live[at]).max().unwrap_or(0)
    }

    /// A weight as f32 and rounded, and what products have packed of both.
    fn copies(&self, id: ValueId) -> u64 {
        let bytes = bytes(self.graph, id);
        let packed = matches!(self.products, Products::Bf16).then_some(bytes / 2);
        let multiplied = self.graph.value(id).shape.len() == 2 && bytes > 1 << 16;
        if multiplied { 4 * bytes + packed.unwrap_or(0) } else { 2 * bytes }
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
pub(in super::super) fn params(graph: &Graph, nodes: Range<usize>) -> BTreeSet<ValueId> {
    let operands = graph.nodes[nodes].iter().flat_map(|node| &node.inputs);
    operands.copied().filter(|id| matches!(graph.value(*id).source, Source::Param(_))).collect()
}

/// Bytes of a weight as it is stored.
fn integers(graph: &Graph, id: ValueId, decision: &Decision) -> u64 {
    let bits = match decision {
        Decision::Affine { dtype, .. } => dtype.stored_bits() as u64,
        Decision::Mx { .. } | Decision::Float => 32,
    };
    (bytes(graph, id) * bits).div_ceil(32)
}

/// Bytes of a value as f32.
pub(in super::super) fn bytes(graph: &Graph, id: ValueId) -> u64 {
    4 * graph.value(id).shape.iter().product::<usize>() as u64
}

/// Bytes that a lane on `graph` has alive at most while some nodes run, of the values that these
/// nodes read or make.
pub(in super::super) fn peak(graph: &Graph, nodes: Range<usize>) -> u64 {
    let runs = |id: &ValueId| matches!(graph.value(*id).source, Source::Input | Source::Node(_));
    let mut last = BTreeMap::new();
    for n in nodes.clone() {
        let reads = graph.nodes[n].inputs.iter().chain(&graph.nodes[n].routed);
        last.extend(reads.filter(|id| runs(id)).map(|id| (*id, n)));
    }
    let made: BTreeSet<ValueId> = graph.nodes[nodes.clone()].iter().map(|n| n.output).collect();
    let mut alive: u64 =
        last.keys().filter(|id| !made.contains(id)).map(|id| bytes(graph, *id)).sum();
    let mut most = alive;
    for n in nodes {
        let node = &graph.nodes[n];
        alive += bytes(graph, node.output);
        most = most.max(alive);
        let read: BTreeSet<ValueId> = node.inputs.iter().chain(&node.routed).copied().collect();
        let freed = read.into_iter().filter(|id| last.get(id) == Some(&n));
        alive -= freed.map(|id| bytes(graph, id)).sum::<u64>();
    }
    most
}

/// Bytes that measuring the losses of the weights of `graph` takes: all of them and what products have
/// packed, what the samples give, and so many lanes under way.
pub(in super::super) fn measuring(graph: &Graph, load: Load, under_way: u64) -> u64 {
    let weights = || graph.params().map(|(id, _)| 2 * bytes(graph, id));
    let changed = weights().max().unwrap_or(0);
    let kept: u64 = graph.outputs.iter().map(|id| bytes(graph, *id)).sum();
    let running = under_way * load.lanes[0] * peak(graph, 0..graph.nodes.len());
    BASE + load.pixels + weights().sum::<u64>() + changed + load.samples * kept + running
}

/// Bytes alive while each node runs, and after it.
fn live(graph: &Graph) -> Vec<[u64; 2]> {
    let lifetimes = Lifetimes::of(graph);
    let runs = |id: ValueId| matches!(graph.value(id).source, Source::Input | Source::Node(_));
    let mut alive: u64 = graph.inputs.iter().map(|id| bytes(graph, *id)).sum();
    let mut live = Vec::with_capacity(graph.nodes.len());
    for (n, node) in graph.nodes.iter().enumerate() {
        alive += bytes(graph, node.output);
        let passed_on = lifetimes.passed_on(n).map(|id| bytes(graph, id));
        let during = alive - passed_on.filter(|bytes| *bytes >= 4 * LARGE as u64).unwrap_or(0);
        let read: BTreeSet<ValueId> = node.inputs.iter().chain(&node.routed).copied().collect();
        let freed = read.into_iter().filter(|id| runs(*id) && lifetimes.ends(*id, n));
        alive -= freed.map(|id| bytes(graph, id)).sum::<u64>();
        live.push([during, alive]);
    }
    live
}

/// What rounding a weight by its inputs takes beside it, in bytes.
#[derive(Clone, Copy, Debug)]
struct Rounded {
    weight: ValueId,
    /// Sums over the samples.
    sums: u64,
    /// The factor of one of them.
    factor: u64,
    /// Targets and codes as f64, the result as f32, and grids: of all rows, and of those rounded at
    /// once.
    rows: [u64; 2],
}

/// Bytes of one grid while a matrix is rounded: as found, and as it is kept.
const GRID: u64 = 40;

/// For each node that is the first to multiply by a weight, what rounding that takes.
fn roundings(graph: &Graph, plan: &Plan, streams: Streams) -> Vec<Option<Rounded>> {
    let mut needs = vec![None; graph.nodes.len()];
    if streams < Streams::Seen {
        return needs;
    }
    for node in algo::first_readers(graph, plan) {
        let weight = graph.nodes[node].inputs[1];
        let (&[n, k], true) = (&graph.value(weight).shape[..], algo::worthwhile(plan, weight))
        else {
            continue;
        };
        let square = 8 * (k * k) as u64;
        // The forms of all groups beside the factor; a row with one grid needs none.
        let group = plan.weight_decision(weight).and_then(Decision::group);
        let factor = square + 16 * (k * group.unwrap_or(0)) as u64;
        let grids = n * group.and_then(|size| k.checked_div(size)).unwrap_or(1);
        let matrix = 20 * (n * k) as u64 + GRID * grids as u64;
        let two = if streams >= Streams::Both { square } else { 0 };
        let drift = if streams >= Streams::Drift { 8 * (n * k) as u64 } else { 0 };
        let at_once = n.min((algo::AT_ONCE / k.max(1)).max(1)) as u64;
        let part = if drift > 0 { matrix } else { matrix / (n as u64).max(1) * at_once };
        let sums = square + two + drift;
        needs[node] = Some(Rounded { weight, sums, factor, rows: [matrix, part] });
    }
    needs
}
