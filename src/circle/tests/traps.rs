//! Every trap of a runtime, by the smallest model that steps into it, and by one beside it that does
//! not.

use crate::circle::*;
use BuiltinOperator::*;
use TensorType::{Float32, GgmlQ4_0, GgmlQ8_0, Int4, Int8, Int16, Int32, Uint4, Uint8};

/// A tensor of one scale, or of one for each of its 4 rows.
fn tensor(dtype: TensorType, shape: &[i32], scales: usize) -> Tensor {
    let tensor = Tensor::new("", dtype, shape);
    match scales {
        0 => tensor,
        n => tensor.with_quantization(Quantization::per_channel(vec![0.5; n], vec![0; n], 0)),
    }
}

fn act(dtype: TensorType) -> Tensor {
    tensor(dtype, &[1, 4, 4], usize::from(dtype != Float32))
}

/// A graph of one operator; `constants` follow `input`.
fn single(op: BuiltinOperator, input: Tensor, constants: Vec<Tensor>, output: Tensor) -> Model {
    let mut model = Model::new("trap");
    let mut graph = SubGraph::new("main");
    let named = |name: String, tensor: Tensor| Tensor { name, ..tensor };
    graph.inputs = vec![graph.add_tensor(named("x".into(), input))];
    let mut inputs = graph.inputs.clone();
    for (i, tensor) in constants.into_iter().enumerate() {
        let count: i32 = tensor.shape.iter().product();
        let bits = tensor.dtype.bits().unwrap_or(8) * u64::try_from(count).unwrap();
        let bytes = vec![1; usize::try_from(bits.div_ceil(8)).unwrap()];
        let buffer = model.add_buffer(Buffer::data(bytes));
        inputs.push(graph.add_tensor(named(format!("c{i}"), tensor).with_buffer(buffer)));
    }
    graph.outputs = vec![graph.add_tensor(named("y".into(), output))];
    if op == FullyConnected && inputs.len() == 2 {
        inputs.push(-1);
    }
    let code = model.opcode(op);
    graph.add_operator(Operator::new(code, inputs, graph.outputs.clone(), Options::of(op)));
    model.subgraphs.push(graph);
    model
}

fn unary(op: BuiltinOperator, dtype: TensorType) -> Model {
    single(op, act(dtype), vec![], act(dtype))
}

fn linear(x: TensorType, weight: Tensor, more: Vec<Tensor>) -> Model {
    let constants = [vec![weight], more].concat();
    single(FullyConnected, act(x), constants, act(x))
}

fn weight(dtype: TensorType, scales: usize) -> Tensor {
    tensor(dtype, &[4, 4], scales)
}

fn with(mut model: Model, change: impl FnOnce(&mut Model)) -> Model {
    change(&mut model);
    model
}

fn grid(model: &mut Model, scale: f32, zero: i64) {
    model.subgraphs[0].tensors[1].quantization = Some(Quantization::per_tensor(scale, zero));
}

#[track_caller]
fn traps(target: Target, cases: Vec<(Model, &str)>) {
    for (model, expected) in cases {
        let report = verify_for(&model, &[target]).to_string();
        assert!(report.contains(expected), "expected {expected}\nfound {report}");
    }
}

#[track_caller]
fn clean(target: Target, models: Vec<Model>) {
    for model in models {
        let report = verify_for(&model, &[target]);
        assert!(report.warnings.is_empty(), "{report}");
    }
}

