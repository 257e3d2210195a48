//! Operators that move values and never change them: reshape, transpose, slice.
//! Input and output share one grid, so an integer runtime only copies bytes.

use super::{Encoding, OpDef, OutputRule, binary::check_rank, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{Par, Tensor};

/// The same elements under another shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<usize>,
}

impl OpDef for Reshape {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let x = inputs.first().ok_or("takes 1 input, found 0")?;
        let same = x.iter().product::<usize>() == self.shape.iter().product::<usize>();
        ensure(same, || format!("{x:?} does not reshape to {:?}", self.shape))?;
        check_rank(&self.shape).map(|()| self.shape.clone())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        // Runtimes differ in which of the two they read: the option or the operand.
        let new_shape = self.shape.iter().map(|&n| i32::try_from(n).unwrap_or(i32::MAX)).collect();
        Encoding::new(BuiltinOperator::Reshape, Options::Reshape { new_shape })
            .with(self.shape.iter().copied())
    }

    fn eval(&self, inputs: &[&Tensor], _: Par) -> Tensor {
        inputs[0].clone().reshape(self.shape.clone())
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}

/// Axes in another order: output axis `i` is input axis `perm[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// The order.
    pub perm: Vec<usize>,
}

impl OpDef for Transpose {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let x = inputs.first().ok_or("takes 1 input, found 0")?;
        let mut seen = self.perm.clone();
        seen.sort_unstable();
        let valid = seen.iter().copied().eq(0..x.len());
        ensure(valid, || format!("{:?} is no order of the axes of {x:?}", self.perm))?;
        Ok(self.perm.iter().map(|&axis| x[axis]).collect())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let options = Options::of(BuiltinOperator::Transpose);
        Encoding::new(BuiltinOperator::Transpose, options).with(self.perm.iter().copied())
    }

    fn eval(&self, inputs: &[&Tensor], _: Par) -> Tensor {
        let x = inputs[0];
        let shape: Vec<usize> = self.perm.iter().map(|&axis| x.shape()[axis]).collect();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * x.shape()[axis];
        }
        let strides: Vec<usize> = self.perm.iter().map(|&axis| strides[axis]).collect();
        // Trailing axes that stay in place are copied as one run.
        let fixed = (0..shape.len()).rev().take_while(|&i| self.perm[i] == i).count();
        let run: usize = shape[shape.len() - fixed..].iter().product();
        let (outer, steps) = (&shape[..shape.len() - fixed], &strides[..shape.len() - fixed]);
        Tensor::written(shape.clone(), |mut out| {
            gather_runs(x.data(), outer, steps, 0, run, &mut out);
        })
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}

/// Writes to the front of `out`, in row-major order over `shape`, the runs of `run` elements that
/// start at `at` plus each index times `strides`, and leaves in `out` what is not yet written.
fn gather_runs(
    data: &[f32],
    shape: &[usize],
    strides: &[usize],
    at: usize,
    run: usize,
    out: &mut &mut [f32],
) {
    match (shape, strides) {
        ([], _) => next(out, run).copy_from_slice(&data[at..at + run]),
        ([n], [step]) if run == 1 => {
            for (i, x) in next(out, *n).iter_mut().enumerate() {
                *x = data[at + i * step];
            }
        }
        ([n, shape @ ..], [step, strides @ ..]) => {
            for i in 0..*n {
                gather_runs(data, shape, strides, at + i * step, run, out);
            }
        }
        (_, []) => unreachable!("one stride an axis"),
    }
}

/// Takes the first `len` elements off `out`.
fn next<'a>(out: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (taken, rest) = std::mem::take(out).split_at_mut(len);
    *out = rest;
    taken
}

/// The box that starts at `begin` and has extents `size`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// First index on every axis.
    pub begin: Vec<usize>,
    /// Extent on every axis.
    pub size: Vec<usize>,
}

impl OpDef for Slice {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let x = inputs.first().ok_or("takes 1 input, found 0")?;
        let fits = x.len() == self.begin.len()
            && x.len() == self.size.len()
            && x.iter().zip(&self.begin).zip(&self.size).all(|((&n, &b), &s)| s > 0 && b + s <= n);
        ensure(fits, || format!("{:?} + {:?} is no box in {x:?}", self.begin, self.size))?;
        Ok(self.size.clone())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let options = Options::of(BuiltinOperator::StridedSlice);
        Encoding::new(BuiltinOperator::StridedSlice, options)
            .with(self.begin.iter().copied())
            .with(self.begin.iter().zip(&self.size).map(|(b, s)| b + s))
            .with(self.begin.iter().map(|_| 1))
    }

    fn eval(&self, inputs: &[&Tensor], _: Par) -> Tensor {
        let x = inputs[0];
        let rank = self.size.len();
        let mut strides = vec![1; rank];
        for axis in (1..rank).rev() {
            strides[axis - 1] = strides[axis] * x.shape()[axis];
        }
        let start = self.begin.iter().zip(&strides).map(|(b, s)| b * s).sum();
        // Trailing axes taken whole, and the first one that is not, are one run.
        let whole = (0..rank).rev().take_while(|&i| self.size[i] == x.shape()[i]).count();
        let cut = rank.saturating_sub(whole + 1);
        let run: usize = self.size[cut..].iter().product();
        Tensor::written(self.size.clone(), |mut out| {
            gather_runs(x.data(), &self.size[..cut], &strides[..cut], start, run, &mut out);
        })
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}
