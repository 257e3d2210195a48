//! Values: dense row-major f32 tensors and the kernels that work on them.
//!
//! This room is the leaf of the house: it must not know any other room.

mod alone;
mod axes;
mod buffer;
mod cuda;
mod device;
mod divergence;
mod elementwise;
mod gemm;
mod orthogonal;
mod random;
mod rows;
mod run;
pub(crate) mod simd;

pub use alone::{Held, Lock, alone, each};
pub use axes::{strides, transpose};
pub use device::{Device, DeviceError, device_trouble, use_device};
pub use divergence::divergence;
pub use elementwise::{
    add, add_bias, all_finite, gelu_erf, gelu_tanh, logistic, mean, mul, neg, rms_norm, rsqrt,
    softmax, sub,
};
pub use gemm::{Outer, Packed, Par, Products, Steps, matmul};
pub use orthogonal::{Orthogonal, Side};
pub use rows::Rows;
pub use run::{Finish, Run, copy, in_pieces};

pub(crate) use random::Random;

use buffer::Buffer;
use gemm::{Integers, Wholes};
use rows::Made;
use std::sync::{Arc, OnceLock};

/// Elements of a payload that is worth writing over: smaller ones stay in a cache anyway.
pub const LARGE: usize = 1 << 18;

/// The numbers in little endian, as files hold them.
pub fn le_bytes(reals: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * reals.len()];
    let (words, _) = bytes.as_chunks_mut();
    words.iter_mut().zip(reals).for_each(|(word, x)| *word = x.to_le_bytes());
    bytes
}

/// Lets tensors to come take the place of those that are gone, in so many bytes of memory at most; more
/// than a quarter of a GiB gains nothing.
pub fn keep_memory(bytes: u64) {
    buffer::keep(usize::try_from(bytes).unwrap_or(usize::MAX));
}

/// Gives memory back that is kept for tensors to come: what comes next is of other sizes.
pub fn release_memory() {
    buffer::release();
}

/// A row-major f32 tensor, dense or with rows that are made on demand. Cloning shares the payload.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    payload: Payload,
    /// The payload as right operand of products, made at the first one.
    operand: Arc<Operand>,
    /// How it is packed.
    products: Products,
}

/// A right operand, ready for products.
#[derive(Debug, Default)]
struct Operand {
    packed: OnceLock<Packed>,
    /// As integers, if that can be.
    whole: Wholes,
    /// On another device.
    held: device::Slot,
}

