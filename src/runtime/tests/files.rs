//! The peer's files, and small files of our own.

use crate::circle::{
    self, BuiltinOperator, Model, Operator, Options, Quantization, SubGraph, TensorType,
};
use crate::runtime::npy::{Array, Elements};
use crate::runtime::{Error, Export, Form, Limits, Program, export};
use crate::tensor::Tensor;

pub(super) const PEER_LINEAR: &[u8] = include_bytes!("../../../tests/data/circle/linear.q.circle");
pub(super) const PEER_BLOCK: &[u8] = include_bytes!("../../../tests/data/circle/block.circle");

fn program(bytes: &[u8]) -> Program {
    Program::new(&circle::read(bytes).unwrap(), Limits::default()).unwrap()
}

/// Reals of a ramp over the shape of the first input.
pub(super) fn ramp(program: &Program) -> Vec<Tensor> {
    let shape = program.inputs()[0].shape.clone();
    let n: usize = shape.iter().product();
    let data = (0..n).map(|i| ((i * 37 % 23) as f32 - 11.0) * 0.2).collect();
    vec![Tensor::new(shape, data)]
}

#[test]
fn the_peers_quantized_linear_runs_in_both_readings_within_a_step() {
    let program = program(PEER_LINEAR);
    let inputs = ramp(&program);
    let reals = program.run(&inputs).unwrap();
    let codes = program.run_integers(&inputs).unwrap();
    let (scale, zero) = program.outputs()[0].qparams.as_ref().unwrap().as_per_tensor().unwrap();
    let Elements::U8(codes) = &codes[0].elements else { panic!("{codes:?}") };
    for (&real, &code) in reals[0].data().iter().zip(codes) {
        let steps = (real / scale) + zero as f32 - f32::from(code);
        assert!(steps.abs() <= 1.001, "{real} {code}");
    }
    assert!(program.audit(&inputs).unwrap().iter().all(|edge| edge.steps_max <= 1));
}

#[test]
fn the_peers_float_block_runs_with_every_operator_in_it() {
    let program = program(PEER_BLOCK);
    let outputs = program.run(&ramp(&program)).unwrap();
    assert_eq!(outputs[0].shape(), [2, 3, 4]);
    for row in outputs[0].data().chunks(4) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "softmax rows sum to one");
    }
}

#[test]
fn a_file_without_operators_hands_on_its_inputs_and_constants() {
    let mut model = Model::new("nothing to do");
    let payload = model.add_buffer(circle::Buffer::data(1.5_f32.to_le_bytes().to_vec()));
    let mut graph = SubGraph::new("main");
    let grid = Quantization::per_tensor(0.5, 0);
    let x = circle::Tensor::new("x", TensorType::Uint8, [2]).with_quantization(grid);
    let x = graph.add_tensor(x);
    let constant = circle::Tensor::new("c", TensorType::Float32, [1]).with_buffer(payload);
    let constant = graph.add_tensor(constant);
    let payload = model.add_buffer(circle::Buffer::data(7_i32.to_le_bytes().to_vec()));
    let count = circle::Tensor::new("n", TensorType::Int32, [1]).with_buffer(payload);
    (graph.inputs, graph.outputs) = (vec![x], vec![x, constant, graph.add_tensor(count)]);
    model.subgraphs = vec![graph];
    let bytes = circle::to_bytes(&model).unwrap();
    let program = program(&bytes);
    let outputs = program.run(&[Tensor::new([2], vec![3.0, 0.5])]).unwrap();
    assert_eq!([outputs[0].data(), outputs[1].data()], [&[3.0, 0.5][..], &[1.5]]);
    assert_eq!(program.reals(outputs)[2].elements, Elements::I32(vec![7]));
    let form = Form::Qdq;
    let qdq =
        export(&model, Export { form, format: circle::Format::Circle, blocks: None }).unwrap();
    assert!(circle::verify(&qdq).is_valid(), "{}", circle::verify(&qdq));
}

#[test]
fn inputs_are_bound_by_name_or_number_and_misfits_are_one_clear_error() {
    let program = program(PEER_LINEAR);
    let array = |shape: &[usize], elements| Array { shape: shape.to_vec(), elements };
    let good = || array(&[3, 8], Elements::F32(vec![0.5; 24]));
    let bind = |name: &str, array| program.bind(vec![(name.to_string(), array)]);
    assert_eq!(bind("0", good()).unwrap(), bind("tico::args_0", good()).unwrap());
    let refuse = |result: Result<Vec<Tensor>, Error>| result.unwrap_err().to_string();
    assert_eq!(
        refuse(program.bind(vec![])),
        "input \"tico::args_0\": is missing, expected UINT8 [3, 8]"
    );
    assert_eq!(refuse(bind("x", good())), "input \"x\": is not there, the file has tico::args_0");
    assert_eq!(
        refuse(bind("0", array(&[3], Elements::F32(vec![0.0; 3])))),
        "input \"tico::args_0\": found [3], expected [3, 8]"
    );
    assert_eq!(
        refuse(bind("0", array(&[3, 8], Elements::I64(vec![0; 24])))),
        "input \"tico::args_0\": found <i8, expected <f4 or |u1"
    );
}

