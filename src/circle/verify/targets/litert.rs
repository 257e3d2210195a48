//! LiteRT (TensorFlow Lite), for a model that is to be written as TFLite.

use super::super::super::model::{Model, Operator, SubGraph, Tensor};
use super::super::super::operator::BuiltinOperator::{self, *};
use super::super::super::options::Options;
use super::super::super::types::TensorType::{self, Float32, Int4, Int8, Int16, Uint8};
use super::super::Report;
use super::{input, output, per_channel, working_type};

/// Beyond the versions of every operator it knows.
const VERSION_MAX: i32 = 20;

pub(super) fn model(model: &Model, report: &mut Report) {
    for (i, code) in model.operator_codes.iter().enumerate() {
        let place = format!("operator_codes[{i}] {}", code.builtin);
        if code.builtin.code() < 0 {
            report.warn(&place, "LiteRT has no such operator");
        } else if code.version < 1 || code.version > VERSION_MAX {
            report.warn(&place, format!("LiteRT refuses version {}", code.version));
        } else if code.builtin == BroadcastTo && code.version < 2 {
            report.warn(&place, "LiteRT asks for version 2 or 3");
        }
    }
}

pub(super) fn tensor(tensor: &Tensor) -> Option<String> {
    let code = tensor.dtype.litert_code();
    code.is_none().then(|| format!("LiteRT has no element type {}", tensor.dtype))
}

pub(super) fn operator(
    graph: &SubGraph,
    builtin: BuiltinOperator,
    op: &Operator,
) -> Option<String> {
    let dtype = working_type(graph, builtin, op)?;
    match (builtin, dtype) {
        (Neg | Rsqrt | Sqrt | Exp | BatchMatmul, Uint8) | (Sin | Cos, Uint8 | Int8 | Int16) => {
            Some(format!("LiteRT has no kernel for {dtype}"))
        }
        (Neg, Int8 | Int16) if grid(output(graph, op)?) != grid(input(graph, op, 0)?) => {
            Some(format!("LiteRT negates {dtype} as they are, though the grids differ"))
        }
        (Rsqrt | Gelu, Int16) => Some("LiteRT computes other numbers for INT16".into()),
        (Add | Sub, Int16) => match op.options {
            Options::Add { pot_scale_int16: true, .. }
            | Options::Sub { pot_scale_int16: true, .. } => {
                Some("LiteRT takes pot_scale_int16 to mean scales that are powers of two".into())
            }
            _ => None,
        },
        (Logistic | Softmax, _) => probabilities(graph, op, dtype),
        (Tanh, Int16) => {
            let scale = grid(output(graph, op)?)?.0;
            let power = scale.log2().fract() == 0.0;
            (!power).then(|| "LiteRT demands a power of two for the output scale of INT16".into())
        }
        (Dequantize, Int16) if per_channel(input(graph, op, 0)?) => {
            Some("LiteRT has no kernel for INT16 with a scale for each channel".into())
        }
        (FullyConnected, _) => fully_connected(graph, op, dtype),
        _ => None,
    }
}

/// Scale and zero point.
fn grid(tensor: &Tensor) -> Option<(f32, i64)> {
    let q = tensor.quantization.as_ref()?;
    Some((*q.scale.first()?, *q.zero_point.first()?))
}

/// Results between 0 and 1 have one grid only.
fn probabilities(graph: &SubGraph, op: &Operator, dtype: TensorType) -> Option<String> {
    let (scale, zero) = grid(output(graph, op)?)?;
    let (parts, expected) = match dtype {
        Uint8 => (256, 0),
        Int8 => (256, -128),
        Int16 => (32768, 0),
        _ => return None,
    };
    if scale != 1.0 / parts as f32 {
        return Some(format!("LiteRT demands an output scale of 1/{parts} for {dtype}"));
    }
    (zero != expected)
        .then(|| format!("LiteRT demands the zero point {expected} for {dtype}, found {zero}"))
}

fn fully_connected(graph: &SubGraph, op: &Operator, dtype: TensorType) -> Option<String> {
    let weight = input(graph, op, 1)?;
    let kind = if per_channel(weight) { "per-channel" } else { "per-tensor" };
    let runs = match (dtype, weight.dtype) {
        (Float32, Float32) | (Int16, Int16) | (Float32 | Int8 | Int16, Int8 | Int4) => true,
        (Uint8, Uint8) => !per_channel(weight),
        _ => false,
    };
    if !runs {
        let weight = weight.dtype;
        return Some(format!("LiteRT has no kernel for {dtype} with {kind} {weight} weights"));
    }
    let zeros = weight.quantization.as_ref().map_or(&[][..], |q| &q.zero_point);
    if matches!(weight.dtype, Int4 | Int8) && zeros.iter().any(|&zero| zero != 0) {
        return Some(format!("LiteRT takes {} weights to have zero points of 0", weight.dtype));
    }
    if (dtype, weight.dtype) == (Int16, Int16) && input(graph, op, 2).is_some() {
        return Some("LiteRT computes nonsense for a bias beside INT16 weights".into());
    }
    (dtype == Float32 && weight.dtype != Float32)
        .then(|| format!("LiteRT rounds the input to 8 bits beside {} weights", weight.dtype))
}
