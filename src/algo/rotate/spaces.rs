//! Which values live in one vector space, and which spaces may be rotated.
//!
//! The last axis of every real value consists of one or more copies of a space of n dimensions.
//! Operators that add, join or move such vectors tie their operands' spaces; a linear layer
//! separates its input's space from its output's; whatever looks at single coordinates pins the space.

use crate::graph::{Graph, Kind, Read, Source, ValueId};
use crate::ops::{BinaryKind, Op};
use crate::tensor::Side;

/// A space that may be rotated.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// Dimensions.
    pub(super) n: usize,
    /// Whether the rotation must keep the vector of ones.
    pub(super) fix_ones: bool,
    /// What turns with it.
    pub(super) tensors: Vec<(ValueId, Side)>,
    /// Name of the first value in it.
    pub(super) name: String,
    /// Whether a norm reads it: then it is a residual stream.
    pub(super) residual: bool,
}

struct Spaces<'a> {
    graph: &'a Graph,
    parent: Vec<usize>,
    /// Dimensions; the least of what is tied.
    n: Vec<usize>,
    pinned: Vec<bool>,
    fix_ones: Vec<bool>,
    residual: Vec<bool>,
    tensors: Vec<Vec<(ValueId, Side)>>,
}

/// Every space of the graph that may be rotated, in the order of its first value.
pub(super) fn rotatable<E>(graph: &Graph, read: Read<'_, E>) -> Result<Vec<Space>, E> {
    let last = |id: ValueId| graph.value(id).shape.last().copied().unwrap_or(1);
    let count = graph.values.len();
    let mut spaces = Spaces {
        graph,
        parent: (0..count).collect(),
        n: graph.ids().map(last).collect(),
        pinned: vec![false; count],
        fix_ones: vec![false; count],
        residual: vec![false; count],
        tensors: vec![Vec::new(); count],
    };
    for &id in graph.inputs.iter().chain(&graph.outputs) {
        spaces.pin(id);
    }
    for id in graph.ids() {
        let zero = |t: &crate::tensor::Tensor| t.data().iter().all(|&x| x == 0.0);
        if matches!(&graph.value(id).source, Source::Const(tensor) if !zero(tensor)) {
            spaces.pin(id);
        }
    }
    for node in &graph.nodes {
        // A gain that is not all ones looks at single coordinates.
        let plain = match node.op {
            Op::RmsNorm(_) if graph.param(node.inputs[1]).is_some() => {
                graph.load(node.inputs[1], read)?.data().iter().all(|&g| g == 1.0)
            }
            _ => false,
        };
        spaces.node(node, plain);
    }
    Ok(spaces.collect())
}

