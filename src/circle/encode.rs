//! The model as tables and slots, ready to be laid out.

use super::emit::{Fields, Node};
use super::error::{Error, Result};
use super::model::*;
use super::types::TensorType;
use super::write::{Format, Payloads, WriteOptions};

/// The fields of the root table.
pub(super) fn model<'a>(model: &'a Model, how: &WriteOptions) -> Result<Fields<'a>> {
    let subgraphs = each(&model.subgraphs, "subgraphs", |graph| subgraph(graph, how.format))?;
    let codes =
        each(&model.operator_codes, "operator_codes", |code| code_fields(code, how.format))?;
    let buffers = model.buffers.iter().enumerate().map(|(i, b)| {
        let mut fields = Fields::new();
        if !b.is_empty() {
            match how.payloads {
                Payloads::Inline => fields.push((0, Node::Payload(i))),
                Payloads::Appended => {
                    fields.extend([(1, Node::Appended(i)), (2, Node::U64(b.len()))]);
                }
            }
        }
        fields
    });
    let mut fields: Fields<'a> = vec![
        (0, Node::U32(how.format.version())),
        (1, Node::Tables(codes)),
        (2, Node::Tables(subgraphs)),
        (3, Node::Str(&model.description)),
        (4, Node::Tables(buffers.collect())),
    ];
    if !model.metadata_buffer.is_empty() {
        fields.push((5, Node::I32s(&model.metadata_buffer)));
    }
    if !model.metadata.is_empty() {
        let one = |m: &'a Metadata| vec![(0, Node::Str(&m.name)), (1, Node::U32(m.buffer))];
        fields.push((6, Node::Tables(model.metadata.iter().map(one).collect())));
    }
    if !model.signature_defs.is_empty() {
        let all = model.signature_defs.iter().map(signature).collect();
        fields.push((7, Node::Tables(all)));
    }
    Ok(fields)
}

fn each<'a, T>(
    items: &'a [T],
    name: &str,
    fields: impl Fn(&'a T) -> Result<Fields<'a>>,
) -> Result<Vec<Fields<'a>>> {
    let one = |(i, item)| fields(item).map_err(|e| e.within(format_args!("{name}[{i}]")));
    items.iter().enumerate().map(one).collect()
}

fn code_fields(code: &OperatorCode, format: Format) -> Result<Fields<'_>> {
    if format == Format::TfLite && code.builtin.code() < 0 {
        return Err(Error::unsupported(format!("TFLite has no operator {}", code.builtin)));
    }
    let mut fields = vec![
        (0, Node::I8(code.builtin.deprecated_code())),
        (2, Node::I32(code.version)),
        (3, Node::I32(code.builtin.code())),
    ];
    if let Some(name) = &code.custom_code {
        fields.push((1, Node::Str(name)));
    }
    Ok(fields)
}

fn subgraph(graph: &SubGraph, format: Format) -> Result<Fields<'_>> {
    let mut fields = vec![
        (0, Node::Tables(each(&graph.tensors, "tensors", |t| tensor(t, format))?)),
        (1, Node::I32s(&graph.inputs)),
        (2, Node::I32s(&graph.outputs)),
        (3, Node::Tables(each(&graph.operators, "operators", |o| operator(o, format))?)),
        (4, Node::Str(&graph.name)),
    ];
    if graph.debug_metadata_index != -1 {
        fields.push((6, Node::I32(graph.debug_metadata_index)));
    }
    Ok(fields)
}

fn dtype(dtype: TensorType, format: Format) -> Result<Node<'static>> {
    match format {
        Format::Circle => Ok(Node::I8(dtype.code())),
        Format::TfLite => dtype
            .litert_code()
            .map(Node::I8)
            .ok_or_else(|| Error::unsupported(format!("TFLite has no element type {dtype}"))),
    }
}

fn tensor(tensor: &Tensor, format: Format) -> Result<Fields<'_>> {
    let mut fields = vec![
        (0, Node::I32s(&tensor.shape)),
        (1, dtype(tensor.dtype, format)?),
        (2, Node::U32(tensor.buffer)),
        (3, Node::Str(&tensor.name)),
    ];
    if let Some(q) = &tensor.quantization {
        fields.push((4, Node::Table(quantization(q, format)?)));
    }
    if tensor.is_variable {
        fields.push((5, Node::Bool(true)));
    }
    if let Some(s) = &tensor.sparsity {
        fields.push((6, Node::Table(sparsity(s))));
    }
    // An empty signature is not the same as none: onert refuses it.
    if let Some(signature) = tensor.shape_signature.as_ref().filter(|s| !s.is_empty()) {
        fields.push((7, Node::I32s(signature)));
    }
    if tensor.has_rank {
        fields.push((8, Node::Bool(true)));
    }
    if !tensor.variant_tensors.is_empty() {
        let one = |v| variant(v, format);
        fields.push((9, Node::Tables(each(&tensor.variant_tensors, "variant_tensors", one)?)));
    }
    if tensor.compression_type != 0 {
        if format == Format::TfLite {
            return Err(Error::unsupported("TFLite has no compressed payloads"));
        }
        fields.push((10, Node::I8(tensor.compression_type)));
    }
    Ok(fields)
}

