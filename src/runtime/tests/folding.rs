//! Results that are constants: what a file makes of constants alone.

use super::files::ramp;
use crate::circle::{
    self, Buffer, BuiltinOperator as Op, Model, Operator, Options, Quantization, SubGraph, Tensor,
    TensorType,
};
use crate::runtime::{Export, Form, Limits, Program, export};
use crate::tensor;

const PEER_CONV3D: &[u8] = include_bytes!("../../../tests/data/circle/conv3d.q.circle");

/// The names of a model's operators, and the most scales that one of its QUANTIZE has.
fn described(model: &Model) -> (Vec<String>, usize) {
    let graph = &model.subgraphs[0];
    let names = graph.operators.iter().map(|op| model.builtin(op).unwrap().to_string()).collect();
    let rounds = |op: &&Operator| model.builtin(op) == Some(Op::Quantize);
    let scales = graph.operators.iter().filter(rounds).map(|op| {
        let tensor = graph.tensor(op.outputs[0]).unwrap();
        tensor.quantization.as_ref().map_or(0, |q| q.scale.len())
    });
    (names, scales.max().unwrap_or(0))
}

fn exported(model: &Model, form: Form) -> Model {
    let how = Export { form, format: circle::Format::Circle, blocks: None };
    export(model, how).unwrap()
}

#[test]
fn the_peers_patch_embedding_runs_in_both_readings_and_as_float() {
    let model = circle::read(PEER_CONV3D).unwrap();
    assert!(described(&model).0.contains(&"TRANSPOSE".to_string()));
    let program = Program::new(&model, Limits::default()).unwrap();
    let inputs = ramp(&program);
    assert!(program.audit(&inputs).unwrap().iter().all(|edge| edge.steps_max <= 1));
    let reals = program.run(&inputs).unwrap();
    assert!(reals[0].data().iter().any(|y| y.abs() > 0.5), "{reals:?}");
    let qdq = exported(&model, Form::Qdq);
    let (operators, scales) = described(&qdq);
    assert!(scales == 1 && !operators.contains(&"TRANSPOSE".to_string()), "{operators:?} {scales}");
    assert_eq!(Program::new(&qdq, Limits::default()).unwrap().run(&inputs).unwrap(), reals);
}

const CODES: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 0, 2];

/// A product whose weights are a constant `[1, 3, 3]`, channels along the last axis, reshaped to two
/// axes and transposed; of the result the file says that its channels lie along `axis`.
fn moved(dtype: TensorType, payload: Vec<u8>, scales: &[f32], axis: i32) -> Model {
    let mut model = Model::new("moved");
    let mut graph = SubGraph::new("main");
    let mut weight = |name: &str, shape: &[i32], axis: i32| {
        let tensor = Tensor::new(name, dtype, shape);
        let grid = Quantization::per_channel(scales.to_vec(), vec![0; scales.len()], axis);
        graph.add_tensor(if scales.is_empty() { tensor } else { tensor.with_quantization(grid) })
    };
    let stored = weight("stored", &[1, 3, 3], 2);
    let (flat, turned) = (weight("flat", &[3, 3], 1), weight("turned", &[3, 3], axis));
    graph.tensors[0].buffer = model.add_buffer(Buffer::data(payload));
    let perm = model.add_buffer(Buffer::data(vec![1, 0, 0, 0, 0, 0, 0, 0]));
    let perm = Tensor::new("perm", TensorType::Int32, [2]).with_buffer(perm);
    let perm = graph.add_tensor(perm);
    let x = graph.add_tensor(Tensor::new("x", TensorType::Float32, [3, 3]));
    let y = graph.add_tensor(Tensor::new("y", TensorType::Float32, [3, 3]));
    let new_shape = vec![3, 3];
    for (op, inputs, output, options) in [
        (Op::Reshape, vec![stored], flat, Options::Reshape { new_shape }),
        (Op::Transpose, vec![flat, perm], turned, Options::of(Op::Transpose)),
        (Op::FullyConnected, vec![x, turned, -1], y, Options::of(Op::FullyConnected)),
    ] {
        let code = model.opcode(op);
        graph.add_operator(Operator::new(code, inputs, vec![output], options));
    }
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    model.subgraphs = vec![graph];
    model
}

#[test]
fn channels_of_a_constant_move_with_its_axes_in_every_type() {
    use TensorType::{Float32, Int4, Int8, Int16, Int32, Uint4, Uint8};
    let wide = |width: usize| {
        let code = |&code: &u8| [vec![code], vec![0; width - 1]].concat();
        CODES.iter().flat_map(code).collect::<Vec<u8>>()
    };
    let nibbles = || vec![0x21, 0x43, 0x65, 0x07, 0x02];
    let reals = || CODES.iter().flat_map(|&code| f32::from(code).to_le_bytes()).collect();
    let scales = [0.5, 2.0, 8.0];
    let identity = tensor::Tensor::new([3, 3], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    for (dtype, payload) in [
        (Uint4, nibbles()),
        (Int4, nibbles()),
        (Uint8, wide(1)),
        (Int8, wide(1)),
        (Int16, wide(2)),
        (Int32, wide(4)),
        (Float32, reals()),
    ] {
        let scales = if dtype == Float32 { &[][..] } else { &scales };
        let scale = |i: usize| scales.get(i % 3).copied().unwrap_or(1.0);
        let real = |(i, &code): (usize, &u8)| f32::from(code) * scale(i);
        let expected: Vec<f32> = CODES.iter().enumerate().map(real).collect();
        // The peer copies the dimension to the result as it is.
        for axis in [0, 1] {
            let model = moved(dtype, payload.clone(), scales, axis);
            let qdq = exported(&model, Form::Qdq);
            assert_eq!(described(&qdq), (vec!["FULLY_CONNECTED".to_string()], 0), "{dtype}");
            for model in [model, qdq] {
                let program = Program::new(&model, Limits::default()).unwrap();
                let found = program.run(std::slice::from_ref(&identity)).unwrap();
                assert_eq!(found[0].data(), expected, "{dtype} {axis}");
            }
        }
    }
}

#[test]
fn a_constant_that_is_rounded_to_another_grid_or_of_cut_channels_is_left_to_compute() {
    let refusal = |spoil: fn(&mut Quantization)| {
        let mut model = moved(TensorType::Int8, CODES.repeat(3), &[0.5, 2.0, 8.0], 0);
        let graph = &mut model.subgraphs[0];
        graph.operators.truncate(1);
        graph.operators[0].options = Options::Reshape { new_shape: vec![9, 3] };
        (graph.inputs, graph.outputs) = (vec![], vec![1]);
        (graph.tensors[0].shape, graph.tensors[1].shape) = (vec![3, 3, 3], vec![9, 3]);
        spoil(graph.tensors[0].quantization.as_mut().unwrap());
        Program::new(&model, Limits::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    let expected = "operators[0] RESHAPE: \"flat\" is computed and has a scale for each channel";
    assert_eq!(refusal(|_| ()), Ok(()));
    assert_eq!(refusal(|grid| grid.scale[0] = 1.0), Err(expected.into()));
    assert_eq!(refusal(|grid| grid.quantized_dimension = 0), Err(expected.into()));
}

#[test]
fn moving_constants_does_not_pass_the_limit() {
    let model = moved(TensorType::Int8, CODES.to_vec(), &[], 0);
    let error = Program::new(&model, Limits { elements: 8 }).unwrap_err().to_string();
    assert!(error.contains("is beyond the limit of 8 elements"), "{error}");
}
