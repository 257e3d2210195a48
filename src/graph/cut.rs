//! Parts of a graph as graphs of their own, with the annotations they have in the whole.

use super::{Graph, Node, Source, Stage, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A part of a graph.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its graph. Inputs: what earlier nodes computed, then what the caller of the whole hands in,
    /// then opened constants. Outputs: what later nodes or the caller read, then what was asked for.
    pub graph: Graph,
    /// The value of the whole that each value of the part is.
    pub origin: Vec<ValueId>,
}

impl Graph {
    /// The nodes `nodes` as a graph called `name`. Values `also` become outputs, constants `open`
    /// inputs, where the part has them.
    pub fn cut(&self, name: &str, nodes: Range<usize>, also: &[ValueId], open: &[ValueId]) -> Part {
        let inside = &self.nodes[nodes.clone()];
        let made: BTreeSet<ValueId> = inside.iter().map(|node| node.output).collect();
        let operands: BTreeSet<ValueId> =
            inside.iter().flat_map(|node| node.inputs.iter().copied()).collect();
        let outside: Vec<ValueId> = operands.difference(&made).copied().collect();
        let rank = |id: &ValueId| match self.value(*id).source {
            Source::Node(_) => Some(0),
            Source::Input => Some(1),
            Source::Const(_) if open.contains(id) => Some(2),
            Source::Const(_) | Source::Param(_) => None,
        };
        let mut inputs: Vec<ValueId> =
            outside.iter().copied().filter(|id| rank(id).is_some()).collect();
        inputs.sort_by_key(rank);
        let later = self.nodes.iter().enumerate().filter(|(n, _)| !nodes.contains(n));
        let read: BTreeSet<ValueId> = later
            .flat_map(|(_, node)| node.inputs.iter().copied())
            .chain(self.outputs.iter().copied())
            .collect();
        let mut outputs: Vec<ValueId> = made.intersection(&read).copied().collect();
        for id in also.iter().filter(|id| made.contains(id)) {
            if !outputs.contains(id) {
                outputs.push(*id);
            }
        }
        let origin: Vec<ValueId> = made.union(&operands).copied().collect();
        let place: BTreeMap<ValueId, ValueId> =
            origin.iter().enumerate().map(|(i, &id)| (id, ValueId::new(i))).collect();
        let here = |ids: &[ValueId]| ids.iter().map(|id| place[id]).collect::<Vec<_>>();
        let values = origin.iter().map(|&id| {
            let mut value = self.value(id).clone();
            value.source = match value.source {
                Source::Node(n) if nodes.contains(&n) => Source::Node(n - nodes.start),
                _ if inputs.contains(&id) => Source::Input,
                other => other,
            };
            value
        });
        let node = |node: &Node| Node {
            op: node.op.clone(),
            inputs: here(&node.inputs),
            output: place[&node.output],
            routed: node.routed.and_then(|id| place.get(&id).copied()),
        };
        let graph = Graph {
            name: name.into(),
            values: values.collect(),
            nodes: inside.iter().map(node).collect(),
            inputs: here(&inputs),
            outputs: here(&outputs),
            stages: vec![Stage { name: name.into(), nodes: 0..inside.len() }],
        };
        Part { graph, origin }
    }

    /// Copies annotations from the values of `other` that `name` gives for this graph's values.
    /// Returns the values that hold reals and found none of that name.
    pub fn annotate_by_name(
        &mut self,
        other: &Graph,
        name: impl Fn(&str) -> String,
    ) -> Vec<ValueId> {
        let theirs: BTreeMap<&str, &super::Value> =
            other.values.iter().map(|value| (value.name.as_str(), value)).collect();
        let mut missing = Vec::new();
        for id in self.ids() {
            let mine = &mut self.values[id.index()];
            match theirs.get(name(&mine.name).as_str()) {
                Some(value) => mine.qparams.clone_from(&value.qparams),
                None if mine.kind == super::Kind::Real => missing.push(id),
                None => {}
            }
        }
        missing
    }
}
