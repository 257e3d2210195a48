//! `run` and `export` on the demo's files: what `quantize` writes is what `quantize` measured.

use crate::artifact::encircle;
use encircle::circle::{self, BuiltinOperator, TensorType};
use encircle::quant::QuantParams;
use encircle::runtime::{Export, Limits, Program, export, npy};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folder with the demo's files and its inputs, for a preset; made once.
fn demo(preset: &'static str) -> &'static Path {
    static W8A8: OnceLock<PathBuf> = OnceLock::new();
    static W4A16: OnceLock<PathBuf> = OnceLock::new();
    let cell = if preset == "w8a8" { &W8A8 } else { &W4A16 };
    cell.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        let (out, io) = (folder.join("out"), folder.join("out/io"));
        let (out, io) = (out.to_str().unwrap(), io.to_str().unwrap());
        let args = ["quantize", "--preset", preset, "-o", out, "--io", io, "--json"];
        let (code, _, stderr) = encircle(&args);
        assert_eq!((code, stderr.as_str()), (0, ""));
        folder.join("out")
    })
}

fn array(path: &Path) -> npy::Array {
    npy::read(&std::fs::read(path).unwrap()).unwrap()
}

fn program(path: &Path) -> Program {
    let model = circle::read(&std::fs::read(path).unwrap()).unwrap();
    Program::new(&model, Limits::default()).unwrap()
}

fn inputs(folder: &Path, program: &Program) -> Vec<encircle::tensor::Tensor> {
    let named = |i: usize| (i.to_string(), array(&folder.join(format!("io/in{i}.npy"))));
    program.bind((0..program.inputs().len()).map(named).collect()).unwrap()
}

#[test]
fn the_float_file_computes_what_the_graph_in_memory_computed() {
    let folder = demo("w8a8");
    let program = program(&folder.join("model.circle"));
    let outputs = program.reals(program.run(&inputs(folder, &program)).unwrap());
    assert_eq!(outputs[0], array(&folder.join("io/out0.npy")));
}

#[test]
fn both_readings_of_the_quantized_file_agree_within_one_step_on_every_edge() {
    for preset in ["w8a8", "w4a16"] {
        let folder = demo(preset);
        let program = program(&folder.join("model.q.circle"));
        let edges = program.audit(&inputs(folder, &program)).unwrap();
        assert!(edges.len() > 100);
        for edge in &edges {
            assert!(edge.steps_max <= 1, "{preset}: {edge:?}");
        }
    }
}

/// Mean distance of the quantized file's logits, computed on integers, from the float ones.
fn distance(folder: &Path) -> f64 {
    let program = program(&folder.join("model.q.circle"));
    let integers = program.run_integers(&inputs(folder, &program)).unwrap().remove(0);
    let QuantParams::Affine { scale, zero_point, .. } =
        program.outputs()[0].qparams.clone().unwrap()
    else {
        panic!("affine logits")
    };
    let codes: Vec<f64> = match integers.elements {
        npy::Elements::U8(codes) => codes.into_iter().map(f64::from).collect(),
        npy::Elements::I16(codes) => codes.into_iter().map(f64::from).collect(),
        other => panic!("integer logits, not {other:?}"),
    };
    let npy::Elements::F32(float) = array(&folder.join("io/out0.npy")).elements else {
        panic!("float logits")
    };
    let real = |q: f64| (q - f64::from(zero_point[0])) * f64::from(scale[0]);
    let far: f64 = codes.iter().zip(&float).map(|(&q, &x)| (real(q) - f64::from(x)).abs()).sum();
    far / float.len() as f64
}