#[test]
fn integers_of_the_ports_type_mean_what_its_grid_says() {
    let program = program(PEER_LINEAR);
    let (scale, zero) = program.inputs()[0].qparams.as_ref().unwrap().as_per_tensor().unwrap();
    let codes: Vec<u8> = (0..24).map(|i| 120 + i).collect();
    let reals = codes.iter().map(|&q| (f32::from(q) - zero as f32) * scale).collect();
    let bind = |elements| {
        program.bind(vec![("0".to_string(), Array { shape: vec![3, 8], elements })]).unwrap()
    };
    let (a, b) = (bind(Elements::U8(codes)), bind(Elements::F32(reals)));
    assert_eq!(program.run_integers(&a), program.run_integers(&b));
}

#[test]
fn a_file_that_asks_for_too_much_is_refused_before_it_runs() {
    let model = circle::read(PEER_BLOCK).unwrap();
    let error = Program::new(&model, Limits { elements: 100 }).unwrap_err().to_string();
    assert!(error.contains("beyond the limit of 100 elements"), "{error}");
}

/// A file that adds a constant grid of one to its input, which is of this type, and has an input that
/// nothing reads.
fn added(dtype: TensorType, ops: usize) -> Program {
    let mut graph = SubGraph::new("main");
    let mut model = Model::new("added");
    let code = model.opcode(BuiltinOperator::Add);
    let value = |name: &str| {
        let tensor = circle::Tensor::new(name, dtype, [1, 2]);
        let quantized = dtype != TensorType::Float32;
        let grid = Quantization::per_tensor(0.5, 0);
        if quantized { tensor.with_quantization(grid) } else { tensor }
    };
    let mut last = graph.add_tensor(value("x"));
    let idle = circle::Tensor::new("idle", TensorType::Float32, [1 << 15, 1 << 15]);
    graph.inputs = vec![last, graph.add_tensor(idle)];
    for _ in 0..ops {
        let next = graph.add_tensor(value("same"));
        let options = Options::of(BuiltinOperator::Add);
        graph.add_operator(Operator::new(code, vec![last, last], vec![next], options));
        last = next;
    }
    graph.outputs = vec![last];
    model.subgraphs = vec![graph];
    Program::new(&model, Limits::default()).unwrap()
}

fn pair(elements: Elements) -> Vec<(String, Array)> {
    vec![("x".into(), Array { shape: vec![1, 2], elements })]
}

#[test]
fn integers_come_in_the_files_type_and_are_taken_back() {
    use TensorType::*;
    for (dtype, descr, ops) in [
        (Uint4, "|u1", 1),
        (Int4, "|i1", 1),
        (Uint8, "|u1", 1),
        (Int8, "|i1", 1),
        (Uint16, "<u2", 1),
        (Int16, "<i2", 1),
        // no kernel on integers
        (Int32, "<i4", 0),
        (Int64, "<i8", 0),
    ] {
        let program = added(dtype, ops);
        let inputs = program.bind(pair(Elements::F32(vec![1.0, 0.5]))).unwrap();
        let found = program.run_integers(&inputs).unwrap().remove(0);
        assert_eq!(found.elements.descr(), descr, "{dtype}");
        let back = program.bind(vec![("x".into(), found)]).unwrap();
        assert_eq!(back[0], program.run(&inputs).unwrap()[0], "{dtype}");
    }
}

#[test]
fn an_input_that_nothing_reads_takes_no_room_given_or_not() {
    let program = added(TensorType::Float32, 1);
    let inputs = program.bind(pair(Elements::F32(vec![1.0, 2.0]))).unwrap();
    assert!(inputs.iter().all(|tensor| tensor.len() <= 2), "{inputs:?}");
    assert_eq!(program.run(&inputs).unwrap()[0].data(), [2.0, 4.0]);
    assert_eq!(program.inputs()[1].shape, [1 << 15, 1 << 15]);
    let passed = [inputs[0].clone(), Tensor::full([3], 0.0)];
    assert_eq!(program.run(&passed).unwrap()[0].data(), [2.0, 4.0]);
}

#[test]
fn tensors_of_one_name_are_told_apart_in_little_time() {
    let begun = std::time::Instant::now();
    let program = added(TensorType::Float32, 20_000);
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let name = |i: usize| program.graph().values[2 + i].name.as_str();
    assert_eq!([name(0), name(1), name(19_999)], ["same", "same#1", "same#19999"]);
}

