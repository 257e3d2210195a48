//! Softmax over the last axis: yᵢ = exp(xᵢ − max x) / Σⱼ exp(xⱼ − max x).

use super::{Encoding, OpDef, OutputRule, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Softmax of every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax;

impl OpDef for Softmax {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let x = inputs.first().ok_or("takes 1 input, found 0")?;
        ensure(!x.is_empty(), || "needs an axis to normalise over".into())?;
        Ok(x.to_vec())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        Encoding::new(BuiltinOperator::Softmax, Options::of(BuiltinOperator::Softmax))
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        self.eval_over(inputs[0].clone(), &[], run)
    }

    fn in_place(&self, _: &[&[usize]]) -> bool {
        true
    }

    fn eval_over(&self, x: Tensor, _: &[&Tensor], run: Run<'_>) -> Tensor {
        let width = x.shape()[x.shape().len() - 1];
        x.mapped(width, run, |_, out, x| tensor::softmax(out, x, width))
    }

    /// y lies in [0, 1] whatever the data, so a prompt unlike the calibration set cannot saturate it.
    fn rule(&self) -> OutputRule {
        OutputRule::Pinned { min: 0.0, max: 1.0 }
    }
}
