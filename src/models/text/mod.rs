//! Text-only decoders: Llama, Qwen3, its mixture of experts, and Qwen2. They differ in flavor, not in structure.

use super::decoder::{self, Flavor, Layers};
use super::{Family, Feed, Head, ModelError, Request};
use crate::checkpoint::{Config, TextConfig};
use crate::graph::{Builder, Graph, Kind, Param, ValueId};

/// Llama (Touvron et al., 2023; Dubey et al., 2024).
pub static LLAMA: Family = Family {
    name: "llama",
    architectures: &["LlamaForCausalLM"],
    build: |c, r| build(c, r, false, false),
    decode: |c, past| decode(c, past, false, false),
    sizes: &[],
};
/// Qwen3: q and k are normalised per head.
pub static QWEN3: Family = Family {
    name: "qwen3",
    architectures: &["Qwen3ForCausalLM"],
    build: |c, r| build(c, r, true, false),
    decode: |c, past| decode(c, past, true, false),
    sizes: &[],
};
/// Qwen3 with experts.
pub static QWEN3_MOE: Family = Family {
    name: "qwen3_moe",
    architectures: &["Qwen3MoeForCausalLM"],
    build: |c, r| build(c, r, true, false),
    decode: |c, past| decode(c, past, true, false),
    sizes: &[],
};
/// Qwen2: biases on q, k and v.
pub static QWEN2: Family = Family {
    name: "qwen2",
    architectures: &["Qwen2ForCausalLM"],
    build: |c, r| build(c, r, false, true),
    decode: |c, past| decode(c, past, false, true),
    sizes: &[],
};

fn build(
    config: &Config,
    request: &Request,
    qk_norm: bool,
    qkv_bias: bool,
) -> Result<Graph, ModelError> {
    let text = &config.text;
    let bias = text.attention_bias;
    let flavor = flavor(bias, qk_norm, qkv_bias);
    let mut g = Builder::new(&config.model_type);
    let (batch, seq) = (request.batch, request.layout.seq_len());
    let feed = feed(&mut g, text, request.feed, batch, seq);
    let out = g.scope("model", |g| {
        let tables = decoder::tables(g, text, &request.layout, request.mask_fill);
        let layers = Layers { text, flavor, tables, prefix: "model" };
        let mut x = embed(g, "model", text, feed);
        for i in 0..text.num_hidden_layers {
            x = layers.layer(g, i, x);
        }
        x
    });
    let out = head(&mut g, "model", text, request.head, out);
    Ok(g.finish(&[out])?)
}

fn flavor(bias: bool, qk_norm: bool, qkv_bias: bool) -> Flavor {
    // A family with biases on q, k and v has them there only, whatever the field says.
    let o_bias = bias && !qkv_bias;
    Flavor { qk_norm, qkv_bias: bias || qkv_bias, o_bias, stacked_experts: false }
}

fn decode(
    config: &Config,
    past: usize,
    qk_norm: bool,
    qkv_bias: bool,
) -> Result<Graph, ModelError> {
    let bias = config.text.attention_bias;
    step(config, "model", flavor(bias, qk_norm, qkv_bias), past)
}

/// One token after `past` others, through all layers to the logits; the caller hands in the keys
/// and values of those others and gets the new ones. `prefix` is the scope of the decoder.
pub(super) fn step(
    config: &Config,
    prefix: &str,
    flavor: Flavor,
    past: usize,
) -> Result<Graph, ModelError> {
    let text = &config.text;
    let mut g = Builder::new(&config.model_type);
    let fed = feed(&mut g, text, Feed::Ids, 1, 1);
    let out = g.scope(prefix, |g| {
        let tables = decoder::step_tables(g, text, past);
        let layers = Layers { text, flavor, tables, prefix };
        let mut x = embed(g, prefix, text, fed);
        for i in 0..text.num_hidden_layers {
            x = layers.layer(g, i, x);
        }
        x
    });
    let out = head(&mut g, prefix, text, Head::Logits, out);
    Ok(g.finish(&[out])?)
}

/// What the caller feeds, before it is embedded.
#[derive(Clone, Copy)]
pub(super) enum Fed {
    Ids(ValueId),
    Embeds(ValueId),
}

/// Declares the input.
pub(super) fn feed(
    g: &mut Builder,
    text: &TextConfig,
    feed: Feed,
    batch: usize,
    seq: usize,
) -> Fed {
    match feed {
        Feed::Ids => Fed::Ids(g.input("input_ids", [batch, seq], Kind::Index)),
        Feed::Embeds => {
            Fed::Embeds(g.input("inputs_embeds", [batch, seq, text.hidden_size], Kind::Real))
        }
    }
}

/// Embeddings `[batch, seq, hidden]` of what was fed; `prefix` is the scope the caller stands in.
pub(super) fn embed(g: &mut Builder, prefix: &str, text: &TextConfig, fed: Fed) -> ValueId {
    match fed {
        Fed::Embeds(x) => x,
        Fed::Ids(ids) => g.stage(&format!("{prefix}.embed_tokens"), |g| {
            let shape = [text.vocab_size, text.hidden_size];
            let table = g.scope("embed_tokens", |g| g.param("weight", shape));
            g.gather("embed_tokens", table, ids)
        }),
    }
}

/// Final norm and, if asked for, LM head; `prefix` is the scope of the decoder.
pub(super) fn head(
    g: &mut Builder,
    prefix: &str,
    text: &TextConfig,
    head: Head,
    x: ValueId,
) -> ValueId {
    g.stage("lm_head", |g| {
        let x = g.scope(prefix, |g| g.rms_norm("norm", x, text.rms_norm_eps as f32, 1.0));
        if head == Head::Hidden {
            return x;
        }
        let stored_shape = vec![text.vocab_size, text.hidden_size];
        let key = match text.tie_word_embeddings {
            true => format!("{prefix}.embed_tokens.weight"),
            false => "lm_head.weight".into(),
        };
        let param = Param { key, stored_shape: stored_shape.clone(), edits: vec![] };
        let weight = g.param_as("lm_head.weight", stored_shape, param);
        g.push("lm_head", crate::ops::Linear, &[x, weight])
    })
}
