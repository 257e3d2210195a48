//! Batched matrix product: `[..., m, k] · [..., k, n]`, or `· [..., n, k]ᵀ`; batch axes are equal.
//!
//! Both operands keep the same rank: runtimes disagree about mixed ranks.

use super::{Encoding, OpDef, OutputRule, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Packed, Par, Products, Run, Tensor};

/// Inputs are the left and the right operand.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Whether the right operand is stored `[..., n, k]`.
    pub transpose_rhs: bool,
}

impl MatMul {
    fn dims(&self, a: &[usize], b: &[usize]) -> [usize; 3] {
        let rank = a.len();
        let n = b[if self.transpose_rhs { rank - 2 } else { rank - 1 }];
        [a[rank - 2], a[rank - 1], n]
    }
}

impl OpDef for MatMul {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let [a, b] = inputs else { return Err(format!("takes 2 inputs, found {}", inputs.len())) };
        let rank = a.len();
        ensure(rank >= 2 && rank == b.len(), || {
            format!("ranks of {a:?} and {b:?} differ or are below 2")
        })?;
        let inner = b[if self.transpose_rhs { rank - 1 } else { rank - 2 }];
        let fits = a[..rank - 2] == b[..rank - 2] && a[rank - 1] == inner;
        ensure(fits, || {
            format!("{a:?} does not meet {b:?} (transpose_rhs {})", self.transpose_rhs)
        })?;
        let [m, _, n] = self.dims(a, b);
        Ok(a[..rank - 2].iter().copied().chain([m, n]).collect())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let options = Options::BatchMatMul {
            adjoint_lhs: false,
            adjoint_rhs: self.transpose_rhs,
            asymmetric_quantize_inputs: false,
        };
        Encoding::new(BuiltinOperator::BatchMatmul, options)
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let (a, b) = (inputs[0], inputs[1]);
        let [m, k, n] = self.dims(a.shape(), b.shape());
        let shape = self.shape(&[a.shape(), b.shape()]).expect("invariant: checked while building");
        let (a, b) = (a.data(), b.data());
        let one = |i: usize, out: &mut [f32]| {
            let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
            let b = match self.transpose_rhs {
                true => Packed::from_nt(b, k, n, Products::F32),
                false => Packed::from_nn(b, k, n, Par::Seq),
            };
            tensor::matmul(out, a, &b, run.part(i * m * n));
        };
        Tensor::written(shape, |out| {
            let par = if out.len() * k > 1 << 20 { run.par } else { Par::Seq };
            par.pieces(out, m * n, one);
        })
    }
}

/// Puts weights in their places: y = w P with w `[..., 1, k]` in [0, 1] and P `[..., k, n]`, whose
/// rows are zero but for one 1 each, in different columns; inputs are w and P.
///
/// A product of which more is known: every element of y is one of w or 0, so y keeps the grid [0, 1]
/// whatever the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter;

const PRODUCT: MatMul = MatMul { transpose_rhs: false };

impl OpDef for Scatter {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        PRODUCT.shape(inputs)
    }

    fn encode(&self, inputs: &[&[usize]]) -> Encoding {
        PRODUCT.encode(inputs)
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        PRODUCT.eval(inputs, run)
    }

    fn rule(&self) -> OutputRule {
        OutputRule::Pinned { min: 0.0, max: 1.0 }
    }
}
