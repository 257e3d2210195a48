//! Which observer a recipe asks for, as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::histogram::BYTES;
use super::{
    AnyObserver, Ema, MergeableObserver, MinMax, Mse, Octav, Percentile, Share, SoftmaxLogits,
};
use crate::quant::{DType, MxFormat, Scheme};

/// An observer and its parameters: `minmax`, `ema:0.9`, `percentile:99.99`,
/// `percentile:0.1:99.9`, `mse`, `octav`, `softmax:16`, `mx:fp4`, `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ObserverSpec {
    /// Exact extremes: [`MinMax`].
    MinMax,
    /// Moving average of extremes: [`Ema`].
    Ema {
        /// Between 0 and 1, both excluded.
        momentum: f32,
    },
    /// Extremes without outliers: [`Percentile`].
    Percentile {
        /// `99.99` is the middle, `0.1:99.9` what lies between.
        share: Share,
    },
    /// Least squared error: [`Mse`].
    Mse,
    /// Optimal clipping by fixed point: [`Octav`].
    Octav,
    /// Masked attention logits: [`SoftmaxLogits`].
    SoftmaxLogits {
        /// Positive.
        margin: f32,
    },
    /// Blocks with shared exponents: nothing to observe.
    Mx {
        /// Format of the elements.
        format: MxFormat,
    },
    /// Stays float.
    Identity,
}

/// Text that names no observer, or one with an impossible parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is no observer: expected minmax, ema:<0..1>, percentile:<0..100>, \
     percentile:<lower>:<upper>, mse, octav, softmax:<margin>, mx:<format> or identity"
)]
pub struct ParseObserverError {
    /// The text.
    pub found: String,
}

impl ObserverSpec {
    /// An observer for a grid of `dtype` and `scheme`; none where nothing is to be observed.
    ///
    /// A parameter out of its bounds, which the text form cannot express, also yields none.
    pub fn build(self, dtype: DType, scheme: Scheme) -> Option<AnyObserver> {
        let mergeable =
            match self {
                ObserverSpec::Mx { .. } | ObserverSpec::Identity => return None,
                ObserverSpec::Ema { momentum } => {
                    return Ema::new(momentum).map(AnyObserver::Ordered);
                }
                ObserverSpec::MinMax => MergeableObserver::MinMax(MinMax::new(scheme.grain)),
                ObserverSpec::Mse => MergeableObserver::Mse(Mse::new(dtype, scheme)),
                ObserverSpec::Octav => MergeableObserver::Octav(Octav::new(dtype, scheme)),
                ObserverSpec::Percentile { share } => MergeableObserver::Percentile(
                    Percentile::new(share, scheme.symmetric, scheme.grain)?,
                ),
                ObserverSpec::SoftmaxLogits { margin } => {
                    MergeableObserver::SoftmaxLogits(SoftmaxLogits::new(margin)?)
                }
            };
        Some(AnyObserver::Mergeable(mergeable))
    }

    /// What attention logits on a grid of `dtype` get if nobody names an observer for them: a logit
    /// still counts whose softmax weight is a sixteenth of a step of that grid over [0, 1].
    pub fn of_logits(dtype: DType) -> ObserverSpec {
        let margin = (f32::from(dtype.bits()) + 4.0) * std::f32::consts::LN_2;
        ObserverSpec::SoftmaxLogits { margin }
    }

    /// About how many bytes an observer keeps of the values on each grid, where it counts them.
    pub fn bytes(self) -> u64 {
        match self {
            ObserverSpec::Percentile { .. } | ObserverSpec::Mse | ObserverSpec::Octav => BYTES,
            _ => 0,
        }
    }

    /// Whether the statistics of shards can be merged.
    pub fn mergeable(self) -> bool {
        !matches!(self, ObserverSpec::Ema { .. })
    }
}

impl fmt::Display for ObserverSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObserverSpec::MinMax => f.write_str("minmax"),
            ObserverSpec::Ema { momentum } => write!(f, "ema:{momentum}"),
            ObserverSpec::Percentile { share: Share::Middle(share) } => {
                write!(f, "percentile:{share}")
            }
            ObserverSpec::Percentile { share: Share::Between(lower, upper) } => {
                write!(f, "percentile:{lower}:{upper}")
            }
            ObserverSpec::Mse => f.write_str("mse"),
            ObserverSpec::Octav => f.write_str("octav"),
            ObserverSpec::SoftmaxLogits { margin } => write!(f, "softmax:{margin}"),
            ObserverSpec::Mx { format } => write!(f, "mx:{format}"),
            ObserverSpec::Identity => f.write_str("identity"),
        }
    }
}

impl FromStr for ObserverSpec {
    type Err = ParseObserverError;

    fn from_str(text: &str) -> Result<ObserverSpec, ParseObserverError> {
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        let found = match (name, parameter) {
            ("minmax", None) => Some(ObserverSpec::MinMax),
            ("mse", None) => Some(ObserverSpec::Mse),
            ("octav", None) => Some(ObserverSpec::Octav),
            ("identity", None) => Some(ObserverSpec::Identity),
            ("ema", p) => number(p.unwrap_or("0.9"))
                .map(|momentum| momentum as f32)
                .filter(|momentum| Ema::new(*momentum).is_some())
                .map(|momentum| ObserverSpec::Ema { momentum }),
            ("percentile", p) => share(p.unwrap_or("99.99"))
                .filter(|share| share.legal())
                .map(|share| ObserverSpec::Percentile { share }),
            ("softmax", p) => number(p.unwrap_or("16"))
                .map(|margin| margin as f32)
                .filter(|margin| SoftmaxLogits::new(*margin).is_some())
                .map(|margin| ObserverSpec::SoftmaxLogits { margin }),
            ("mx", Some(p)) => p.parse().ok().map(|format| ObserverSpec::Mx { format }),
            _ => None,
        };
        found.ok_or_else(|| ParseObserverError { found: text.to_owned() })
    }
}

fn share(text: &str) -> Option<Share> {
    match text.split_once(':') {
        Some((lower, upper)) => Some(Share::Between(number(lower)?, number(upper)?)),
        None => number(text).map(Share::Middle),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

impl TryFrom<String> for ObserverSpec {
    type Error = ParseObserverError;

    fn try_from(text: String) -> Result<ObserverSpec, ParseObserverError> {
        text.parse()
    }
}

impl From<ObserverSpec> for String {
    fn from(spec: ObserverSpec) -> String {
        spec.to_string()
    }
}
