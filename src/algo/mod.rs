//! Algorithms that make a graph easier to quantize or choose its integers better than rounding to
//! nearest.
//!
//! Two kinds. A *rewrite* ([`rotate`], [`equalize`], [`smoothquant`], [`awq`]) changes weights so that the float network computes the same
//! function with friendlier values. A *rounding* chooses grid and integers of one linear layer's
//! weight from the second moments of its inputs ([`Moments`]); [`Session`] runs it over all linear
//! layers in graph order. Algorithms see graphs and tensors; they must not know families,
//! checkpoints or the Circle format: a linear layer is a node whose operator is `Linear`.
//!
//! Adding a rounding is adding a folder and a line in [`ROUNDINGS`].

pub mod autoround;
pub mod awq;
mod channels;
mod coded;
pub mod equalize;
mod factor;
pub mod gptq;
mod groups;
mod intake;
mod lanes;
mod moments;
pub mod mse;
mod note;
mod pairs;
pub mod qronos;
pub mod rotate;
mod rows;
pub mod rtn;
mod search;
mod session;
pub mod smoothquant;
mod spec;

pub use channels::{Fed, Recall};
pub use moments::{Moments, Roots};
pub use note::Note;
pub use pairs::{Both, End, Lane, Pair, Pairs};
pub(crate) use session::{AT_ONCE, first_readers, worthwhile};
pub use session::{Chosen, Ledger, Session, SessionError, Watched};
pub use spec::{AlgoSpec, SpecError, nearest};

use crate::quant::{Decision, Grain, ParamsError, QuantParams};
use crate::tensor::Tensor;

/// Which inputs of a layer a rounding wants to know; each wants what those before it want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Streams {
    /// None: the weight says it all.
    Neither,
    /// What the quantized network feeds it.
    Seen,
    /// Also what the float network feeds it.
    Both,
    /// Also what the stream lost that the layer's output is added to.
    Drift,
}

/// One linear layer to be rounded.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// W `[out, in]`.
    pub weight: &'a Tensor,
    /// What the policy wants.
    pub decision: &'a Decision,
    /// The policy's own grid for W.
    pub grid: &'a QuantParams,
    /// Moments of the inputs, if asked for.
    pub moments: Option<&'a Moments>,
}

impl Layer<'_> {
    /// Inputs of an output that share a grid: all, unless the weight has groups.
    fn group(&self) -> usize {
        self.grid.group().unwrap_or(self.weight.row_width())
    }
}

/// What a rounding found.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// The grid the graph shall carry.
    pub grid: QuantParams,
    /// Ŵ, on that grid.
    pub weight: Tensor,
}

/// A way to choose the integers of a linear layer.
pub trait Rounding: Sync + Send {
    /// The inputs it wants to know.
    fn streams(&self) -> Streams;
    /// Whether it needs the whole Hessian, and that of full rank to be sure of all it chooses.
    fn factors(&self) -> bool {
        self.streams() >= Streams::Seen
    }
    /// Whether it rounds every number to the nearest on the policy's grid and does nothing else.
    fn to_nearest(&self) -> bool {
        false
    }
    /// Whether it can choose a grid for every group of inputs.
    fn groups(&self) -> bool {
        true
    }
    /// Chooses grid and integers.
    ///
    /// # Errors
    /// Moments that say nothing (see [`AlgoError`]); a scheme it cannot serve.
    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError>;
}

/// A rounding in the registry.
pub struct Entry {
    /// What recipes call it.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The keys of its options, its own before those of a rounding that it builds on.
    pub keys: &'static [&'static [&'static str]],
    /// Reads its options.
    pub build: fn(toml::Table) -> Result<Box<dyn Rounding>, toml::de::Error>,
}

/// Every rounding, from cheap to dear.
pub static ROUNDINGS: &[Entry] =
    &[rtn::ENTRY, mse::ENTRY, gptq::ENTRY, qronos::ENTRY, autoround::ENTRY];

/// Why a layer could not be rounded; the session adds its name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AlgoError {
    /// No input, or none but zeros: a session rounds such a layer to nearest.
    #[error("there is no calibration input, or none but zeros")]
    NoInputs,
    /// NaN or infinity among the inputs.
    #[error("a NaN or an infinity was among the calibration inputs")]
    NonFinite,
    /// No damping helped.
    #[error("the Hessian has no Cholesky factor even with damping {damp:e} of its mean diagonal")]
    Singular {
        /// The last damping tried.
        damp: f64,
    },
    /// A grid this rounding does not know.
    #[error(
        "{algorithm} rounds to affine grids per tensor, output or group of inputs, found {grain}"
    )]
    Grain {
        /// The algorithm.
        algorithm: &'static str,
        /// What was asked for.
        grain: Grain,
    },
    /// No grid could be made.
    #[error(transparent)]
    Params(#[from] ParamsError),
}

#[cfg(test)]
mod tests;
