//! `run` and `export` on the demo's files: what `quantize` writes is what `quantize` measured.

use crate::artifact::encircle;
use crate::support::path;
use assert_cmd::cargo::CommandCargoExt;
use encircle::checkpoint::Checkpoint;
use encircle::circle::{self, BuiltinOperator, TensorType};
use encircle::dataset::Processor;
use encircle::runtime::{Export, Form, Limits, Program, export, npy};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
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

#[test]
fn layers_of_different_dtypes_meet_through_quantize() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // one row, so that the figures of the command are those of the sample that it writes
    let rows = std::fs::read_to_string(path("assets/vqa/train.jsonl")).unwrap();
    std::fs::write(at("rows.jsonl"), rows.lines().next().unwrap()).unwrap();
    std::fs::copy(path("assets/vqa/train_000.jpg"), at("train_000.jpg")).unwrap();
    let (checkpoint, rows, io, out) = (path("assets/pixie"), at("rows.jsonl"), at("io"), at(""));
    let checkpoint = checkpoint.to_str().unwrap();
    let args = ["quantize", checkpoint, "--calib", &rows, "--preset", "w8a8-minmax", "--json"];
    let int16 = ["--set", "*language_model.layers.1.*=dtype:int16", "-o", &out, "--io", &io];
    let (code, stdout, stderr) = encircle(&[&args[..], &int16].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let facts: Value = serde_json::from_str(&stdout).unwrap();
    let measured = facts["error"]["mean_abs_diff"].as_f64().unwrap();
    let folder = folder.path();
    let model = circle::read(&std::fs::read(folder.join("model.q.circle")).unwrap()).unwrap();
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
    let program = program(&folder.join("model.q.circle"));
    let inputs = inputs(folder, &program);
    for edge in program.audit(&inputs).unwrap() {
        assert!(edge.steps_max <= 1, "{edge:?}");
    }
    // the file is as far off as the graph in memory was, where a narrowed result is rounded twice too
    let npy::Elements::F32(float) = array(&folder.join("io/out0.npy")).elements else {
        panic!("float logits")
    };
    let quantized = program.run(&inputs).unwrap().remove(0);
    let far = quantized.data().iter().zip(&float).map(|(q, x)| f64::from((q - x).abs()));
    let found = far.sum::<f64>() / float.len() as f64;
    println!("{found} in the file, {measured} in memory");
    assert!((found / measured - 1.0).abs() < 1e-4, "{found} in the file, {measured} in memory");
}