#[test]
fn layers_of_different_dtypes_meet_through_quantize() {
    let mixed = tempfile::tempdir().unwrap();
    let all_uint8 = tempfile::tempdir().unwrap();
    for (folder, rule) in [(&mixed, "*language_model.layers.1.*=dtype:int16"), (&all_uint8, "")] {
        let (out, io) = (folder.path().to_str().unwrap(), folder.path().join("io"));
        let io = io.to_str().unwrap();
        let args = ["quantize", "--preset", "w8a8-minmax", "-o", out, "--io", io, "--json"];
        let set = ["--set", rule];
        let set = if rule.is_empty() { &[][..] } else { &set };
        let (code, _, stderr) = encircle(&[&args[..], set].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
    }
    let model = circle::read(&std::fs::read(mixed.path().join("model.q.circle")).unwrap()).unwrap();
    assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
    let graph = &model.subgraphs[0];
    let dtype = |index: i32| graph.tensors[usize::try_from(index).unwrap()].dtype;
    let data = [TensorType::Uint8, TensorType::Int16];
    let mut crossings = 0;
    for op in &graph.operators {
        let builtin = model.operator_codes[op.opcode_index as usize].builtin;
        let met = match builtin {
            BuiltinOperator::Quantize => {
                assert_ne!(dtype(op.inputs[0]), dtype(op.outputs[0]));
                crossings += 1;
                continue;
            }
            // a table and its rows, a matrix and its data, a gain: each on grids of its own
            BuiltinOperator::Gather => &[][..],
            BuiltinOperator::FullyConnected | BuiltinOperator::RmsNorm => &op.inputs[..1],
            _ => &op.inputs,
        };
        let met = met.iter().filter(|&&index| index >= 0).map(|&index| dtype(index));
        for operand in met.filter(|dtype| data.contains(dtype)) {
            assert_eq!(operand, dtype(op.outputs[0]), "{builtin:?}");
        }
    }
    assert!(crossings >= 2, "{crossings}");
    assert!(graph.tensors.iter().filter(|t| t.dtype == TensorType::Int16).count() > 20);
    let program = program(&mixed.path().join("model.q.circle"));
    for edge in program.audit(&inputs(mixed.path(), &program)).unwrap() {
        assert!(edge.steps_max <= 1, "{edge:?}");
    }
    let (mixed, uint8) = (distance(mixed.path()), distance(all_uint8.path()));
    assert!(mixed > 0.0 && mixed < uint8, "int16 in one layer: {mixed}, nowhere: {uint8}");
}

#[test]
fn the_qdq_file_computes_what_the_quantized_file_means() {
    for preset in ["w8a8", "w4a16"] {
        let folder = demo(preset);
        let model = circle::read(&std::fs::read(folder.join("model.q.circle")).unwrap()).unwrap();
        let how = Export { qdq: true, format: circle::Format::Circle };
        let exported = export(&model, how).unwrap();
        assert!(circle::verify(&exported).is_valid(), "{}", circle::verify(&exported));
        let reread = circle::read(&circle::to_bytes(&exported).unwrap()).unwrap();
        let qdq = Program::new(&reread, Limits::default()).unwrap();
        let quantized = program(&folder.join("model.q.circle"));
        let expected = quantized.run(&inputs(folder, &quantized)).unwrap();
        assert_eq!(qdq.run(&inputs(folder, &qdq)).unwrap(), expected, "{preset}");
    }
}

#[test]
fn the_command_writes_outputs_and_judges_every_edge() {
    let folder = demo("w4a16");
    let (file, out) = (folder.join("model.q.circle"), folder.join("ran"));
    let input = |i: usize| format!("{i}={}", folder.join(format!("io/in{i}.npy")).display());
    let (file, out_text) = (file.to_str().unwrap(), out.to_str().unwrap());
    let (first, second) = (input(0), input(1));
    let args = ["run", file, "--input", &first, "--input", &second, "-o", out_text];
    let (code, stdout, stderr) = encircle(&[&args[..], &["--integer", "--audit"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains("audit: "), "{stdout}");
    assert!(matches!(array(&out.join("out0.npy")).elements, npy::Elements::I16(_)));

    let (code, _, stderr) = encircle(&["run", file, "--input", &first, "-o", out_text]);
    assert_eq!(code, 2);
    let expected = "input \"pixel_values\": is missing, expected INT16 [64, 1536]\n";
    assert!(stderr.ends_with(expected), "{stderr}");
}

#[test]
fn a_tflite_export_holds_no_circle_operator_and_computes_the_same() {
    let folder = demo("w8a8");
    let model = circle::read(&std::fs::read(folder.join("model.circle")).unwrap()).unwrap();
    let how = Export { qdq: false, format: circle::Format::TfLite };
    let exported = export(&model, how).unwrap();
    assert!(exported.operator_codes.iter().all(|code| code.builtin.code() >= 0));
    let program = Program::new(&exported, Limits::default()).unwrap();
    let outputs = program.run(&inputs(folder, &program)).unwrap();
    let npy::Elements::F32(expected) = array(&folder.join("io/out0.npy")).elements else {
        panic!("float outputs")
    };
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (a, b) in outputs[0].data().iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} {b}");
    }
}
