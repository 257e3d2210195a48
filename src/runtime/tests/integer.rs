//! The integer reading of files that are valid, but no work of ours.

use crate::circle::{
    self, BuiltinOperator, Bytes, Model, Operator, Options, Quantization, SubGraph, Tensor,
    TensorType,
};
use crate::runtime::npy::Elements;
use crate::runtime::{Error, Limits, Program};
use crate::tensor;

/// A graph of one operator in the making.
struct One {
    model: Model,
    graph: SubGraph,
}

impl One {
    fn new() -> One {
        One { model: Model::new("one operator"), graph: SubGraph::new("main") }
    }

    /// A value on a grid of 8 bits, which the caller gives; the result where it is the last.
    fn value(&mut self, name: &str, shape: &[i32], scale: f32) -> i32 {
        let tensor = Tensor::new(name, TensorType::Uint8, shape);
        self.graph.add_tensor(tensor.with_quantization(Quantization::per_tensor(scale, 128)))
    }

    /// A value of several scales.
    fn channels(&mut self, name: &str, shape: &[i32], axis: usize) -> i32 {
        let count = shape[axis] as usize;
        let scale = (0..count).map(|c| 0.01 * (1 + c) as f32).collect();
        let grid = Quantization::per_channel(scale, vec![0; count], axis as i32);
        self.graph.add_tensor(Tensor::new(name, TensorType::Int8, shape).with_quantization(grid))
    }

    /// Makes a tensor a constant of a ramp of bytes.
    fn constant(&mut self, index: i32) -> i32 {
        let tensor = &mut self.graph.tensors[index as usize];
        let count: i32 = tensor.shape.iter().product();
        let bytes: Vec<u8> = (0..count).map(|i| (i * 37 % 100) as u8).collect();
        tensor.buffer = self.model.add_buffer(Bytes::from(bytes).into());
        index
    }

    /// Puts a tensor on another grid.
    fn regrid(&mut self, index: i32, scale: f32, zero: i64) {
        let grid = Quantization::per_tensor(scale, zero);
        self.graph.tensors[index as usize].quantization = Some(grid);
    }

    /// The program that computes `output`; what has no payload is an input.
    fn program(mut self, op: BuiltinOperator, inputs: &[i32], output: i32) -> Program {
        let code = self.model.opcode(op);
        let options = match op {
            BuiltinOperator::Gather => Options::Gather { axis: 0, batch_dims: 0 },
            _ => Options::of(op),
        };
        self.graph.add_operator(Operator::new(code, inputs.to_vec(), vec![output], options));
        let given = |&&index: &&i32| self.graph.tensor(index).is_some_and(|t| t.buffer == 0);
        self.graph.inputs = inputs.iter().filter(given).copied().collect();
        self.graph.outputs = vec![output];
        self.model.subgraphs = vec![self.graph];
        let report = circle::verify(&self.model);
        assert!(report.is_valid(), "{report}");
        Program::new(&self.model, Limits::default()).unwrap()
    }
}

fn inputs(program: &Program) -> Vec<tensor::Tensor> {
    program.inputs().iter().map(|port| tensor::Tensor::full(port.shape.clone(), 0.5)).collect()
}

/// What the integer reading says against a program that the float reading runs.
fn refusal(program: &Program) -> String {
    let inputs = inputs(program);
    program.run(&inputs).unwrap();
    let refused = program.run_integers(&inputs).unwrap_err().to_string();
    assert_eq!(program.audit(&inputs).unwrap_err().to_string(), refused);
    refused
}

fn worst(program: &Program) -> u32 {
    let edges = program.audit(&inputs(program)).unwrap();
    edges.iter().map(|edge| edge.steps_max).max().unwrap()
}

#[test]
fn scales_along_another_axis_than_a_products_rows_are_refused() {
    use BuiltinOperator as Op;
    let linear = |axis| {
        let mut one = One::new();
        let x = one.value("x", &[2, 4], 0.1);
        let w = one.channels("w", &[8, 4], axis);
        let (w, y) = (one.constant(w), one.value("y", &[2, 8], 0.2));
        one.program(Op::FullyConnected, &[x, w, -1], y)
    };
    assert!(worst(&linear(0)) <= 1);
    assert_eq!(
        refusal(&linear(1)),
        "tensor \"y\": computing it reads \"w\" of several scales, expected one \
         or one for each row"
    );
    for constant in [true, false] {
        let mut one = One::new();
        let (x, y) = (one.value("x", &[2, 4], 0.1), one.value("y", &[2, 4], 0.2));
        let mut by = one.channels("by", &[2, 4], 1);
        if constant {
            by = one.constant(by);
        }
        let said = refusal(&one.program(Op::Mul, &[x, by], y));
        assert!(said.ends_with("reads \"by\" of several scales, expected one"), "{said}");
    }
}

#[test]
fn rows_of_a_table_have_scales_of_their_own_but_columns_do_not() {
    let gather = |axis| {
        let mut one = One::new();
        let table = one.channels("table", &[8, 4], axis);
        let table = one.constant(table);
        let ids = one.graph.add_tensor(Tensor::new("ids", TensorType::Int32, [3]));
        let y = one.value("y", &[3, 4], 0.05);
        one.program(BuiltinOperator::Gather, &[table, ids], y)
    };
    assert!(worst(&gather(0)) <= 1);
    let said = refusal(&gather(1));
    assert!(
        said.ends_with("\"table\" of several scales, expected one or one for each row"),
        "{said}"
    );
}