#[test]
fn onert_kernels() {
    let embedding = |table: Tensor, result| {
        with(single(Gather, table, vec![], act(result)), |model| {
            let ids = Tensor::new("ids", Int32, [1, 4]);
            let graph = &mut model.subgraphs[0];
            let ids = graph.add_tensor(ids);
            graph.inputs.push(ids);
            graph.operators[0].inputs.push(ids);
        })
    };
    traps(
        Target::Onert,
        vec![
            (unary(SplitV, Float32), "onert computes nothing here"),
            (linear(Uint8, weight(Uint8, 4), vec![]), "onert uses the first of the scales"),
            (
                single(Dequantize, weight(Uint8, 4), vec![], weight(Float32, 0)),
                "onert uses the first of the scales",
            ),
            (embedding(weight(Uint8, 4), Uint8), "onert uses the first of the scales"),
            (embedding(weight(GgmlQ8_0, 0), Float32), "no kernel for a GGML_Q8_0 table"),
            (embedding(weight(Uint8, 1), Float32), "refuses FLOAT32 out of a UINT8 table"),
            (embedding(weight(Int8, 1), Int8), "no kernel for INT8"),
            (linear(Float32, weight(Uint4, 1), vec![]), "onert refuses UINT4"),
            (linear(Float32, weight(Int4, 1), vec![]), "onert refuses INT4"),
            (linear(Int16, weight(Int8, 1), vec![]), "no kernel for INT16 with INT8 weights"),
            (linear(Int8, weight(Int8, 1), vec![]), "no kernel for INT8 with INT8 weights"),
            (linear(Uint8, weight(Int8, 1), vec![]), "no kernel for UINT8 with INT8 weights"),
            (linear(Float32, weight(Uint8, 1), vec![]), "no kernel for FLOAT32 with UINT8 weights"),
            (linear(Float32, weight(Int8, 1), vec![]), "onert rounds the input to 8 bits"),
            (linear(Float32, weight(GgmlQ4_0, 0), vec![]), "onert rounds the input to 8 bits"),
            (
                linear(Float32, weight(GgmlQ8_0, 0), vec![tensor(Float32, &[4], 0)]),
                "onert refuses a bias beside GGML_Q8_0 weights",
            ),
            (unary(Neg, Uint8), "onert has no kernel for UINT8"),
            (unary(Gelu, Int8), "onert has no kernel for INT8"),
            (unary(Softmax, Int16), "onert has no kernel for INT16"),
            (single(Quantize, act(Float32), vec![], act(Int16)), "0.1.0 has no kernel for INT16"),
            (single(Dequantize, act(Int16), vec![], act(Float32)), "0.1.0 has no kernel for INT16"),
            (single(Quantize, act(Float32), vec![], act(Int8)), "0.1.0 computes nonsense for INT8"),
            (
                single(
                    RmsNorm,
                    tensor(Float32, &[4, 4], 0),
                    vec![tensor(Float32, &[4], 0)],
                    tensor(Float32, &[4, 4], 0),
                ),
                "takes an input of rank 3 or 4, found 2",
            ),
            (
                linear(Float32, weight(Float32, 0), vec![]),
                "takes the result for a matrix, not rank 3",
            ),
        ],
    );
    let flat = || tensor(Float32, &[4, 4], 0);
    clean(
        Target::Onert,
        vec![
            unary(Neg, Float32),
            unary(Softmax, Float32),
            embedding(weight(Float32, 0), Float32),
            single(FullyConnected, flat(), vec![weight(Float32, 0)], flat()),
        ],
    );
}

#[test]
fn onert_models_and_borders() {
    traps(
        Target::Onert,
        vec![
            (unary(Softmax, Uint8), "inputs[0]: the Python API of onert cannot set UINT8"),
            (unary(Reshape, Int16), "inputs[0]: onert 0.1.0 has no INT16 at its border"),
            (
                with(linear(Float32, weight(Float32, 0), vec![]), |model| {
                    model.subgraphs[0].operators[0].inputs.truncate(2);
                }),
                "onert reads the bias whether it is there or not",
            ),
            (
                with(unary(Neg, Float32), |model| {
                    let graph = &mut model.subgraphs[0];
                    let z = graph.add_tensor(Tensor { name: "z".into(), ..act(Float32) });
                    graph.add_operator(Operator::new(0, vec![1], vec![z], Options::Neg));
                    graph.outputs.push(z);
                }),
                "outputs[0]: tensor 1 is read by an operator",
            ),
            (
                with(unary(Neg, Float32), |model| {
                    model.subgraphs[0].tensors[0].shape_signature = Some(vec![1, -1, 4]);
                }),
                "tensors[0]: is dynamic",
            ),
            (
                with(unary(Neg, Float32), |model| {
                    let second = SubGraph { name: "decode".into(), ..model.subgraphs[0].clone() };
                    model.subgraphs.push(second);
                }),
                "subgraphs[1]: onert runs the first only, not \"decode\"",
            ),
            (
                with(linear(Float32, weight(Float32, 0), vec![]), |model| {
                    model.buffers[1] = Buffer::External(vec![0; 64].into());
                }),
                "buffers[1]: lies behind the FlatBuffer",
            ),
            (
                with(linear(Float32, weight(Float32, 0), vec![]), |model| {
                    model.buffers[1] = Buffer::lazy(1 << 31, |_| Ok(()));
                }),
                "buffers: 2147483648 bytes, onert maps files of at most 2147483647",
            ),
            (
                with(unary(Softmax, Uint8), |model| {
                    let grid = model.subgraphs[0].tensors[1].quantization.as_mut().unwrap();
                    grid.details = Details::Custom(vec![1]);
                }),
                "onert refuses CustomQuantization",
            ),
        ],
    );
}

