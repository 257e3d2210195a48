//! The decoder blocks that Llama, Qwen3 and Qwen3-VL share.
//!
//! Rotary embedding is two constant tables and six elementwise operators: the first half of the
//! sine table is negated, so that rotate-half is a swap of halves and needs no negation.

use super::experts::Experts;
use crate::checkpoint::TextConfig;
use crate::graph::{Builder, Edit, Kind, ValueId};
use crate::layout::Layout;
use crate::ops::UnaryKind;
use crate::tensor::Tensor;

/// What tells decoder families apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flavor {
    /// RMSNorm on every head of q and k (Qwen3).
    pub(super) qk_norm: bool,
    /// Bias on q, k and v.
    pub(super) qkv_bias: bool,
    /// Bias on the output projection.
    pub(super) o_bias: bool,
    /// Whether the weights of a layer's experts, where it has any, are stacked in the checkpoint.
    pub(super) stacked_experts: bool,
}

/// What every layer reads beside its hidden state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    /// `[1, seq, head_dim]`
    pub(super) cos: ValueId,
    /// `[1, seq, head_dim]`, first half negated
    pub(super) sin: ValueId,
    /// `[1, 1, seq, past + seq]`, additive
    pub(super) mask: ValueId,
    /// Positions whose keys and values are not computed; 0 where the whole prompt is.
    pub(super) past: usize,
    /// Whether they are constants; otherwise the caller hands them in.
    pub(super) baked: bool,
}

/// The tables of a decoding step of one token after `past` others, as inputs that are called like
/// the constants of the whole prompt: they take the same grids.
pub(super) fn step_tables(g: &mut Builder, text: &TextConfig, past: usize) -> Tables {
    let mut input = |name: &str, shape: Vec<usize>| {
        let name = g.path(name);
        g.input(&name, shape, Kind::Real)
    };
    Tables {
        cos: input("cos", vec![1, 1, text.head_dim]),
        sin: input("sin", vec![1, 1, text.head_dim]),
        mask: input("causal_mask", vec![1, 1, 1, past + 1]),
        past,
        baked: false,
    }
}

/// What [`step_tables`] is to be given for the token at `position` when the first `valid` of `past`
/// positions are kept: cos, sin and mask.
pub(super) fn step_values(
    text: &TextConfig,
    position: i64,
    [valid, past]: [usize; 2],
    fill: f32,
) -> [Tensor; 3] {
    let positions = [vec![position], vec![position], vec![position]];
    let [cos, sin] = rotary_tables(text, &positions);
    let mask = (0..=past).map(|i| if i < valid || i == past { 0.0 } else { fill }).collect();
    [cos, sin, Tensor::new([1, 1, 1, past + 1], mask)]
}

/// The rotary tables of a layout and the causal mask, as constants of the current scope.
pub(super) fn tables(g: &mut Builder, text: &TextConfig, layout: &Layout, fill: f32) -> Tables {
    let [cos, sin] = rotary_tables(text, &layout.position_ids());
    let (seq, past) = (layout.seq_len(), layout.known());
    let keys = past + seq;
    let seen = |i: usize| i % keys <= past + i / keys;
    let mask = (0..seq * keys).map(|i| if seen(i) { 0.0 } else { fill }).collect();
    Tables {
        cos: g.constant("cos", cos),
        sin: g.constant("sin", sin),
        mask: g.constant("causal_mask", Tensor::new([1, 1, seq, keys], mask)),
        past,
        baked: past > 0,
    }
}

/// Cosines, and sines for [`rotate`], `[1, seq, head_dim]` each.
fn rotary_tables(text: &TextConfig, positions: &[Vec<i64>; 3]) -> [Tensor; 2] {
    let (cos, sin) = text.rope.tables(positions);
    [cos, negate_first_half(sin)].map(|table| {
        let shape = [&[1], table.shape()].concat();
        table.reshape(shape)
    })
}

