//! The language model's part of `config.json`.

use super::super::error::{ErrorKind, Result, quoted};
use super::super::fields::Fields;
use super::Family;
use super::experts::ExpertsConfig;
use super::limits::{
    HEAD_DIM_MAX, HEADS_MAX, LAYERS_MAX, POSITIONS_MAX, VOCAB_MAX, WIDTH_MAX, check_product,
};
use super::rope;
use crate::layout::Rotary;

/// Sizes and switches of a decoder-only language model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels inside the feed-forward block.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Channels of one head; even. Need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Name of the feed-forward activation, such as `silu`.
    pub hidden_act: String,
    /// Whether the attention projections have a bias.
    pub attention_bias: bool,
    /// Longest sequence that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// How many tokens, itself included, a token attends to in some layer, if not to all before it.
    pub sliding_window: Option<usize>,
    /// Whether the head reuses the token embedding as its weight.
    pub tie_word_embeddings: bool,
    /// Rotary position embedding.
    pub rope: Rotary,
    /// Experts in place of feed-forward blocks, where the family has them.
    pub experts: Option<ExpertsConfig>,
}

/// What transformers assumes for fields that a file omits.
struct Defaults {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rope_theta: f64,
}

fn defaults(family: Family, experts: bool) -> Defaults {
    match family {
        Family::Qwen3Vl => Defaults {
            num_key_value_heads: Some(if experts { 16 } else { 32 }),
            head_dim: Some(128).filter(|_| !experts),
            max_position_embeddings: 128_000,
            rope_theta: 5_000_000.0,
        },
        Family::Qwen2 | Family::Qwen3 => Defaults {
            num_key_value_heads: Some(if experts { 4 } else { 32 }),
            head_dim: Some(128).filter(|_| family == Family::Qwen3 && !experts),
            max_position_embeddings: 32_768,
            rope_theta: 10_000.0,
        },
        Family::Other => Defaults {
            num_key_value_heads: None,
            head_dim: None,
            max_position_embeddings: 2048,
            rope_theta: 10_000.0,
        },
    }
}

impl TextConfig {
    pub(super) fn parse(root: &Fields, family: Family, model_type: &str) -> Result<TextConfig> {
        let nested = root.object("text_config")?;
        let fields = nested.as_ref().unwrap_or(root);
        let defaults = defaults(family, model_type.ends_with("_moe"));
        let hidden_size = fields.required("hidden_size", 1..=WIDTH_MAX)?;
        let num_attention_heads = fields.required("num_attention_heads", 1..=HEADS_MAX)?;
        let num_key_value_heads = kv_heads(fields, num_attention_heads, &defaults)?;
        let head_dim = head_dim(fields, hidden_size, num_attention_heads, &defaults)?;
        let factors = [("head_dim", head_dim), ("num_attention_heads", num_attention_heads)];
        check_product(fields, &factors, WIDTH_MAX)?;
        let max_position_embeddings = fields
            .size("max_position_embeddings", 1..=POSITIONS_MAX)?
            .unwrap_or(defaults.max_position_embeddings);
        // transformers 4 asks the text part, transformers 5 the whole; files say it in either place
        let tie_word_embeddings = match fields.flag("tie_word_embeddings")? {
            Some(flag) => flag,
            None => root.flag("tie_word_embeddings")?.unwrap_or(false),
        };
        let num_hidden_layers = fields.required("num_hidden_layers", 1..=LAYERS_MAX)?;
        if fields.flag("mlp_bias")? == Some(true) {
            let (name, expected) = ("mlp_bias", "false: feed-forward blocks without biases");
            return Err(fields.wrong(ErrorKind::Unsupported, name, expected, true));
        }
        Ok(TextConfig {
            vocab_size: fields.required("vocab_size", 1..=VOCAB_MAX)?,
            hidden_size,
            intermediate_size: fields.required("intermediate_size", 1..=WIDTH_MAX)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: eps(fields)?,
            hidden_act: activation(fields, "silu", &["silu", "swish"])?,
            attention_bias: fields.flag("attention_bias")?.unwrap_or(false),
            max_position_embeddings,
            sliding_window: match model_type {
                "qwen2" | "qwen3" | "qwen3_moe" => window(fields, num_hidden_layers, model_type)?,
                _ => None,
            },
            tie_word_embeddings,
            rope: rope::parse(
                fields,
                &rope::Surroundings {
                    head_dim,
                    max_position_embeddings,
                    theta: defaults.rope_theta,
                    multimodal: family == Family::Qwen3Vl,
                },
            )?,
            experts: ExpertsConfig::parse(fields, model_type, num_hidden_layers)?,
        })
    }
}

