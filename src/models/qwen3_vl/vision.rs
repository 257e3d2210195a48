//! The vision tower: patches `[patches, in_channels · temporal · patch²]` to merged features.

use crate::checkpoint::VisionConfig;
use crate::graph::{Builder, Edit, Kind, Param, ValueId};
use crate::layout::{Layout, LayoutError, vision as geometry};
use crate::models::decoder::{negate_first_half, rotate};
use crate::ops::UnaryKind;

/// LayerNorm ε of the tower; not a config field.
const EPSILON: f32 = 1e-6;
/// Rotary base of the tower; not a config field.
const THETA: f64 = 10_000.0;

/// What the tower gives the text model, each `[batch, visual, hidden]`.
pub(super) struct Features {
    pub(super) merged: ValueId,
    pub(super) deepstack: Vec<ValueId>,
}

/// Builds the tower for `batch` prompts of one layout; declares the input `pixel_values`.
pub(super) fn tower(
    g: &mut Builder,
    vision: &VisionConfig,
    layout: &Layout,
    batch: usize,
) -> Result<Features, LayoutError> {
    let grids: Vec<[usize; 3]> = std::iter::repeat_n(layout.grids(), batch).flatten().collect();
    let patches: usize = grids.iter().map(|[t, h, w]| t * h * w).sum();
    let patch =
        [vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size];
    let pixels = g.input("pixel_values", [patches, patch.iter().product()], Kind::Real);
    let head_dim = vision.hidden_size / vision.num_heads;
    let (cos, sin) = geometry::rotary_tables(&grids, vision.spatial_merge_size, head_dim, THETA)?;
    Ok(g.scope("model.visual", |g| {
        let cos = g.constant("rope_cos", cos);
        let sin = g.constant("rope_sin", negate_first_half(sin));
        let chunks = geometry::chunk_lengths(&grids);
        let mut x =
            g.stage("model.visual.patch_embed", |g| embed(g, vision, &grids, patch, pixels));
        let mut deepstack = Vec::new();
        for i in 0..vision.depth {
            x = g.stage(&format!("model.visual.blocks.{i}"), |g| {
                g.scope(&format!("blocks.{i}"), |g| block(g, vision, [cos, sin], &chunks, x))
            });
            if let Some(j) = vision.deepstack_visual_indexes.iter().position(|&at| at == i) {
                let name = format!("deepstack_merger_list.{j}");
                deepstack.push((j, merger(g, vision, &name, x, true, batch)));
            }
        }
        deepstack.sort_unstable();
        let merged = merger(g, vision, "merger", x, false, batch);
        Features { merged, deepstack: deepstack.into_iter().map(|(_, value)| value).collect() }
    }))
}

/// The patch convolution covers each patch once, so it is a linear layer; the position table is
/// interpolated to the grids once, while weights are loaded.
fn embed(
    g: &mut Builder,
    vision: &VisionConfig,
    grids: &[[usize; 3]],
    patch: [usize; 4],
    pixels: ValueId,
) -> ValueId {
    let width = vision.hidden_size;
    let x = g.scope("patch_embed", |g| {
        let operands = g.scope("proj", |g| {
            let stored_shape = [&[width][..], &patch].concat();
            let param = Param { key: g.path("weight"), stored_shape, edits: vec![] };
            let weight = g.param_as("weight", vec![width, patch.iter().product()], param);
            [pixels, weight, g.param("bias", [width])]
        });
        g.push("proj", crate::ops::Linear, &operands)
    });
    let rows = g.shape(x)[0];
    // A batch axis of one: some runtimes normalise only tensors of rank 3 and 4.
    let x = g.reshape("tokens", x, [1, rows, width]);
    let positions = g.scope("pos_embed", |g| {
        let edit =
            Edit::InterpolatePositions { grids: grids.to_vec(), merge: vision.spatial_merge_size };
        let stored_shape = vec![vision.num_position_embeddings, width];
        let param = Param { key: g.path("weight"), stored_shape, edits: vec![edit] };
        g.param_as("weight", vec![rows, width], param)
    });
    g.add("pos_add", x, positions)
}

/// x + Attention(LayerNorm(x)), then x + MLP(LayerNorm(x)); x is `[1, patches, width]`.
fn block(
    g: &mut Builder,
    vision: &VisionConfig,
    rope: [ValueId; 2],
    chunks: &[usize],
    x: ValueId,
) -> ValueId {
    let h = g.layer_norm("norm1", x, EPSILON);
    let h = g.scope("attn", |g| attention(g, vision, rope, chunks, h));
    let x = g.add("post_attn", x, h);
    let h = g.layer_norm("norm2", x, EPSILON);
    let h = g.scope("mlp", |g| {
        let h = g.linear("linear_fc1", h, vision.intermediate_size, true);
        let h = g.unary("act_fn", activation(vision), h);
        g.linear("linear_fc2", h, vision.hidden_size, true)
    });
    g.add("", x, h)
}

