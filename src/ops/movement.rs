//! Operators that move values and never change them: reshape, transpose, slice.
//! Input and output share one grid, so an integer runtime only copies bytes.

use super::{Encoding, OpDef, OutputRule, binary::check_rank, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

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

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let mut out = inputs[0].clone().reshape(self.shape.clone());
        if run.finishes() {
            run.whole(out.data_mut(), 1);
        }
        out
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

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let x = inputs[0];
        let shape: Vec<usize> = self.perm.iter().map(|&axis| x.shape()[axis]).collect();
        let strides = tensor::strides(x.shape());
        let strides: Vec<usize> = self.perm.iter().map(|&axis| strides[axis]).collect();
        // Trailing axes that stay in place are copied as one run.
        let fixed = (0..shape.len()).rev().take_while(|&i| self.perm[i] == i).count();
        let length: usize = shape[shape.len() - fixed..].iter().product();
        let axes = axes(&shape[..shape.len() - fixed], &strides);
        Runs { data: x.data(), axes, start: 0, length }.copied(shape, run)
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}

/// Runs of `length` elements of `data` that are copied one behind another.
struct Runs<'a> {
    data: &'a [f32],
    /// Extent and stride of the axes that are walked, those of extent 1 left out.
    axes: Vec<[usize; 2]>,
    start: usize,
    length: usize,
}

impl Runs<'_> {
    fn copied(&self, shape: Vec<usize>, run: Run<'_>) -> Tensor {
        let ([extent, stride], inner) = match &self.axes[..] {
            [first, inner @ ..] => (*first, inner),
            [] => ([1, 0], &[][..]),
        };
        Tensor::written(shape, |out| {
            let width = out.len() / extent.max(1);
            tensor::in_pieces(out, width, run, |at, out| {
                for (i, mut out) in (at / width..).zip(out.chunks_exact_mut(width)) {
                    self.walk(inner, self.start + i * stride, &mut out);
                }
            });
        })
    }

    fn walk(&self, axes: &[[usize; 2]], at: usize, out: &mut &mut [f32]) {
        match axes {
            [] => next(out, self.length).copy_from_slice(&self.data[at..at + self.length]),
            [[n, step]] if self.length == 1 => {
                for (i, x) in next(out, *n).iter_mut().enumerate() {
                    *x = self.data[at + i * step];
                }
            }
            [[n, step]] => {
                let runs = next(out, n * self.length).chunks_exact_mut(self.length.max(1));
                for (i, run) in runs.enumerate() {
                    tensor::copy(run, &self.data[at + i * step..][..self.length]);
                }
            }
            [[n, step], axes @ ..] => {
                for i in 0..*n {
                    self.walk(axes, at + i * step, out);
                }
            }
        }
    }
}

/// Extents and strides of the axes worth walking.
fn axes(extents: &[usize], strides: &[usize]) -> Vec<[usize; 2]> {
    let all = extents.iter().zip(strides).map(|(&extent, &stride)| [extent, stride]);
    all.filter(|[extent, _]| *extent != 1).collect()
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

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let x = inputs[0];
        let rank = self.size.len();
        let strides = tensor::strides(x.shape());
        let start = self.begin.iter().zip(&strides).map(|(b, s)| b * s).sum();
        // Trailing axes taken whole, and the first one that is not, are one run.
        let whole = (0..rank).rev().take_while(|&i| self.size[i] == x.shape()[i]).count();
        let cut = rank.saturating_sub(whole + 1);
        let length: usize = self.size[cut..].iter().product();
        let axes = axes(&self.size[..cut], &strides);
        Runs { data: x.data(), axes, start, length }.copied(self.size.clone(), run)
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}
