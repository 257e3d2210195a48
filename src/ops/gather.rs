//! Embedding lookup: rows of a table `[vocab, hidden]` at ids `[...]`, giving `[..., hidden]`.
//!
//! Ids travel as f32, exact below 2^24; the border that lets ids in checks them against the table.

use super::{Encoding, OpDef, Operand, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Looks rows up: inputs are the table and the ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather;

impl OpDef for Gather {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let [table, ids] = inputs else {
            return Err(format!("takes 2 inputs, found {}", inputs.len()));
        };
        ensure(table.len() == 2, || format!("table must be [rows, width], found {table:?}"))?;
        Ok(ids.iter().copied().chain([table[1]]).collect())
    }

    fn operand(&self, position: usize) -> Operand {
        [Operand::Weight, Operand::Index][position]
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        Encoding::new(BuiltinOperator::Gather, Options::of(BuiltinOperator::Gather))
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let (table, ids) = (inputs[0], inputs[1]);
        let width = table.shape()[1];
        let shape: Vec<usize> = ids.shape().iter().copied().chain([width]).collect();
        Tensor::written(shape, |out| {
            tensor::in_pieces(out, width, run, |at, out| {
                for (out, &id) in out.chunks_exact_mut(width).zip(&ids.data()[at / width..]) {
                    table.read_rows(id as usize, out);
                }
            });
        })
    }
}
