//! What a rewrite keeps of a file, beside what it computes.

use crate::circle::{
    self, BuiltinOperator as Op, Format, Model, Operator, Options, Quantization, SignatureDef,
    SubGraph, Target, Tensor, TensorType,
};
use crate::runtime::{Export, Form, Limits, Program, export};
use crate::tensor;

/// A graph in the making.
struct One {
    model: Model,
    graph: SubGraph,
}

impl One {
    fn new() -> One {
        One { model: Model::new("one"), graph: SubGraph::new("main") }
    }

    fn tensor(&mut self, name: &str, dtype: TensorType, shape: &[i32]) -> i32 {
        self.graph.add_tensor(Tensor::new(name, dtype, shape))
    }

    /// The tensor, with a scale of 1 for each row, or on a grid without scales.
    fn on_grid(&mut self, index: i32, scales: usize, axis: i32) -> i32 {
        let grid = Quantization::per_channel(vec![1.0; scales], vec![0; scales], axis);
        self.graph.tensors[index as usize].quantization = Some(grid);
        index
    }

    /// The tensor, holding bytes.
    fn holding(&mut self, index: i32, bytes: Vec<u8>) -> i32 {
        let buffer = self.model.add_buffer(circle::Buffer::data(bytes));
        self.graph.tensors[index as usize].buffer = buffer;
        index
    }

    fn operator(&mut self, op: Op, inputs: &[i32], output: i32) -> &mut Operator {
        let code = self.model.opcode(op);
        let operator = Operator::new(code, inputs.to_vec(), vec![output], Options::of(op));
        self.graph.add_operator(operator);
        self.graph.operators.last_mut().unwrap()
    }

    fn model(mut self, inputs: &[i32], outputs: &[i32]) -> Model {
        (self.graph.inputs, self.graph.outputs) = (inputs.to_vec(), outputs.to_vec());
        self.model.subgraphs = vec![self.graph];
        assert!(circle::verify(&self.model).is_valid(), "{}", circle::verify(&self.model));
        self.model
    }
}

fn exported(model: &Model, form: Form, format: Format) -> Model {
    let found = export(model, Export { form, format, blocks: None }).unwrap();
    assert!(circle::verify(&found).is_valid(), "{}", circle::verify(&found));
    found
}

fn signature(key: &str, graph: u32, ports: [(&str, u32); 2]) -> SignatureDef {
    let [input, output] = ports.map(|(name, port)| [(name.to_string(), port)]);
    SignatureDef { subgraph_index: graph, ..SignatureDef::new(key, input, output) }
}

/// Key, graph, and the port names with their tensors' names.
fn told(model: &Model) -> Vec<String> {
    let def = |def: &SignatureDef| {
        let graph = &model.subgraphs[def.subgraph_index as usize];
        let port = |map: &circle::TensorMap| {
            format!("{}={}", map.name, graph.tensors[map.tensor_index as usize].name)
        };
        let ports: Vec<String> = def.inputs.iter().chain(&def.outputs).map(port).collect();
        format!("{} of {}: {}", def.key, def.subgraph_index, ports.join(" "))
    };
    model.signature_defs.iter().map(def).collect()
}

#[test]
fn signatures_stay_with_their_names_in_every_form() {
    let mut one = One::new();
    one.tensor("unused", TensorType::Float32, &[4]);
    let x = one.tensor("x", TensorType::Int8, &[1, 4]);
    let y = one.tensor("y", TensorType::Int8, &[1, 4]);
    let (x, y) = (one.on_grid(x, 1, 0), one.on_grid(y, 1, 0));
    one.operator(Op::Neg, &[x], y);
    let mut model = one.model(&[x, y], &[y]);
    model.subgraphs[0].inputs = vec![x];
    model.signature_defs = vec![
        signature("serve", 0, [("in", 1), ("out", 2)]),
        signature("again", 0, [("a", 1), ("b", 2)]),
    ];
    let expected = |input: &str| {
        [format!("serve of 0: in={input} out=y"), format!("again of 0: a={input} b=y")]
    };
    for form in [Form::Own, Form::Native(Target::Litert), Form::Native(Target::Onert)] {
        assert_eq!(told(&exported(&model, form, Format::Circle)), expected("x"));
    }
    assert_eq!(told(&exported(&model, Form::Qdq, Format::Circle)), expected("x.input"));
    assert!(told(&exported(&model, Form::Edges, Format::Circle)).is_empty());
}

#[test]
fn graphs_keep_their_signatures_and_the_names_of_custom_operators() {
    let mut one = One::new();
    let x = one.tensor("x", TensorType::Float32, &[1, 4]);
    let y = one.tensor("y", TensorType::Float32, &[1, 4]);
    one.operator(Op::Custom, &[x], y).options = Options::None;
    one.model.operator_codes[0].custom_code = Some("First".into());
    let mut model = one.model(&[x], &[y]);
    let mut other = model.operator_codes[0].clone();
    other.custom_code = Some("Second".into());
    model.operator_codes.push(other);
    let mut second = model.subgraphs[0].clone();
    second.operators[0].opcode_index = 1;
    model.subgraphs.push(second);
    model.signature_defs = vec![
        signature("one", 0, [("in", 0), ("out", 1)]),
        signature("two", 1, [("from", 0), ("to", 1)]),
        signature("three", 1, [("a", 0), ("b", 1)]),
    ];
    let found = exported(&model, Form::Own, Format::Circle);
    assert_eq!(found.operator_codes, model.operator_codes);
    assert_eq!(told(&found), told(&model));
}