#[test]
fn a_bias_that_is_an_input_is_for_the_float_reading() {
    for quantized in [true, false] {
        let mut one = One::new();
        let x = one.value("x", &[2, 4], 0.1);
        let w = one.value("w", &[8, 4], 0.1);
        let (w, y) = (one.constant(w), one.value("y", &[2, 8], 0.2));
        let bias = match quantized {
            true => {
                let grid = Quantization::per_tensor(0.1 * 0.1, 0);
                let bias = Tensor::new("bias", TensorType::Int32, [8]);
                one.graph.add_tensor(bias.with_quantization(grid))
            }
            false => one.graph.add_tensor(Tensor::new("bias", TensorType::Float32, [8])),
        };
        let said = refusal(&one.program(BuiltinOperator::FullyConnected, &[x, w, bias], y));
        assert!(
            said.ends_with("tensor \"y\": computing it adds a bias that is no constant"),
            "{said}"
        );
    }
}

#[test]
fn the_zero_point_of_a_bias_is_taken_from_it() {
    let mut one = One::new();
    let x = one.value("x", &[2, 4], 0.1);
    let w = one.value("w", &[2, 4], 0.1);
    let (w, y) = (one.constant(w), one.value("y", &[2, 2], 0.2));
    let codes = [1000_i32, 2000].map(i32::to_le_bytes).concat();
    let buffer = one.model.add_buffer(Bytes::from(codes).into());
    let bias = Tensor::new("bias", TensorType::Int32, [2]).with_buffer(buffer);
    let bias = one.graph.add_tensor(bias);
    one.regrid(bias, 0.1 * 0.1, 900);
    let program = one.program(BuiltinOperator::FullyConnected, &[x, w, bias], y);
    assert!(worst(&program) <= 1);
}

#[test]
fn an_operator_of_one_element_reads_the_codes_of_a_constant() {
    use BuiltinOperator as Op;
    for op in [Op::Neg, Op::Rsqrt, Op::Logistic, Op::Gelu] {
        let mut one = One::new();
        let (c, y) = (one.value("c", &[4, 8], 0.1), one.value("y", &[4, 8], 0.05));
        let c = one.constant(c);
        // Reals on both sides of zero: of a negative one there is no root.
        one.regrid(c, 0.1, 50);
        assert!(worst(&one.program(op, &[c], y)) <= 1, "{op}");
    }
}

#[test]
fn a_constant_that_is_an_output_is_given_as_its_codes() {
    let mut one = One::new();
    let c = one.value("c", &[2, 3], 0.1);
    one.graph.outputs = vec![one.constant(c)];
    one.model.subgraphs = vec![one.graph];
    let program = Program::new(&one.model, Limits::default()).unwrap();
    let found = program.run_integers(&[]).unwrap().remove(0);
    assert_eq!(found.elements, Elements::U8(vec![0, 37, 74, 11, 48, 85]));
    assert_eq!(program.run(&[]), program.run_exactly(&[]));
}

/// A convolution over the whole picture whose weights have scales along an axis.
fn convolution(axis: usize) -> Result<Program, Error> {
    let mut one = One::new();
    let x = one.value("x", &[1, 2, 2, 4], 0.1);
    let w = one.channels("w", &[8, 2, 2, 4], axis);
    let (w, y) = (one.constant(w), one.value("y", &[1, 1, 1, 8], 0.5));
    let code = one.model.opcode(BuiltinOperator::Conv2d);
    let mut options = Options::of(BuiltinOperator::Conv2d);
    let Options::Conv2d { padding, .. } = &mut options else { panic!("{options:?}") };
    *padding = circle::Padding::Valid;
    one.graph.add_operator(Operator::new(code, vec![x, w], vec![y], options));
    (one.graph.inputs, one.graph.outputs) = (vec![x], vec![y]);
    one.model.subgraphs = vec![one.graph];
    Program::new(&one.model, Limits::default())
}

#[test]
fn weights_of_a_convolution_keep_their_scales() {
    let program = convolution(0).unwrap();
    assert!(worst(&program) <= 1);
    assert!(program.run(&inputs(&program)).unwrap()[0].data().iter().any(|&y| y > 1.0));
    for axis in [1, 2, 3] {
        let error = convolution(axis).unwrap_err().to_string();
        assert!(error.starts_with("operators[0] CONV_2D: "), "{error}");
    }
}

#[test]
fn softmax_on_steps_of_any_width_neither_overflows_nor_divides_by_zero() {
    for scale in [1e-30, 1e-9, 1.0, 1e9, 1e15, 1e20, 1e30] {
        for own in [1e-30, 0.1, 1e30] {
            let mut one = One::new();
            let (x, y) = (one.value("x", &[2, 16], own), one.value("y", &[2, 16], scale));
            let program = one.program(BuiltinOperator::Softmax, &[x], y);
            assert!(worst(&program) <= 1, "{own} to {scale}");
        }
    }
}
