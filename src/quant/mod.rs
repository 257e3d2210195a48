//! The vocabulary of quantization: dtypes, ranges, grids, observers, fake quantization, policy.
//!
//! Read [`params`] first (what a range becomes), then [`affine`] (what a grid does to data), then
//! [`observer`] (where ranges come from), [`policy`] and [`decision`] (who gets which grid).
//!
//! This room must not know graphs, operators or the Circle format: it is arithmetic that can be
//! tested by its laws alone.

pub mod affine;
pub mod bias;
pub mod coding;
pub mod decision;
pub mod dtype;
pub mod heed;
mod kernel;
pub mod mx;
pub mod observer;
pub mod pack;
pub mod params;
pub mod policy;
pub mod range;
pub mod scheme;

pub use affine::{dequantize, fake_quant, packed, quantize, round, snap};
pub use bias::{BiasError, least_scale, quantize_bias};
pub use coding::Coding;
pub use decision::{Decision, Granularity};
pub use dtype::{DType, ParseDTypeError};
pub use heed::{Balance, Head, Modality, Prefix, Times};
pub use mx::{MxFormat, ParseMxError};
pub use observer::{
    AnyObserver, Ema, Histograms, Merge, MergeError, MergeableObserver, MinMax, Mse, Observer,
    ObserverSpec, Octav, ParseObserverError, Percentile, Share, SoftmaxLogits,
};
pub use pack::unpack4;
pub use params::{ParamsError, QuantParams};
pub use policy::{Policy, PolicyError, PolicySpec, Role, Rule, Spec, Subject, UnseenExperts};
pub use range::{NoRange, Range};
pub use scheme::{Grain, Scheme, SchemeError};

#[cfg(test)]
mod tests;
