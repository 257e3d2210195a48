//! Which shape of grid a tensor gets: symmetric or not, one or one per channel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DType;

/// The shape of a grid: symmetry and granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Zero point fixed at 0; needs a signed dtype.
    pub symmetric: bool,
    /// The axis whose every index has its own scale; none for one scale in all.
    pub axis: Option<usize>,
}

/// A scheme that its dtype cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{dtype} cannot be symmetric: it has no negative values; use a signed dtype or asymmetric")]
pub struct SchemeError {
    /// The unsigned dtype.
    pub dtype: DType,
}

impl Scheme {
    /// One scale, any zero point.
    pub const PER_TENSOR_ASYMM: Scheme = Scheme { symmetric: false, axis: None };
    /// One scale, zero point 0.
    pub const PER_TENSOR_SYMM: Scheme = Scheme { symmetric: true, axis: None };

    /// One scale and zero point for every index of `axis`.
    pub const fn per_channel_asymm(axis: usize) -> Scheme {
        Scheme { symmetric: false, axis: Some(axis) }
    }

    /// One scale for every index of `axis`, zero points 0.
    pub const fn per_channel_symm(axis: usize) -> Scheme {
        Scheme { symmetric: true, axis: Some(axis) }
    }

    /// The scheme nobody asked for: symmetric exactly if `dtype` is signed; one grid per output
    /// channel (axis 0) for matrices of weights, one in all for everything else.
    ///
    /// TICO makes signed weights per tensor, which throws accuracy away without being asked
    /// to; here granularity depends on the role alone.
    pub const fn automatic(dtype: DType, is_weight: bool) -> Scheme {
        Scheme { symmetric: dtype.signed(), axis: if is_weight { Some(0) } else { None } }
    }

    /// Refuses symmetric grids of unsigned dtypes.
    pub fn check(self, dtype: DType) -> Result<(), SchemeError> {
        if self.symmetric && !dtype.signed() { Err(SchemeError { dtype }) } else { Ok(()) }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symmetry = if self.symmetric { "symmetric" } else { "asymmetric" };
        match self.axis {
            None => write!(f, "per-tensor {symmetry}"),
            Some(axis) => write!(f, "per-channel {symmetry} on axis {axis}"),
        }
    }
}
