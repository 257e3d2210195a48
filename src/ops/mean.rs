//! Mean over the last axis, which stays with extent 1.

use super::{Encoding, OpDef};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Mean of every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean;

impl OpDef for Mean {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let mut shape = inputs.first().ok_or("takes 1 input, found 0")?.to_vec();
        *shape.last_mut().ok_or("needs an axis to average over")? = 1;
        Ok(shape)
    }

    fn encode(&self, inputs: &[&[usize]]) -> Encoding {
        let options = Options::of(BuiltinOperator::Mean);
        Encoding::new(BuiltinOperator::Mean, options).with([inputs[0].len() - 1])
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let mut shape = inputs[0].shape().to_vec();
        let width = shape.last_mut().map(|n| std::mem::replace(n, 1)).unwrap_or(1);
        let x = inputs[0].data();
        Tensor::written(shape, |out| {
            tensor::in_pieces(out, 1, run, |at, out| {
                tensor::mean(out, &x[at * width..(at + out.len()) * width], width);
            });
        })
    }
}
