//! Whether the mask hides what it is to hide: its value is finite, so that integers can hold it.

use super::{Plan, Site, Statistics};
use crate::graph::{Graph, Node, Source};
use crate::ops::{BinaryKind, Op};
use crate::quant::{Observer, Range};

/// A masked score this far below the greatest of its row weighs e^-20, which f32 does not see.
const MARGIN: f32 = 20.0;

impl Plan {
    /// Attention scores of which the lowest and the highest that calibration saw are so far apart that
    /// the mask may leave later tokens visible, with their names.
    pub fn unhidden(&self, graph: &Graph, statistics: &Statistics) -> Vec<(String, Range)> {
        let masked = |node: &Node| {
            let Op::Binary(op) = &node.op else { return None };
            let &[scores, mask] = &node.inputs[..] else { return None };
            let mask = graph.value(mask);
            let Source::Const(table) = &mask.source else { return None };
            if op.kind != BinaryKind::Add || !mask.name.ends_with("causal_mask") {
                return None;
            }
            let Site::Activation { class } = self.sites.site(scores) else { return None };
            let range = statistics.classes[class].as_ref()?.range().ok()?;
            let fill = table.data().iter().copied().fold(0.0, f32::min);
            let visible = fill < 0.0 && range.max - range.min > -fill - MARGIN;
            visible.then(|| (graph.value(scores).name.clone(), range))
        };
        graph.nodes.iter().filter_map(masked).collect()
    }
}
