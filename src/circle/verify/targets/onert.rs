//! onert, ONE's runtime.

use super::super::super::buffer::Buffer;
use super::super::super::model::{Details, Model, Operator, SubGraph, Tensor};
use super::super::super::operator::BuiltinOperator::{self, *};
use super::super::super::options::Options;
use super::super::super::types::TensorType::{self, Float16, Float32, Int8, Int16, Uint8};
use super::super::Report;
use super::{input, output, per_channel, working_type};
use std::collections::BTreeSet;

/// The longest file that its loader maps.
const SIZE_MAX: u64 = (1 << 31) - 1;

pub(super) fn model(model: &Model, report: &mut Report) {
    for (i, buffer) in model.buffers.iter().enumerate() {
        if matches!(buffer, Buffer::External(_)) {
            let what = "lies behind the FlatBuffer, on which onert crashes";
            report.warn(format_args!("buffers[{i}]"), what);
        }
    }
    let payload: u64 = model.buffers.iter().map(Buffer::len).fold(0, u64::saturating_add);
    if payload > SIZE_MAX {
        report.warn("buffers", format!("{payload} bytes, onert maps files of at most {SIZE_MAX}"));
    }
    for (g, graph) in model.subgraphs.iter().enumerate().skip(1) {
        let name = graph.name.escape_debug();
        report.warn(
            format_args!("subgraphs[{g}]"),
            format!("onert runs the first only, not \"{name}\""),
        );
    }
}

pub(super) fn ports(graph: &SubGraph, place: &str, report: &mut Report) {
    let read: BTreeSet<i32> =
        graph.operators.iter().flat_map(|op| op.inputs.iter().copied()).collect();
    for (i, index) in graph.outputs.iter().enumerate().filter(|(_, index)| read.contains(index)) {
        let what = "is read by an operator: the Python API of onert returns other values";
        report.warn(format_args!("{place}.outputs[{i}]"), format!("tensor {index} {what}"));
    }
    for (i, &index) in graph.inputs.iter().enumerate() {
        let Some(tensor) = graph.tensor(index) else { continue };
        let place = format!("{place}.inputs[{i}]");
        match tensor.dtype {
            Uint8 => report.warn(place, "the Python API of onert cannot set UINT8"),
            Int16 => report.warn(place, "onert 0.1.0 has no INT16 at its border"),
            _ => {}
        }
    }
}

pub(super) fn tensor(tensor: &Tensor) -> Option<String> {
    use TensorType::*;
    let unsupported =
        matches!(tensor.dtype, Uint4 | Int4 | MxInt8 | MxFp4 | GgmlQ4_1 | GgmlQ8_1 | Bfloat16);
    if unsupported {
        return Some(format!("onert refuses {}", tensor.dtype));
    }
    if tensor.shape_signature.as_ref().is_some_and(|s| s.iter().any(|&n| n < 0)) {
        return Some("is dynamic: set its shape with nnfw_set_input_tensorinfo".into());
    }
    let details = tensor.quantization.as_ref().map(|q| &q.details);
    matches!(details, Some(Details::Custom(_))).then(|| "onert refuses CustomQuantization".into())
}

pub(super) fn operator(
    graph: &SubGraph,
    builtin: BuiltinOperator,
    op: &Operator,
) -> Option<String> {
    let weights = match builtin {
        FullyConnected => input(graph, op, 1),
        Dequantize | Gather => input(graph, op, 0),
        _ => None,
    };
    if weights.is_some_and(per_channel) {
        return Some("onert uses the first of the scales for every channel".into());
    }
    let dtype = working_type(graph, builtin, op)?;
    match builtin {
        SplitV => Some("onert computes nothing here; use SPLIT or STRIDED_SLICE".into()),
        FullyConnected => fully_connected(graph, op, dtype),
        Quantize | Dequantize => crossing(graph, builtin, op),
        Gather => gather(input(graph, op, 0)?.dtype, dtype),
        RmsNorm if !matches!(input(graph, op, 0)?.shape.len(), 3 | 4) => {
            let rank = input(graph, op, 0)?.shape.len();
            Some(format!("onert takes an input of rank 3 or 4, found {rank}"))
        }
        _ => kernel(builtin, dtype),
    }
}

