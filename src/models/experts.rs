//! Mixture of experts (Shazeer et al., 2017) as a static graph: the router's choice is a table of
//! weights `[batch, seq, experts]`, zero where a token is not sent, and every expert's output times
//! its column is added up.
//!
//! | here | Hugging Face |
//! |---|---|
//! | `gate` | router logits |
//! | `places` `[batch, seq, k, experts]` | the chosen experts, one-hot |
//! | `weights` `[batch, seq, 1, k]` | softmax over all, the k greatest, divided by their sum |
//! | `gates` | those weights scattered |
//!
//! A softmax over the chosen logits is the softmax over all divided by the sum of the chosen. The
//! choice looks at logits, not at probabilities: on a coarse grid many small probabilities are equal.

use crate::checkpoint::ExpertsConfig;
use crate::graph::{Builder, Edit, Param, ValueId};
use crate::ops::{Binary, BinaryKind, Linear, MatMul, Scatter, TopK, UnaryKind};
use crate::tensor::Tensor;
use std::ops::Range;

/// One feed-forward block with experts, in the scope of its layer's `mlp`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experts<'a> {
    pub(super) config: &'a ExpertsConfig,
    /// Whether all experts' weights of a kind are one tensor of the checkpoint.
    pub(super) stacked: bool,
}

impl Experts<'_> {
    /// The weight of every expert for every token of x `[batch, seq, hidden]`.
    pub(super) fn router(&self, g: &mut Builder, x: ValueId) -> ValueId {
        let (experts, k) = (self.config.num_experts, self.config.num_experts_per_tok);
        let logits = g.linear("gate", x, experts, false);
        let [batch, seq] = [g.shape(x)[0], g.shape(x)[1]];
        let index = g.push("places.index", TopK { k }, &[logits]);
        let table = (0..experts * experts).map(|i| f32::from(u8::from(i % (experts + 1) == 0)));
        let table = Tensor::new([experts, experts], table.collect());
        let table = g.constant("places.table", table);
        let places = g.gather("places", table, index);
        let rows = g.reshape("gate_rows", logits, [batch, seq, 1, experts]);
        let weights = if self.config.norm_topk_prob {
            let chosen = g.matmul_nt("chosen", rows, places);
            g.softmax("weights", chosen)
        } else {
            let all = g.softmax("probabilities", rows);
            g.push("weights", MatMul { transpose_rhs: true }, &[all, places])
        };
        let gates = g.push("gates_rows", Scatter, &[weights, places]);
        g.reshape("gates", gates, [batch, seq, experts])
    }

    /// Adds expert `e`, weighted by its column of `gates`, to `sum`; only tokens with a weight count.
    pub(super) fn expert(
        &self,
        g: &mut Builder,
        e: usize,
        [x, gates]: [ValueId; 2],
        sum: Option<ValueId>,
    ) -> ValueId {
        let (wide, hidden) = (self.config.moe_intermediate_size, g.shape(x)[2]);
        let part = |g: &Builder, stack: &str, all: usize, columns: Range<usize>| Part {
            key: g.path(&format!("experts.{stack}")),
            index: e,
            all,
            columns,
        };
        // Stacks are stored [experts, in, out], up beside gate.
        let gate = part(g, "gate_up_proj", 2 * wide, 0..wide);
        let up = part(g, "gate_up_proj", 2 * wide, wide..2 * wide);
        let down = part(g, "down_proj", hidden, 0..hidden);
        g.scope(&format!("experts.{e}"), |g| {
            let route = g.slice("route", gates, 2, e, 1);
            let out = g.routed(route, |g| {
                let gate = self.linear(g, "gate_proj", x, gate);
                let sigmoid = g.unary("act_fn.sigmoid", UnaryKind::Logistic, gate);
                let gate = g.mul("act_fn", gate, sigmoid);
                let up = self.linear(g, "up_proj", x, up);
                let h = g.mul("gated", gate, up);
                let out = self.linear(g, "down_proj", h, down);
                g.mul("weighted", out, route)
            });
            let accumulate = Binary { kind: BinaryKind::Accumulate };
            sum.map_or(out, |sum| g.push("sum", accumulate, &[sum, out]))
        })
    }

    fn linear(&self, g: &mut Builder, name: &str, x: ValueId, part: Part) -> ValueId {
        let (out, width) = (part.columns.len(), g.shape(x)[2]);
        if !self.stacked {
            return g.linear(name, x, out, false);
        }
        let param = Param {
            key: part.key,
            stored_shape: vec![self.config.num_experts, width, part.all],
            edits: vec![Edit::Matrix { index: part.index, columns: part.columns }],
        };
        let weight = g.scope(name, |g| g.param_as("weight", vec![out, width], param));
        g.push(name, Linear, &[x, weight])
    }
}

/// Where an expert's weight lies in the checkpoint, if it is part of a stack.
struct Part {
    key: String,
    /// The matrix.
    index: usize,
    /// Columns of a matrix.
    all: usize,
    columns: Range<usize>,
}
