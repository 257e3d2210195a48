//! Exact rewrites: the same function in fewer operators.
//!
//! They run on the float graph, before calibration, so that what is calibrated is what is written.
//! Optional: nothing else depends on them, and golden values are compared without. The gain of a
//! norm stays where it is: the norm's operator applies it for nothing, and in a weight it would
//! change what quantization sees.

mod constants;
mod norm_bias;
mod sharing;
mod sweep;
mod views;

#[cfg(test)]
mod tests;

use super::{Graph, ValueId};

/// A graph and what its values are replaced by.
struct Draft {
    graph: Graph,
    /// By value; itself where it stays.
    replaced: Vec<ValueId>,
}

impl Draft {
    fn new(graph: Graph) -> Draft {
        let replaced = graph.ids().collect();
        Draft { graph, replaced }
    }

    /// Replaces `old` by `new`, unless the caller asks for `old` by name.
    fn replace(&mut self, old: ValueId, new: ValueId) {
        if !self.graph.outputs.contains(&old) {
            self.replaced[old.index()] = new;
        }
    }
}

impl Graph {
    /// The same function of the same inputs, with outputs of the same names, in fewer operators:
    /// constants folded, equal work shared, views merged, biases of norms moved into the linear
    /// layers that read them.
    pub fn rewritten(self) -> Graph {
        let passes = [constants::fold, sharing::share, views::merge, norm_bias::fold];
        let mut graph = self;
        loop {
            let before = graph.nodes.len();
            for pass in passes {
                graph = pass(graph);
            }
            if graph.nodes.len() == before {
                return graph;
            }
        }
    }
}
