//! Values: dense row-major f32 tensors and the kernels that work on them.
//!
//! This room is the leaf of the house: it must not know any other room.

mod elementwise;
mod matmul;
pub(crate) mod simd;

pub use elementwise::{
    add, add_bias, gelu_erf, gelu_tanh, logistic, mean, mul, rms_norm, softmax, sub,
};
pub use matmul::{Par, matmul_nn, matmul_nt};

use std::sync::Arc;

/// A dense row-major f32 tensor. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Vec<f32>>,
}

impl Tensor {
    /// A tensor of `shape` over `data`, row-major.
    ///
    /// # Panics
    /// If `data` does not hold exactly the elements of `shape`: a mistake of ours, never of a user.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "payload must fill shape {shape:?}"
        );
        Tensor { shape, data: Arc::new(data) }
    }

    /// A tensor of `shape` filled with `value`.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Tensor {
        let shape = shape.into();
        let len = shape.iter().product();
        Tensor { shape, data: Arc::new(vec![value; len]) }
    }

    /// Extent of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All elements, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All elements for writing; copies first if the payload is shared.
    pub fn data_mut(&mut self) -> &mut [f32] {
        Arc::make_mut(&mut self.data).as_mut_slice()
    }

    /// The same payload under another shape.
    ///
    /// # Panics
    /// If the element counts differ.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), self.data.len(), "reshape keeps the elements");
        Tensor { shape, data: self.data }
    }

    /// Takes the payload out, copying only if it is shared.
    pub fn into_data(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.data)
    }
}
