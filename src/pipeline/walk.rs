//! Takes a sample through the stages of its graph.

use crate::exec::{Lifetimes, Stream, Tap, Weights};
use crate::graph::Graph;
use crate::tensor::{Par, Tensor};

/// One sample and the graph of its length.
#[derive(Clone, Debug)]
pub struct Lane<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its sequence length.
    pub len: usize,
    /// One tensor an input of the graph.
    pub inputs: Vec<Tensor>,
}

/// Runs all stages and returns the first output; `parallel` gives every kernel all threads, where
/// no other sample runs beside this one.
pub fn walk(lane: &Lane<'_>, weights: &Weights, tap: &mut dyn Tap, parallel: bool) -> Tensor {
    let par = if parallel { Par::All } else { Par::Seq };
    let lifetimes = Lifetimes::of(lane.graph);
    let mut stream = Stream::start(lane.graph, &lane.inputs, tap);
    stream.run(lane.graph, 0..lane.graph.nodes.len(), weights, &lifetimes, tap, par);
    stream.get(lane.graph.outputs[0]).cloned().expect("invariant: outputs live on")
}
