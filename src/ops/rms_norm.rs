//! RMSNorm over the last axis: y = γ x / √(mean x² + ε) (Zhang and Sennrich, 2019).

use super::{Encoding, OpDef, Operand, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Inputs are x `[..., width]` and γ `[width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// ε
    pub epsilon: f32,
}

impl OpDef for RmsNorm {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let [x, gamma] = inputs else {
            return Err(format!("takes 2 inputs, found {}", inputs.len()));
        };
        ensure(gamma.len() == 1 && x.last() == gamma.last(), || {
            format!("{x:?} does not meet γ {gamma:?}")
        })?;
        Ok(x.to_vec())
    }

    fn operand(&self, position: usize) -> Operand {
        [Operand::Activation, Operand::Gain][position]
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        Encoding::new(BuiltinOperator::RmsNorm, Options::RmsNorm { epsilon: self.epsilon })
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        self.eval_over(inputs[0].clone(), &inputs[1..], run)
    }

    fn in_place(&self, _: &[&[usize]]) -> bool {
        true
    }

    fn eval_over(&self, x: Tensor, rest: &[&Tensor], run: Run<'_>) -> Tensor {
        let gamma = rest[0].data();
        x.mapped(gamma.len(), run, |_, out, x| tensor::rms_norm(out, x, gamma, self.epsilon))
    }
}
