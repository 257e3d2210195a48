//! Which shape of grid a tensor gets: symmetric or not, and how much of the tensor one grid serves.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DType;

/// How much of a tensor one grid serves. Grids are counted in the order in which their elements come
/// first in the row-major tensor: one for each index of an axis, or row after row, group after group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// All of it.
    Tensor,
    /// One index of this axis.
    Axis(usize),
    /// So many neighbours on the last axis, which they divide: of a weight `[out, in]`, inputs of one
    /// output (`in / group` grids a row), as in GPTQ, section 4 (Frantar et al., 2023).
    Groups(usize),
}

impl Grain {
    /// Grids of a tensor of `shape`; none if it cannot be cut so.
    pub fn grids(self, shape: &[usize]) -> Option<usize> {
        match self {
            Grain::Tensor => Some(1),
            Grain::Axis(axis) => shape.get(axis).copied(),
            Grain::Groups(size) => {
                let (&width, outer) = shape.split_last()?;
                let fits = size > 0 && width.is_multiple_of(size);
                fits.then(|| outer.iter().product::<usize>() * (width / size))
            }
        }
    }

    /// Grids of one row of a matrix of rows of `width` elements, and elements of each; none if rows
    /// have no grids of their own.
    pub fn of_row(self, width: usize) -> Option<[usize; 2]> {
        match self {
            Grain::Axis(0) => Some([1, width]),
            Grain::Groups(size) => Some([self.grids(&[width])?, size]),
            Grain::Tensor | Grain::Axis(_) => None,
        }
    }

    /// Whether rows of a matrix can be treated some at a time, each on grids of its own or all on one.
    pub fn by_rows(self) -> bool {
        matches!(self, Grain::Tensor | Grain::Axis(0) | Grain::Groups(_))
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grain::Tensor => write!(f, "per tensor"),
            Grain::Axis(axis) => write!(f, "per channel on axis {axis}"),
            Grain::Groups(size) => write!(f, "in groups of {size}"),
        }
    }
}

/// The shape of a grid: symmetry and granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Zero point fixed at 0; needs a signed dtype.
    pub symmetric: bool,
    /// What has a scale of its own.
    pub grain: Grain,
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
    pub const PER_TENSOR_ASYMM: Scheme = Scheme { symmetric: false, grain: Grain::Tensor };
    /// One scale, zero point 0.
    pub const PER_TENSOR_SYMM: Scheme = Scheme { symmetric: true, grain: Grain::Tensor };

    /// One scale and zero point for every index of `axis`.
    pub const fn per_channel_asymm(axis: usize) -> Scheme {
        Scheme { symmetric: false, grain: Grain::Axis(axis) }
    }

    /// One scale for every index of `axis`, zero points 0.
    pub const fn per_channel_symm(axis: usize) -> Scheme {
        Scheme { symmetric: true, grain: Grain::Axis(axis) }
    }

    /// The scheme nobody asked for: symmetric exactly if `dtype` is signed; one grid per output
    /// channel (axis 0) for matrices of weights, one in all for everything else.
    ///
    /// TICO makes signed weights per tensor, which throws accuracy away without being asked
    /// to; here granularity depends on the role alone.
    pub const fn automatic(dtype: DType, is_weight: bool) -> Scheme {
        let grain = if is_weight { Grain::Axis(0) } else { Grain::Tensor };
        Scheme { symmetric: dtype.signed(), grain }
    }

    /// Refuses symmetric grids of unsigned dtypes.
    pub fn check(self, dtype: DType) -> Result<(), SchemeError> {
        if self.symmetric && !dtype.signed() { Err(SchemeError { dtype }) } else { Ok(()) }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symmetry = if self.symmetric { "symmetric" } else { "asymmetric" };
        match self.grain {
            Grain::Tensor => write!(f, "per-tensor {symmetry}"),
            Grain::Axis(axis) => write!(f, "per-channel {symmetry} on axis {axis}"),
            Grain::Groups(size) => write!(f, "{symmetry} in groups of {size}"),
        }
    }
}
