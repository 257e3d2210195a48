//! References to checkpoint tensors, with the exact rewrites that are folded into them.

use crate::layout::vision::position_embedding;
use crate::tensor::Tensor;
use std::ops::Range;

/// An exact change made to a weight before anything looks at it, so that its quantization
/// parameters are chosen for the values that are really used.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Multiplies rows of the first axis.
    ScaleRows {
        /// Rows; for a vector, elements.
        rows: Range<usize>,
        /// The factor.
        factor: f32,
    },
    /// Interpolates a table of learned positions to the grids of the pictures, bilinearly.
    InterpolatePositions {
        /// `grid_thw` of every picture, in patches.
        grids: Vec<[usize; 3]>,
        /// Spatial merge size, which orders the patches.
        merge: usize,
    },
}

/// A tensor of the checkpoint as the graph sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Canonical checkpoint name.
    pub key: String,
    /// Shape in the checkpoint; after the edits, the value's shape has the same number of elements.
    pub stored_shape: Vec<usize>,
    /// Rewrites, in order.
    pub edits: Vec<Edit>,
}

impl Param {
    /// Applies the edits to the stored tensor and gives it the value's shape.
    pub fn apply(&self, mut stored: Tensor, shape: &[usize]) -> Tensor {
        for edit in &self.edits {
            match edit {
                Edit::ScaleRows { rows, factor } => scale_rows(&mut stored, rows, *factor),
                Edit::InterpolatePositions { grids, merge } => {
                    stored = position_embedding(grids, *merge, &stored)
                        .expect("invariant: a layout checked the grids");
                }
            }
        }
        stored.reshape(shape)
    }
}

fn scale_rows(stored: &mut Tensor, rows: &Range<usize>, factor: f32) {
    let extent = stored.shape().first().copied().unwrap_or(1).max(1);
    let row = stored.data().len() / extent;
    for x in &mut stored.data_mut()[rows.start * row..rows.end * row] {
        *x *= factor;
    }
}
