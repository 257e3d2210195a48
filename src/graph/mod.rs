//! The static IR: one graph is the single source of truth.
//!
//! A model family builds it, the executor runs it, calibration annotates it, the Circle writer
//! serializes it. The graph must not know families, algorithms or files. Start with [`Builder`].

mod builder;
mod cut;
mod param;
mod rewrite;
mod stage;
mod text;

pub use builder::{BuildError, Builder};
pub use cut::Part;
pub use param::{Edit, Param, Read};
pub use stage::Stage;

use crate::ops::Op;
use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// A value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    fn new(index: usize) -> ValueId {
        ValueId(u32::try_from(index).expect("invariant: graphs hold far fewer than 2^32 values"))
    }
}

/// What the elements of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Real numbers: they need quantization parameters.
    Real,
    /// Indices: integers by nature, such as token ids.
    Index,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Handed in by the caller.
    Input,
    /// Read from the checkpoint.
    Param(Param),
    /// Known while building: rotary tables, masks, zeros.
    Const(Tensor),
    /// The output of a node.
    Node(usize),
}

/// One tensor of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// Scope path, unique in the graph: at once checkpoint prefix, Circle name and report row.
    pub name: String,
    /// Static shape.
    pub shape: Vec<usize>,
    /// Reals or indices.
    pub kind: Kind,
    /// Origin.
    pub source: Source,
    /// The annotation; at most one.
    pub qparams: Option<QuantParams>,
}

impl Value {
    /// Whether it is known before anything runs: of the checkpoint or of the graph itself.
    pub fn is_constant(&self) -> bool {
        matches!(self.source, Source::Param(_) | Source::Const(_))
    }
}

/// One operator with its operands. Every operator has one output.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operator.
    pub op: Op,
    /// Operands in the operator's order.
    pub inputs: Vec<ValueId>,
    /// The result.
    pub output: ValueId,
    /// Where this value `[..., 1]` is zero, the row of the result with it counts for nothing: nobody
    /// need compute or observe it. A hint, which no file carries.
    pub routed: Option<ValueId>,
}

/// A network as operators over statically shaped values, in execution order.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What it computes.
    pub name: String,
    /// Every tensor.
    pub values: Vec<Value>,
    /// Operators; operands always come before their users.
    pub nodes: Vec<Node>,
    /// Values the caller hands in.
    pub inputs: Vec<ValueId>,
    /// Values the caller gets.
    pub outputs: Vec<ValueId>,
    /// Consecutive runs of nodes: the unit of streaming.
    pub stages: Vec<Stage>,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Every id in order.
    pub fn ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId::new)
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.ids().find(|&id| self.value(id).name == name)
    }

    /// Everything read from the checkpoint.
    pub fn params(&self) -> impl Iterator<Item = (ValueId, &Param)> {
        self.ids().filter_map(|id| match &self.value(id).source {
            Source::Param(param) => Some((id, param)),
            _ => None,
        })
    }

    /// The checkpoint tensor behind a value, if it is one.
    pub fn param(&self, id: ValueId) -> Option<&Param> {
        match &self.value(id).source {
            Source::Param(param) => Some(param),
            _ => None,
        }
    }

    /// Appends an exact rewrite to a value that is read from the checkpoint: it acts on the tensor as
    /// the edits before it leave it.
    ///
    /// # Panics
    /// If the value is not read from the checkpoint: a mistake of ours.
    pub fn edit(&mut self, id: ValueId, edit: Edit) {
        match &mut self.values[id.index()].source {
            Source::Param(param) => param.edits.push(edit),
            _ => panic!("{} is not read from the checkpoint", self.value(id).name),
        }
    }

    /// The tensor of a value that is read from the checkpoint, edited.
    ///
    /// # Errors
    /// Those of `read`.
    ///
    /// # Panics
    /// If the value is not read from the checkpoint: a mistake of ours.
    pub fn load<E>(&self, id: ValueId, read: Read<'_, E>) -> Result<Tensor, E> {
        let param = self.param(id).expect("invariant: the value is read from the checkpoint");
        param.load(&self.value(id).shape, read)
    }

    /// The nodes that read each value, as (node, operand position).
    pub fn users(&self) -> Vec<Vec<(usize, usize)>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for (n, node) in self.nodes.iter().enumerate() {
            for (position, input) in node.inputs.iter().enumerate() {
                users[input.index()].push((n, position));
            }
        }
        users
    }

    /// Copies the annotations of a graph of the same topology, such as the same network at another
    /// sequence length.
    ///
    /// # Panics
    /// If the values do not correspond: only graphs of one builder are meant to meet here.
    pub fn annotate_like(&mut self, other: &Graph) {
        assert_eq!(self.values.len(), other.values.len(), "graphs of one builder correspond");
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            assert_eq!(mine.name, theirs.name, "graphs of one builder correspond");
            mine.qparams.clone_from(&theirs.qparams);
        }
    }
}

#[cfg(test)]
mod tests;
