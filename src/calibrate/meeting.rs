//! Where grids of several dtypes meet: an operator computes in one dtype, the widest of those it
//! touches, as no kernel mixes them.
//!
//! Narrower operands are widened before and a narrower result is narrowed afterwards. Widening is
//! exact, as the wider grid's step is that of the narrower over a power of two; uint16 is wider than
//! int16, whose zero point is fixed, as it holds any grid of that. A result is rounded twice. The other way round, narrowing an operand, would throw away what the policy paid for.

use crate::graph::{Graph, Kind, Node, ValueId};
use crate::ops::Operand;
use crate::quant::{DType, QuantParams};

/// Activations have at most so many bits; what is wider accumulates.
const ACTIVATION_BITS: u8 = 16;

/// The dtype that `node` of an annotated graph computes in, if its grids have several.
pub fn meeting(graph: &Graph, node: &Node) -> Option<DType> {
    let operands = node.inputs.iter().enumerate();
    let data = operands.filter(|(i, _)| node.op.def().operand(*i) == Operand::Activation);
    let met = std::iter::once(node.output).chain(data.map(|(_, &id)| id));
    let dtypes: Vec<DType> = met.filter_map(|id| activation_dtype(graph, id)).collect();
    let (first, rest) = dtypes.split_first()?;
    if rest.iter().all(|dtype| dtype == first) {
        return None;
    }
    // of equal widths the result's own, which needs one QUANTIZE less
    let width = |dtype: &&DType| (dtype.bits(), dtype.bits() > 8 && !dtype.signed());
    dtypes.iter().rev().max_by_key(width).copied()
}

/// The grid of `id` spread over `dtype`; none where it is of that dtype already.
pub fn spread(graph: &Graph, id: ValueId, dtype: DType) -> Option<QuantParams> {
    activation_dtype(graph, id).filter(|own| *own != dtype)?;
    graph.value(id).qparams.as_ref().and_then(|grid| grid.spread(dtype))
}

fn activation_dtype(graph: &Graph, id: ValueId) -> Option<DType> {
    let value = graph.value(id);
    match &value.qparams {
        Some(QuantParams::Affine { dtype, .. })
            if value.kind == Kind::Real && dtype.bits() <= ACTIVATION_BITS =>
        {
            Some(*dtype)
        }
        _ => None,
    }
}
