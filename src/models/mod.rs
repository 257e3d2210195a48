//! Model families: from config fields and a prompt layout to a graph.
//!
//! A family is a description; it must not know execution, quantization or the Circle format.
//! Adding one is adding a folder and a line in [`FAMILIES`].

mod decoder;
pub mod qwen3_vl;
mod rotary;
pub mod text;

pub use rotary::rotary;

use crate::checkpoint::Config;
use crate::graph::{BuildError, Graph};
use crate::layout::{Layout, LayoutError};
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
    #[error("config.json: architectures: found {found:?}, known are {known}")]
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

/// A model family.
pub struct Family {
    /// Its name in reports.
    pub name: &'static str,
    /// The `architectures` strings of config.json.
    pub architectures: &'static [&'static str],
    /// Builds the whole network.
    pub build: fn(&Config, &Request) -> Result<Graph, ModelError>,
}

/// Every family encircle knows.
pub static FAMILIES: &[&Family] = &[&qwen3_vl::FAMILY, &text::LLAMA, &text::QWEN3, &text::QWEN2];

/// The family of a checkpoint.
///
/// # Errors
/// [`ModelError::UnknownArchitecture`] with the list of what is known.
pub fn family(config: &Config) -> Result<&'static Family, ModelError> {
    let known = |family: &&&Family| {
        family.architectures.iter().any(|a| config.architectures.iter().any(|found| found == a))
    };
    FAMILIES.iter().find(known).copied().ok_or_else(|| ModelError::UnknownArchitecture {
        found: config.architectures.clone(),
        known: FAMILIES
            .iter()
            .flat_map(|f| f.architectures)
            .copied()
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// Builds the graph of a checkpoint for one request.
///
/// # Errors
/// An unknown architecture, a layout the config cannot hold, or shapes that do not meet.
pub fn build(config: &Config, request: &Request) -> Result<Graph, ModelError> {
    let limit = config.text.max_position_embeddings;
    let seq = request.layout.seq_len();
    if seq > limit {
        return Err(ModelError::Misfit(format!(
            "sequence length {seq} is beyond max_position_embeddings {limit}"
        )));
    }
    if request.batch == 0 {
        return Err(ModelError::Misfit("batch is 0, expected at least 1".into()));
    }
    (family(config)?.build)(config, request)
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
