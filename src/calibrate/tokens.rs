//! Along which axis of each value the tokens of a prompt lie.
//!
//! A graph says nothing about tokens; but the ids that the caller hands in are `[batch, seq]`, and
//! from there the axis is followed through the operators. What comes from the other inputs alone is
//! of pictures; of constants and weights nothing is known.

use crate::graph::{Graph, Kind, Node, ValueId};
use crate::ops::Op;

/// The token axis of every value of one graph, and which are of pictures.
#[derive(Clone, Debug)]
pub struct Tokens {
    seq: usize,
    known: Vec<Option<Known>>,
}

/// What is known of a value while the axis is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// All tokens along an axis, once or several times over.
    Whole(usize),
    /// Some of them, on their way to being joined with others.
    Cut(usize),
    /// Made of pictures alone.
    Picture,
}

impl Tokens {
    /// Follows the tokens through `graph`.
    pub fn of(graph: &Graph) -> Tokens {
        let mut known: Vec<Option<Known>> = vec![None; graph.values.len()];
        let mut seq = 0;
        for &id in &graph.inputs {
            let value = graph.value(id);
            known[id.index()] = match (value.kind, &value.shape[..]) {
                (Kind::Index, &[_, tokens]) => {
                    seq = tokens;
                    Some(Known::Whole(1))
                }
                (Kind::Real, _) => Some(Known::Picture),
                _ => None,
            };
        }
        for node in graph.nodes.iter().filter(|_| seq > 0) {
            let found = follow(graph, node, &known);
            let shape = &graph.value(node.output).shape;
            known[node.output.index()] = found.and_then(|found| match found {
                Known::Whole(axis) | Known::Cut(axis) if axis >= shape.len() => None,
                Known::Whole(axis) if shape[axis] == 0 || !shape[axis].is_multiple_of(seq) => {
                    Some(Known::Cut(axis))
                }
                other => Some(other),
            });
        }
        Tokens { seq, known }
    }

    /// The axis of a value whose index, modulo [`Tokens::seq`], is the position of a token.
    pub fn axis(&self, id: ValueId) -> Option<usize> {
        match self.known[id.index()] {
            Some(Known::Whole(axis)) => Some(axis),
            _ => None,
        }
    }

    /// Whether a value is made of pictures alone.
    pub fn is_picture(&self, id: ValueId) -> bool {
        self.known[id.index()] == Some(Known::Picture)
    }

    /// Tokens of a prompt; 0 where the graph takes none.
    pub fn seq(&self) -> usize {
        self.seq
    }

    /// The position of each row of a value `[.., width]`; none if its rows are no tokens.
    pub fn of_rows(&self, id: ValueId, shape: &[usize]) -> Option<Vec<usize>> {
        let axis = self.axis(id).filter(|axis| axis + 1 < shape.len())?;
        let inner: usize = shape[axis + 1..shape.len() - 1].iter().product();
        let rows: usize = shape[..shape.len() - 1].iter().product();
        Some((0..rows).map(|row| row / inner.max(1) % shape[axis] % self.seq).collect())
    }
}

/// What a node's output is, given what is known of its operands.
fn follow(graph: &Graph, node: &Node, known: &[Option<Known>]) -> Option<Known> {
    let of = |position: usize| node.inputs.get(position).and_then(|id| known[id.index()]);
    let shape = |position: usize| &graph.value(node.inputs[position]).shape[..];
    let out = &graph.value(node.output).shape[..];
    let pictures = (0..node.inputs.len()).filter_map(of).all(|known| known == Known::Picture);
    if pictures {
        return (0..node.inputs.len()).find_map(of);
    }
    match &node.op {
        Op::Gather(_) => of(1),
        Op::Reshape(_) => match of(0)? {
            Known::Whole(axis) => {
                let inner: usize = shape(0)[axis + 1..].iter().product();
                let below = |axis: &usize| out[axis + 1..].iter().product::<usize>() == inner;
                // of several, which only axes of extent 1 tell apart, the first is the longest
                (0..out.len()).filter(below).max_by_key(|&axis| out[axis]).map(Known::Whole)
            }
            Known::Cut(_) | Known::Picture => None,
        },
        Op::Transpose(op) => {
            let moved = |axis: usize| op.perm.iter().position(|&from| from == axis);
            match of(0)? {
                Known::Whole(axis) => moved(axis).map(Known::Whole),
                Known::Cut(axis) => moved(axis).map(Known::Cut),
                Known::Picture => None,
            }
        }
        Op::Slice(_) => match of(0)? {
            Known::Whole(axis) if out[axis] != shape(0)[axis] => Some(Known::Cut(axis)),
            other => Some(other),
        },
        Op::Concat(op) => {
            let mut parts = (0..node.inputs.len()).filter_map(of);
            match parts.rfind(|known| *known != Known::Picture)? {
                // pieces of the sequence, with what stands between them
                Known::Cut(axis) if axis == op.axis => Some(Known::Whole(axis)),
                Known::Whole(axis) if axis == op.axis => Some(Known::Cut(axis)),
                other => Some(other),
            }
        }
        Op::Binary(_) => (0..node.inputs.len()).find_map(|position| match of(position)? {
            Known::Whole(axis) | Known::Cut(axis) if shape(position).get(axis) != out.get(axis) => {
                None
            }
            Known::Picture => None,
            found => (shape(position).len() == out.len()).then_some(found),
        }),
        Op::MatMul(_) | Op::Scatter(_) | Op::Linear(_) => match of(0)? {
            // the last axis is summed over
            Known::Whole(axis) | Known::Cut(axis) if axis + 1 >= out.len() => None,
            found => Some(found),
        },
        Op::Mean(_) | Op::RmsNorm(_) | Op::Softmax(_) | Op::TopK(_) | Op::Unary(_) => of(0),
    }
}
