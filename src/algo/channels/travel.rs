//! Follows the channels of one writer through the graph: every element carries the number of its
//! channel, and the operators that move values move the numbers.

use super::Reader;
use crate::graph::{Graph, ValueId};
use crate::ops::{BinaryKind, Op, OutputRule};
use crate::tensor::{Par, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Where channels went.
pub(super) struct Found {
    /// Layers that read them.
    pub(super) readers: Vec<Reader>,
    /// Vectors that were added to them on the way, one element a channel.
    pub(super) shifts: Vec<ValueId>,
    /// Channels that nothing but a reader looks at, and that a reader does look at.
    pub(super) free: Vec<bool>,
}

struct Travel<'a> {
    graph: &'a Graph,
    users: &'a [Vec<(usize, usize)>],
    /// Channel of each element, by value.
    channels: BTreeMap<ValueId, Tensor>,
    /// Nodes that read a value in `channels`.
    open: BTreeSet<usize>,
    found: Found,
}

/// Follows the output of node `n` until it is read.
pub(super) fn follow(graph: &Graph, users: &[Vec<(usize, usize)>], n: usize) -> Found {
    let output = graph.nodes[n].output;
    let shape = &graph.value(output).shape;
    let count = shape.last().copied().unwrap_or(1);
    let found = Found { readers: Vec::new(), shifts: Vec::new(), free: vec![true; count] };
    let mut travel =
        Travel { graph, users, channels: BTreeMap::new(), open: BTreeSet::new(), found };
    let elements = shape.iter().product::<usize>();
    let numbers = (0..elements).map(|i| (i % count) as f32).collect();
    travel.arrive(output, Tensor::new(&shape[..], numbers));
    while let Some(n) = travel.open.pop_first() {
        travel.step(n);
    }
    let mut read = vec![false; count];
    let readers = &travel.found.readers;
    readers.iter().flat_map(|reader| &reader.channels).for_each(|&c| read[c] = true);
    travel.found.free.iter_mut().zip(read).for_each(|(free, read)| *free &= read);
    travel.found
}

impl Travel<'_> {
    fn arrive(&mut self, id: ValueId, channels: Tensor) {
        if self.graph.outputs.contains(&id) {
            self.pin(&channels);
        }
        self.open.extend(self.users[id.index()].iter().map(|(n, _)| n));
        self.channels.insert(id, channels);
    }

    /// Somebody looks at single channels: they must stay as they are.
    fn pin(&mut self, channels: &Tensor) {
        channels.data().iter().for_each(|&c| self.found.free[c as usize] = false);
    }

    fn step(&mut self, n: usize) {
        let graph = self.graph;
        let node = &graph.nodes[n];
        let known: Vec<Option<Tensor>> =
            node.inputs.iter().map(|id| self.channels.get(id).cloned()).collect();
        let arrived: Option<Vec<&Tensor>> = known.iter().map(Option::as_ref).collect();
        let moved = match (&node.op, arrived) {
            (op, Some(all)) if op.def().rule() == OutputRule::SameAsInputs => {
                Some(op.def().eval(&all, Par::Seq.into()))
            }
            (Op::MatMul(op), None) if !op.transpose_rhs && known[0].is_none() => known[1]
                .as_ref()
                .and_then(|right| mixed_rows(right, &graph.value(node.output).shape)),
            (Op::Linear(_), _) => {
                if let Some(reader) = known[0].as_ref().and_then(|x| self.reader(n, x)) {
                    self.found.readers.push(reader);
                    return;
                }
                None
            }
            (Op::Binary(op), None) => self.through(n, op.kind, &known),
            _ => None,
        };
        match moved {
            Some(channels) => self.arrive(node.output, channels),
            None => known.iter().flatten().for_each(|channels| self.pin(channels)),
        }
    }

    /// Whose channels a linear layer reads, if they are the same at every position.
    fn reader(&self, n: usize, x: &Tensor) -> Option<Reader> {
        let (input, weight) = (self.graph.nodes[n].inputs[0], self.graph.nodes[n].inputs[1]);
        let alone = self.graph.param(weight).is_some() && self.users[weight.index()].len() == 1;
        let row = alone.then(|| same_rows(x)).flatten()?;
        Some(Reader { node: n, input, weight, channels: row.iter().map(|&c| c as usize).collect() })
    }

    /// A product with something else scales with its one factor; a sum only with a shift of its own.
    fn through(&mut self, n: usize, kind: BinaryKind, known: &[Option<Tensor>]) -> Option<Tensor> {
        let node = &self.graph.nodes[n];
        let (position, channels) = match known {
            [Some(x), None] => (0, x),
            [None, Some(x)] => (1, x),
            _ => return None,
        };
        if channels.shape() != self.graph.value(node.output).shape {
            return None;
        }
        if kind == BinaryKind::Add {
            let shift = node.inputs[1 - position];
            let alone = self.graph.param(shift).is_some() && self.users[shift.index()].len() == 1;
            let count = self.found.free.len();
            let direct = same_rows(channels).is_some_and(|row| {
                row.len() == count && row.iter().zip(0..).all(|(&c, i)| c as usize == i)
            });
            if !alone || !direct || self.graph.value(shift).shape != [count] {
                return None;
            }
            self.found.shifts.push(shift);
        } else if kind != BinaryKind::Mul {
            return None;
        }
        Some(channels.clone())
    }
}

/// The last axis, if it is the same everywhere.
fn same_rows(x: &Tensor) -> Option<&[f32]> {
    let width = x.shape().last().copied()?;
    let row = x.data().get(..width)?;
    x.data().chunks_exact(width).all(|other| other == row).then_some(row)
}

/// Channels of A B for B with channels: rows of A mix rows of B, which must all be alike.
fn mixed_rows(right: &Tensor, out: &[usize]) -> Option<Tensor> {
    let rank = out.len();
    if rank < 2 || right.shape().len() != rank || right.shape()[..rank - 2] != out[..rank - 2] {
        return None;
    }
    let (inner, width, rows) = (right.shape()[rank - 2], out[rank - 1], out[rank - 2]);
    let mut channels = Vec::with_capacity(out.iter().product());
    for block in right.data().chunks_exact((inner * width).max(1)) {
        let row = &block[..width];
        if block.chunks_exact(width).any(|other| other != row) {
            return None;
        }
        (0..rows).for_each(|_| channels.extend_from_slice(row));
    }
    Some(Tensor::new(out, channels))
}
