//! Models that tests work on.

use proptest::prelude::*;

use crate::circle::*;

/// A quantized layer exported by TICO: one FULLY_CONNECTED.
pub(super) const PEER_LINEAR: &[u8] = include_bytes!("../../../tests/data/circle/linear.q.circle");
/// A float block exported by TICO: FULLY_CONNECTED, layer norm, SPLIT_V, CONCATENATION, SOFTMAX.
pub(super) const PEER_BLOCK: &[u8] = include_bytes!("../../../tests/data/circle/block.circle");

/// Three operators: a quantized linear with a lazily written weight, ADD and SOFTMAX.
pub(super) fn small() -> Model {
    let mut model = Model::new("small");
    let weight = model.add_buffer(Buffer::lazy(32, |out| out.write_all(&[7; 32])));
    let bias = model.add_buffer(Buffer::data(vec![0; 16]));
    let unit = |scale, zero_point| Quantization::per_tensor(scale, zero_point);
    let mut graph = SubGraph::new("main");
    let x = graph.add_tensor(
        Tensor::new("x", TensorType::Uint8, [1, 2, 8]).with_quantization(unit(0.5, 128)),
    );
    let per_channel = Quantization::per_channel(vec![0.1, 0.2, 0.3, 0.4], vec![3; 4], 0);
    let w = graph.add_tensor(
        Tensor::new("layer.weight", TensorType::Uint8, [4, 8])
            .with_buffer(weight)
            .with_quantization(per_channel),
    );
    let bias_scale = Quantization::per_channel(vec![0.05, 0.1, 0.15, 0.2], vec![0; 4], 0);
    let b = graph.add_tensor(
        Tensor::new("layer.bias", TensorType::Int32, [4])
            .with_buffer(bias)
            .with_quantization(bias_scale),
    );
    let mut act = |name: &str| {
        graph.add_tensor(
            Tensor::new(name, TensorType::Uint8, [1, 2, 4]).with_quantization(unit(0.25, 100)),
        )
    };
    let (h, s, y) = (act("layer"), act("sum"), act("probabilities"));
    let mut add = |model: &mut Model, op, inputs: Vec<i32>, output| {
        let code = model.opcode(op);
        graph.add_operator(Operator::new(code, inputs, vec![output], Options::of(op)));
    };
    add(&mut model, BuiltinOperator::FullyConnected, vec![x, w, b], h);
    add(&mut model, BuiltinOperator::Add, vec![h, h], s);
    add(&mut model, BuiltinOperator::Softmax, vec![s], y);
    graph.inputs = vec![x];
    graph.outputs = vec![y];
    model.subgraphs.push(graph);
    model
}

fn dtype() -> impl Strategy<Value = TensorType> {
    proptest::sample::select(TensorType::ALL)
}

fn details() -> impl Strategy<Value = Details> {
    prop_oneof![
        Just(Details::None),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Details::Custom),
        any::<i32>().prop_map(|axis| Details::Mx { axis }),
        any::<(i32, i32, i32)>().prop_map(|(scales, zero_points, block_size)| {
            Details::Blockwise { scales, zero_points, block_size }
        }),
    ]
}

prop_compose! {
    fn quantization()(
        scale in proptest::collection::vec(-1e3f32..1e3, 0..5),
        zero_point in proptest::collection::vec(any::<i64>(), 0..5),
        min in proptest::collection::vec(-1e3f32..1e3, 0..3),
        max in proptest::collection::vec(-1e3f32..1e3, 0..3),
        quantized_dimension in any::<i32>(),
        details in details(),
    ) -> Quantization {
        Quantization { scale, zero_point, quantized_dimension, min, max, details }
    }
}

fn sparsity() -> impl Strategy<Value = Sparsity> {
    let index = prop_oneof![
        Just(SparseIndex::None),
        proptest::collection::vec(any::<i32>(), 0..4).prop_map(SparseIndex::Int32),
        proptest::collection::vec(any::<u16>(), 0..4).prop_map(SparseIndex::Uint16),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(SparseIndex::Uint8),
    ];
    let dim = (any::<i8>(), any::<i32>(), index.clone(), index).prop_map(
        |(format, dense_size, array_segments, array_indices)| DimensionMetadata {
            format,
            dense_size,
            array_segments,
            array_indices,
        },
    );
    let ints = || proptest::collection::vec(any::<i32>(), 0..3);
    (ints(), ints(), proptest::collection::vec(dim, 0..3)).prop_map(
        |(traversal_order, block_map, dims)| Sparsity { traversal_order, block_map, dims },
    )
}

