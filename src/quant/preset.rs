//! Policies people ask for by name.

use super::policy::{Granularity, Policy, PolicyError, PolicySpec, Role, Rule, Spec};
use super::{DType, ObserverSpec, Scheme};

/// Name and meaning of every preset.
pub const PRESETS: [(&str, &str); 4] = [
    ("w8a8", "uint8 activations of least squared error, uint8 weights per channel"),
    ("w8a8-minmax", "uint8 activations and weights that keep every value seen, as TICO's default"),
    ("a16", "int16 activations, int16 weights per channel, symmetric as int16 kernels want it"),
    ("w4a16", "uint4 linear weights per channel, uint8 embeddings and head, int16 activations"),
];

/// Text that names no preset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no preset: did you mean `{nearest}`? Known are {}", known())]
pub struct UnknownPreset {
    /// The text.
    pub found: String,
    /// The preset whose name is most alike.
    pub nearest: &'static str,
}

fn known() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

/// Tensors that stay at 8 bits when linear weights have 4: they are looked up or decide directly.
const SENSITIVE: [&str; 3] = ["*patch_embed*", "*embed_tokens*", "*lm_head*"];

impl Policy {
    /// The preset `name`, in any case; see [`PRESETS`].
    pub fn preset(name: &str) -> Result<Policy, PolicyError> {
        let of = |dtype| Spec { dtype: Some(dtype), ..Spec::default() };
        // At 8 bits one outlier costs everybody else their resolution, so ranges are searched; at 16
        // the extremes are affordable and nothing is clipped.
        let searched = |dtype| Spec {
            dtype: Some(dtype),
            observer: Some(ObserverSpec::Mse),
            ..Spec::default()
        };
        let spec = match name.to_ascii_lowercase().as_str() {
            "w8a8" => PolicySpec {
                activation: searched(DType::UINT8),
                weight: of(DType::UINT8),
                ..PolicySpec::default()
            },
            "w8a8-minmax" => PolicySpec {
                activation: of(DType::UINT8),
                weight: of(DType::UINT8),
                ..PolicySpec::default()
            },
            "a16" => PolicySpec {
                activation: of(DType::INT16),
                weight: of(DType::INT16),
                ..PolicySpec::default()
            },
            "w4a16" => PolicySpec {
                activation: of(DType::INT16),
                weight: of(DType::UINT4),
                norm: Some(of(DType::INT16)),
                rules: SENSITIVE.map(|p| rule(p, of(DType::UINT8))).into(),
                ..PolicySpec::default()
            },
            _ => {
                return Err(UnknownPreset {
                    found: name.to_owned(),
                    nearest: nearest(name, PRESETS.map(|(known, _)| known)),
                }
                .into());
            }
        };
        Policy::new(spec)
    }
}

fn rule(pattern: &str, set: Spec) -> Rule {
    Rule { pattern: pattern.to_owned(), role: Some(Role::Weight), optional: true, set }
}

impl Spec {
    /// The layer that says all of a grid but its observer.
    pub fn affine(dtype: DType, scheme: Scheme) -> Spec {
        Spec {
            dtype: Some(dtype),
            symmetric: Some(scheme.symmetric),
            axis: Some(scheme.axis.map_or(Granularity::TENSOR, Granularity::Axis)),
            observer: None,
        }
    }
}

/// The known name that is most like `name`; the first of equals, empty if none is known.
pub fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> &'static str {
    let name = name.to_ascii_lowercase();
    known.into_iter().min_by_key(|known| distance(&name, known)).unwrap_or("")
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