/// Types of an operator that moves or computes in one type.
fn kernel(builtin: BuiltinOperator, dtype: TensorType) -> Option<String> {
    if !matches!(dtype, Float32 | Uint8 | Int8 | Int16) {
        return None;
    }
    let runs: &[TensorType] = match builtin {
        Add | Mul | Sub | Softmax | Conv2d | Pad => &[Float32, Uint8, Int8],
        Reshape | ExpandDims | Concatenation => &[Float32, Uint8, Int8, Int16],
        Transpose | Slice | Split | Mean | Logistic | Tanh => &[Float32, Uint8],
        StridedSlice => &[Float32, Int16],
        Div | Neg | Rsqrt | Sqrt | Exp | Sin | Cos | Gelu | Relu | BroadcastTo | BatchMatmul
        | RmsNorm | Pow => &[Float32],
        _ => return None,
    };
    (!runs.contains(&dtype)).then(|| format!("onert has no kernel for {dtype}"))
}

fn fully_connected(graph: &SubGraph, op: &Operator, dtype: TensorType) -> Option<String> {
    if op.inputs.len() == 2 {
        return Some("onert reads the bias whether it is there or not: leave it out as -1".into());
    }
    let weight = input(graph, op, 1)?.dtype;
    let ggml = matches!(weight, TensorType::GgmlQ4_0 | TensorType::GgmlQ8_0);
    if ggml && input(graph, op, 2).is_some() {
        return Some(format!("onert refuses a bias beside {weight} weights"));
    }
    let runs = match dtype {
        Float32 => ggml || matches!(weight, Float32 | Int8),
        Uint8 => weight == Uint8,
        _ => false,
    };
    if !runs {
        return Some(format!("onert has no kernel for {dtype} with {weight} weights"));
    }
    if ggml || (dtype, weight) == (Float32, Int8) {
        return Some(format!("onert rounds the input to 8 bits beside {weight} weights"));
    }
    let result = op.outputs.first()?;
    let moved = graph.operators.iter().any(|reader| {
        reader.inputs.contains(result)
            && matches!(reader.options, Options::Transpose | Options::Concatenation { .. })
    });
    let given = graph.outputs.contains(result);
    let rank = output(graph, op)?.shape.len();
    (rank > 2 && (moved || given)).then(|| {
        format!("onert 0.1.0 takes the result for a matrix, not rank {rank}; put a RESHAPE behind")
    })
}

fn crossing(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<String> {
    let grid = match builtin {
        Quantize => output(graph, op)?.dtype,
        _ => input(graph, op, 0)?.dtype,
    };
    match grid {
        Int16 => Some("onert 0.1.0 has no kernel for INT16, its pre-release has".into()),
        Int8 if builtin == Quantize && input(graph, op, 0)?.dtype == Float32 => {
            Some("onert 0.1.0 computes nonsense for INT8, its pre-release refuses it".into())
        }
        Float16 | TensorType::GgmlQ4_0 | TensorType::GgmlQ8_0 => {
            Some(format!("onert has no kernel for {grid}"))
        }
        _ => None,
    }
}

fn gather(table: TensorType, result: TensorType) -> Option<String> {
    match (table, result) {
        (TensorType::GgmlQ8_0, _) => Some("onert has no kernel for a GGML_Q8_0 table".into()),
        (Uint8 | Int8 | Int16, Float32) => {
            Some(format!("onert refuses FLOAT32 out of a {table} table"))
        }
        (Int8 | Int16, _) => Some(format!("onert has no kernel for {table}")),
        _ => None,
    }
}