#[test]
fn plain_integers_with_an_empty_table_stay_what_they_are() {
    let mut one = One::new();
    let x = one.tensor("x", TensorType::Uint8, &[4]);
    let (x, y) = (one.on_grid(x, 0, 0), one.tensor("y", TensorType::Float32, &[4]));
    one.operator(Op::Cast, &[x], y);
    let found = exported(&one.model(&[x], &[y]), Form::Native(Target::Litert), Format::TfLite);
    assert_eq!(found.subgraphs[0].tensors[0].dtype, TensorType::Uint8);
}

/// The operators of a file for LiteRT.
fn native(model: &Model) -> (Vec<Op>, Model) {
    let found = exported(model, Form::Native(Target::Litert), Format::TfLite);
    let report = circle::verify_for(&found, &[Target::Litert]);
    assert!(report.is_clean(), "{report}");
    let operators = found.subgraphs[0].operators.iter().filter_map(|op| found.builtin(op));
    (operators.collect(), found)
}

#[test]
fn weights_with_scales_of_their_columns_become_float() {
    let linear = |axis| {
        let mut one = One::new();
        let x = one.tensor("x", TensorType::Int8, &[1, 4]);
        let w = one.tensor("w", TensorType::Int8, &[4, 4]);
        let y = one.tensor("y", TensorType::Int8, &[1, 4]);
        let (x, y) = (one.on_grid(x, 1, 0), one.on_grid(y, 1, 0));
        let w = one.on_grid(w, 4, axis);
        let w = one.holding(w, (0..16).collect());
        one.operator(Op::FullyConnected, &[x, w, -1], y);
        native(&one.model(&[x], &[y])).0
    };
    assert_eq!(linear(0), [Op::FullyConnected]);
    assert_eq!(linear(1), [Op::Dequantize, Op::Dequantize, Op::FullyConnected, Op::Quantize]);
}

#[test]
fn sums_of_16_bits_are_not_said_to_have_scales_of_powers_of_two() {
    let mut one = One::new();
    let x = one.tensor("x", TensorType::Int16, &[1, 4]);
    let y = one.tensor("y", TensorType::Int16, &[1, 4]);
    let (x, y) = (one.on_grid(x, 1, 0), one.on_grid(y, 1, 0));
    one.operator(Op::Add, &[x, x], y).options = Options::with_defaults(11).unwrap();
    assert_eq!(native(&one.model(&[x], &[y])).0, [Op::Add]);
}

#[test]
fn parts_of_a_norm_are_as_dynamic_as_its_operand() {
    let mut one = One::new();
    let x = one.tensor("x", TensorType::Float32, &[1, 2]);
    let gamma = one.tensor("gamma", TensorType::Float32, &[2]);
    let gamma = one.holding(gamma, [1.0_f32, 2.0].map(f32::to_le_bytes).concat());
    let y = one.tensor("y", TensorType::Float32, &[1, 2]);
    one.operator(Op::RmsNorm, &[x, gamma], y).options = Options::RmsNorm { epsilon: 1e-6 };
    for port in [x, y] {
        one.graph.tensors[port as usize].shape_signature = Some(vec![-1, 2]);
    }
    let model = one.model(&[x], &[y]);
    let given = tensor::Tensor::new([3, 2], vec![1.0, 1.0, 2.0, 2.0, -3.0, -3.0]);
    let computed = [&model, &exported(&model, Form::Own, Format::TfLite)].map(|model| {
        let model = circle::resized(model.clone(), 0, &[(x, vec![3, 2])]).unwrap();
        let program = Program::new(&model, Limits::default()).unwrap();
        program.run(std::slice::from_ref(&given)).unwrap().remove(0)
    });
    let [own, parts] = computed.each_ref().map(tensor::Tensor::data);
    assert!(own.iter().zip(parts).all(|(a, b)| (a - b).abs() < 1e-5), "{own:?} {parts:?}");
}

#[test]
fn a_value_that_leaves_its_grid_is_dynamic_along_one_axis_at_most() {
    let qdq = |signature: &[i32]| {
        let mut one = One::new();
        let x = one.tensor("x", TensorType::Int8, &[1, 1]);
        let y = one.tensor("y", TensorType::Float32, &[1, 1]);
        let x = one.on_grid(x, 1, 0);
        one.operator(Op::Dequantize, &[x], y);
        for port in [x, y] {
            one.graph.tensors[port as usize].shape_signature = Some(signature.to_vec());
        }
        let how = Export { form: Form::Qdq, format: Format::Circle, blocks: None };
        let found = export(&one.model(&[x], &[y]), how).map_err(|e| e.to_string())?;
        let [x, y] = [found.subgraphs[0].inputs[0], found.subgraphs[0].outputs[0]];
        let resized = circle::resized(found, 0, &[(x, vec![3, 1])]).unwrap();
        Ok(resized.subgraphs[0].tensor(y).unwrap().shape.clone())
    };
    assert_eq!(qdq(&[-1, 1]), Ok(vec![3, 1]));
    let said = "tensor \"y\": is dynamic as [-1, -1], expected at most one such dimension";
    assert_eq!(qdq(&[-1, -1]), Err(said.to_string()));
}