/// The sine table `[seq, head_dim]` for a rotation that swaps halves without negating.
pub(super) fn negate_first_half(mut sin: Tensor) -> Tensor {
    let width = sin.shape().last().copied().unwrap_or(0);
    for row in sin.data_mut().chunks_exact_mut(width) {
        for x in &mut row[..width / 2] {
            *x = -*x;
        }
    }
    sin
}

/// x cos + swap(x) sin over the last axis; `name` prefixes the values.
pub(super) fn rotate(
    g: &mut Builder,
    name: &str,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
) -> ValueId {
    let shape = g.shape(x).to_vec();
    let (axis, width) = (shape.len() - 1, shape[shape.len() - 1]);
    let x1 = g.slice(&format!("{name}_x1"), x, axis, 0, width / 2);
    let x2 = g.slice(&format!("{name}_x2"), x, axis, width / 2, width - width / 2);
    let swapped = g.concat(&format!("{name}_cat"), &[x2, x1], axis);
    let a = g.mul(&format!("{name}_cos"), x, cos);
    let b = g.mul(&format!("{name}_sin"), swapped, sin);
    g.add(&format!("{name}_rot"), a, b)
}

/// The layers of one decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers<'a> {
    pub(super) text: &'a TextConfig,
    pub(super) flavor: Flavor,
    pub(super) tables: Tables,
    /// The scope that the caller stands in.
    pub(super) prefix: &'a str,
}

impl Layers<'_> {
    /// Layer `i`: x + Attention(RMSNorm(x)), then x + MLP(RMSNorm(x)); x is `[batch, seq, hidden]`.
    /// The output is named after the layer. One stage, or, with experts, one for what comes before
    /// them, one for each of them and one for the sum.
    pub(super) fn layer(&self, g: &mut Builder, i: usize, x: ValueId) -> ValueId {
        let (stage, scope) = (format!("{}.layers.{i}", self.prefix), format!("layers.{i}"));
        let config = self.text.experts.as_ref().filter(|experts| experts.in_layer(i));
        let Some(config) = config else {
            return g.stage(&stage, |g| {
                g.scope(&scope, |g| {
                    let [x, h] = self.attend(g, x);
                    let h = g.scope("mlp", |g| gated_mlp(g, self.text.intermediate_size, h));
                    g.add("", x, h)
                })
            });
        };
        let experts = Experts { config, stacked: self.flavor.stacked_experts };
        let mlp = format!("{scope}.mlp");
        let [x, h, gates] = g.stage(&stage, |g| {
            let [x, h] = g.scope(&scope, |g| self.attend(g, x));
            [x, h, g.scope(&mlp, |g| experts.router(g, h))]
        });
        let mut sum = None;
        for e in 0..config.num_experts {
            sum = Some(g.stage(&format!("{stage}.mlp.experts.{e}"), |g| {
                g.scope(&mlp, |g| experts.expert(g, e, [h, gates], sum))
            }));
        }
        g.stage(&format!("{stage}.residual"), |g| {
            g.scope(&scope, |g| sum.map_or(x, |sum| g.add("", x, sum)))
        })
    }

    /// The residual stream after attention, and what the feed-forward block reads.
    fn attend(&self, g: &mut Builder, x: ValueId) -> [ValueId; 2] {
        let eps = self.text.rms_norm_eps as f32;
        let h = g.rms_norm("input_layernorm", x, eps, 1.0);
        let h = g.scope("self_attn", |g| attention(g, self.text, self.flavor, self.tables, h));
        let x = g.add("post_attn", x, h);
        [x, g.rms_norm("post_attention_layernorm", x, eps, 1.0)]
    }
}

