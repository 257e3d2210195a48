//! Executes Circle files: ours, and those of others as far as their operators are known here.
//!
//! Two readings of one quantized file. [`Program::run`] computes every operator in f32 on
//! dequantized operands and rounds its result to the result's grid: fake quantization, as the
//! report of `quantize` measures it. [`Program::run_integers`] computes on the integers alone:
//! products are accumulated in int64 and brought to the result's grid by a fixed-point multiplier
//! of 31 bits, rounding halves up; norms use an integer square root, softmax and functions of one
//! element use tables over the input's grid.
//!
//! How far they are apart: given the same operands, the two results of an operator differ by at
//! most one step of its grid (a value near the middle of two steps may fall on either side).
//! [`Program::audit`] measures exactly that on every edge. Over a whole network such steps add up,
//! as they do between any two runtimes.
//!
//! Must not know checkpoints, families or calibration samples: what a file does not say is not
//! used. Read `import` first (file to graph), then `integer`.

mod error;
mod export;
mod fold;
mod import;
mod integer;
mod names;
pub mod npy;
mod ports;

pub use error::Error;
pub use export::{Blocks, Export, Form, export};
pub use integer::EdgeError;
pub use ports::Port;

use crate::calibrate::Quantizing;
use crate::circle::{Model, TensorType};
use crate::exec::{self, Weights};
use crate::graph::{Graph, Source, Value, ValueId};
use crate::tensor::{Par, Tensor};
use import::Codes;
use std::collections::{BTreeMap, HashSet};

/// What a file may cost. A file of a few bytes can declare tensors of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements of all tensors together, plus a thousandth of the multiplications.
    pub elements: u64,
}

impl Default for Limits {
    /// 2³²: a decoder layer of a large model fits, a hostile file does not take all memory.
    fn default() -> Limits {
        Limits { elements: 1 << 32 }
    }
}

/// An executable file.
#[derive(Debug)]
pub struct Program {
    graph: Graph,
    /// Integers of the quantized constants, by index of the value.
    codes: BTreeMap<usize, Codes>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Program {
    /// Makes the first graph of a model executable, at its declared shapes.
    ///
    /// # Errors
    /// A model that the verifier refuses, operators that are not executed here, more work than
    /// `limits` allow.
    pub fn new(model: &Model, limits: Limits) -> Result<Program, Error> {
        Program::of(model, None, limits)
    }

    /// Makes the graph of this name executable, or the first; otherwise like [`Program::new`].
    ///
    /// # Errors
    /// Those of [`Program::new`]; a name that is not there.
    pub fn of(model: &Model, graph: Option<&str>, limits: Limits) -> Result<Program, Error> {
        let import::Imported { mut graph, codes, types } = import::import(model, graph, limits)?;
        let port = |(&id, &dtype): (&crate::graph::ValueId, &TensorType)| {
            let value = graph.value(id);
            let (name, shape) = (value.name.clone(), value.shape.clone());
            Port { name, shape, dtype, qparams: value.qparams.clone() }
        };
        let [inputs, outputs] = types;
        let inputs = graph.inputs.iter().zip(&inputs).map(port).collect();
        let outputs = graph.outputs.iter().zip(&outputs).map(port).collect();
        for id in idle(&graph) {
            let value = &mut graph.values[id.index()];
            (value.shape, value.qparams) = (vec![0], None);
        }
        Ok(Program { graph, codes, inputs, outputs })
    }

    /// The graph, annotated with the file's qparams.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the caller hands in.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What the caller gets.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether any value that is given or computed has integers.
    pub fn is_quantized(&self) -> bool {
        let live = |value: &&Value| !matches!(value.source, Source::Const(_));
        self.graph.values.iter().filter(live).any(|value| value.qparams.is_some())
    }

    /// Runs in f32, every quantized result rounded to its grid; a float file runs in float. One
    /// tensor of reals an input, as [`Program::bind`] makes them; one an output.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let inputs = self.check(inputs)?;
        let quantizing = Quantizing::of_file(&self.graph);
        let lifetimes = exec::Lifetimes::of(&self.graph);
        let mut stream = exec::Stream::start(&self.graph, inputs, &mut &quantizing);
        let nodes = 0..self.graph.nodes.len();
        let weights = Weights::none(&self.graph);
        stream.run(&self.graph, nodes, &weights, &lifetimes, &mut &quantizing, Par::All);
        let output = |id: &crate::graph::ValueId| match &self.graph.value(*id).source {
            Source::Const(tensor) => tensor.clone(),
            _ => stream.get(*id).cloned().expect("invariant: outputs live on"),
        };
        Ok(self.graph.outputs.iter().map(output).collect())
    }
}

/// The inputs that nothing reads: a file may declare them of any size, so they take no room.
fn idle(graph: &Graph) -> Vec<ValueId> {
    let read: HashSet<ValueId> =
        graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs).copied().collect();
    graph.inputs.iter().filter(|id| !read.contains(id)).copied().collect()
}

#[cfg(test)]
mod tests;
