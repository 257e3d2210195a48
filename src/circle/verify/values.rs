//! Shapes, payload sizes and quantization of each tensor.

use super::super::model::{Details, Model, Quantization, SubGraph, Tensor};
use super::super::types::TensorType;
use super::{Report, in_range};

pub(super) fn check(model: &Model, graph: &SubGraph, place: &str, report: &mut Report) {
    for (i, tensor) in graph.tensors.iter().enumerate() {
        let place = format!("{place}.tensors[{i}]");
        payload(model, tensor, &place, report);
        if let Some(quantization) = &tensor.quantization {
            let mut complain = |message: String| report.error(&place, message);
            parameters(tensor, quantization, &mut complain);
            details(tensor, quantization, &mut complain);
            doubts(tensor, quantization, &place, report);
        }
    }
}

fn payload(model: &Model, tensor: &Tensor, place: &str, report: &mut Report) {
    if let Some(dim) = tensor.shape.iter().find(|&&d| d < 0) {
        let message = format!("dimension {dim}; dynamic ones belong into shape_signature");
        return report.error(place, message);
    }
    if let TensorType::Unknown(code) = tensor.dtype {
        return report.error(place, format!("unknown element type {code}"));
    }
    let actual = model.payload(tensor).map_or(0, |b| b.len());
    // How many bytes a sparse or compressed payload has is not said by the shape.
    if actual == 0 || tensor.sparsity.is_some() || tensor.compression_type != 0 {
        return;
    }
    let shape = &tensor.shape;
    match tensor.dtype.payload_bytes(shape) {
        Some(expected) if expected != actual => {
            let what = format!("{} {shape:?} takes {expected} bytes", tensor.dtype);
            report.error(place, format!("{what}, its payload has {actual}"));
        }
        None if tensor.dtype.block().is_some() => {
            let what = format!("{} packs 32 elements of a row", tensor.dtype);
            report.error(place, format!("{what}, but its shape is {shape:?}"));
        }
        None if tensor.dtype.bits().is_some() => {
            report.error(place, format!("{} {shape:?} has too many elements", tensor.dtype));
        }
        _ => {}
    }
}

fn parameters(tensor: &Tensor, q: &Quantization, complain: &mut impl FnMut(String)) {
    let (scales, zeros) = (q.scale.len(), q.zero_point.len());
    if scales != zeros {
        complain(format!("{scales} scales, but {zeros} zero points"));
    }
    if scales > 1 {
        let dim = usize::try_from(q.quantized_dimension).ok().and_then(|d| tensor.shape.get(d));
        match dim {
            None => complain(format!(
                "quantized along dimension {} of {:?}",
                q.quantized_dimension, tensor.shape
            )),
            Some(&dim) if usize::try_from(dim).ok() != Some(scales) => complain(format!(
                "{scales} scales for the {dim} indices of dimension {}",
                q.quantized_dimension
            )),
            Some(_) => {}
        }
    }
    if let Some((i, scale)) =
        q.scale.iter().enumerate().find(|(_, s)| !(s.is_finite() && **s > 0.0))
    {
        complain(format!("scale[{i}] is {scale}"));
    }
    let (low, high) = match tensor.dtype {
        // Loaders insist: 16-bit activations are symmetric.
        TensorType::Int16 => (0, 0),
        other => other.integer_range().unwrap_or((i64::MIN, i64::MAX)),
    };
    let outside = |z: i64| z < low || z > high;
    if let Some((i, zero)) = q.zero_point.iter().enumerate().find(|(_, z)| outside(**z)) {
        complain(format!("zero_point[{i}] is {zero}, {} allows {low}..={high}", tensor.dtype));
    }
}

fn details(tensor: &Tensor, q: &Quantization, complain: &mut impl FnMut(String)) {
    match q.details {
        Details::Mx { axis } if !in_range(axis, tensor.shape.len()) => {
            complain(format!("microscaling along axis {axis} of {:?}", tensor.shape));
        }
        Details::Blockwise { block_size, .. } if block_size <= 0 => {
            complain(format!("quantized in blocks of {block_size} elements"));
        }
        Details::Unknown(id) => complain(format!("quantization details of unknown type {id}")),
        _ => {}
    }
}

fn doubts(tensor: &Tensor, q: &Quantization, place: &str, report: &mut Report) {
    if !q.scale.is_empty() && tensor.dtype.integer_range().is_none() {
        report.warn(place, format!("has scales, but holds {}", tensor.dtype));
    }
    for (name, values) in [("min", &q.min), ("max", &q.max)] {
        if !values.is_empty() && !q.scale.is_empty() && values.len() != q.scale.len() {
            let message = format!("{} values in {name}, {} scales", values.len(), q.scale.len());
            report.warn(place, message);
        }
    }
}
