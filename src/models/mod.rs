//! Model families: from config fields and a prompt layout to a graph.
//!
//! A family is a description; it must not know execution, quantization or the Circle format.
//! Adding one is adding a folder and a line in [`FAMILIES`].

mod decoder;
mod experts;
pub mod qwen3_vl;
pub mod text;

use crate::checkpoint::Config;
use crate::graph::{BuildError, Graph};
use crate::layout::{Layout, LayoutError};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// What the text model is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// `input_ids` `[batch, seq]`.
    Ids,
    /// `inputs_embeds` `[batch, seq, hidden]`.
    Embeds,
}

/// What the graph computes in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `logits` `[batch, seq, vocab]`.
    Logits,
    /// The hidden state after the final norm `[batch, seq, hidden]`.
    Hidden,
}

/// Everything about a graph that the checkpoint does not fix.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt every row of the batch has.
    pub layout: Layout,
    /// Rows.
    pub batch: usize,
    /// Ids or embeddings.
    pub feed: Feed,
    /// Logits or hidden state.
    pub head: Head,
    /// Additive attention mask value where a position must not be seen; finite, so that integers
    /// can hold it.
    pub mask_fill: f32,
}

impl Request {
    /// One row of ids under `layout`, to logits, with the peer's mask value.
    pub fn new(layout: Layout) -> Request {
        Request { layout, batch: 1, feed: Feed::Ids, head: Head::Logits, mask_fill: -120.0 }
    }
}

/// Why no graph could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// No family knows the architecture.
    #[error("field \"architectures\": found {found:?}, known are {known}")]
    UnknownArchitecture {
        /// What config.json says.
        found: Vec<String>,
        /// What the registry knows.
        known: String,
    },
    /// The config and the request do not fit each other.
    #[error("{0}")]
    Misfit(String),
    /// A grid that cannot be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Shapes do not meet.
    #[error("{0}")]
    Build(#[from] BuildError),
}

/// A published size of a family.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// What people call it, in lower case.
    pub name: &'static str,
    /// Its config.json.
    pub config: &'static str,
}

/// A model family.
pub struct Family {
    /// Its name in reports.
    pub name: &'static str,
    /// The `architectures` strings of config.json.
    pub architectures: &'static [&'static str],
    /// Builds the whole network.
    pub build: fn(&Config, &Request) -> Result<Graph, ModelError>,
    /// Builds one decoding step after so many positions.
    pub decode: fn(&Config, usize) -> Result<Graph, ModelError>,
    /// Sizes whose shapes are known without a checkpoint.
    pub sizes: &'static [Size],
}

/// Every family encircle knows.
pub static FAMILIES: &[&Family] = &[
    &qwen3_vl::FAMILY,
    &qwen3_vl::MOE,
    &text::LLAMA,
    &text::QWEN3,
    &text::QWEN3_MOE,
    &text::QWEN2,
];

/// Every published size that is known without a checkpoint.
pub fn sizes() -> impl Iterator<Item = Size> {
    FAMILIES.iter().flat_map(|family| family.sizes).copied()
}

