//! What is valid, yet known to fail, crash or compute nonsense in a runtime. Measured on onert 0.1.0
//! and 0.2.0.dev250922 and LiteRT 2.3.0.

use super::super::buffer::Buffer;
use super::super::model::{Details, Model, Operator, SubGraph, Tensor};
use super::super::operator::BuiltinOperator;
use super::super::options::Options;
use super::super::types::TensorType::{self, Float32, Int8, Int16, Uint8};
use super::super::write::Format;
use super::{Report, Target};
use BuiltinOperator::*;

pub(super) fn check(
    model: &Model,
    graph: &SubGraph,
    target: Target,
    place: &str,
    report: &mut Report,
) {
    let first = place == "subgraphs[0]";
    match target {
        Target::One => {
            if first && model.version != Format::Circle.version() {
                report.warn("version", format!("is {}, Circle files have 0", model.version));
            }
        }
        Target::Onert => {
            if first {
                onert_model(model, report);
            }
            tensors(graph, place, report, onert_tensor);
        }
        Target::Litert => {
            if first {
                litert_model(model, report);
            }
            tensors(graph, place, report, litert_tensor);
        }
    }
    for (i, op) in graph.operators.iter().enumerate() {
        let Some(builtin) = model.builtin(op) else { continue };
        let place = format!("{place}.operators[{i}] {builtin}");
        let trap = match target {
            Target::One => None,
            Target::Onert => onert(graph, builtin, op),
            Target::Litert => litert(graph, builtin, op),
        };
        if let Some(trap) = trap {
            report.warn(place, trap);
        }
    }
}

fn tensors(
    graph: &SubGraph,
    place: &str,
    report: &mut Report,
    trap: fn(&Tensor) -> Option<String>,
) {
    for (i, tensor) in graph.tensors.iter().enumerate() {
        if let Some(message) = trap(tensor) {
            report.warn(format_args!("{place}.tensors[{i}]"), message);
        }
    }
}

fn onert_model(model: &Model, report: &mut Report) {
    for (i, buffer) in model.buffers.iter().enumerate() {
        if matches!(buffer, Buffer::External(_)) {
            let what = "lies behind the FlatBuffer, on which onert crashes";
            report.warn(format_args!("buffers[{i}]"), what);
        }
    }
}

fn onert_tensor(tensor: &Tensor) -> Option<String> {
    use TensorType::*;
    let unsupported =
        matches!(tensor.dtype, Uint4 | Int4 | MxInt8 | MxFp4 | GgmlQ4_1 | GgmlQ8_1 | Bfloat16);
    if unsupported {
        return Some(format!("onert refuses {}", tensor.dtype));
    }
    let details = tensor.quantization.as_ref().map(|q| &q.details);
    matches!(details, Some(Details::Custom(_))).then(|| "onert refuses CustomQuantization".into())
}

fn litert_model(model: &Model, report: &mut Report) {
    for (i, code) in model.operator_codes.iter().enumerate() {
        let place = format!("operator_codes[{i}] {}", code.builtin);
        if code.builtin.code() < 0 {
            report.warn(&place, "LiteRT has no such operator");
        } else if code.version < 1 {
            report.warn(&place, format!("LiteRT refuses version {}", code.version));
        } else if code.builtin == BroadcastTo && code.version < 2 {
            report.warn(&place, "LiteRT asks for version 2 or 3");
        }
    }
}

fn litert_tensor(tensor: &Tensor) -> Option<String> {
    let code = tensor.dtype.litert_code();
    code.is_none().then(|| format!("LiteRT has no element type {}", tensor.dtype))
}

/// The type an operator works in: that of its first output, or of its first input where the
/// operator's purpose is to change the type.
fn working_type(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<TensorType> {
    let list = match builtin {
        Quantize | Dequantize | Cast | ArgMax => &op.inputs,
        _ => &op.outputs,
    };
    Some(graph.tensor(*list.first()?)?.dtype)
}

fn input<'a>(graph: &'a SubGraph, op: &Operator, k: usize) -> Option<&'a Tensor> {
    graph.tensor(*op.inputs.get(k)?)
}

fn per_channel(tensor: &Tensor) -> bool {
    tensor.quantization.as_ref().is_some_and(|q| q.scale.len() > 1)
}

fn onert(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<String> {
    if builtin == SplitV {
        return Some("onert computes nothing here; use SPLIT or STRIDED_SLICE".into());
    }
    let weights = match builtin {
        FullyConnected => input(graph, op, 1),
        Dequantize | Gather => input(graph, op, 0),
        _ => None,
    };
    if weights.is_some_and(per_channel) {
        return Some("onert uses the first of the scales for every channel".into());
    }
    let dtype = working_type(graph, builtin, op)?;
    if builtin == FullyConnected {
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
        return (!runs).then(|| format!("onert has no kernel for {dtype} with {weight} weights"));
    }
    if !matches!(dtype, Float32 | Uint8 | Int8 | Int16) {
        return None;
    }
    let runs: &[TensorType] = match builtin {
        Add | Mul | Sub | Softmax | Conv2d | Pad => &[Float32, Uint8, Int8],
        Reshape | ExpandDims | Concatenation => &[Float32, Uint8, Int8, Int16],
        Transpose | Slice | Split | Mean | Gather | Logistic | Tanh => &[Float32, Uint8],
        StridedSlice => &[Float32, Int16],
        Div | Neg | Rsqrt | Sqrt | Exp | Sin | Cos | Gelu | Relu | BroadcastTo | BatchMatmul
        | RmsNorm | Pow => &[Float32],
        _ => return None,
    };
    (!runs.contains(&dtype)).then(|| format!("onert has no kernel for {dtype}"))
}

fn litert(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<String> {
    let dtype = working_type(graph, builtin, op)?;
    let scale = || {
        let output = graph.tensor(*op.outputs.first()?)?;
        output.quantization.as_ref()?.scale.first().copied()
    };
    match (builtin, dtype) {
        (Neg | Rsqrt | Sqrt | Exp | BatchMatmul, Uint8) | (Sin | Cos, Uint8 | Int8 | Int16) => {
            Some(format!("LiteRT has no kernel for {dtype}"))
        }
        (Add | Sub, Int16) => match op.options {
            Options::Add { pot_scale_int16: true, .. }
            | Options::Sub { pot_scale_int16: true, .. } => {
                Some("LiteRT takes pot_scale_int16 to mean scales that are powers of two".into())
            }
            _ => None,
        },
        (Logistic | Softmax, Uint8 | Int8) if scale().is_some_and(|s| s != 1.0 / 256.0) => {
            Some(format!("LiteRT demands an output scale of 1/256 for {dtype}"))
        }
        (Logistic | Softmax, Int16) if scale().is_some_and(|s| s != 1.0 / 32768.0) => {
            Some("LiteRT demands an output scale of 1/32768 for INT16".into())
        }
        (FullyConnected, _) => {
            let weight = input(graph, op, 1)?;
            let runs = match (dtype, weight.dtype) {
                (Float32, Float32) | (Int16, Int16) => true,
                (Float32 | Int8 | Int16, Int8 | TensorType::Int4) => true,
                (Uint8, Uint8) => !per_channel(weight),
                _ => false,
            };
            let kind = if per_channel(weight) { "per-channel" } else { "per-tensor" };
            let weight = weight.dtype;
            (!runs)
                .then(|| format!("LiteRT has no kernel for {dtype} with {kind} {weight} weights"))
        }
        _ => None,
    }
}