#[test]
fn edges_of_one_name_are_told_apart_as_in_their_file() {
    let mut graph = SubGraph::new("main");
    let mut model = Model::new("same");
    let mut value = |name: &str, scale| {
        let grid = Quantization::per_tensor(scale, 0);
        let tensor = circle::Tensor::new(name, TensorType::Int8, [1, 2]);
        graph.add_tensor(tensor.with_quantization(grid))
    };
    let (x, y, z) = (value("x", 0.5), value("same", 1.0), value("same", 2.0));
    for (op, inputs, output) in
        [(BuiltinOperator::Neg, vec![x], y), (BuiltinOperator::Add, vec![x, y], z)]
    {
        let code = model.opcode(op);
        graph.add_operator(Operator::new(code, inputs, vec![output], Options::of(op)));
    }
    (graph.inputs, graph.outputs) = (vec![x], vec![z]);
    model.subgraphs = vec![graph];
    let how = Export { form: Form::Edges, format: circle::Format::Circle, blocks: None };
    let file = export(&model, how).unwrap();
    let graph = &file.subgraphs[0];
    let program = Program::new(&model, Limits::default()).unwrap();
    let edges = program.edges(&[Tensor::new([1, 2], vec![4.0, -2.0])]).unwrap();
    let names: Vec<String> = edges.iter().map(|(name, ..)| format!("{name}.codes")).collect();
    let outputs = graph.outputs.iter().map(|&i| &graph.tensor(i).unwrap().name);
    assert!(outputs.eq(&names), "{names:?}");
    assert_eq!(names, ["same.codes", "same#1.codes"]);
}

#[test]
fn a_linear_layer_takes_rows_of_its_weights_width_and_may_lack_a_bias() {
    let mut graph = SubGraph::new("main");
    let mut model = Model::new("flat");
    let bytes: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let weight = model.add_buffer(circle::Buffer::data(bytes));
    let mut value = |name: &str, shape: &[i32], buffer| {
        let tensor = circle::Tensor::new(name, TensorType::Float32, shape).with_buffer(buffer);
        graph.add_tensor(tensor)
    };
    let (x, w, y) =
        (value("x", &[1, 2, 4], 0), value("w", &[1, 8], weight), value("y", &[1, 1], 0));
    let code = model.opcode(BuiltinOperator::FullyConnected);
    let mut options = Options::of(BuiltinOperator::FullyConnected);
    let Options::FullyConnected { keep_num_dims, .. } = &mut options else { panic!() };
    *keep_num_dims = false;
    graph.add_operator(Operator::new(code, vec![x, w], vec![y], options));
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    model.subgraphs = vec![graph];
    let program = Program::new(&model, Limits::default()).unwrap();
    assert_eq!(program.run(&[Tensor::full([1, 2, 4], 1.0)]).unwrap()[0].data(), [28.0]);
}

#[test]
fn what_is_not_executed_is_said_in_words() {
    let refuse = |op, options, outputs: &[&[i32]]| {
        let mut graph = SubGraph::new("main");
        let mut model = Model::new("refused");
        let k = model.add_buffer(circle::Buffer::data(2_i32.to_le_bytes().to_vec()));
        let x = graph.add_tensor(circle::Tensor::new("x", TensorType::Float32, [1, 4]));
        let mut inputs = vec![x];
        if op == BuiltinOperator::TopkV2 {
            let k = circle::Tensor::new("k", TensorType::Int32, []).with_buffer(k);
            inputs.push(graph.add_tensor(k));
        }
        for (i, &shape) in outputs.iter().enumerate() {
            let dtype = if i == 0 { TensorType::Float32 } else { TensorType::Int32 };
            let output = circle::Tensor::new(format!("y{i}"), dtype, shape);
            let output = graph.add_tensor(output);
            graph.outputs.push(output);
        }
        graph.inputs = vec![x];
        let code = model.opcode(op);
        graph.add_operator(Operator::new(code, inputs, graph.outputs.clone(), options));
        model.subgraphs = vec![graph];
        Program::new(&model, Limits::default()).unwrap_err().to_string()
    };
    assert_eq!(
        refuse(BuiltinOperator::Softmax, Options::Softmax { beta: 0.5 }, &[&[1, 4]]),
        "operators[0] SOFTMAX: beta 1 is executed, found beta=0.5"
    );
    assert_eq!(
        refuse(BuiltinOperator::TopkV2, Options::TopkV2, &[&[1, 2], &[1, 2]]),
        "operators[0] TOPK_V2: positions are executed, but the values, output 0, are read"
    );
}

#[test]
fn numbers_that_no_grid_holds_are_refused_by_name_and_value() {
    let refuse = |dtype, elements| added(dtype, 1).bind(pair(elements)).unwrap_err().to_string();
    assert_eq!(
        refuse(TensorType::Int64, Elements::I64(vec![5, (1 << 32) + 5])),
        "input \"x\": holds 4294967301, expected -2147483648 to 2147483647"
    );
    for (dtype, real) in [(TensorType::Float32, "NaN"), (TensorType::Uint8, "inf")] {
        let reals = Elements::F32(vec![0.0, real.parse().unwrap()]);
        let expected = format!("input \"x\": holds {real} at element 1, expected finite numbers");
        assert_eq!(refuse(dtype, reals), expected);
    }
}
