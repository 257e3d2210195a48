//! Views of views are one view; an order of axes that changes nothing is none.
//!
//! A reshape to the same shape stays: whether it is one depends on batch and length, and the graphs
//! of one network must correspond value by value. Lowering leaves it out.

use super::super::{Graph, Source};
use super::Draft;
use crate::ops::{Op, Transpose};

/// Merges reshapes and transposes that follow each other; drops transposes that do nothing.
pub(super) fn merge(graph: Graph) -> Graph {
    let mut draft = Draft::new(graph);
    for n in 0..draft.graph.nodes.len() {
        let graph = &draft.graph;
        let node = &graph.nodes[n];
        let [input] = node.inputs[..] else { continue };
        let before = match graph.value(input).source {
            Source::Node(m) => Some(&graph.nodes[m]),
            _ => None,
        };
        match (before.map(|node| &node.op), &node.op) {
            (Some(Op::Reshape(_)), Op::Reshape(_)) => {
                let source = before.expect("invariant: matched").inputs[0];
                draft.graph.nodes[n].inputs[0] = source;
            }
            (Some(Op::Transpose(first)), Op::Transpose(second)) => {
                let perm = second.perm.iter().map(|&axis| first.perm[axis]).collect();
                let source = before.expect("invariant: matched").inputs[0];
                draft.graph.nodes[n].op = Transpose { perm }.into();
                draft.graph.nodes[n].inputs[0] = source;
            }
            _ => {}
        }
        let node = &draft.graph.nodes[n];
        if let Op::Transpose(op) = &node.op
            && op.perm.iter().copied().eq(0..op.perm.len())
        {
            let (input, output) = (node.inputs[0], node.output);
            draft.replace(output, input);
        }
    }
    draft.sweep()
}
