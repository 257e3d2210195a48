//! What a recipe says of algorithms: its `[algo]` table.

use super::{Entry, ROUNDINGS, Rounding, rotate};
use crate::graph::{Graph, Read};
use serde::{Deserialize, Serialize};

/// Rewrites and the rounding, each a table of options; an absent table means no.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgoSpec {
    /// Rotates residual streams and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<rotate::Options>,
    /// Name of the rounding; `rtn` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<String>,
    /// Its options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// A recipe that asks for what there is not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// No rounding has this name.
    #[error("algo.rounding: `{found}` is no rounding: did you mean `{nearest}`? Known are {known}")]
    Unknown {
        /// The name.
        found: String,
        /// The most alike.
        nearest: &'static str,
        /// All of them.
        known: String,
    },
    /// Options that the rounding does not take.
    #[error("algo.options of {rounding}: {message}")]
    Options {
        /// The rounding.
        rounding: &'static str,
        /// Which and why.
        message: String,
    },
}

impl AlgoSpec {
    /// Appends the rewrites asked for to the edits of the graph's parameters; the float network stays
    /// the same function.
    ///
    /// # Errors
    /// Those of `read`, which is asked for one tensor at a time.
    pub fn rewrite<E>(&self, graph: &mut Graph, read: Read<'_, E>) -> Result<(), E> {
        if let Some(options) = &self.rotate {
            rotate::rotate(graph, read, options)?;
        }
        Ok(())
    }

    /// The rounding with its options.
    ///
    /// # Errors
    /// An unknown name, with the nearest known one; options it does not take.
    pub fn rounding(&self) -> Result<Box<dyn Rounding>, SpecError> {
        let name = self.rounding.as_deref().unwrap_or("rtn");
        let entry = entry(name)?;
        (entry.build)(self.options.clone()).map_err(|error| SpecError::Options {
            rounding: entry.name,
            message: error.message().to_owned(),
        })
    }
}

fn entry(name: &str) -> Result<&'static Entry, SpecError> {
    ROUNDINGS.iter().find(|entry| entry.name == name).ok_or_else(|| SpecError::Unknown {
        found: name.to_owned(),
        nearest: nearest(name, ROUNDINGS.iter().map(|entry| entry.name)),
        known: ROUNDINGS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })
}

/// The known name that is most like `name`, whatever its case; the first of equals, empty if none
/// is known.
pub fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> &'static str {
    let name = name.to_ascii_lowercase();
    known.into_iter().min_by_key(|known| strsim::levenshtein(&name, known)).unwrap_or("")
}