/// What the schema says where a file says nothing, whoever reads it.
#[test]
fn defaults_of_the_schema() {
    let options = |op, options| {
        with(unary(op, Float32), |model| model.subgraphs[0].operators[0].options = options)
    };
    for target in [Target::Onert, Target::Litert] {
        traps(
            target,
            vec![
                (options(Softmax, Options::Softmax { beta: 0.0 }), "SOFTMAX: beta is 0"),
                (options(RmsNorm, Options::RmsNorm { epsilon: 0.0 }), "RMS_NORM: epsilon is 0"),
                (options(Conv2d, Options::with_defaults(1).unwrap()), "CONV_2D: a stride is 0"),
            ],
        );
    }
}

#[test]
fn litert_kernels() {
    let graded = |op, dtype, scale, zero| with(unary(op, dtype), |model| grid(model, scale, zero));
    traps(
        Target::Litert,
        vec![
            (unary(RmsNorm, Float32), "LiteRT has no such operator"),
            (with(unary(Neg, Float32), |m| m.operator_codes[0].version = 0), "refuses version 0"),
            (with(unary(Neg, Float32), |m| m.operator_codes[0].version = 99), "refuses version 99"),
            (unary(BroadcastTo, Float32), "asks for version 2 or 3"),
            (unary(Reshape, TensorType::MxInt8), "LiteRT has no element type MXINT8"),
            (unary(Neg, Uint8), "LiteRT has no kernel for UINT8"),
            (unary(Rsqrt, Uint8), "LiteRT has no kernel for UINT8"),
            (unary(Sin, Int16), "LiteRT has no kernel for INT16"),
            (graded(Neg, Int8, 0.25, 0), "LiteRT negates INT8 as they are"),
            (graded(Neg, Int16, 0.25, 0), "LiteRT negates INT16 as they are"),
            (unary(Rsqrt, Int16), "LiteRT computes other numbers for INT16"),
            (unary(Gelu, Int16), "LiteRT computes other numbers for INT16"),
            (
                with(unary(Add, Int16), |model| {
                    model.subgraphs[0].operators[0].options = Options::with_defaults(11).unwrap();
                }),
                "pot_scale_int16",
            ),
            (graded(Softmax, Int8, 0.5, -128), "an output scale of 1/256 for INT8"),
            (graded(Softmax, Int8, 1.0 / 256.0, 0), "the zero point -128 for INT8, found 0"),
            (graded(Logistic, Int16, 0.5, 0), "an output scale of 1/32768 for INT16"),
            (graded(Tanh, Int16, 0.3, 0), "a power of two for the output scale of INT16"),
            (
                single(Dequantize, weight(Int16, 4), vec![], weight(Float32, 0)),
                "no kernel for INT16 with a scale for each channel",
            ),
            (linear(Uint8, weight(Uint8, 4), vec![]), "for UINT8 with per-channel UINT8 weights"),
            (
                linear(Float32, weight(Uint8, 1), vec![]),
                "for FLOAT32 with per-tensor UINT8 weights",
            ),
            (linear(Int8, weight(Uint8, 1), vec![]), "for INT8 with per-tensor UINT8 weights"),
            (linear(Float32, weight(Int8, 4), vec![]), "LiteRT rounds the input to 8 bits"),
            (
                with(linear(Int8, weight(Int4, 1), vec![]), |model| grid(model, 0.5, 3)),
                "LiteRT takes INT4 weights to have zero points of 0",
            ),
            (
                linear(Int16, weight(Int16, 1), vec![tensor(TensorType::Int64, &[4], 1)]),
                "LiteRT computes nonsense for a bias beside INT16 weights",
            ),
        ],
    );
    clean(
        Target::Litert,
        vec![
            unary(Neg, Float32),
            unary(Neg, Int8),
            unary(Rsqrt, Int8),
            graded(Softmax, Int8, 1.0 / 256.0, -128),
            graded(Tanh, Int16, 1.0 / 32768.0, 0),
            linear(Int8, weight(Int8, 4), vec![]),
            linear(Int16, weight(Int4, 4), vec![]),
        ],
    );
}