#[derive(Clone, Debug)]
enum Payload {
    Dense(Arc<Buffer>),
    Made(Arc<Made>),
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.shape == other.shape && self.data() == other.data()
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
        Tensor::of(shape, data.into())
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
        Tensor::of(shape, data)
    }

    /// As [`Tensor::written`] where writing may fail.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn try_written<E>(
        shape: impl Into<Vec<usize>>,
        write: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let shape = shape.into();
        let mut data = Buffer::arbitrary(shape.iter().product());
        write(&mut data)?;
        Ok(Tensor::of(shape, data))
    }

    /// A matrix `[n, k]` whose rows come from `rows` when they are asked for.
    pub fn made(shape: [usize; 2], rows: impl Rows + 'static) -> Tensor {
        let made = Made { rows: Box::new(rows), all: OnceLock::new() };
        let payload = Payload::Made(Arc::new(made));
        Tensor { shape: shape.into(), payload, operand: Arc::default(), products: Products::F32 }
    }

    fn of(shape: Vec<usize>, data: Buffer) -> Tensor {
        let payload = Payload::Dense(Arc::new(data));
        Tensor { shape, payload, operand: Arc::default(), products: Products::F32 }
    }

    /// A tensor of the same shape whose pieces `work` makes of those of this one, whole rows of
    /// `width` each: it is given the index of the first element, the piece to write and the old one. A
    /// large payload that nobody else holds is written over.
    pub fn mapped(
        mut self,
        width: usize,
        run: Run<'_>,
        work: impl Fn(usize, &mut [f32], &[f32]) + Sync,
    ) -> Tensor {
        if self.len() >= LARGE
            && let Payload::Dense(data) = &mut self.payload
            && let Some(data) = Arc::get_mut(data)
        {
            run::over(data, width, run, work);
            return Tensor { operand: Arc::default(), products: Products::F32, ..self };
        }
        let x = self.data();
        Tensor::written(&self.shape[..], |out| {
            in_pieces(out, width, run, |at, out| work(at, out, &x[at..at + out.len()]));
        })
    }

    /// Extent of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of one index of the first axis.
    pub fn row_width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// All elements, row-major. Rows that are made on demand are all made then, and kept.
    pub fn data(&self) -> &[f32] {
        match &self.payload {
            Payload::Dense(data) => data,
            Payload::Made(made) => match made.all.get() {
                Some(all) => all,
                None => {
                    // made before the cell is held, since making takes the pool
                    let all = made.everything(self.len(), self.row_width());
                    made.all.get_or_init(|| all)
                }
            },
        }
    }

    /// All elements for writing; copies first if the payload is shared. Products with what was
    /// written are f32: numbers on a grid need more bits than bf16 has.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.operand = Arc::default();
        self.products = Products::F32;
        if let Payload::Made(made) = &self.payload {
            let data = made.everything(self.len(), self.row_width());
            self.payload = Payload::Dense(Arc::new(data));
        }
        match &mut self.payload {
            Payload::Dense(data) => &mut *Arc::make_mut(data),
            Payload::Made(_) => unreachable!("made dense above"),
        }
    }

    /// Whether other tensors hold the same elements.
    pub fn is_shared(&self) -> bool {
        matches!(&self.payload, Payload::Dense(data) if Arc::strong_count(data) > 1)
    }

    /// Whether the rows are made on demand.
    pub fn is_made(&self) -> bool {
        matches!(self.payload, Payload::Made(_))
    }

    /// Whether the rows are made on demand of what lies elsewhere than in memory.
    pub fn is_elsewhere(&self) -> bool {
        matches!(&self.payload, Payload::Made(made) if !made.rows.in_memory())
    }

    /// The same tensor with all elements in memory; what is made on demand stays so elsewhere.
    pub fn dense(&self) -> Tensor {
        match &self.payload {
            Payload::Dense(_) => self.clone(),
            Payload::Made(made) => {
                Tensor::of(self.shape.clone(), made.everything(self.len(), self.row_width()))
            }
        }
    }

    /// The rows (indices of the first axis) from `first` on into `out`, which holds whole rows.
    pub fn read_rows(&self, first: usize, out: &mut [f32]) {
        match &self.payload {
            Payload::Dense(data) => {
                let start = first * self.row_width();
                out.copy_from_slice(&data[start..start + out.len()]);
            }
            Payload::Made(made) => made.rows.fill(first, out),
        }
    }

    /// Shows all elements in order in pieces of whole rows with the index of their first row, one in
    /// memory at a time where rows are made on demand. Stops at the first error.
    ///
    /// # Errors
    /// Those of `see`.
    pub fn each_block<E>(
        &self,
        mut see: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let width = self.row_width();
        let block = rows::block(width);
        let count = self.shape.first().copied().unwrap_or(1);
        for first in (0..count).step_by(block) {
            let len = block.min(count - first) * width;
            match &self.payload {
                Payload::Dense(data) => see(first, &data[first * width..first * width + len])?,
                Payload::Made(made) => {
                    let mut out = Buffer::arbitrary(len);
                    made.rows.fill(first, &mut out);
                    see(first, &out)?;
                }
            }
        }
        Ok(())
    }

    /// `out [m, n] = a [m, k] · selfᵀ` for a matrix `[n, k]`; in integers where `run` knows the grids of
    /// both and that is faster.
    ///
    /// # Panics
    /// If the tensor is no matrix, or the slices do not have these sizes.
    pub fn matmul_nt<'a>(&self, out: &mut [f32], a: &[f32], run: impl Into<Run<'a>>) {
        let run = run.into();
        match (&self.payload, &self.shape[..]) {
            (Payload::Made(made), &[n, k]) => {
                let b = (made.rows.as_ref(), self.products);
                rows::matmul_rows(out, a, b, [n, k], run);
            }
            (_, &[n, k])
                if self.products == Products::F32
                    && device::multiplied(out, a, &self.operand.held, || self.data(), [n, k]) =>
            {
                run.whole(out, n);
            }
            (_, &[n, k]) if self.multiplied_whole(out, a, [n, k], run) => {}
            _ => matmul(out, a, self.packed_nt(), run),
        }
    }

    /// Packs a matrix in memory as [`Tensor::matmul_nt`] beside operands on such grids wants it.
    pub fn pack(&self, steps: Option<[Steps<'_>; 2]>) {
        let &[n, k] = &self.shape[..] else { return };
        if self.is_made() || device::in_use() {
            return;
        }
        let whole = steps.and_then(|both| self.operand.whole.of(|| self.data(), [n, k], both));
        if whole.is_none() {
            self.packed_nt();
        }
    }

    /// Whether the product could be computed in integers, and was.
    fn multiplied_whole(&self, out: &mut [f32], a: &[f32], nk: [usize; 2], run: Run<'_>) -> bool {
        let Some(both) = run.steps else { return false };
        let Some(whole) = self.operand.whole.of(|| self.data(), nk, both) else { return false };
        let Some(a) = Integers::of(a, nk[1], both, run.par) else { return false };
        whole.multiply(out, &a, run);
        true
    }

    /// The same payload under another shape.
    ///
    /// # Panics
    /// If the element counts differ.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), self.len(), "reshape keeps the elements");
        let payload = match self.payload {
            Payload::Made(_) => self.dense().payload,
            dense => dense,
        };
        Tensor { shape, payload, operand: Arc::default(), products: Products::F32 }
    }

    /// A matrix `[n, k]` packed as the right operand of `x · selfᵀ`; made once, shared by clones.
    ///
    /// # Panics
    /// If the tensor is no matrix.
    pub fn packed_nt(&self) -> &Packed {
        let [n, k] = self.shape[..] else {
            panic!("only a matrix is packed, not {:?}", self.shape)
        };
        self.operand.packed.get_or_init(|| Packed::from_nt(self.data(), k, n, self.products))
    }

    /// The same tensor, packed for other products.
    pub fn with_products(self, products: Products) -> Tensor {
        if self.products == products {
            return self;
        }
        Tensor { operand: Arc::default(), products, ..self }
    }

    /// Takes the payload out, copying only if it is shared.
    pub fn into_data(self) -> Vec<f32> {
        match self.payload {
            Payload::Dense(data) => Arc::unwrap_or_clone(data).into_vec(),
            Payload::Made(_) => self.data().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
