//! What to keep of a tensor's values, before any grid is chosen.

use serde::{Deserialize, Serialize};

/// The reals from `min` to `max`, both finite and `min <= max` once it leaves an observer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Lower end.
    pub min: f32,
    /// Upper end.
    pub max: f32,
}

/// Why there is no range to build a grid on.
///
/// A grid made of such statistics would have an infinite or a meaningless scale, and the NaN it
/// produces becomes an ordinary number in the next grid, so the caller is made to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRange {
    /// No value was ever observed.
    #[error("no value was observed: the calibration samples never reach this tensor")]
    Unseen,
    /// NaN or an infinity was observed.
    #[error("a NaN or an infinity was observed")]
    NonFinite,
    /// The width of the range is no finite f32.
    #[error("the observed range is wider than any finite float32")]
    TooWide,
}

impl Range {
    /// Of no value at all: the identity of [`Range::union`].
    pub const EMPTY: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// From `min` to `max`.
    pub const fn new(min: f32, max: f32) -> Range {
        Range { min, max }
    }

    /// The smallest range that holds both.
    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// Refuses what no grid can be built on.
    pub fn check(self) -> Result<Range, NoRange> {
        if self.min == f32::INFINITY && self.max == f32::NEG_INFINITY {
            return Err(NoRange::Unseen);
        }
        if !self.min.is_finite() || !self.max.is_finite() || self.min > self.max {
            return Err(NoRange::NonFinite);
        }
        if !(self.max - self.min).is_finite() {
            return Err(NoRange::TooWide);
        }
        Ok(self)
    }

    /// The range, widened where needed to hold zero.
    pub fn with_zero(self) -> Range {
        Range { min: self.min.min(0.0), max: self.max.max(0.0) }
    }
}
