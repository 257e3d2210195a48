//! Values: dense row-major f32 tensors and the kernels that work on them.
//!
//! This room is the leaf of the house: it must not know any other room.

mod buffer;
mod elementwise;
mod gemm;
mod orthogonal;
mod random;
pub(crate) mod simd;

pub use elementwise::{
    add, add_bias, all_finite, gelu_erf, gelu_tanh, logistic, mean, mul, neg, rms_norm, rsqrt,
    softmax, sub,
};
pub use gemm::{Packed, Par, Products, matmul};
pub use orthogonal::{Orthogonal, Side};

pub(crate) use random::Random;

use buffer::Buffer;
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// Elements that one thread works on at a time: 128 KiB stay in its own cache.
const PIECE: usize = 1 << 15;

/// Calls `work` on `out` in pieces of whole rows of `width`, with the index of each piece's first
/// element; side by side if `par` says so and it pays.
pub fn in_pieces(out: &mut [f32], width: usize, par: Par, work: impl Fn(usize, &mut [f32]) + Sync) {
    let piece = PIECE.next_multiple_of(width.max(1));
    if par == Par::Seq || out.len() < 4 * piece {
        return work(0, out);
    }
    let pieces = out.par_chunks_mut(piece).enumerate();
    pieces.for_each(|(i, out)| work(i * piece, out));
}

/// A dense row-major f32 tensor. Cloning shares the payload.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Buffer>,
    /// The payload as right operand of products, made at the first one.
    packed: Arc<OnceLock<Packed>>,
    /// How it is packed.
    products: Products,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.shape == other.shape && self.data == other.data
    }
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
        Tensor {
            shape,
            data: Arc::new(data.into()),
            packed: Arc::default(),
            products: Products::F32,
        }
    }

    /// A tensor of `shape` filled with `value`.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Tensor {
        let shape = shape.into();
        let len = shape.iter().product();
        Tensor::new(shape, vec![value; len])
    }

    /// A tensor of `shape` that `write` fills: it finds arbitrary numbers and must overwrite all.
    pub fn written(shape: impl Into<Vec<usize>>, write: impl FnOnce(&mut [f32])) -> Tensor {
        let shape = shape.into();
        let mut data = Buffer::arbitrary(shape.iter().product());
        write(&mut data);
        Tensor { shape, data: Arc::new(data), packed: Arc::default(), products: Products::F32 }
    }

    /// Extent of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All elements, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All elements for writing; copies first if the payload is shared. Products with what was
    /// written are f32: numbers on a grid need more bits than bf16 has.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.packed = Arc::default();
        self.products = Products::F32;
        &mut *Arc::make_mut(&mut self.data)
    }

    /// The same payload under another shape.
    ///
    /// # Panics
    /// If the element counts differ.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), self.data.len(), "reshape keeps the elements");
        Tensor { shape, data: self.data, packed: Arc::default(), products: Products::F32 }
    }

    /// A matrix `[n, k]` packed as the right operand of `x · selfᵀ`; made once, shared by clones.
    ///
    /// # Panics
    /// If the tensor is no matrix.
    pub fn packed_nt(&self) -> &Packed {
        let [n, k] = self.shape[..] else {
            panic!("only a matrix is packed, not {:?}", self.shape)
        };
        self.packed.get_or_init(|| Packed::from_nt(&self.data, k, n, self.products))
    }

    /// The same tensor, packed for other products.
    pub fn with_products(self, products: Products) -> Tensor {
        if self.products == products {
            return self;
        }
        Tensor { packed: Arc::default(), products, ..self }
    }

    /// Takes the payload out, copying only if it is shared.
    pub fn into_data(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.data).into_vec()
    }
}

#[cfg(test)]
mod tests;
