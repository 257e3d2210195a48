//! Where grids of several dtypes meet: an operator computes in one dtype, the widest of those it
//! touches.
//!
//! Narrower operands come to it through a QUANTIZE, and so does its result leave for a narrower
//! grid; a constant is written on the wider grid at once. Widening is exact, as the wider grid's
//! step is that of the narrower over a power of two. The other way round, narrowing an operand,
//! would throw away what the policy paid for.

use super::{LowerError, Lowering, payload};
use crate::circle::{self, BuiltinOperator, Options};
use crate::graph::{Kind, Node, Source, ValueId};
use crate::ops::Operand;
use crate::quant::{self, DType, QuantParams};

/// Activations have at most so many bits; what is wider accumulates.
const ACTIVATION_BITS: u8 = 16;

impl Lowering<'_> {
    /// The dtype that `node` computes in, if its grids have several.
    pub(super) fn meeting_dtype(&self, node: &Node) -> Option<DType> {
        let operands = node.inputs.iter().enumerate();
        let data = operands.filter(|(i, _)| node.op.def().operand(*i) == Operand::Activation);
        let met = std::iter::once(node.output).chain(data.map(|(_, &id)| id));
        let dtypes: Vec<DType> = met.filter_map(|id| self.activation_dtype(id)).collect();
        let (first, rest) = dtypes.split_first()?;
        if rest.iter().all(|dtype| dtype == first) {
            return None;
        }
        // of equal widths the result's own, which needs one QUANTIZE less
        dtypes.iter().rev().max_by_key(|dtype| dtype.bits()).copied()
    }

    fn activation_dtype(&self, id: ValueId) -> Option<DType> {
        let value = self.graph.value(id);
        match &value.qparams {
            Some(QuantParams::Affine { dtype, .. })
                if value.kind == Kind::Real && dtype.bits() <= ACTIVATION_BITS =>
            {
                Some(*dtype)
            }
            _ => None,
        }
    }

    /// The grid of `id` spread over `dtype`; none where it is of that dtype already.
    pub(super) fn spread(&self, id: ValueId, dtype: DType) -> Option<QuantParams> {
        self.activation_dtype(id).filter(|own| *own != dtype)?;
        self.graph.value(id).qparams.as_ref().and_then(|grid| spread(grid, dtype))
    }

    /// The operand `id` on its grid spread over `dtype`, made once.
    pub(super) fn widened(&mut self, id: ValueId, dtype: DType) -> Result<i32, LowerError> {
        let Some(params) = self.spread(id, dtype) else { return self.value(id) };
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
        let Some(params) = self.spread(id, dtype) else { return Ok(None) };
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

/// A grid of `dtype` with every value of the per-tensor grid `own`; none for grids of other kinds.
/// 16-bit integers keep their zero point at 0, as their kernels want it.
fn spread(own: &QuantParams, dtype: DType) -> Option<QuantParams> {
    let narrow = own.dtype()?;
    let (scale, zero) = own.as_per_tensor()?;
    let zero = i64::from(zero);
    let ((low, high), (first, last)) = (narrow.limits(), dtype.limits());
    // how many steps of the new grid make one of the old: as many as fit, rounded to a power of two
    let steps = |room: i64, needed: i64| (room as f32 / needed as f32).log2().floor().exp2();
    let (steps, zero_point) = if dtype.signed() && dtype.bits() > 8 {
        (steps(last, (zero - low).max(high - zero)), 0)
    } else {
        let steps = steps(last - first, high - low);
        (steps, first + ((zero - low) as f32 * steps) as i64)
    };
    Some(QuantParams::per_tensor(dtype, scale / steps, i32::try_from(zero_point).ok()?))
}

#[cfg(test)]
mod tests;
