//! Linear layer: y = x Wᵀ + b with x `[..., in]`, W `[out, in]`, b `[out]`.

use super::{Encoding, OpDef, Operand, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Inputs are x, W and, optionally, b.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear;

impl OpDef for Linear {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (x, w),
            _ => return Err(format!("takes 2 or 3 inputs, found {}", inputs.len())),
        };
        ensure(w.len() == 2 && x.last() == Some(&w[1]), || {
            format!("{x:?} does not meet weight {w:?}")
        })?;
        if let Some(b) = inputs.get(2) {
            ensure(**b == [w[0]], || format!("bias {b:?} does not fit weight {w:?}"))?;
        }
        Ok(x[..x.len() - 1].iter().copied().chain([w[0]]).collect())
    }

    fn operand(&self, position: usize) -> Operand {
        [Operand::Activation, Operand::Weight, Operand::Bias][position]
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let builtin = BuiltinOperator::FullyConnected;
        Encoding { arity: 3, ..Encoding::new(builtin, Options::of(builtin)) }
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let (x, w) = (inputs[0], inputs[1]);
        let n = w.shape()[0];
        let mut shape = x.shape().to_vec();
        *shape.last_mut().expect("invariant: rank was checked while building") = n;
        Tensor::written(shape, |out| {
            let Some(bias) = inputs.get(2) else { return w.matmul_nt(out, x.data(), run) };
            let biased = |at: usize, out: &mut [f32]| {
                let column = at % n;
                tensor::add_bias(out, &bias.data()[column..n.min(column + out.len())]);
                run.finish(at, out);
            };
            w.matmul_nt(out, x.data(), run.finishing(&biased));
        })
    }
}
