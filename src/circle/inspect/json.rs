//! A model as JSON: every table but the payloads, of which only the sizes are told.

use serde_json::{Map, Value, json};

use super::super::model::{
    Details, Model, Operator, Quantization, SignatureDef, SparseIndex, Sparsity, SubGraph, Tensor,
    TensorMap,
};

/// The whole model as JSON, without the payloads' bytes.
pub fn to_json(model: &Model) -> Value {
    let codes = model.operator_codes.iter().map(|code| {
        json!({
            "operator": code.builtin.to_string(),
            "code": code.builtin.code(),
            "version": code.version,
            "custom_code": code.custom_code,
        })
    });
    let metadata = model.metadata.iter().map(|m| json!({ "name": m.name, "buffer": m.buffer }));
    json!({
        "version": model.version,
        "description": model.description,
        "operator_codes": codes.collect::<Vec<_>>(),
        "subgraphs": model.subgraphs.iter().map(|g| subgraph(model, g)).collect::<Vec<_>>(),
        "buffers": model.buffers.iter().map(|b| b.len()).collect::<Vec<_>>(),
        "metadata": metadata.collect::<Vec<_>>(),
        "signature_defs": model.signature_defs.iter().map(signature).collect::<Vec<_>>(),
    })
}

fn subgraph(model: &Model, graph: &SubGraph) -> Value {
    let tensors = graph.tensors.iter().map(|t| tensor(model, t));
    json!({
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "tensors": tensors.collect::<Vec<_>>(),
        "operators": graph.operators.iter().map(|op| operator(model, op)).collect::<Vec<_>>(),
    })
}

fn tensor(model: &Model, tensor: &Tensor) -> Value {
    let mut value = json!({
        "name": tensor.name,
        "type": tensor.dtype.to_string(),
        "shape": tensor.shape,
        "buffer": tensor.buffer,
        "payload_bytes": model.payload(tensor).map_or(0, |b| b.len()),
    });
    if let Some(signature) = &tensor.shape_signature {
        value["shape_signature"] = json!(signature);
    }
    if tensor.is_variable {
        value["is_variable"] = json!(true);
    }
    if tensor.has_rank {
        value["has_rank"] = json!(true);
    }
    if tensor.compression_type != 0 {
        value["compression_type"] = json!(tensor.compression_type);
    }
    if let Some(sparsity) = &tensor.sparsity {
        value["sparsity"] = sparse(sparsity);
    }
    if let Some(q) = &tensor.quantization {
        value["quantization"] = quantization(q);
    }
    value
}

fn sparse(sparsity: &Sparsity) -> Value {
    let index = |index: &SparseIndex| match index {
        SparseIndex::None => 0,
        SparseIndex::Int32(list) => list.len(),
        SparseIndex::Uint16(list) => list.len(),
        SparseIndex::Uint8(list) => list.len(),
    };
    let dims = sparsity.dims.iter().map(|dim| {
        json!({
            "format": dim.format,
            "dense_size": dim.dense_size,
            "array_segments": index(&dim.array_segments),
            "array_indices": index(&dim.array_indices),
        })
    });
    json!({
        "traversal_order": sparsity.traversal_order,
        "block_map": sparsity.block_map,
        "dims": dims.collect::<Vec<_>>(),
    })
}

fn quantization(q: &Quantization) -> Value {
    let mut value = json!({
        "scale": q.scale,
        "zero_point": q.zero_point,
        "quantized_dimension": q.quantized_dimension,
    });
    if !q.min.is_empty() || !q.max.is_empty() {
        value["min"] = json!(q.min);
        value["max"] = json!(q.max);
    }
    let details = match &q.details {
        Details::None => return value,
        Details::Custom(bytes) => json!({ "kind": "custom", "bytes": bytes.len() }),
        Details::Mx { axis } => json!({ "kind": "mx", "axis": axis }),
        Details::Blockwise { scales, zero_points, block_size } => json!({
            "kind": "blockwise",
            "scales": scales,
            "zero_points": zero_points,
            "block_size": block_size,
        }),
        Details::Unknown(id) => json!({ "kind": "unknown", "type": id }),
    };
    value["details"] = details;
    value
}

fn operator(model: &Model, op: &Operator) -> Value {
    let fields = op.options.fields().into_iter().chain(op.options_2.fields());
    let options: Map<String, Value> = fields.map(|(k, v)| (k.to_string(), v)).collect();
    let mut value = json!({
        "operator": model.builtin(op).map(|builtin| builtin.to_string()),
        "inputs": op.inputs,
        "outputs": op.outputs,
        "options": options,
    });
    if !op.custom_options.is_empty() {
        value["custom_options"] = json!(op.custom_options);
    }
    if !op.intermediates.is_empty() {
        value["intermediates"] = json!(op.intermediates);
    }
    value
}

fn signature(def: &SignatureDef) -> Value {
    let map = |maps: &[TensorMap]| -> Map<String, Value> {
        maps.iter().map(|m| (m.name.clone(), m.tensor_index.into())).collect()
    };
    json!({
        "key": def.key,
        "subgraph": def.subgraph_index,
        "inputs": map(&def.inputs),
        "outputs": map(&def.outputs),
    })
}
