//! Functions of one element: the logistic function, GELU, and what decompositions are made of.

use super::{Encoding, OpDef};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryKind {
    /// 1 / (1 + e^-x); SiLU is x times this.
    Logistic,
    /// GELU with the tanh approximation.
    GeluTanh,
    /// GELU with the error function.
    GeluErf,
    /// -x
    Neg,
    /// 1 / √x
    Rsqrt,
}

/// The function on every element.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// The function.
    pub kind: UnaryKind,
}

impl OpDef for Unary {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs.first().ok_or("takes 1 input, found 0")?.to_vec())
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        match self.kind {
            UnaryKind::Logistic => Encoding::new(BuiltinOperator::Logistic, Options::None),
            UnaryKind::Neg => {
                Encoding::new(BuiltinOperator::Neg, Options::of(BuiltinOperator::Neg))
            }
            UnaryKind::Rsqrt => Encoding::new(BuiltinOperator::Rsqrt, Options::None),
            UnaryKind::GeluTanh | UnaryKind::GeluErf => {
                let approximate = self.kind == UnaryKind::GeluTanh;
                Encoding::new(BuiltinOperator::Gelu, Options::Gelu { approximate })
            }
        }
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        self.eval_over(inputs[0].clone(), &[], run)
    }

    fn in_place(&self, _: &[&[usize]]) -> bool {
        true
    }

    fn eval_over(&self, x: Tensor, _: &[&Tensor], run: Run<'_>) -> Tensor {
        let kernel = match self.kind {
            UnaryKind::Logistic => tensor::logistic,
            UnaryKind::GeluTanh => tensor::gelu_tanh,
            UnaryKind::GeluErf => tensor::gelu_erf,
            UnaryKind::Neg => tensor::neg,
            UnaryKind::Rsqrt => tensor::rsqrt,
        };
        x.mapped(1, run, |_, out, x| kernel(out, x))
    }
}
