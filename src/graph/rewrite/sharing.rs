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
    let mut made: HashMap<String, ValueId> = HashMap::new();
    for n in 0..draft.graph.nodes.len() {
        let node = &draft.graph.nodes[n];
        let inputs: Vec<ValueId> =
            node.inputs.iter().map(|id| draft.replaced[id.index()]).collect();
        let (key, output) = (format!("{:?} {inputs:?}", node.op), node.output);
        match made.get(&key) {
            Some(&same) => draft.replace(output, same),
            None => drop(made.insert(key, output)),
        }
    }
    draft.sweep()
}
