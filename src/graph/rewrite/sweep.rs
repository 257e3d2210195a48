//! Carries replacements out and drops what nobody reads any more.

use super::super::{Graph, Source, Stage, ValueId};
use super::Draft;

impl Draft {
    /// The graph with replacements made, without dead nodes and values.
    pub(super) fn sweep(self) -> Graph {
        let Draft { mut graph, replaced } = self;
        let last = |mut id: ValueId| {
            while replaced[id.index()] != id {
                id = replaced[id.index()];
            }
            id
        };
        for node in &mut graph.nodes {
            node.inputs.iter_mut().chain(&mut node.routed).for_each(|id| *id = last(*id));
        }
        let mut read = vec![false; graph.values.len()];
        graph.outputs.iter().chain(&graph.inputs).for_each(|id| read[id.index()] = true);
        let mut live = vec![false; graph.nodes.len()];
        for (n, node) in graph.nodes.iter().enumerate().rev() {
            // What became a constant has no node any more.
            let made = matches!(graph.value(node.output).source, Source::Node(m) if m == n);
            if made && read[node.output.index()] {
                live[n] = true;
                node.inputs.iter().chain(&node.routed).for_each(|id| read[id.index()] = true);
            }
        }
        if live.iter().chain(&read).all(|needed| *needed) {
            return graph;
        }
        let nodes_before: Vec<usize> = std::iter::once(0)
            .chain(live.iter().scan(0, |count, &live| {
                *count += usize::from(live);
                Some(*count)
            }))
            .collect();
        let mut place = vec![None; graph.values.len()];
        let mut values = Vec::with_capacity(graph.values.len());
        for (i, mut value) in std::mem::take(&mut graph.values).into_iter().enumerate() {
            if let Source::Node(n) = &mut value.source {
                *n = nodes_before[*n];
            }
            if read[i] {
                place[i] = Some(ValueId::new(values.len()));
                values.push(value);
            }
        }
        let moved =
            |id: &mut ValueId| *id = place[id.index()].expect("invariant: read values stay");
        graph.values = values;
        let mut flags = live.iter();
        graph.nodes.retain(|_| flags.next().copied().unwrap_or(false));
        for node in &mut graph.nodes {
            node.inputs.iter_mut().chain(&mut node.routed).for_each(moved);
            moved(&mut node.output);
        }
        graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(moved);
        for Stage { nodes, .. } in &mut graph.stages {
            *nodes = nodes_before[nodes.start]..nodes_before[nodes.end];
        }
        graph
    }
}