prop_compose! {
    fn tensor()(
        name in "[a-zé./]{0,12}",
        shape in proptest::collection::vec(any::<i32>(), 0..5),
        signature in proptest::option::of(proptest::collection::vec(any::<i32>(), 1..4)),
        dtype in dtype(),
        buffer in any::<u32>(),
        quantization in proptest::option::of(quantization()),
        sparsity in proptest::option::weighted(0.1, sparsity()),
        flags in any::<(bool, bool, i8)>(),
        variants in proptest::collection::vec((any::<bool>(), dtype()), 0..2),
    ) -> Tensor {
        let variant = |(has_rank, dtype)| VariantSubType { shape: vec![1, -1], dtype, has_rank };
        Tensor {
            name, shape, shape_signature: signature, dtype, buffer, quantization, sparsity,
            is_variable: flags.0, has_rank: flags.1, compression_type: flags.2,
            variant_tensors: variants.into_iter().map(variant).collect(),
        }
    }
}

fn options() -> impl Strategy<Value = Options> {
    let plain = proptest::sample::select(BuiltinOperator::ALL).prop_map(Options::of);
    prop_oneof![
        4 => plain,
        1 => (any::<i32>(), any::<bool>()).prop_map(|(n, offset)| Options::StridedSlice {
            begin_mask: n, end_mask: -n.wrapping_mul(3), ellipsis_mask: 0, new_axis_mask: n / 2,
            shrink_axis_mask: 9, offset,
        }),
        1 => proptest::collection::vec(any::<i32>(), 0..4)
            .prop_map(|new_shape| Options::Reshape { new_shape }),
        1 => (-9f32..9.0).prop_map(|epsilon| Options::RmsNorm { epsilon }),
    ]
}

prop_compose! {
    fn operator()(
        opcode_index in any::<u32>(),
        inputs in proptest::collection::vec(any::<i32>(), 0..4),
        outputs in proptest::collection::vec(any::<i32>(), 0..3),
        options in options(),
        second in 0u8..24,
        custom in proptest::collection::vec(any::<u8>(), 0..9),
        mutating in proptest::collection::vec(any::<bool>(), 0..3),
        rest in (any::<i8>(), any::<i32>()),
    ) -> Operator {
        let options_2 = Options2::with_defaults(second).expect("the schema lists 0..=23");
        Operator {
            options_2, custom_options: custom, custom_options_format: rest.0,
            mutating_variable_inputs: mutating, debug_metadata_index: rest.1,
            intermediates: inputs.clone(),
            ..Operator::new(opcode_index, inputs, outputs, options)
        }
    }
}

fn buffer() -> impl Strategy<Value = Buffer> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..70);
    prop_oneof![
        Just(Buffer::Empty),
        bytes().prop_map(Buffer::data),
        bytes().prop_map(|b| Buffer::lazy(b.len() as u64, move |out| {
            b.chunks(7).try_for_each(|part| out.write_all(part))
        })),
    ]
}

prop_compose! {
    fn subgraph()(
        name in "[a-z]{0,6}",
        tensors in proptest::collection::vec(tensor(), 0..6),
        operators in proptest::collection::vec(operator(), 0..5),
        inputs in proptest::collection::vec(any::<i32>(), 0..3),
        debug_metadata_index in any::<i32>(),
    ) -> SubGraph {
        SubGraph { name, tensors, operators, outputs: inputs.clone(), inputs, debug_metadata_index }
    }
}

prop_compose! {
    /// Models that are well-formed tables but otherwise make no sense.
    pub(super) fn any_model()(
        description in "[ -~]{0,9}",
        subgraphs in proptest::collection::vec(subgraph(), 0..3),
        buffers in proptest::collection::vec(buffer(), 0..5),
        codes in proptest::collection::vec(
            (proptest::sample::select(BuiltinOperator::ALL), any::<i32>()), 0..4),
        names in proptest::collection::vec(("[a-z]{0,4}", any::<u32>()), 0..3),
        metadata_buffer in proptest::collection::vec(any::<i32>(), 0..2),
    ) -> Model {
        let map = |(name, tensor_index): &(String, u32)| (name.clone(), *tensor_index);
        let signature = SignatureDef::new("serve", names.iter().map(map), names.iter().map(map));
        Model {
            version: 0, description, subgraphs, buffers, metadata_buffer,
            operator_codes: codes.into_iter()
                .map(|(op, version)| OperatorCode { version, ..OperatorCode::new(op) })
                .collect(),
            metadata: names.iter()
                .map(|(name, buffer)| Metadata { name: name.clone(), buffer: *buffer })
                .collect(),
            signature_defs: if names.is_empty() { Vec::new() } else { vec![signature] },
        }
    }
}
