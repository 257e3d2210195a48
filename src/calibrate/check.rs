//! QuantCheck: every tensor that holds real numbers has `QuantParams`; what has none is listed.

use crate::graph::{Graph, Kind};
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
    let users = graph.users();
    let missing = graph.ids().filter(|&id| {
        let value = graph.value(id);
        value.kind == Kind::Real && value.qparams.is_none()
    });
    missing
        .map(|id| Unquantized {
            name: graph.value(id).name.clone(),
            consumers: users[id.index()]
                .iter()
                .map(|&(node, _)| graph.value(graph.nodes[node].output).name.clone())
                .collect(),
        })
        .collect()
}