impl Spaces<'_> {
    fn root(&self, mut at: usize) -> usize {
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn pin(&mut self, id: ValueId) {
        let root = self.root(id.index());
        self.pinned[root] = true;
    }

    fn tie(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a.index()), self.root(b.index()));
        let (keep, gone) = (a.min(b), a.max(b));
        if keep == gone {
            return;
        }
        let (large, small) = (self.n[keep].max(self.n[gone]), self.n[keep].min(self.n[gone]));
        self.pinned[keep] |= self.pinned[gone] || small == 0 || large % small != 0;
        self.fix_ones[keep] |= self.fix_ones[gone];
        self.residual[keep] |= self.residual[gone];
        self.n[keep] = small;
        self.parent[gone] = keep;
        let tensors = std::mem::take(&mut self.tensors[gone]);
        self.tensors[keep].extend(tensors);
    }

    fn turns(&mut self, with: ValueId, tensor: ValueId, side: Side) {
        let root = self.root(with.index());
        if self.graph.param(tensor).is_some() {
            self.tensors[root].push((tensor, side));
        } else {
            self.pinned[root] = true;
        }
    }

    fn node(&mut self, node: &crate::graph::Node, plain: bool) {
        let (inputs, out) = (&node.inputs, node.output);
        let shape = |id: ValueId| &self.graph.value(id).shape;
        let rank = shape(out).len();
        match &node.op {
            Op::Linear(_) => {
                self.turns(inputs[0], inputs[1], Side::Rows);
                self.turns(out, inputs[1], Side::Outputs);
                if let Some(&bias) = inputs.get(2) {
                    self.turns(out, bias, Side::Outputs);
                }
            }
            Op::Gather(_) => self.turns(out, inputs[0], Side::Rows),
            Op::Binary(op) => self.binary(op.kind, inputs, out),
            Op::RmsNorm(_) => {
                let whole = shape(inputs[0]) == shape(out);
                self.tie(inputs[0], out);
                let root = self.root(out.index());
                self.residual[root] = true;
                if !plain || !whole {
                    self.pin(out);
                }
            }
            Op::Mean(_) => {
                let root = self.root(inputs[0].index());
                self.fix_ones[root] = true;
            }
            Op::Concat(op) if op.axis + 1 != rank => {
                inputs.iter().for_each(|&input| self.tie(input, out));
            }
            Op::Slice(_) if shape(inputs[0])[rank - 1] == shape(out)[rank - 1] => {
                self.tie(inputs[0], out);
            }
            Op::Transpose(op) if op.perm[rank - 1] == rank - 1 => self.tie(inputs[0], out),
            Op::Reshape(_) => self.tie(inputs[0], out),
            // Rows of attention weights mix vectors of the right operand.
            Op::MatMul(op) if !op.transpose_rhs => {
                self.pin(inputs[0]);
                self.tie(inputs[1], out);
            }
            _ => {
                inputs.iter().for_each(|&input| self.pin(input));
                self.pin(out);
            }
        }
    }

    fn binary(&mut self, kind: BinaryKind, inputs: &[ValueId], out: ValueId) {
        let shape = |id: ValueId| &self.graph.value(id).shape;
        let mean = |id: ValueId| match self.graph.value(id).source {
            Source::Node(n) => {
                matches!(self.graph.nodes[n].op, Op::Mean(_))
                    && self.graph.nodes[n].inputs[0] == inputs[0]
            }
            _ => false,
        };
        let full = shape(inputs[0]).last() == shape(out).last()
            && shape(inputs[1]).last() == shape(out).last();
        let thin = shape(inputs[1]).last() == Some(&1);
        match kind {
            BinaryKind::Sub if mean(inputs[1]) => self.tie(inputs[0], out),
            // A factor for each row commutes with rotations.
            BinaryKind::Mul if shape(inputs[0]) == shape(out) && thin => self.tie(inputs[0], out),
            BinaryKind::Add | BinaryKind::Sub | BinaryKind::Accumulate if full => {
                for &input in inputs {
                    self.tie(input, out);
                    if self.graph.param(input).is_some() {
                        self.turns(out, input, Side::Rows);
                    }
                }
            }
            _ => {
                inputs.iter().for_each(|&input| self.pin(input));
                self.pin(out);
            }
        }
    }

    fn collect(self) -> Vec<Space> {
        let users = self.graph.users();
        let single = |id: ValueId| users[id.index()].len() == 1;
        let usable = |root: usize| {
            self.parent[root] == root
                && !self.pinned[root]
                && self.n[root] > 1
                && self.graph.values[root].kind == Kind::Real
                && self.tensors[root].iter().all(|(id, _)| single(*id))
                // Without both a writer and a reader there is nothing to rotate.
                && self.tensors[root].iter().any(|(_, side)| *side == Side::Outputs)
                && self.tensors[root].iter().any(|(_, side)| *side == Side::Rows)
        };
        (0..self.parent.len())
            .filter(|&root| usable(root))
            .map(|root| Space {
                n: self.n[root],
                fix_ones: self.fix_ones[root],
                tensors: self.tensors[root].clone(),
                name: self.graph.values[root].name.clone(),
                residual: self.residual[root],
            })
            .collect()
    }
}
