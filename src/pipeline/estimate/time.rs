//! How long a job takes, from what each stage computes and a short measurement of the machine. No
//! promise: other programs want the same cores.

use super::memory::params;
use super::sizes::Sizes;
use crate::algo::{Moments, Streams};
use crate::graph::{Graph, Node};
use crate::ops::Op;
use crate::tensor::{self, Packed, Par, Products};
use serde::Serialize;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows, depth and columns of the measured product.
const PRODUCT: [usize; 3] = [512, 1024, 1024];
/// Numbers of the measured elementwise pass.
const ROW: usize = 1 << 20;
/// Bytes of the measured file.
const FILE: usize = 48 << 20;
/// How long each of the four measurements takes.
const WHILE: Duration = Duration::from_millis(450);
/// Passes over a value while it is made, and observed or rounded.
const PASSES: f64 = 3.0;
/// Passes over a matrix while its grid is found, it is rounded and made integers.
const ROUNDING: f64 = 8.0;
/// Sweeps over a Hessian's row for each row of a matrix, in multiply-adds.
const SWEEPS: f64 = 3.0;

/// What a machine does a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Floating-point operations of products, in 10⁹.
    pub gflops: f64,
    /// The same in f64, for the moments of layers' inputs.
    pub gflops_f64: f64,
    /// Numbers of an elementwise pass, in 10⁹.
    pub numbers: f64,
    /// Bytes written to disk, in 10⁹.
    pub disk: f64,
}

impl Machine {
    /// Measures for two seconds, with a file in `folder` that leaves no trace.
    ///
    /// # Errors
    /// A folder in which no file can be made.
    pub fn measure(products: Products, folder: &Path) -> std::io::Result<Machine> {
        let [m, k, n] = PRODUCT;
        let (a, b) = (vec![0.5; m * k], vec![0.25; n * k]);
        let packed = Packed::from_nt(&b, k, n, products);
        let mut out = vec![0.0; m * n];
        let product = fastest(|| tensor::matmul(&mut out, &a, &packed, Par::All));
        let mut moments = Moments::new(k, false);
        let sums = fastest(|| moments.add_all(&[(&a, &a)]));
        let mut row = vec![1.5f32; ROW];
        let pass = fastest(|| {
            tensor::in_pieces(&mut row, 1, Par::All, |_, out| {
                out.iter_mut().for_each(|x| *x = (*x * 4.0).round_ties_even() * 0.25);
            });
        });
        let mut file = crate::exec::nameless(folder)?;
        let bytes = vec![7; FILE];
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        let disk = start.elapsed().as_secs_f64();
        let giga = |count: usize, seconds: f64| count as f64 / seconds.max(1e-9) / 1e9;
        Ok(Machine {
            gflops: giga(2 * m * k * n, product),
            gflops_f64: giga(m * k * k, sums),
            numbers: giga(ROW, pass),
            disk: giga(FILE, disk),
        })
    }
}

/// Seconds of the fastest of as many runs as time allows.
fn fastest(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < WHILE {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64());
    }
    best
}

/// What decides how long a stage takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Passes of all samples through the networks, each of one sample.
    pub(super) passes: f64,
    /// Calibration samples.
    pub(super) samples: f64,
    pub(super) streams: Streams,
    /// How often the float weights are read.
    pub(super) loads: f64,
}

impl Work {
    /// Seconds of some nodes, files included.
    pub(super) fn seconds(
        self,
        (graph, sizes): (&Graph, &Sizes<'_>),
        nodes: Range<usize>,
        machine: &Machine,
    ) -> f64 {
        let mut wide = 0.0;
        for node in &graph.nodes[nodes.clone()] {
            let (_, rows) = flops_of(graph, node);
            if let (Op::Linear(_), true) = (&node.op, self.streams >= Streams::Seen) {
                let shape = &graph.value(node.inputs[1]).shape;
                let [n, k] = [shape[0] as f64, shape[1] as f64];
                let two = if self.streams >= Streams::Both { 3.0 } else { 1.0 };
                let shared = 0.5; // q, k and v share their inputs, so do gate and up
                wide += shared * (two * self.samples * rows * k * k + 2.0 / 3.0 * k * k * k);
                wide += 2.0 * SWEEPS * n * k * k;
            }
        }
        let passes = self.passes * pass(graph, nodes.clone(), machine);
        let ids = params(graph, nodes);
        let weights: f64 = ids.iter().map(|id| count(graph, *id)).sum();
        let bits = |id: &crate::graph::ValueId| 32.0 + sizes.quantized(*id).0 as f64;
        let written: f64 = ids.iter().map(|id| count(graph, *id) * bits(id) / 8.0).sum();
        let passed = (self.loads + ROUNDING) * weights;
        let rest = wide / machine.gflops_f64 + passed / machine.numbers + written / machine.disk;
        passes + 1e-9 * rest
    }
}

/// Seconds in which one sample passes some nodes.
pub(in super::super) fn pass(graph: &Graph, nodes: Range<usize>, machine: &Machine) -> f64 {
    let nodes = || graph.nodes[nodes.clone()].iter();
    let flops: f64 = nodes().map(|node| flops_of(graph, node).0).sum();
    let numbers: f64 = nodes().map(|node| count(graph, node.output)).sum();
    1e-9 * (flops / machine.gflops + PASSES * numbers / machine.numbers)
}

/// Multiplications and additions of a node, and the rows that it multiplies.
fn flops_of(graph: &Graph, node: &Node) -> (f64, f64) {
    let inner = |position: usize| graph.value(node.inputs[position]).shape.last().copied();
    match &node.op {
        Op::Linear(_) | Op::MatMul(_) => {
            let depth = inner(0).unwrap_or(1) as f64;
            let rows = count(graph, node.inputs[0]) / depth.max(1.0);
            (2.0 * depth * count(graph, node.output), rows)
        }
        _ => (0.0, 0.0),
    }
}

fn count(graph: &Graph, id: crate::graph::ValueId) -> f64 {
    graph.value(id).shape.iter().product::<usize>() as f64
}
