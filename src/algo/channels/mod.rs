//! Channels that may be scaled without changing the function: what a layer or a norm writes and only
//! linear layers read, however it travels between them.
//!
//! The writer's outputs are divided by s, their readers' columns multiplied. [`find`] asks the graph where that is possible, `travel.rs` follows the channels;
//! [`Group::scale`] appends the edits. `pass.rs` shows what samples feed the readers.

mod pass;
mod travel;

pub use pass::{Fed, Recall};
pub(super) use pass::{Inputs, Pass, each_group};

use crate::graph::{Edit, Graph, ValueId};
use crate::ops::Op;
use std::sync::Arc;

/// Factors beyond these would leave f32 or mean that a channel is dead.
const GREATEST: f64 = 1e4;

/// A linear layer that reads channels.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Its node.
    pub(super) node: usize,
    /// What it reads.
    pub(super) input: ValueId,
    /// Its weight `[out, in]`.
    pub(super) weight: ValueId,
    /// The channel behind each of its inputs.
    pub(super) channels: Vec<usize>,
}

/// One writer's channels with everything that reads them.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Tensors whose first axis is the channels: weight and bias, or gain and shift of a norm.
    pub(super) writers: Vec<ValueId>,
    /// Whether the writer is a norm.
    pub(super) norm: bool,
    /// In graph order; at least one.
    pub(super) readers: Vec<Reader>,
    /// Which channels may be scaled: nothing but the readers sees them.
    pub(super) free: Vec<bool>,
}

/// Every group of the graph, in the order of its first reader. A layer reads in one group at most.
pub(super) fn find(graph: &Graph) -> Vec<Group> {
    let users = graph.users();
    let single = |id: ValueId| graph.param(id).is_some() && users[id.index()].len() == 1;
    let mut groups = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        let norm = matches!(node.op, Op::RmsNorm(_));
        let writers = &node.inputs[1.min(node.inputs.len())..];
        if (norm || matches!(node.op, Op::Linear(_))) && writers.iter().all(|&id| single(id)) {
            let found = travel::follow(graph, &users, n);
            let writers = [writers, &found.shifts].concat();
            let (readers, free) = (found.readers, found.free);
            if !readers.is_empty() && free.contains(&true) {
                groups.push(Group { writers, norm, readers, free });
            }
        }
    }
    groups.sort_by_key(|group| group.readers[0].node);
    let mut claimed = vec![false; graph.nodes.len()];
    groups.retain(|group| {
        let fresh = group.readers.iter().all(|reader| !claimed[reader.node]);
        group.readers.iter().for_each(|reader| claimed[reader.node] |= fresh);
        fresh
    });
    groups
}

impl Group {
    /// Divides the channels by `scales` where they are written and multiplies them where they are
    /// read; channels that are not free keep their scale.
    pub(super) fn scale(&self, graph: &mut Graph, scales: &[f64]) {
        let scales = self.allowed(scales);
        if scales.iter().all(|&s| s == 1.0) {
            return;
        }
        let divisors: Arc<[f32]> = scales.iter().map(|s| s.recip() as f32).collect();
        for &id in &self.writers {
            graph.edit(id, Edit::ScaleOutputs { factors: divisors.clone() });
        }
        for reader in &self.readers {
            let factors = reader.channels.iter().map(|&c| scales[c] as f32).collect();
            graph.edit(reader.weight, Edit::ScaleColumns { factors });
        }
    }

    /// Scales as they will be applied: one where a channel is not free, within sane bounds.
    pub(super) fn allowed(&self, scales: &[f64]) -> Vec<f64> {
        let sane = |s: f64| if s.is_finite() { s.clamp(GREATEST.recip(), GREATEST) } else { 1.0 };
        self.free.iter().zip(scales).map(|(&free, &s)| if free { sane(s) } else { 1.0 }).collect()
    }
}

/// Greatest |w| of each row of the first axis.
pub(super) fn greatest_of_outputs(data: &[f32], outputs: usize) -> Vec<f64> {
    let row = (data.len() / outputs.max(1)).max(1);
    let greatest = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
    data.chunks_exact(row).map(|row| f64::from(greatest(row))).collect()
}

/// Raises `most`, one number a channel, to the greatest |w| of the columns that read each.
pub(super) fn raise_to_columns(most: &mut [f64], data: &[f32], channels: &[usize]) {
    for row in data.chunks_exact(channels.len().max(1)) {
        for (&channel, w) in channels.iter().zip(row) {
            most[channel] = most[channel].max(f64::from(w.abs()));
        }
    }
}

#[cfg(test)]
mod tests;
