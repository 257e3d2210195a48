//! Qwen3-VL: a vision tower whose features are joined with the text embeddings by slice and
//! concatenation, and added to the first decoder layers (DeepStack).

mod sizes;
mod vision;

use super::decoder::{self, Flavor, Layers};
use super::text::{embed, feed, head, step};
use super::{Family, ModelError, Request};
use crate::checkpoint::{Config, TextConfig, VisionConfig};
use crate::graph::{Builder, Graph, ValueId};
use crate::layout::Layout;
use crate::tensor::Tensor;

/// Qwen3-VL, dense.
pub static FAMILY: Family = Family {
    name: "qwen3_vl",
    architectures: &["Qwen3VLForConditionalGeneration"],
    build,
    decode: |config, past| step(config, TEXT, flavor(&config.text), past),
    sizes: sizes::SIZES,
};

/// Qwen3-VL whose decoder has experts; otherwise the same.
pub static MOE: Family = Family {
    name: "qwen3_vl_moe",
    architectures: &["Qwen3VLMoeForConditionalGeneration"],
    sizes: sizes::MOE_SIZES,
    ..FAMILY
};

const TEXT: &str = "model.language_model";

fn build(config: &Config, request: &Request) -> Result<Graph, ModelError> {
    let text = &config.text;
    let vision = config.vision.as_ref().ok_or_else(|| {
        ModelError::Misfit(
            "config.json: vision_config: missing, expected for this architecture".into(),
        )
    })?;
    check(text, vision, &request.layout)?;
    let flavor = flavor(text);
    let mut g = Builder::new(&config.model_type);
    let (batch, seq) = (request.batch, request.layout.seq_len());
    let fed = feed(&mut g, text, request.feed, batch, seq);
    let features = match request.layout.spans() {
        [] => None,
        _ => Some(vision::tower(&mut g, vision, &request.layout, batch)?),
    };
    let out = g.scope(TEXT, |g| {
        let tables = decoder::tables(g, text, &request.layout, request.mask_fill);
        let layers = Layers { text, flavor, tables, prefix: TEXT };
        let mut x = embed(g, TEXT, text, fed);
        if let Some(features) = &features {
            x = g.stage("model.multimodal_embedding", |g| {
                fuse(g, &request.layout, x, features.merged)
            });
        }
        for i in 0..text.num_hidden_layers {
            x = layers.layer(g, i, x);
            if let Some(&level) = features.as_ref().and_then(|f| f.deepstack.get(i)) {
                x = g.stage(&format!("model.deepstack_fusion.{i}"), |g| {
                    g.scope(&format!("deepstack.{i}"), |g| inject(g, &request.layout, x, level))
                });
            }
        }
        x
    });
    let out = head(&mut g, TEXT, text, request.head, out);
    Ok(g.finish(&[out])?)
}

fn flavor(text: &TextConfig) -> Flavor {
    let bias = text.attention_bias;
    Flavor { qk_norm: true, qkv_bias: bias, o_bias: bias, stacked_experts: true }
}

fn check(text: &TextConfig, vision: &VisionConfig, layout: &Layout) -> Result<(), ModelError> {
    let misfit = |message: String| Err(ModelError::Misfit(format!("config.json: {message}")));
    if vision.out_hidden_size != text.hidden_size {
        return misfit(format!(
            "vision_config.out_hidden_size: found {}, expected text_config.hidden_size {}",
            vision.out_hidden_size, text.hidden_size
        ));
    }
    let levels = vision.deepstack_visual_indexes.len();
    if levels > text.num_hidden_layers {
        return misfit(format!(
            "vision_config.deepstack_visual_indexes: found {levels} levels, expected at most \
             text_config.num_hidden_layers {}",
            text.num_hidden_layers
        ));
    }
    if !layout.spans().is_empty() && layout.merge() != vision.spatial_merge_size {
        return misfit(format!(
            "vision_config.spatial_merge_size: found {}, the layout was made for {}",
            vision.spatial_merge_size,
            layout.merge()
        ));
    }
    Ok(())
}

/// Replaces the visual positions of the embeddings `[batch, seq, hidden]` by `features`
/// `[batch · visual, hidden]`.
fn fuse(g: &mut Builder, layout: &Layout, embeds: ValueId, features: ValueId) -> ValueId {
    interleave(g, layout, features, "fused", |g, start, len| {
        g.slice(&format!("text_{start}"), embeds, 1, start, len)
    })
}

/// Adds `features` `[batch · visual, hidden]` to the visual positions of x `[batch, seq, hidden]`:
/// the features are laid between zeros, which every grid represents exactly, and added once.
fn inject(g: &mut Builder, layout: &Layout, x: ValueId, features: ValueId) -> ValueId {
    let (batch, hidden) = (g.shape(x)[0], g.shape(x)[2]);
    let spread = interleave(g, layout, features, "spread", |g, start, len| {
        g.constant(&format!("zeros_{start}"), Tensor::full([batch, len, hidden], 0.0))
    });
    g.add("add", x, spread)
}

/// Walks the sequence: visual spans come from `features`, every gap from `gap(start, len)`.
fn interleave(
    g: &mut Builder,
    layout: &Layout,
    features: ValueId,
    name: &str,
    gap: impl Fn(&mut Builder, usize, usize) -> ValueId,
) -> ValueId {
    let visual = layout.spans().iter().map(|span| span.len).sum::<usize>();
    let [rows, hidden] = g.shape(features)[..] else { return features };
    let features = g.reshape("features", features, [rows / visual.max(1), visual, hidden]);
    let (mut parts, mut at) = (Vec::new(), 0);
    for span in layout.spans() {
        if span.start > at {
            parts.push(gap(g, at, span.start - at));
        }
        let part = format!("{name}_{}", span.start);
        parts.push(g.slice(&part, features, 1, span.feature_offset, span.len));
        at = span.start + span.len;
    }
    if layout.seq_len() > at {
        parts.push(gap(g, at, layout.seq_len() - at));
    }
    g.concat(name, &parts, 1)
}
