//! Where grids of several dtypes meet, as [`meeting`](crate::calibrate::meeting) says: narrower operands
//! come to the operator through a QUANTIZE, and so does its result leave for a narrower grid; a
//! constant is written on the wider grid at once.

use super::{LowerError, Lowering, payload};
use crate::calibrate::spread;
use crate::circle::{self, BuiltinOperator, Options};
use crate::graph::{Source, ValueId};
use crate::quant::{self, DType};

impl Lowering<'_> {
    /// The operand `id` on its grid spread over `dtype`, made once.
    pub(super) fn widened(&mut self, id: ValueId, dtype: DType) -> Result<i32, LowerError> {
        let Some(params) = spread(self.graph, id, dtype) else { return self.value(id) };
        if let Some(&index) = self.widened.get(&(id, dtype)) {
            return Ok(index);
        }
        let mut tensor = self.tensor(id, Some(&params))?;
        tensor.name = format!("{}.{dtype}", self.graph.value(id).name);
        let index = match self.graph.value(id).source {
            Source::Param(_) | Source::Const(_) => {
                // What was measured stood on the narrow grid.
                let mut content = (self.constant)(id);
                if let Some(own) = &self.graph.value(id).qparams {
                    quant::round(own, &mut content);
                }
                self.constant(tensor, payload::of(content, Some(&params)))
            }
            Source::Input | Source::Node(_) => {
                let narrow = self.value(id)?;
                let index = self.subgraph.add_tensor(tensor);
                self.requantize(narrow, index);
                index
            }
        };
        self.widened.insert((id, dtype), index);
        Ok(index)
    }

    /// A tensor for the result `id` in `dtype`, to be narrowed afterwards; none where it is of that
    /// dtype already.
    pub(super) fn wide_result(
        &mut self,
        id: ValueId,
        dtype: DType,
    ) -> Result<Option<i32>, LowerError> {
        let Some(params) = spread(self.graph, id, dtype) else { return Ok(None) };
        let mut tensor: circle::Tensor = self.tensor(id, Some(&params))?;
        // Another name than that of the same value widened again, for who reads it.
        tensor.name = format!("{}.result.{dtype}", self.graph.value(id).name);
        Ok(Some(self.subgraph.add_tensor(tensor)))
    }

    pub(super) fn requantize(&mut self, from: i32, to: i32) {
        let options = Options::of(BuiltinOperator::Quantize);
        self.push(BuiltinOperator::Quantize, options, vec![from], vec![to]);
    }
}
