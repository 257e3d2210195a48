//! Each rule of the verifier, by a model that breaks it and nothing else.

use super::sample::{PEER_BLOCK, PEER_LINEAR, small};
use crate::circle::*;

/// The only error of the small model after `spoil`.
fn error(spoil: impl FnOnce(&mut Model)) -> String {
    let mut model = small();
    spoil(&mut model);
    let report = verify(&model);
    assert_eq!(report.errors.len(), 1, "{report}");
    report.errors[0].to_string()
}

/// The only warning of the small model after `spoil`.
fn warning(targets: &[Target], spoil: impl FnOnce(&mut Model)) -> String {
    let mut model = small();
    spoil(&mut model);
    let report = verify_for(&model, targets);
    assert!(report.is_valid() && report.warnings.len() == 1, "{report}");
    report.warnings[0].to_string()
}

fn graph(model: &mut Model) -> &mut SubGraph {
    &mut model.subgraphs[0]
}

fn grid(model: &mut Model, tensor: usize) -> &mut Quantization {
    model.subgraphs[0].tensors[tensor].quantization.as_mut().unwrap()
}

#[test]
fn good_models_are_clean() {
    let report = verify(&small());
    assert!(report.is_clean(), "{report}");
    for peer in [PEER_LINEAR, PEER_BLOCK] {
        let report = verify(&read(peer).unwrap());
        assert!(report.is_valid(), "{report}");
    }
}

#[test]
fn a_graph_without_operators_is_valid_and_needs_no_codes() {
    let mut model = Model::new("nothing to do");
    let payload = model.add_buffer(Buffer::data(vec![0; 4]));
    let mut graph = SubGraph::new("main");
    let x = graph.add_tensor(Tensor::new("x", TensorType::Float32, [1, 8]));
    let c = Tensor::new("c", TensorType::Float32, [1]).with_buffer(payload);
    (graph.inputs, graph.outputs) = (vec![x], vec![x, graph.add_tensor(c)]);
    model.subgraphs.push(graph);
    let report = verify(&model);
    assert!(report.is_clean(), "{report}");
    model.subgraphs[0].add_operator(Operator::new(0, vec![x], vec![], Options::None));
    let report = verify(&model);
    assert_eq!(report.errors[0].to_string(), "subgraphs[0].operators[0]: operator code 0 of 0");
}

