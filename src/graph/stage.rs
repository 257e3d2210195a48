//! Stages: consecutive runs of nodes that can be loaded, run, written and forgotten on their own.

use super::{Graph, Source, ValueId};
use std::collections::BTreeSet;
use std::ops::Range;

/// A consecutive run of nodes with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Scope path, such as `model.language_model.layers.3`.
    pub name: String,
    /// Its nodes.
    pub nodes: Range<usize>,
}

impl Graph {
    /// Values that enter a stage from earlier stages or from the caller, ascending.
    pub fn stage_inputs(&self, stage: &Stage) -> Vec<ValueId> {
        let operands = self.nodes[stage.nodes.clone()].iter().flat_map(|node| &node.inputs);
        let outside = operands.filter(|id| match self.value(**id).source {
            Source::Input => true,
            Source::Node(n) => !stage.nodes.contains(&n),
            Source::Param(_) | Source::Const(_) => false,
        });
        outside.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Values of a stage that later stages or the caller read, ascending.
    pub fn stage_outputs(&self, stage: &Stage) -> Vec<ValueId> {
        let later = self.nodes[stage.nodes.end..].iter().flat_map(|node| &node.inputs);
        let read: BTreeSet<ValueId> = later.chain(&self.outputs).copied().collect();
        let made = self.nodes[stage.nodes.clone()].iter().map(|node| node.output);
        made.filter(|id| read.contains(id)).collect()
    }

    /// Checkpoint values that a stage reads, ascending.
    pub fn stage_params(&self, stage: &Stage) -> Vec<ValueId> {
        let operands = self.nodes[stage.nodes.clone()].iter().flat_map(|node| &node.inputs);
        let params = operands.filter(|id| matches!(self.value(**id).source, Source::Param(_)));
        params.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }
}
