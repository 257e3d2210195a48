//! QuantCheck: every tensor that holds real numbers has `QuantParams`; what has none is listed.

use crate::graph::{Graph, Kind, ValueId};
use serde::Serialize;

/// A real-valued tensor without a grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unquantized {
    /// The tensor.
    pub name: String,
    /// Values computed from it, by name; empty for an output.
    pub consumers: Vec<String>,
}

/// Every real-valued tensor of `graph` without a grid, in graph order.
pub fn check(graph: &Graph) -> Vec<Unquantized> {
    let missing = |id: &ValueId| {
        let value = graph.value(*id);
        value.kind == Kind::Real && value.qparams.is_none()
    };
    let missing: Vec<ValueId> = graph.ids().filter(missing).collect();
    // Seldom is there one whose readers must be known.
    let users = if missing.is_empty() { Vec::new() } else { graph.users() };
    missing
        .into_iter()
        .map(|id| Unquantized {
            name: graph.value(id).name.clone(),
            consumers: users[id.index()]
                .iter()
                .map(|&(node, _)| graph.value(graph.nodes[node].output).name.clone())
                .collect(),
        })
        .collect()
}