/// The family of a checkpoint.
///
/// # Errors
/// [`ModelError::UnknownArchitecture`] with the list of what is known; [`ModelError::Misfit`] if
/// `model_type`, whose defaults the config has, is not that family's.
pub fn family(config: &Config) -> Result<&'static Family, ModelError> {
    let known = |family: &&&Family| {
        family.architectures.iter().any(|a| config.architectures.iter().any(|found| found == a))
    };
    let family = FAMILIES.iter().find(known).copied();
    let family = family.ok_or_else(|| ModelError::UnknownArchitecture {
        found: config.architectures.clone(),
        known: FAMILIES
            .iter()
            .flat_map(|f| f.architectures)
            .copied()
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let (found, expected) = (&config.model_type, family.name);
    // transformers chooses by it, and another type is another network under the same field names
    match found == expected {
        true => Ok(family),
        false => Err(ModelError::Misfit(format!(
            "field \"model_type\": found \"{found}\", expected \"{expected}\" as in architectures"
        ))),
    }
}

/// Refuses a sequence of which some layer would see a part only.
fn check_window(config: &Config, seq: usize) -> Result<(), ModelError> {
    match config.text.sliding_window.filter(|&window| window < seq) {
        None => Ok(()),
        Some(window) => Err(ModelError::Misfit(format!(
            "field \"sliding_window\": found {window}, expected at least the {seq} positions of the \
             sequence: attention to a window is not built"
        ))),
    }
}

/// Refuses a layout that is longer than the model's positions reach, or shows what it cannot see.
///
/// # Errors
/// [`ModelError::Misfit`] with both numbers.
pub fn check_layout(config: &Config, layout: &Layout) -> Result<(), ModelError> {
    let limit = config.text.max_position_embeddings;
    let seq = layout.known() + layout.seq_len();
    if seq > limit {
        return Err(ModelError::Misfit(format!(
            "sequence length {seq} is beyond max_position_embeddings {limit}"
        )));
    }
    if config.vision.is_none() && !layout.spans().is_empty() {
        return Err(ModelError::Misfit(
            "the layout holds pictures, but the model reads text only".into(),
        ));
    }
    check_window(config, seq)
}

/// Builds the graph of a checkpoint for one request.
///
/// # Errors
/// An unknown architecture, a layout the config cannot hold, or shapes that do not meet.
pub fn build(config: &Config, request: &Request) -> Result<Graph, ModelError> {
    check_layout(config, &request.layout)?;
    if request.batch == 0 {
        return Err(ModelError::Misfit("batch is 0, expected at least 1".into()));
    }
    (family(config)?.build)(config, request)
}

/// Builds one decoding step: the token `input_ids` `[1, 1]` after `past` positions, whose keys and
/// values are inputs `[1, kv_heads, past, head_dim]`. Values are called as in [`build`]'s graph, so
/// that they take its annotations; `past_k`, `k_all` correspond to `k_rot`, `past_v`, `v_all` to
/// `v_t` of the same layer.
///
/// # Errors
/// Those of [`build`]; `past` 0, which is no decoding.
pub fn build_decode(config: &Config, past: usize) -> Result<Graph, ModelError> {
    let limit = config.text.max_position_embeddings;
    if past == 0 || past >= limit {
        return Err(ModelError::Misfit(format!(
            "a decoding step after {past} positions, expected 1 to {}",
            limit.saturating_sub(1)
        )));
    }
    check_window(config, past + 1)?;
    (family(config)?.decode)(config, past)
}

/// The inputs `cos`, `sin` and `causal_mask` of a decoding step: the token at `position`, of `past`
/// kept positions the first `valid` count.
pub fn step_values(
    config: &Config,
    position: i64,
    [valid, past]: [usize; 2],
    mask_fill: f32,
) -> [Tensor; 3] {
    decoder::step_values(&config.text, position, [valid, past], mask_fill)
}

/// The value of the whole prompt's graph that a value of [`build_decode`]'s graph corresponds to.
pub fn prefill_name(decode_name: &str) -> String {
    let pairs =
        [(".past_k", ".k_rot"), (".k_all", ".k_rot"), (".past_v", ".v_t"), (".v_all", ".v_t")];
    let renamed = pairs.iter().find_map(|(decode, prefill)| {
        decode_name.strip_suffix(decode).map(|layer| format!("{layer}{prefill}"))
    });
    renamed.unwrap_or_else(|| decode_name.into())
}

/// Every tensor that a checkpoint of this config holds, as (canonical name, shape): those of the
/// smallest prompt that uses the whole network.
///
/// # Errors
/// Those of [`build`].
pub fn tensors(config: &Config) -> Result<Vec<(String, Vec<usize>)>, ModelError> {
    let layout = match &config.vision {
        Some(vision) => {
            let merge = vision.spatial_merge_size;
            Layout::single([1, merge, merge], 0, 1, merge)?
        }
        None => Layout::text(1)?,
    };
    let graph = build(config, &Request::new(layout))?;
    let all: BTreeMap<String, Vec<usize>> =
        graph.params().map(|(_, param)| (param.key.clone(), param.stored_shape.clone())).collect();
    Ok(all.into_iter().collect())
}
