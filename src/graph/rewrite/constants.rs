//! What is computed from constants alone is a constant.

use super::super::{Graph, Source};
use super::Draft;
use crate::ops::{Op, OutputRule};
use crate::tensor::{Par, Tensor};

/// Evaluates nodes whose operands are all constants. Moving a constant is always worth it;
/// computing one only where the result is no larger than its operands.
pub(super) fn fold(mut graph: Graph) -> Graph {
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        let constants: Option<Vec<&Tensor>> = node
            .inputs
            .iter()
            .map(|&id| match &graph.value(id).source {
                Source::Const(tensor) => Some(tensor),
                _ => None,
            })
            .collect();
        let Some(constants) = constants else { continue };
        let output = node.output;
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        let operands: usize = constants.iter().map(|t| size(t.shape())).sum();
        let moves = node.op.def().rule() == OutputRule::SameAsInputs;
        let grows = size(&graph.value(output).shape) > operands;
        if graph.outputs.contains(&output) || (grows && !moves) || matches!(node.op, Op::Gather(_))
        {
            continue;
        }
        let result = node.op.def().eval(&constants, Par::All.into());
        graph.values[output.index()].source = Source::Const(result);
    }
    Draft::new(graph).sweep()
}