fn kv_heads(fields: &Fields, heads: usize, defaults: &Defaults) -> Result<usize> {
    let name = "num_key_value_heads";
    // an explicit null means one key head for each query head; transformers keeps that apart from
    // an absent field
    let absent =
        if fields.is_null(name) { heads } else { defaults.num_key_value_heads.unwrap_or(heads) };
    let kv_heads = fields.size(name, 1..=HEADS_MAX)?.unwrap_or(absent);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads {heads}");
        return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, kv_heads));
    }
    Ok(kv_heads)
}

fn head_dim(fields: &Fields, hidden: usize, heads: usize, defaults: &Defaults) -> Result<usize> {
    let name = "head_dim";
    let default = defaults.head_dim.filter(|_| !fields.is_null(name));
    let head_dim = match fields.size(name, 1..=HEAD_DIM_MAX)?.or(default) {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a multiple of num_attention_heads {heads}");
            return Err(fields.wrong(ErrorKind::Inconsistent, "hidden_size", expected, hidden));
        }
    };
    if !head_dim.is_multiple_of(2) {
        let expected = "an even number of channels, rotated in pairs";
        return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, head_dim));
    }
    Ok(head_dim)
}

/// The window of the layers that have one: those that `layer_types` names; without it those from
/// `max_window_layers` on, or all where there are experts.
fn window(fields: &Fields, layers: usize, model_type: &str) -> Result<Option<usize>> {
    let experts = model_type == "qwen3_moe";
    let wanted = fields.flag("use_sliding_window")?.unwrap_or(false);
    let first = fields.size("max_window_layers", 0..=usize::MAX)?.unwrap_or(28);
    let name = "layer_types";
    let some = match fields.texts(name)?.filter(|_| !experts) {
        None => wanted && (experts || first < layers),
        Some(types) => {
            let known =
                |kind: &&String| matches!(&kind[..], "full_attention" | "sliding_attention");
            if let Some(other) = types.iter().find(|kind| !known(kind)) {
                let expected = "full_attention or sliding_attention";
                return Err(fields.wrong(ErrorKind::Unsupported, name, expected, quoted(other)));
            }
            types.iter().any(|kind| kind == "sliding_attention")
        }
    };
    let name = "sliding_window";
    let size = fields.size(name, 1..=POSITIONS_MAX)?.or((!fields.is_null(name)).then_some(4096));
    Ok(size.filter(|_| some))
}

/// The name of the feed-forward activation, one of `known`: another function would be built as if
/// it were one of them.
pub(super) fn activation(fields: &Fields, default: &str, known: &[&str]) -> Result<String> {
    let name = "hidden_act";
    match fields.text(name)?.unwrap_or(default) {
        found if known.contains(&found) => Ok(found.to_owned()),
        found => {
            let expected = known.join(", ");
            Err(fields.wrong(ErrorKind::Unsupported, name, expected, quoted(found)))
        }
    }
}

fn eps(fields: &Fields) -> Result<f64> {
    let name = "rms_norm_eps";
    match fields.real(name)?.unwrap_or(1e-6) {
        eps if (0.0..1.0).contains(&eps) => Ok(eps),
        eps => Err(fields.wrong(ErrorKind::OutOfRange, name, "a number from 0 to 1", eps)),
    }
}