fn variant(sub: &VariantSubType, format: Format) -> Result<Fields<'_>> {
    Ok(vec![
        (0, Node::I32s(&sub.shape)),
        (1, dtype(sub.dtype, format)?),
        (2, Node::Bool(sub.has_rank)),
    ])
}

fn quantization(q: &Quantization, format: Format) -> Result<Fields<'_>> {
    let mut fields = Fields::new();
    for (slot, values) in [(0, &q.min), (1, &q.max), (2, &q.scale)] {
        if !values.is_empty() {
            fields.push((slot, Node::F32s(values)));
        }
    }
    if !q.zero_point.is_empty() {
        fields.push((3, Node::I64s(&q.zero_point)));
    }
    let member = match &q.details {
        Details::None => None,
        Details::Custom(bytes) => Some((1, vec![(0, Node::U8sAligned(bytes))])),
        Details::Mx { axis } if format == Format::Circle => Some((2, vec![(0, Node::I32(*axis))])),
        Details::Blockwise { scales, zero_points, block_size } => {
            let id = if format == Format::Circle { 3 } else { 2 };
            let slots = [*scales, *zero_points, *block_size];
            Some((id, (0..).zip(slots.map(Node::I32)).collect()))
        }
        Details::Mx { .. } => return Err(Error::unsupported("TFLite has no MXQuantization")),
        Details::Unknown(id) => {
            let what = format!("quantization details of unknown type {id} cannot be written");
            return Err(Error::unsupported(what));
        }
    };
    if let Some((id, table)) = member {
        fields.extend([(4, Node::U8(id)), (5, Node::Table(table))]);
    }
    fields.push((6, Node::I32(q.quantized_dimension)));
    Ok(fields)
}

fn sparsity<'a>(sparsity: &'a Sparsity) -> Fields<'a> {
    let dim = |dim: &'a DimensionMetadata| {
        let DimensionMetadata { format, dense_size, array_segments, array_indices } = dim;
        let mut fields: Fields<'a> = vec![(0, Node::I8(*format)), (1, Node::I32(*dense_size))];
        for (slot, index) in [(2, array_segments), (4, array_indices)] {
            let (id, values) = match index {
                SparseIndex::None => continue,
                SparseIndex::Int32(v) => (1, Node::I32s(v)),
                SparseIndex::Uint16(v) => (2, Node::U16s(v)),
                SparseIndex::Uint8(v) => (3, Node::U8s(v)),
            };
            fields.extend([(slot, Node::U8(id)), (slot + 1, Node::Table(vec![(0, values)]))]);
        }
        fields
    };
    vec![
        (0, Node::I32s(&sparsity.traversal_order)),
        (1, Node::I32s(&sparsity.block_map)),
        (2, Node::Tables(sparsity.dims.iter().map(dim).collect())),
    ]
}

fn operator(op: &Operator, format: Format) -> Result<Fields<'_>> {
    let mut fields = vec![
        (0, Node::U32(op.opcode_index)),
        (1, Node::I32s(&op.inputs)),
        (2, Node::I32s(&op.outputs)),
    ];
    let unions = [
        (3, op.options.type_id(), op.options.nodes()),
        (11, op.options_2.type_id(), op.options_2.nodes()),
    ];
    for (slot, id, table) in unions {
        if id == 0 {
            continue;
        }
        let what = || Error::unsupported(format!("options of unknown type {id} cannot be written"));
        if format == Format::TfLite && slot == 3 && id > 126 {
            return Err(Error::unsupported(format!("TFLite has no options of type {id}")));
        }
        fields.extend([(slot, Node::U8(id)), (slot + 1, Node::Table(table.ok_or_else(what)?))]);
    }
    if !op.custom_options.is_empty() {
        fields.push((5, Node::U8s(&op.custom_options)));
    }
    if op.custom_options_format != 0 {
        fields.push((6, Node::I8(op.custom_options_format)));
    }
    if !op.mutating_variable_inputs.is_empty() {
        fields.push((7, Node::Bools(&op.mutating_variable_inputs)));
    }
    if !op.intermediates.is_empty() {
        fields.push((8, Node::I32s(&op.intermediates)));
    }
    if op.debug_metadata_index != -1 {
        fields.push((13, Node::I32(op.debug_metadata_index)));
    }
    Ok(fields)
}

fn signature(def: &SignatureDef) -> Fields<'_> {
    vec![
        (0, tensor_maps(&def.inputs)),
        (1, tensor_maps(&def.outputs)),
        (2, Node::Str(&def.key)),
        (4, Node::U32(def.subgraph_index)),
    ]
}

fn tensor_maps(maps: &[TensorMap]) -> Node<'_> {
    let one = |(name, index)| vec![(0, Node::Str(name)), (1, Node::U32(index))];
    Node::Tables(maps.iter().map(|m| (m.name.as_str(), m.tensor_index)).map(one).collect())
}
