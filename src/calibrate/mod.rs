//! Calibration: which values need a grid, what they look like on real data, and the grid each gets.
//!
//! Data goes one way: a [`Plan`] joins the graph's sites with a policy, [`Statistics`] are observed
//! by a tap while the executor runs in float, [`Plan::annotate_activations`] turns them into `QuantParams` on
//! the graph, [`check`] lists what was left without. Read `sites.rs` first.

mod annotate;
mod check;
mod emphasis;
mod experts;
mod mask;
mod meeting;
mod parts;
mod plan;
mod sites;
mod statistics;
mod tables;
mod tokens;

pub use annotate::quantize_constants;
pub use check::{Unquantized, check};
pub use emphasis::{Emphasis, Weighing};
pub use meeting::{meeting, spread};
pub use parts::Parts;
pub use plan::Plan;
pub use sites::{Class, Site, Sites};
pub use statistics::{Observing, Quantizing, Statistics};
pub use tables::rounded;
pub use tokens::Tokens;

use crate::quant::{BiasError, MergeError, ParamsError, PolicyError};

/// Why a graph could not be calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The policy contradicts itself or the graph.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A rule that speaks of no tensor of the graph.
    #[error("rule `{pattern}` matches no tensor")]
    SilentRule {
        /// Its glob.
        pattern: String,
    },
    /// No grid can be made for a tensor.
    #[error("{name}: {source}")]
    Params {
        /// The tensor.
        name: String,
        /// Unseen, not finite, or a scheme that its dtype cannot carry.
        source: ParamsError,
    },
    /// Experts without statistics, and no word in the policy about them.
    #[error(
        "no calibration token reached {names}: calibrate on more tokens, or set \
         `unseen_experts = \"weight_only\"` in [policy]"
    )]
    UnseenExperts {
        /// Their names.
        names: String,
    },
    /// A bias that its accumulator cannot hold.
    #[error("{name}: {source}")]
    Bias {
        /// The bias.
        name: String,
        /// The channel and the numbers.
        source: BiasError,
    },
    /// An observer whose result depends on the order of samples, where rows are shared out.
    #[error(
        "{name}: the moving average (ema) depends on the order of samples and cannot be shared out; \
         minmax, percentile, mse and octav can"
    )]
    Ordered {
        /// What the class is called after.
        name: String,
    },
    /// Statistics that are not of this graph and recipe.
    #[error("{name}: {source}")]
    Foreign {
        /// What the class is called after.
        name: String,
        /// What differs.
        source: MergeError,
    },
    /// A prefix of so many tokens that cannot be left out.
    #[error(
        "policy.prefix: found {found} tokens, expected at most what the calibration rows share: \
         {same} tokens are the same in all, {}the shortest has {shortest}",
        picture.map_or(String::new(), |at| format!("the first picture begins at {at}, "))
    )]
    Prefix {
        /// Tokens asked for.
        found: usize,
        /// Tokens that all rows begin with.
        same: usize,
        /// Where the first visual token stands.
        picture: Option<usize>,
        /// Tokens of the shortest row.
        shortest: usize,
    },
    /// Statistics of different runs.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

#[cfg(test)]
mod tests;