#[test]
fn structure() {
    let cases: Vec<(String, &str)> = vec![
        (error(|m| graph(m).outputs.push(6)), "subgraphs[0].outputs[1]: tensor 6 of 6"),
        (
            error(|m| graph(m).operators[1].inputs[0] = -2),
            "subgraphs[0].operators[1].inputs[0]: tensor -2 of 6",
        ),
        (
            error(|m| graph(m).tensors[0].name.clear()),
            "subgraphs[0].tensors[0]: has no name, on which onert crashes",
        ),
        (
            error(|m| graph(m).tensors[0].shape_signature = Some(vec![-1])),
            "subgraphs[0].tensors[0]: shape_signature of rank 1, shape of rank 3",
        ),
        (
            error(|m| graph(m).operators.swap(1, 2)),
            "subgraphs[0].operators[1]: reads tensor 4 before it is computed",
        ),
        (
            error(|m| m.buffers[2] = Buffer::Empty),
            "subgraphs[0].operators[0]: tensor 2 \"layer.bias\" is no input, no constant, and never \
             computed",
        ),
        (
            error(|m| m.metadata.push(Metadata { name: "m".into(), buffer: 9 })),
            "metadata[0]: buffer 9 of 3",
        ),
        (
            error(|m| {
                let input = [("x".to_string(), 1)];
                m.signature_defs.push(SignatureDef::new("serve", input, []));
            }),
            "signature_defs[0].inputs: tensor 1 is not among the graph's inputs",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn values() {
    let cases: Vec<(String, &str)> = vec![
        (
            error(|m| m.buffers[1] = Buffer::data(vec![0; 31])),
            "subgraphs[0].tensors[1]: UINT8 [4, 8] takes 32 bytes, its payload has 31",
        ),
        (error(|m| grid(m, 3).scale[0] = f32::NAN), "subgraphs[0].tensors[3]: scale[0] is NaN"),
        (
            error(|m| grid(m, 3).zero_point[0] = 256),
            "subgraphs[0].tensors[3]: zero_point[0] is 256, UINT8 allows 0..=255",
        ),
        (
            error(|m| {
                let y = &mut graph(m).tensors[5];
                y.dtype = TensorType::Int16;
            }),
            "subgraphs[0].tensors[5]: zero_point[0] is 100, INT16 allows 0..=0",
        ),
        (
            error(|m| grid(m, 1).zero_point.truncate(1)),
            "subgraphs[0].tensors[1]: 4 scales, but 1 zero points",
        ),
        (
            error(|m| grid(m, 1).quantized_dimension = 1),
            "subgraphs[0].tensors[1]: 4 scales for the 8 indices of dimension 1",
        ),
        (
            error(|m| graph(m).tensors[0].shape[1] = -1),
            "subgraphs[0].tensors[0]: dimension -1; dynamic ones belong into shape_signature",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn operators() {
    let cases: Vec<(String, &str)> = vec![
        (
            error(|m| graph(m).operators[2].options = Options::None),
            "subgraphs[0].operators[2] SOFTMAX: SoftmaxOptions is missing, on which onert crashes",
        ),
        (
            error(|m| graph(m).operators[1].options = Options::Neg),
            "subgraphs[0].operators[1] ADD: has NegOptions (type 42)",
        ),
        (
            error(|m| graph(m).operators[1].inputs.push(3)),
            "subgraphs[0].operators[1] ADD: 3 inputs, expected 2",
        ),
        (
            error(|m| grid(m, 2).scale[3] = 0.3),
            "subgraphs[0].operators[0] FULLY_CONNECTED: bias scale[3] is 3e-1, input scale × weight \
             scale 2e-1",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_missing_table_is_an_error_where_it_has_fields() {
    let without = |builtin| {
        let mut model = Model::new("one");
        let mut graph = SubGraph::new("main");
        for name in ["x", "y"] {
            graph.add_tensor(Tensor::new(name, TensorType::Float32, vec![4]));
        }
        (graph.inputs, graph.outputs) = (vec![0], vec![1]);
        let opcode = model.opcode(builtin);
        graph.add_operator(Operator::new(opcode, vec![0], vec![1], Options::None));
        model.subgraphs.push(graph);
        let report = verify(&model);
        (report.is_valid(), [report.errors, report.warnings].concat()[0].to_string())
    };
    let place = "subgraphs[0].operators[0]";
    let abs = without(BuiltinOperator::Abs);
    assert_eq!(abs, (true, format!("{place} ABS: AbsOptions is missing")));
    let softmax = format!("{place} SOFTMAX: SoftmaxOptions is missing, on which onert crashes");
    assert_eq!(without(BuiltinOperator::Softmax), (false, softmax));
}

#[test]
fn scales_stand_along_an_axis_that_the_operator_applies() {
    use BuiltinOperator::{FullyConnected as Linear, Gather, RmsNorm};
    let one = |builtin, options: Options, operand: usize, axis: i32| {
        let mut model = Model::new("one");
        let mut graph = SubGraph::new("main");
        for (index, shape) in [vec![4, 4], vec![4, 4], vec![4, 4]].into_iter().enumerate() {
            let mut tensor = Tensor::new(format!("t{index}"), TensorType::Uint8, shape);
            let scales = if index == operand { 4 } else { 1 };
            tensor.quantization = Some(Quantization {
                scale: vec![0.5; scales],
                zero_point: vec![0; scales],
                quantized_dimension: axis,
                ..Quantization::default()
            });
            graph.add_tensor(tensor);
        }
        (graph.inputs, graph.outputs) = (vec![0, 1], vec![2]);
        let opcode = model.opcode(builtin);
        let inputs = [0, 1, -1].into_iter().take(if builtin == Linear { 3 } else { 2 });
        graph.add_operator(Operator::new(opcode, inputs.collect(), vec![2], options));
        model.subgraphs.push(graph);
        verify(&model).warnings.first().map(Finding::to_string)
    };
    let gather = || Options::Gather { axis: 0, batch_dims: 0 };
    let (linear, norm) = (|| Options::of(Linear), || Options::RmsNorm { epsilon: 1e-6 });
    let rows = "has scales along dimension 1, kernels apply those of dimension 0";
    let none = one(RmsNorm, Options::of(RmsNorm), 1, 0).unwrap();
    assert!(none.ends_with("epsilon is 0, for which runtimes take 1e-6"), "{none}");
    for (found, expected) in [
        (one(Linear, linear(), 1, 0), None),
        (one(Linear, linear(), 1, 1), Some(format!("1 {rows}"))),
        (one(Gather, gather(), 0, 0), None),
        (one(Gather, gather(), 0, 1), Some(format!("0 {rows}"))),
        (
            one(RmsNorm, norm(), 1, 0),
            Some("1 has scales along dimension 0, kernels apply one scale".into()),
        ),
    ] {
        let end = found.and_then(|found| found.rsplit("operand ").next().map(str::to_owned));
        assert_eq!(end, expected);
    }
}

#[test]
fn doubts() {
    let none = &[][..];
    let cases: Vec<(String, &str)> = vec![
        (warning(none, |m| m.buffers.push(Buffer::Empty)), "buffers[3]: is not used"),
        (
            warning(none, |m| assert_eq!(m.opcode(BuiltinOperator::Neg), 3)),
            "operator_codes[3]: is not used",
        ),
        (
            warning(none, |m| graph(m).tensors[0].name = "sum".into()),
            "subgraphs[0]: 2 tensors are named \"sum\"",
        ),
        (
            warning(none, |m| m.operator_codes[0].deprecated_code = 0),
            "operator_codes[0] FULLY_CONNECTED: deprecated_builtin_code 0, expected 9: loaders read \
             another operator",
        ),
        (warning(&[Target::One], |m| m.version = 3), "version: is 3, Circle files have 0"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn buffer_0_is_empty() {
    let mut model = small();
    model.buffers[0] = Buffer::data(vec![1]);
    let report = verify(&model);
    assert_eq!(report.errors[0].to_string(), "buffers[0]: holds 1 bytes, must be empty");
}
