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

/// What the tower gives the text model, each `[batch · visual, hidden]`: two axes are what the
/// contract of a deployed tower has, and all that onert 0.1.0 knows of a linear layer.
pub(super) struct Features {
    pub(super) merged: ValueId,
    pub(super) deepstack: Vec<ValueId>,
}

/// Builds the tower for `batch` prompts of one layout; declares the input `pixel_values`, the
/// patches of all prompts one below the other. Inside, activations are `[batch, patches, width]`.
pub(super) fn tower(
    g: &mut Builder,
    vision: &VisionConfig,
    layout: &Layout,
    batch: usize,
) -> Result<Features, LayoutError> {
    let grids = layout.grids();
    let patches: usize = grids.iter().map(|[t, h, w]| t * h * w).sum();
    let patch =
        [vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size];
    let pixels = g.input("pixel_values", [batch * patches, patch.iter().product()], Kind::Real);
    let head_dim = vision.hidden_size / vision.num_heads;
    let (cos, sin) = geometry::rotary_tables(&grids, vision.spatial_merge_size, head_dim, THETA)?;
    Ok(g.scope("model.visual", |g| {
        let cos = g.constant("rope_cos", cos);
        let sin = g.constant("rope_sin", negate_first_half(sin));
        let chunks = geometry::chunk_lengths(&grids);
        let mut x = g.stage("model.visual.patch_embed", |g| {
            let x = embed(g, vision, patch, pixels);
            let x = g.reshape("tokens", x, [batch, patches, vision.hidden_size]);
            let positions = positions(g, vision, &grids, patches);
            g.add("pos_add", x, positions)
        });
        let mut deepstack = Vec::new();
        for i in 0..vision.depth {
            x = g.stage(&format!("model.visual.blocks.{i}"), |g| {
                g.scope(&format!("blocks.{i}"), |g| block(g, vision, [cos, sin], &chunks, x))
            });
            if let Some(j) = vision.deepstack_visual_indexes.iter().position(|&at| at == i) {
                let name = format!("deepstack_merger_list.{j}");
                deepstack.push(merger(g, vision, &name, x, true));
            }
        }
        Features { merged: merger(g, vision, "merger", x, false), deepstack }
    }))
}

/// The patch convolution covers each patch once, so it is a linear layer.
fn embed(g: &mut Builder, vision: &VisionConfig, patch: [usize; 4], pixels: ValueId) -> ValueId {
    let width = vision.hidden_size;
    g.scope("patch_embed", |g| {
        let operands = g.scope("proj", |g| {
            let stored_shape = [&[width][..], &patch].concat();
            let param = Param { key: g.path("weight"), stored_shape, edits: vec![] };
            let weight = g.param_as("weight", vec![width, patch.iter().product()], param);
            [pixels, weight, g.param("bias", [width])]
        });
        g.push("proj", crate::ops::Linear, &operands)
    })
}

/// The table of learned positions, interpolated to the grids once, while weights are loaded.
fn positions(
    g: &mut Builder,
    vision: &VisionConfig,
    grids: &[[usize; 3]],
    patches: usize,
) -> ValueId {
    g.scope("pos_embed", |g| {
        let merge = vision.spatial_merge_size;
        let edit = Edit::InterpolatePositions { grids: grids.to_vec(), merge };
        let stored_shape = vec![vision.num_position_embeddings, vision.hidden_size];
        let param = Param { key: g.path("weight"), stored_shape, edits: vec![edit] };
        g.param_as("weight", vec![patches, vision.hidden_size], param)
    })
}

/// x + Attention(LayerNorm(x)), then x + MLP(LayerNorm(x)); x is `[batch, patches, width]`.
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
    let (batch, patches, dim) = (g.shape(x)[0], g.shape(x)[1], width / heads);
    // 1/√d is folded into the rows that make k.
    let fold = [Edit::ScaleRows { rows: width..2 * width, factor: (dim as f32).sqrt().recip() }];
    let qkv = g.linear_edited("qkv", x, 3 * width, true, &fold);
    let qkv = g.reshape("qkv_heads", qkv, [batch, patches, 3 * heads, dim]);
    let qkv = g.transpose("qkv_t", qkv, [0, 2, 1, 3]);
    let [q, k, v] =
        [("q", 0), ("k", 1), ("v", 2)].map(|(name, i)| g.slice(name, qkv, 1, i * heads, heads));
    let q = rotate(g, "q", q, cos, sin);
    let k = rotate(g, "k", k, cos, sin);
    let out = frames(g, chunks, [q, k, v]);
    let out = g.transpose("attn_t", out, [0, 2, 1, 3]);
    let out = g.reshape("attn_merged", out, [batch, patches, width]);
    g.linear("proj", out, width, true)
}

/// Attention inside each frame; q, k, v are `[batch, heads, patches, dim]`.
fn frames(g: &mut Builder, chunks: &[usize], qkv: [ValueId; 3]) -> ValueId {
    let [batch, heads, patches, dim] = g.shape(qkv[0])[..] else { return qkv[0] };
    let names = ["q", "k", "v"];
    let first = chunks.first().copied().unwrap_or(patches);
    if chunks.iter().all(|&len| len == first) {
        // Frames of one size are more heads.
        let split = [batch, heads * chunks.len(), first, dim];
        let split = [0, 1, 2].map(|i| g.reshape(&format!("{}_frames", names[i]), qkv[i], split));
        let out = attend(g, "", split);
        return g.reshape("attn_frames", out, [batch, heads, patches, dim]);
    }
    let mut at = 0;
    let mut parts = Vec::new();
    for (i, &len) in chunks.iter().enumerate() {
        let part =
            [0, 1, 2].map(|j| g.slice(&format!("{}_frame_{i}", names[j]), qkv[j], 2, at, len));
        parts.push(attend(g, &format!("_{i}"), part));
        at += len;
    }
    g.concat("attn_frames", &parts, 2)
}

fn attend(g: &mut Builder, suffix: &str, [q, k, v]: [ValueId; 3]) -> ValueId {
    let logits = g.matmul_nt(&format!("logits{suffix}"), q, k);
    let weights = g.softmax(&format!("softmax{suffix}"), logits);
    g.matmul(&format!("attn_out{suffix}"), weights, v)
}

/// Merges blocks of merge² patches and projects them to the text width: `[batch · visual, hidden]`.
/// DeepStack mergers normalise after the merge, the last one before.
fn merger(
    g: &mut Builder,
    vision: &VisionConfig,
    name: &str,
    x: ValueId,
    normalise_merged: bool,
) -> ValueId {
    let block = vision.spatial_merge_size * vision.spatial_merge_size;
    let [batch, patches, width] = g.shape(x)[..] else { return x };
    let (visual, wide) = (patches / block, width * block);
    g.stage(&format!("model.visual.{name}"), |g| {
        g.scope(name, |g| {
            let mut h = x;
            if normalise_merged {
                h = g.reshape("merged", h, [batch, visual, wide]);
            }
            h = g.layer_norm("norm", h, EPSILON);
            h = g.reshape("rows", h, [batch * visual, wide]);
            h = g.linear("linear_fc1", h, wide, true);
            h = g.unary("act_fn", UnaryKind::GeluErf, h);
            g.linear("linear_fc2", h, vision.out_hidden_size, true)
        })
    })
}
