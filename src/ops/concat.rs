//! Concatenation along one axis. Values move unchanged, so all inputs and the output share one grid.

use super::{Encoding, OpDef, OutputRule, ensure};
use crate::circle::{Activation, BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Joins its inputs along `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl OpDef for Concat {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let first = inputs.first().ok_or("takes at least 1 input, found 0")?;
        ensure(self.axis < first.len(), || format!("axis {} of {first:?}", self.axis))?;
        let mut shape = first.to_vec();
        for other in &inputs[1..] {
            let fits = other.len() == first.len()
                && (0..first.len()).all(|i| i == self.axis || other[i] == first[i]);
            ensure(fits, || format!("{other:?} does not join {first:?} on axis {}", self.axis))?;
            shape[self.axis] += other[self.axis];
        }
        Ok(shape)
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let axis = i32::try_from(self.axis).unwrap_or(i32::MAX);
        let options = Options::Concatenation { axis, fused_activation: Activation::None };
        Encoding::new(BuiltinOperator::Concatenation, options)
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        let shape = self.shape(&shapes).expect("invariant: shapes were checked while building");
        let width = shape[self.axis..].iter().product::<usize>().max(1);
        let parts: Vec<(&[f32], usize)> =
            inputs.iter().map(|x| (x.data(), x.shape()[self.axis..].iter().product())).collect();
        Tensor::written(shape, |out| {
            tensor::in_pieces(out, width, run, |at, out| {
                for (row, mut out) in (at / width..).zip(out.chunks_exact_mut(width)) {
                    for &(data, len) in &parts {
                        let (to, rest) = out.split_at_mut(len);
                        tensor::copy(to, &data[row * len..][..len]);
                        out = rest;
                    }
                }
            });
        })
    }

    fn rule(&self) -> OutputRule {
        OutputRule::SameAsInputs
    }
}