#[test]
fn the_qdq_file_computes_what_the_quantized_file_means() {
    for preset in ["w8a8", "w4a16"] {
        let folder = demo(preset);
        let model = circle::read(&std::fs::read(folder.join("model.q.circle")).unwrap()).unwrap();
        let how = Export { form: Form::Qdq, format: circle::Format::Circle, blocks: None };
        let exported = export(&model, how).unwrap();
        assert!(circle::verify(&exported).is_valid(), "{}", circle::verify(&exported));
        let reread = circle::read(&circle::to_bytes(&exported).unwrap()).unwrap();
        let qdq = Program::new(&reread, Limits::default()).unwrap();
        let quantized = program(&folder.join("model.q.circle"));
        let expected = quantized.run(&inputs(folder, &quantized)).unwrap().remove(0);
        let found = qdq.run(&inputs(folder, &qdq)).unwrap().remove(0);
        // One multiplies f32, the other may multiply integers: what falls on a tie may be rounded to
        // the neighbour, and a step travels through the network.
        let most = expected.data().iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let far = found.data().iter().zip(expected.data()).map(|(x, y)| (x - y).abs());
        let (mean, greatest) = far.fold((0.0, 0.0f32), |(sum, most), d| (sum + d, most.max(d)));
        let mean = mean / expected.len() as f32;
        assert!(mean <= 1e-4 * most && greatest <= 0.02 * most, "{preset}: {mean} {greatest}");
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

    // A path may hold the sign that ends the name.
    let other = folder.join("a=b.npy");
    std::fs::copy(folder.join("io/in1.npy"), &other).unwrap();
    let second = format!("1={}", other.display());
    let (code, ..) =
        encircle(&["run", file, "--input", &first, "--input", &second, "-o", out_text]);
    assert_eq!(code, 0);

    let (code, _, stderr) = encircle(&["run", file, "--input", &first, "-o", out_text]);
    assert_eq!(code, 2);
    let expected = "input \"pixel_values\": is missing, expected INT16 [64, 1536]\n";
    assert!(stderr.ends_with(expected), "{stderr}");
}

#[test]
fn outputs_are_written_beside_their_names_and_take_them_when_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (out, kept) = (folder.path().join("out"), folder.path().join("kept"));
    let input = folder.path().join("in.npy");
    let halves = npy::Array { shape: vec![3, 8], elements: npy::Elements::F32(vec![0.5; 24]) };
    std::fs::write(&input, npy::write(&halves)).unwrap();
    let edges = folder.path().join("edges");
    std::fs::create_dir(&out).unwrap();
    std::fs::create_dir(&edges).unwrap();
    std::fs::write(&kept, "before").unwrap();
    // What is written in place changes the other name of the file too.
    for name in [out.join("out0.npy"), edges.join("in0.npy"), edges.join("out0.npy")] {
        std::fs::hard_link(&kept, name).unwrap();
    }
    let given = format!("0={}", input.display());
    let run = ["run", "tests/data/circle/linear.q.circle", "--input", &given];
    let into = ["--edges", edges.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let (code, _, stderr) = encircle(&[&run[..], &into].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read(&kept).unwrap(), b"before");
    assert_eq!(array(&out.join("out0.npy")).shape, [3, 4]);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn results_take_the_place_neither_of_what_is_read_nor_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let halves = npy::Array { shape: vec![3, 8], elements: npy::Elements::F32(vec![0.5; 24]) };
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("chain")).unwrap();
    for name in ["out0.npy", "in0.npy"] {
        std::fs::write(folder.path().join("chain").join(name), npy::write(&halves)).unwrap();
    }
    let (chain, new, dotted) = (at("chain"), at("new"), at("./new"));
    let refuse = |input: &str, into: &[&str], said: &str| {
        let given = format!("0={chain}/{input}");
        let run = ["run", "tests/data/circle/linear.q.circle", "--input", &given];
        let (code, stdout, stderr) = encircle(&[&run[..], into].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{into:?}");
        assert!(stderr.contains(said), "{into:?}: {stderr}");
        assert_eq!(array(&folder.path().join("chain").join(input)), halves);
        assert!(!Path::new(&new).exists());
    };
    refuse("out0.npy", &["-o", &chain], "-o: found the file that is read");
    let edges = ["-o", &new, "--edges", &chain];
    refuse("out0.npy", &edges, "--edges: found the file that is read");
    refuse("in0.npy", &edges, "--edges: found the file that is read");
    let same = ["-o", &new, "--edges", &dotted];
    refuse("in0.npy", &same, "--edges: found the folder of -o, expected another");
}

#[test]
#[cfg(unix)]
fn devices_without_an_end_are_read_up_to_a_limit() {
    for args in [
        &["quantize", "--recipe", "/dev/zero", "-o", "never"][..],
        &["rope", "--layout", "/dev/zero"],
    ] {
        let (code, stdout, stderr) = encircle(args);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("error: /dev/zero: cannot read: found more than "), "{stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_standard_output_that_is_full_is_called_so() {
    for more in [&[][..], &["--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::cargo_bin("encircle").unwrap();
        command.current_dir(path("")).arg("inspect").arg("tests/data/circle/linear.q.circle");
        let output = command.args(more).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.starts_with("error: standard output: cannot write: "), "{stderr}");
    }
}

#[test]
fn a_tflite_export_holds_no_circle_operator_and_computes_the_same() {
    let folder = demo("w8a8");
    let model = circle::read(&std::fs::read(folder.join("model.circle")).unwrap()).unwrap();
    let how = Export { form: Form::Own, format: circle::Format::TfLite, blocks: None };
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

/// The float reading of every operator for itself, on operands of the integer reading, is within a
/// step of the integer one: what other runtimes are held to.
#[test]
fn the_file_of_all_edges_is_within_one_step_of_the_integers() {
    let folder = demo("w4a16");
    let (file, out) = (folder.join("model.q.circle"), folder.join("edges"));
    let input = |i: usize| format!("{i}={}", folder.join(format!("io/in{i}.npy")).display());
    let (file, own) = (file.to_str().unwrap(), out.join("own"));
    let (first, second) = (input(0), input(1));
    let args = ["run", file, "--input", &first, "--input", &second, "-o", own.to_str().unwrap()];
    let (code, _, stderr) = encircle(&[&args[..], &["--edges", out.to_str().unwrap()]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let edges = program(&out.join("edges.circle"));
    let given = |i: usize| (i.to_string(), array(&out.join(format!("in{i}.npy"))));
    let inputs = edges.bind((0..edges.inputs().len()).map(given).collect()).unwrap();
    let found = edges.run(&inputs).unwrap();
    assert!(found.len() > 100, "{} edges", found.len());
    for (i, (tensor, port)) in found.iter().zip(edges.outputs()).enumerate() {
        let params = port.qparams.as_ref().unwrap();
        let codes = encircle::quant::quantize(params, tensor.shape(), tensor.data());
        let expected = array(&out.join(format!("out{i}.npy"))).elements.integers().unwrap();
        let apart = codes.iter().zip(&expected).map(|(&a, &b)| (i64::from(a) - b).abs()).max();
        assert!(apart.unwrap() <= 1, "{}: {apart:?} steps", port.name);
    }
}

/// Integers in the forms LiteRT and onert execute: linear layers stay on integers where the weights
/// allow it, and the answer stays.
#[test]
fn native_forms_keep_integers_and_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (out, io) = (folder.path().join("out"), folder.path().join("io"));
    let (out_text, io) = (out.to_str().unwrap(), io.to_str().unwrap());
    let symmetric = "*.weight=dtype:int8,symmetric:true";
    let args = ["quantize", "--preset", "w8a8", "--set", symmetric, "-o", out_text, "--io", io];
    let (code, _, stderr) = encircle(&args);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let inputs = |program: &Program| {
        let named = |i: usize| (i.to_string(), array(&folder.path().join(format!("io/in{i}.npy"))));
        program.bind((0..program.inputs().len()).map(named).collect()).unwrap()
    };
    let own = program(&out.join("model.q.circle"));
    let expected = own.run_exactly(&inputs(&own)).unwrap().remove(0);
    // The rows that say the answer of the first calibration row, which is the sample.
    let checkpoint = Checkpoint::open(&path("assets/pixie")).unwrap();
    let rows = encircle::dataset::read_jsonl(&path("assets/vqa/train.jsonl")).unwrap();
    let sample = Processor::new(&checkpoint).unwrap().encode(&rows[0]).unwrap();
    let answer = sample.prompt_len - 1..sample.input_ids.len() - 1;
    let said = |logits: &encircle::tensor::Tensor| -> Vec<usize> {
        let width = logits.shape()[2];
        let best = |row: &[f32]| (0..width).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        let rows = logits.data().chunks(width).skip(answer.start).take(answer.len());
        rows.filter_map(best).collect()
    };
    assert!(said(&expected).len() > 1);
    for (format, target) in [("tflite", "litert"), ("circle", "onert")] {
        let file = folder.path().join(format!("native.{format}"));
        let model = out.join("model.q.circle");
        let args = ["export", model.to_str().unwrap(), "--target", target, "--format", format];
        let (code, _, stderr) = encircle(&[&args[..], &["-o", file.to_str().unwrap()]].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
        let model = circle::read(&std::fs::read(&file).unwrap()).unwrap();
        let integers = |builtin: circle::BuiltinOperator| {
            let graph = &model.subgraphs[0];
            let of = graph.operators.iter().filter(|op| model.builtin(op) == Some(builtin));
            let of: Vec<_> = of.filter_map(|op| graph.tensor(op.outputs[0])).collect();
            (of.iter().filter(|t| t.dtype != circle::TensorType::Float32).count(), of.len())
        };
        let (native, all) = integers(circle::BuiltinOperator::FullyConnected);
        match target {
            "litert" => assert_eq!(native, all, "linear layers on integers"),
            // It has no kernel for a scale for each channel.
            _ => assert_eq!(native, 0),
        }
        let (native, all) = integers(circle::BuiltinOperator::Mul);
        assert!(native > 0 && native <= all);
        let native = program(&file);
        let found = native.run(&inputs(&native)).unwrap().remove(0);
        assert_eq!(said(&found), said(&expected), "{target}");
    }
}

#[test]
fn what_only_integers_have_is_refused_of_a_float_file() {
    let folder = demo("w4a16");
    let (file, out) = (folder.join("model.circle"), tempfile::tempdir().unwrap());
    let input = |i: usize| format!("{i}={}", folder.join(format!("io/in{i}.npy")).display());
    let (first, second, place) = (input(0), input(1), out.path().join("ran"));
    let (file, place_text) = (file.to_str().unwrap(), place.to_str().unwrap());
    let run = ["run", file, "--input", &first, "--input", &second, "-o", place_text];
    for option in [&["--integer"][..], &["--audit"], &["--edges", place_text]] {
        let (code, stdout, stderr) = encircle(&[&run[..], option].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{option:?}: {stderr}");
        let fact = format!("model.circle: {}: found a file whose values are all float", option[0]);
        assert!(stderr.contains(&fact) && stderr.contains("expected"), "{option:?}: {stderr}");
        assert!(!place.exists());
    }
    let (code, _, stderr) = encircle(&["export", file, "--qdq", "-o", place_text]);
    assert_eq!(code, 2);
    assert!(stderr.contains("model.circle: --qdq: found a float file, expected"), "{stderr}");
    assert!(!place.exists());
}