fn activation(vision: &VisionConfig) -> UnaryKind {
    match vision.hidden_act.as_str() {
        "gelu" => UnaryKind::GeluErf,
        _ => UnaryKind::GeluTanh,
    }
}

fn attention(
    g: &mut Builder,
    vision: &VisionConfig,
    [cos, sin]: [ValueId; 2],
    chunks: &[usize],
    x: ValueId,
) -> ValueId {
    let (width, heads) = (vision.hidden_size, vision.num_heads);
    let (patches, dim) = (g.shape(x)[1], width / heads);
    // 1/√d is folded into the rows that make k.
    let fold = [Edit::ScaleRows { rows: width..2 * width, factor: (dim as f32).sqrt().recip() }];
    let qkv = g.linear_edited("qkv", x, 3 * width, true, &fold);
    let qkv = g.reshape("qkv_heads", qkv, [patches, 3 * heads, dim]);
    let qkv = g.transpose("qkv_t", qkv, [1, 0, 2]);
    let [q, k, v] =
        [("q", 0), ("k", 1), ("v", 2)].map(|(name, i)| g.slice(name, qkv, 0, i * heads, heads));
    let q = rotate(g, "q", q, cos, sin);
    let k = rotate(g, "k", k, cos, sin);
    let out = frames(g, chunks, [q, k, v]);
    let out = g.transpose("attn_t", out, [1, 0, 2]);
    let out = g.reshape("attn_merged", out, [1, patches, width]);
    g.linear("proj", out, width, true)
}

/// Attention inside each frame; q, k, v are `[heads, patches, dim]`.
fn frames(g: &mut Builder, chunks: &[usize], qkv: [ValueId; 3]) -> ValueId {
    let (heads, patches, dim) = (g.shape(qkv[0])[0], g.shape(qkv[0])[1], g.shape(qkv[0])[2]);
    let first = chunks.first().copied().unwrap_or(patches);
    if chunks.iter().all(|&len| len == first) {
        // Frames of one size are a batch axis.
        let shape = match chunks.len() {
            0 | 1 => vec![heads, patches, dim],
            n => vec![heads, n, first, dim],
        };
        let split = [0, 1, 2]
            .map(|i| g.reshape(&format!("{}_frames", ["q", "k", "v"][i]), qkv[i], shape.clone()));
        let out = attend(g, "", split);
        return g.reshape("attn_frames", out, [heads, patches, dim]);
    }
    let mut at = 0;
    let mut parts = Vec::new();
    for (i, &len) in chunks.iter().enumerate() {
        let part = [0, 1, 2]
            .map(|j| g.slice(&format!("{}_frame_{i}", ["q", "k", "v"][j]), qkv[j], 1, at, len));
        parts.push(attend(g, &format!("_{i}"), part));
        at += len;
    }
    g.concat("attn_frames", &parts, 1)
}

fn attend(g: &mut Builder, suffix: &str, [q, k, v]: [ValueId; 3]) -> ValueId {
    let logits = g.matmul_nt(&format!("logits{suffix}"), q, k);
    let weights = g.softmax(&format!("softmax{suffix}"), logits);
    g.matmul(&format!("attn_out{suffix}"), weights, v)
}

/// Merges blocks of merge² patches and projects them to the text width: `[batch, visual, hidden]`.
/// DeepStack mergers normalise after the merge, the last one before.
fn merger(
    g: &mut Builder,
    vision: &VisionConfig,
    name: &str,
    x: ValueId,
    normalise_merged: bool,
    batch: usize,
) -> ValueId {
    let block = vision.spatial_merge_size * vision.spatial_merge_size;
    let (rows, width) = (g.shape(x)[1] / block, vision.hidden_size * block);
    g.stage(&format!("model.visual.{name}"), |g| {
        let out = g.scope(name, |g| {
            let h = if normalise_merged {
                let h = g.reshape("merged", x, [1, rows, width]);
                g.layer_norm("norm", h, EPSILON)
            } else {
                let h = g.layer_norm("norm", x, EPSILON);
                g.reshape("merged", h, [1, rows, width])
            };
            let h = g.linear("linear_fc1", h, width, true);
            let h = g.unary("act_fn", UnaryKind::GeluErf, h);
            g.linear("linear_fc2", h, vision.out_hidden_size, true)
        });
        g.reshape(&format!("{name}.rows"), out, [batch, rows / batch, vision.out_hidden_size])
    })
}
