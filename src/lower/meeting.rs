//! Where grids of several dtypes meet: an operator computes in one dtype, the widest of those it
//! touches.
//!
//! Narrower operands come to it through a QUANTIZE, and so does its result leave for a narrower
//! grid; a constant is written on the wider grid at once. Widening costs nothing that could be
//! seen: an 8-bit grid spread over 16 bits is met to 1/128 of its own step. The other way round,
//! narrowing an operand, would throw away what the policy paid for.

use super::{LowerError, Lowering};
use crate::circle::{self, BuiltinOperator, Options};
use crate::graph::{Kind, Node, Source, ValueId};
use crate::ops::Operand;
use crate::quant::{DType, QuantParams, Range, Scheme};

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
    pub(super) fn spread(
        &self,
        id: ValueId,
        dtype: DType,
    ) -> Result<Option<QuantParams>, LowerError> {
        if self.activation_dtype(id).is_none_or(|own| own == dtype) {
            return Ok(None);
        }
        let value = self.graph.value(id);
        let Some(QuantParams::Affine { dtype: own, scale, zero_point, .. }) = &value.qparams else {
            return Ok(None);
        };
        let (low, high) = own.limits();
        let real = |q: i64| (q - i64::from(zero_point[0])) as f32 * scale[0];
        let scheme = Scheme { symmetric: dtype.signed(), axis: None };
        let range = Range::new(real(low), real(high));
        let spread = QuantParams::from_range(dtype, scheme, range);
        spread.map(Some).map_err(|source| LowerError::Spread { name: value.name.clone(), source })
    }

    /// The operand `id` on its grid spread over `dtype`, made once.
    pub(super) fn widened(&mut self, id: ValueId, dtype: DType) -> Result<i32, LowerError> {
        let Some(params) = self.spread(id, dtype)? else { return self.value(id) };
        if let Some(&index) = self.widened.get(&(id, dtype)) {
            return Ok(index);
        }
        let mut tensor = self.tensor(id, Some(&params))?;
        tensor.name = format!("{}.{dtype}", self.graph.value(id).name);
        let index = match self.graph.value(id).source {
            Source::Param(_) | Source::Const(_) => {
                let bytes = self.payload(id, Some(&params))?;
                self.constant(tensor, bytes)
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
        let Some(params) = self.spread(id, dtype)? else { return Ok(None) };
        let mut tensor: circle::Tensor = self.tensor(id, Some(&params))?;
        tensor.name = format!("{}.{dtype}", self.graph.value(id).name);
        Ok(Some(self.subgraph.add_tensor(tensor)))
    }

    pub(super) fn requantize(&mut self, from: i32, to: i32) {
        let options = Options::of(BuiltinOperator::Quantize);
        self.push(BuiltinOperator::Quantize, options, vec![from], vec![to]);
    }
}
