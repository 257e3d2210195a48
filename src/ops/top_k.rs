//! Where the k greatest of every row are, greatest first; of equals the first.
//!
//! The order of equals is that of TOPK_V2, so a runtime on the same integers chooses the same.

use super::{Encoding, OpDef, OutputRule, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Positions in the last axis: `[..., n]` gives `[..., k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// How many.
    pub k: usize,
}

impl OpDef for TopK {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let [x] = inputs else { return Err(format!("takes 1 input, found {}", inputs.len())) };
        let n = *x.last().ok_or("needs an axis to choose from")?;
        ensure((1..=n).contains(&self.k), || format!("{} of the {n} in a row", self.k))?;
        Ok(x[..x.len() - 1].iter().copied().chain([self.k]).collect())
    }

    fn encode(&self, inputs: &[&[usize]]) -> Encoding {
        let builtin = BuiltinOperator::TopkV2;
        let spare = self.shape(inputs).ok();
        Encoding { spare, ..Encoding::new(builtin, Options::of(builtin)).with([self.k]) }
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let x = inputs[0];
        let n = x.shape()[x.shape().len() - 1];
        let shape = self.shape(&[x.shape()]).expect("invariant: checked while building");
        Tensor::written(shape, |out| {
            tensor::in_pieces(out, self.k, run, |at, out| {
                let mut order: Vec<usize> = Vec::with_capacity(n);
                let rows = x.data()[at / self.k * n..].chunks_exact(n);
                for (out, row) in out.chunks_exact_mut(self.k).zip(rows) {
                    order.clear();
                    order.extend(0..n);
                    // Stable: equals stay in their order; + 0 makes zeros of both signs equal.
                    order.sort_by(|&a, &b| (row[b] + 0.0).total_cmp(&(row[a] + 0.0)));
                    out.iter_mut().zip(&order).for_each(|(out, &at)| *out = at as f32);
                }
            });
        })
    }

    fn rule(&self) -> OutputRule {
        OutputRule::Indices
    }
}

#[cfg(test)]
mod tests;
