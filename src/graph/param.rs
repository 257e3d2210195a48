//! References to checkpoint tensors, with the exact rewrites that are folded into them.

use crate::layout::vision::position_embedding;
use crate::tensor::{self, Orthogonal, Side, Tensor};
use std::ops::Range;
use std::sync::Arc;

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
    /// Takes some columns of one matrix of a stack `[matrices, in, out]`, transposed to
    /// `[columns, in]` as linear layers have their weights. Only that matrix is read; stands first.
    Matrix {
        /// Which matrix.
        index: usize,
        /// Which of its columns.
        columns: Range<usize>,
    },
    /// Adds W v to a vector, v repeated to the width of W.
    AddProduct {
        /// W, as its linear layer uses it.
        weight: Box<Param>,
        /// v
        vector: Box<Param>,
        /// How often v is repeated.
        repeat: usize,
    },
    /// Multiplies the first axis by one factor each: outputs of a weight, elements of a vector.
    ScaleOutputs {
        /// As many as the axis is long.
        factors: Arc<[f32]>,
    },
    /// Multiplies the last axis by one factor each: what a weight reads.
    ScaleColumns {
        /// As many as the axis is long, or a part of it that repeats.
        factors: Arc<[f32]>,
    },
    /// Multiplies the last axis by a gain, which repeats: W diag γ.
    FoldGain {
        /// γ, as its norm used it.
        gain: Box<Param>,
    },
    /// Replaces every element: what remains of a gain or shift that was folded.
    Fill {
        /// By what.
        value: f32,
    },
    /// Turns an axis, or the vectors side by side on it, by an orthogonal matrix.
    Rotate {
        /// Which axis.
        side: Side,
        /// R
        rotation: Arc<Orthogonal>,
    },
}

/// Reads a checkpoint tensor by its key and stored shape, or only that index of its first axis,
/// which the result keeps with an extent of 1.
pub type Read<'a, E> = &'a dyn Fn(&str, &[usize], Option<usize>) -> Result<Tensor, E>;

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
    /// Reads the tensor and all its edits speak of with `read`, applies the edits and gives it the
    /// value's shape.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn load<E>(&self, shape: &[usize], read: Read<'_, E>) -> Result<Tensor, E> {
        let matrix = match self.edits.first() {
            Some(Edit::Matrix { index, .. }) => Some(*index),
            _ => None,
        };
        let mut stored = read(&self.key, &self.stored_shape, matrix)?;
        self.edit(&mut stored, 0, read)?;
        Ok(stored.reshape(shape))
    }

    /// Whether a row (an index of the first axis) of the value, whose shape is `shape`, can be made
    /// of the same stored row alone.
    pub fn by_rows(&self, shape: &[usize]) -> bool {
        let alone = |edit: &Edit| match edit {
            Edit::ScaleRows { .. }
            | Edit::ScaleOutputs { .. }
            | Edit::ScaleColumns { .. }
            | Edit::FoldGain { .. }
            | Edit::Fill { .. } => true,
            Edit::Rotate { side, .. } => *side == Side::Rows,
            Edit::InterpolatePositions { .. } | Edit::Matrix { .. } | Edit::AddProduct { .. } => {
                false
            }
        };
        shape.first() == self.stored_shape.first() && self.edits.iter().all(alone)
    }

    /// The edits on the rows from `first` on, of a parameter that is made by rows.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn edit_rows<E>(
        &self,
        rows: &mut Tensor,
        first: usize,
        read: Read<'_, E>,
    ) -> Result<(), E> {
        self.edit(rows, first, read)
    }

    /// `first` is the index of the first row of `stored`.
    fn edit<E>(&self, stored: &mut Tensor, first: usize, read: Read<'_, E>) -> Result<(), E> {
        for edit in &self.edits {
            match edit {
                Edit::Matrix { columns, .. } => *stored = transposed(stored, columns),
                Edit::ScaleRows { rows, factor } => scale_rows(stored, first, rows, *factor),
                Edit::InterpolatePositions { grids, merge } => {
                    *stored = position_embedding(grids, *merge, stored)
                        .expect("invariant: a layout checked the grids");
                }
                Edit::AddProduct { weight, vector, repeat } => {
                    let width: usize = vector.stored_shape.iter().product();
                    let rows = stored.len();
                    let weight = weight.load(&[rows, width * repeat], read)?;
                    let vector = vector.load(&[width], read)?.data().repeat(*repeat);
                    add_product(stored, &weight, &vector);
                }
                Edit::ScaleOutputs { factors } => {
                    let count = stored.shape().first().copied().unwrap_or(1);
                    scale_outputs(stored, &factors[first..first + count]);
                }
                Edit::ScaleColumns { factors } => scale_columns(stored, factors),
                Edit::FoldGain { gain } => {
                    let width: usize = gain.stored_shape.iter().product();
                    scale_columns(stored, gain.load(&[width], read)?.data());
                }
                Edit::Fill { value } => *stored = Tensor::full(stored.shape(), *value),
                Edit::Rotate { side, rotation } => rotation.apply(stored, *side),
            }
        }
        Ok(())
    }

    /// Every tensor of the checkpoint that is read: (key, stored shape).
    pub fn sources(&self) -> Vec<(&str, &[usize])> {
        let mut sources = vec![(self.key.as_str(), &self.stored_shape[..])];
        for edit in &self.edits {
            match edit {
                Edit::AddProduct { weight, vector, .. } => {
                    sources.extend(weight.sources());
                    sources.extend(vector.sources());
                }
                Edit::FoldGain { gain } => sources.extend(gain.sources()),
                _ => {}
            }
        }
        sources
    }
}

/// stored += W v, summed in f64: the sum replaces one that was rounded at every position.
fn add_product(stored: &mut Tensor, weight: &Tensor, vector: &[f32]) {
    let rows = weight.data().chunks_exact(vector.len().max(1));
    for (x, row) in stored.data_mut().iter_mut().zip(rows) {
        // Several sums side by side: one would wait for itself.
        let mut sums = [0.0; 8];
        for (row, vector) in row.chunks(8).zip(vector.chunks(8)) {
            for ((sum, &w), &v) in sums.iter_mut().zip(row).zip(vector) {
                *sum += f64::from(w) * f64::from(v);
            }
        }
        *x = (f64::from(*x) + sums.iter().sum::<f64>()) as f32;
    }
}

/// Columns of the last two axes `[in, out]` as rows: `[columns, in]`.
fn transposed(stored: &Tensor, columns: &Range<usize>) -> Tensor {
    let width = stored.shape().last().copied().unwrap_or(1).max(1);
    let rows = stored.data().len() / width;
    Tensor::written([columns.len(), rows], |out| {
        tensor::transpose(out, stored.data(), width, columns.clone());
    })
}

fn scale_outputs(stored: &mut Tensor, factors: &[f32]) {
    let row = stored.data().len() / factors.len().max(1);
    for (row, factor) in stored.data_mut().chunks_exact_mut(row.max(1)).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

fn scale_columns(stored: &mut Tensor, factors: &[f32]) {
    for row in stored.data_mut().chunks_exact_mut(factors.len().max(1)) {
        row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
    }
}

/// Scales those of `rows` that are in `stored`, whose first row has the index `first`.
fn scale_rows(stored: &mut Tensor, first: usize, rows: &Range<usize>, factor: f32) {
    let extent = stored.shape().first().copied().unwrap_or(1).max(1);
    let row = stored.len() / extent;
    let [start, end] = [rows.start, rows.end].map(|at| at.saturating_sub(first).min(extent));
    for x in &mut stored.data_mut()[start * row..end * row] {
        *x *= factor;
    }
}
