//! What a policy says of tokens: how much those of each kind count, and which are not looked at.

use serde::{Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroUsize};

/// How much a row of visual and one of text tokens count where values are counted or multiplied:
/// `modality = "equal"` or `modality = { vision = 3, text = 1 }`.
///
/// Pictures bring many tokens and, as Li et al. found ("MBQ: Modality-Balanced Quantization for Large
/// Vision-Language Models", CVPR 2025), errors in them cost little; so neither should drown the other
/// in a histogram or a Hessian just by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"equal\" or { vision = N, text = N } with N from 1")]
pub enum Modality {
    /// A word.
    Named(Balance),
    /// Every row counts so many times.
    Times(Times),
}

/// Balances with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// All visual rows together count as much as all rows of text.
    Equal,
}

/// How many times a row counts: whole, so that counts stay exact whatever the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// One of a picture or a video.
    pub vision: NonZeroU32,
    /// One of text.
    pub text: NonZeroU32,
}

/// Which tokens at the beginning are not observed: `prefix = "isolate"` or their number; or are not
/// even part of the graph: `prefix = "bake"`.
///
/// The first token draws attention that has nowhere else to go, and its values are outliers by a
/// thousand times (Chen et al., "PrefixQuant", 2024). In a template it is the same in every prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"isolate\", \"bake\" or a number of tokens from 1")]
pub enum Prefix {
    /// A word.
    Named(Head),
    /// So many.
    Tokens(NonZeroUsize),
}

/// Prefixes with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Those that are the same in all calibration rows, before the first picture, and at least one.
    Isolate,
    /// The same tokens, without their being computed any more: their keys and values, from the float
    /// network, are constants of the graph, which starts after them.
    Bake,
}