fn attention(
    g: &mut Builder,
    text: &TextConfig,
    flavor: Flavor,
    tables: Tables,
    x: ValueId,
) -> ValueId {
    let (heads, kv_heads, dim) =
        (text.num_attention_heads, text.num_key_value_heads, text.head_dim);
    let (batch, seq, hidden) = (g.shape(x)[0], g.shape(x)[1], g.shape(x)[2]);
    // 1/√d is folded into what makes k: the norm's gain where there is one, else the projection.
    let scale = (dim as f32).sqrt().recip();
    let fold = [Edit::ScaleRows { rows: 0..kv_heads * dim, factor: scale }];
    let k_edits: &[Edit] = if flavor.qk_norm { &[] } else { &fold };
    let q = g.linear("q_proj", x, heads * dim, flavor.qkv_bias);
    let k = g.linear_edited("k_proj", x, kv_heads * dim, flavor.qkv_bias, k_edits);
    let v = g.linear("v_proj", x, kv_heads * dim, flavor.qkv_bias);
    let mut q = g.reshape("q_heads", q, [batch, seq, heads, dim]);
    let mut k = g.reshape("k_heads", k, [batch, seq, kv_heads, dim]);
    let v = g.reshape("v_heads", v, [batch, seq, kv_heads, dim]);
    if flavor.qk_norm {
        q = g.rms_norm("q_norm", q, text.rms_norm_eps as f32, 1.0);
        k = g.rms_norm("k_norm", k, text.rms_norm_eps as f32, scale);
    }
    let [q, k, v] = [("q", q), ("k", k), ("v", v)]
        .map(|(name, x)| g.transpose(&format!("{name}_t"), x, [0, 2, 1, 3]));
    let q = rotate(g, "q", q, tables.cos, tables.sin);
    let k = rotate(g, "k", k, tables.cos, tables.sin);
    let [k, v] = [("k", k), ("v", v)].map(|(name, x)| remember(g, name, tables, x));
    let keys = tables.past + seq;
    // Query heads that share a key head become rows of one product: no key is repeated.
    let grouped = [batch, kv_heads, heads / kv_heads * seq];
    let q = g.reshape("q_grouped", q, [&grouped[..], &[dim]].concat());
    let logits = g.matmul_nt("logits", q, k);
    let logits = g.reshape("logits_heads", logits, [batch, heads, seq, keys]);
    let logits = g.add("mask_add", logits, tables.mask);
    let weights = g.softmax("softmax", logits);
    let weights = g.reshape("softmax_grouped", weights, [&grouped[..], &[keys]].concat());
    let out = g.matmul("attn_out", weights, v);
    let out = g.reshape("attn_heads", out, [batch, heads, seq, dim]);
    let out = g.transpose("attn_t", out, [0, 2, 1, 3]);
    let out = g.reshape("attn_merged", out, [batch, seq, heads * dim]);
    g.linear("o_proj", out, hidden, flavor.o_bias)
}

/// Keys or values of all positions: those that are known, then the new ones. The new ones are called
/// as in the whole prompt, so the cache takes their grid. Known ones that are baked are constants, of
/// zeros until somebody who has weights fills them.
fn remember(g: &mut Builder, name: &str, tables: Tables, new: ValueId) -> ValueId {
    if tables.past == 0 {
        return new;
    }
    let mut shape = g.shape(new).to_vec();
    shape[2] = tables.past;
    let kept = format!("past_{name}");
    let kept = match tables.baked {
        true => g.constant(&kept, Tensor::full(shape, 0.0)),
        false => {
            let kept = g.path(&kept);
            g.input(&kept, shape, Kind::Real)
        }
    };
    g.concat(&format!("{name}_all"), &[kept, new], 2)
}

fn gated_mlp(g: &mut Builder, wide: usize, x: ValueId) -> ValueId {
    let hidden = g.shape(x)[2];
    let gate = g.linear("gate_proj", x, wide, false);
    let sigmoid = g.unary("act_fn.sigmoid", UnaryKind::Logistic, gate);
    let gate = g.mul("act_fn", gate, sigmoid);
    let up = g.linear("up_proj", x, wide, false);
    let h = g.mul("gated", gate, up);
    g.linear("down_proj", h, hidden, false)
}
