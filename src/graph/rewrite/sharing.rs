//! Equal work is done once.
//!
//! Equal constants are shared by lowering, after quantization: whether two constants are equal may
//! depend on the length of the prompt, and the graphs of one network must correspond.

use super::super::{Graph, ValueId};
use super::Draft;
use std::collections::HashMap;

/// Shares nodes with the same operator and operands.
pub(super) fn share(graph: Graph) -> Graph {
    let mut draft = Draft::new(graph);
    // By operands, the nodes that have them.
    let mut made: HashMap<Vec<ValueId>, Vec<usize>> = HashMap::new();
    for n in 0..draft.graph.nodes.len() {
        let node = &draft.graph.nodes[n];
        let inputs = node.inputs.iter().map(|id| draft.replaced[id.index()]).collect();
        let others = made.entry(inputs).or_default();
        let nodes = &draft.graph.nodes;
        match others.iter().find(|&&other| nodes[other].op == node.op) {
            Some(&same) => draft.replace(node.output, nodes[same].output),
            None => others.push(n),
        }
    }
    draft.sweep()
}
