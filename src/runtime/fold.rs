//! Constants that a file computes: what a RESHAPE or TRANSPOSE makes of a constant is one itself, and
//! its channels have moved along. Files of the peer hold the kernel of a patch embedding like that,
//! and no runtime rounds a result to several scales.

use super::Limits;
use crate::circle::{Buffer, BuiltinOperator as B, Details, Model, Operator, SubGraph, Tensor};
use crate::tensor::strides;
use std::collections::BTreeSet;

/// Turns such results in one graph of a verified model into constants. These are the operators that
/// have nothing left to do.
///
/// What is beyond the limits stays computed; whoever computes it counts it.
pub(super) fn fold(model: &mut Model, graph: usize, limits: Limits) -> BTreeSet<usize> {
    let file = &model.subgraphs[graph];
    let operators = file.operators.clone();
    let inputs: BTreeSet<i32> = file.inputs.iter().copied().collect();
    let computed = operators.iter().flat_map(|operator| &operator.outputs);
    let mut computed: BTreeSet<i32> = computed.chain(&inputs).copied().collect();
    let mut left = limits.elements;
    let mut done = BTreeSet::new();
    for (index, operator) in operators.iter().enumerate() {
        let ([output], Some(input)) = (&operator.outputs[..], operator.inputs.first()) else {
            continue;
        };
        if computed.contains(input) || inputs.contains(output) {
            continue;
        }
        let file = &model.subgraphs[graph];
        let Some((mut result, moved)) = result(model, file, operator, &mut left) else { continue };
        if let Some(bytes) = moved {
            result.buffer = model.add_buffer(Buffer::data(bytes));
        }
        let slot = usize::try_from(*output).expect("invariant: a verified model has the tensor");
        model.subgraphs[graph].tensors[slot] = result;
        computed.remove(output);
        done.insert(index);
    }
    done
}

/// The result of an operator on a constant; its payload, where that is not the operand's.
fn result(
    model: &Model,
    file: &SubGraph,
    operator: &Operator,
    left: &mut u64,
) -> Option<(Tensor, Option<Vec<u8>>)> {
    let operand = |k: usize| file.tensor(*operator.inputs.get(k)?);
    let (x, mut y) = (operand(0)?, file.tensor(*operator.outputs.first()?)?.clone());
    let bytes = model.constant(x)?;
    if !(is_plain(x) && is_plain(&y) && x.dtype == y.dtype && grid(x) == grid(&y)) {
        return None;
    }
    let bits = usize::try_from(x.dtype.bits()?).ok()?;
    let (from, to) = (extents(x)?, extents(&y)?);
    let count = from.iter().product::<usize>();
    let several = x.quantization.as_ref().filter(|q| q.scale.len() > 1);
    let channels = several.and_then(|q| usize::try_from(q.quantized_dimension).ok());
    let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
    y.buffer = x.buffer;
    let (moved, payload) = match model.builtin(operator)? {
        B::Reshape | B::ExpandDims | B::Squeeze if Some(count) == elements(&to) => {
            let whole = |axis: usize| {
                (0..to.len())
                    .find(|&i| to[i] == from[axis] && before(&to, i) == before(&from, axis))
            };
            (channels.and_then(whole), None)
        }
        B::Transpose if count as u64 <= *left => {
            let perm = operand(1).filter(|perm| extents(perm) == Some(vec![from.len()]))?;
            let perm = permutation(model.integers(perm)?, from.len())?;
            if !perm.iter().map(|&axis| from[axis]).eq(to) {
                return None;
            }
            *left -= count as u64;
            let moved = channels.and_then(|axis| perm.iter().position(|&from| from == axis));
            (moved, Some(permuted(bytes, bits, &from, &perm)))
        }
        _ => return None,
    };
    // What the file says of the result may be a copy of what it says of the operand.
    if let Some(q) = y.quantization.as_mut().filter(|_| several.is_some()) {
        q.quantized_dimension = i32::try_from(moved?).ok()?;
    }
    Some((y, payload))
}

/// Whether the payload lies there element by element, on a grid that scales and zero points describe.
fn is_plain(tensor: &Tensor) -> bool {
    let details = tensor.quantization.as_ref().map_or(&Details::None, |q| &q.details);
    let stored = tensor.sparsity.is_none() && tensor.compression_type == 0;
    stored && !tensor.is_variable && *details == Details::None
}

fn grid(tensor: &Tensor) -> Option<(&[f32], &[i64])> {
    let q = tensor.quantization.as_ref().filter(|q| !q.scale.is_empty())?;
    Some((&q.scale, &q.zero_point))
}

fn extents(tensor: &Tensor) -> Option<Vec<usize>> {
    tensor.shape.iter().map(|&n| usize::try_from(n).ok()).collect()
}

fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1, |count: usize, &n| count.checked_mul(n))
}

/// The axes `0..rank` in some order.
fn permutation(axes: Vec<i64>, rank: usize) -> Option<Vec<usize>> {
    let axes: Vec<usize> =
        axes.into_iter().map(|axis| usize::try_from(axis).ok()).collect::<Option<_>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank).then_some(axes)
}

/// The elements of a payload, axis `i` being axis `perm[i]` of `shape`.
fn permuted(bytes: &[u8], bits: usize, shape: &[usize], perm: &[usize]) -> Vec<u8> {
    let strides = strides(shape);
    let Some((&last, outer)) = perm.split_last() else { return bytes.to_vec() };
    let mut rows = vec![0];
    for &axis in outer {
        let row = |&at: &usize| (0..shape[axis]).map(move |i| (at, i));
        rows = rows.iter().flat_map(row).map(|(at, i)| at + i * strides[axis]).collect();
    }
    let (extent, stride) = (shape[last], strides[last]);
    let places = rows.iter().flat_map(|at| (0..extent).map(move |i| at + i * stride));
    if bits == 4 {
        let halves: Vec<u8> = places.map(|at| bytes[at / 2] >> (at % 2 * 4) & 0xf).collect();
        return halves.chunks(2).map(|h| h[0] | h.get(1).map_or(0, |high| high << 4)).collect();
    }
    let width = bits / 8;
    places.flat_map(|at| &bytes[at * width..][..width]).copied().collect()
}
