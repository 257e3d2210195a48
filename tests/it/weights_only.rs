//! `quantize --weights-only`: no rows, integers for what is stored, float for what is computed.

use crate::support::demo_folder;
use assert_cmd::Command;
use encircle::circle::{self, Model, Target, TensorType};
use encircle::runtime::{Export, Form, Limits, Program, export};
use encircle::tensor::Tensor;
use serde_json::Value;
use std::fs;
use std::path::Path;

const ROW: &str = r#"{"image": "train_000.jpg", "question": "Name the digit.", "answer": "six"}"#;
/// The layout of that row, in arguments.
const LAYOUT: [&str; 6] = ["--seq-len", "40", "--grid", "1,8,8", "--visual-start", "4"];

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("encircle").unwrap();
    let output = command.current_dir(folder).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stderr = text(output.stderr);
    assert!(!stderr.contains("panicked at"), "{stderr}");
    (output.status.code().unwrap(), text(output.stdout), stderr)
}

/// Rounds the demo's weights and gives the report.
#[track_caller]
fn rounded(folder: &Path, more: &[&str]) -> Value {
    let fixed = ["quantize", "ck", "--weights-only", "-o", "alone", "--json"];
    let (code, stdout, stderr) = run(folder, &[&fixed[..], &LAYOUT, more].concat());
    assert_eq!((code, &stderr[..]), (0, ""));
    serde_json::from_str(&stdout).unwrap()
}

/// The same recipe with rows, whose activations are observed.
#[track_caller]
fn with_rows(folder: &Path, more: &[&str]) {
    fs::write(folder.join("rows.jsonl"), ROW).unwrap();
    let fixed =
        ["quantize", "ck", "--calib", "rows.jsonl", "--seq-len", "40", "-o", "both", "--json"];
    let (code, _, stderr) = run(folder, &[&fixed[..], more].concat());
    assert_eq!(code, 0, "{stderr}");
}

fn file(folder: &Path, out: &str) -> Vec<u8> {
    fs::read(folder.join(out).join("model.q.circle")).unwrap()
}

/// How many integer constants the file of weights alone has, all of which the other has too.
fn same_codes(alone: &Model, both: &Model) -> usize {
    let mut count = 0;
    for tensor in &alone.subgraphs[0].tensors {
        let kept = matches!(tensor.dtype, TensorType::Float32 | TensorType::Int32);
        let Some(bytes) = alone.constant(tensor).filter(|_| !kept) else { continue };
        if tensor.dtype == TensorType::Int64 {
            continue;
        }
        let other = &both.subgraphs[0];
        let twin = other.tensor(other.find(&tensor.name).unwrap()).unwrap();
        assert_eq!(twin.dtype, tensor.dtype, "{}", tensor.name);
        assert_eq!(twin.quantization, tensor.quantization, "{}", tensor.name);
        assert_eq!(both.constant(twin).unwrap(), bytes, "{}", tensor.name);
        count += 1;
    }
    count
}

#[test]
fn where_a_recipe_leaves_activations_float_the_file_is_that_of_the_job_with_rows() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    for recipe in ["w8", "w4"] {
        for more in [&[][..], &["--buffers", "external"]] {
            let args = [&["--recipe", recipe], more].concat();
            rounded(folder, &args);
            with_rows(folder, &args);
            assert!(file(folder, "alone") == file(folder, "both"), "{recipe} {more:?}");
        }
    }
}

#[test]
fn codes_are_those_of_the_job_with_rows_whatever_the_policy_says_of_activations() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    for more in [
        &[][..],
        &["--set", "*.weight=axis:tensor"],
        &["--set", "*_proj.weight=dtype:int3"],
        &["--set", "*_proj.weight=dtype:int16"],
        &["--set", "*_proj.weight=observer:mse"],
        &["--set", "algo.rounding=mse", "--set", "algo.options.weighted=false"],
        &["--set", "algo.rotate.seed=3"],
    ] {
        let args = [&["--recipe", "npu"], more].concat();
        let report = rounded(folder, &args);
        with_rows(folder, &args);
        let [alone, both] = ["alone", "both"].map(|out| circle::read(&file(folder, out)).unwrap());
        assert!(circle::verify(&alone).is_valid(), "{more:?}");
        let integers = report["integers"].as_array().unwrap().iter();
        let told: u64 = integers.map(|of| of["tensors"].as_u64().unwrap()).sum();
        assert_eq!(same_codes(&alone, &both) as u64, told, "{more:?}");
        assert!(told > 20, "{told}");
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    for recipe in ["w4", "npu"] {
        rounded(folder, &["--recipe", recipe, "--threads", "1"]);
        let one = file(folder, "alone");
        for threads in ["2", "5"] {
            rounded(folder, &["--recipe", recipe, "--threads", threads]);
            assert!(file(folder, "alone") == one, "{recipe}, {threads} threads");
        }
    }
}

#[test]
fn the_report_says_that_activations_are_float() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    let report = rounded(folder, &[]);
    assert_eq!((&report["preset"], &report["activations"]), (&"w8".into(), &"float".into()));
    assert!(report["error"].is_null() && report["eval"].is_null());
    let tensors = report["quantcheck"]["tensors"].as_array().unwrap();
    let weights = |t: &&Value| t["name"].as_str().unwrap().ends_with("_proj.weight");
    assert_eq!(tensors.iter().find(weights), None, "weights have grids");
    let model = circle::read(&file(folder, "alone")).unwrap();
    let graph = &model.subgraphs[0];
    let float = |t: &&circle::Tensor| t.dtype == TensorType::Float32;
    let told = |t: &circle::Tensor| tensors.iter().any(|told| told["name"] == t.name[..]);
    assert!(graph.tensors.iter().filter(float).all(told));
    assert!(!folder.join("alone/model.circle").exists());
    assert!(folder.join("alone/recipe.toml").exists());

    let (code, stdout, _) = run(folder, &["quantize", "--weights-only", "--seq-len", "32"]);
    assert_eq!(code, 0);
    for fact in ["weights only", "activations stay float", "left out", "not compared"] {
        assert!(stdout.contains(fact), "no {fact:?} in {stdout}");
    }
}

#[test]
fn what_needs_rows_is_refused_by_its_key_and_leaves_nothing() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    for (more, fact) in [
        (&["--recipe", "w4a16-best"][..], "algo.rounding = \"qronos\" needs calibration rows"),
        (&["--set", "algo.rounding=gptq"], "algo.rounding = \"gptq\" needs calibration rows"),
        (&["--set", "algo.awq.grid=20"], "algo.awq needs calibration rows"),
        (&["--set", "algo.smoothquant.alpha=0.5"], "algo.smoothquant needs calibration rows"),
        (&["--set", "policy.prefix=4"], "policy.prefix needs calibration rows"),
        (&["--set", "policy.modality=equal"], "policy.modality needs calibration rows"),
        (&["--calib", "rows.jsonl"], "cannot be used with"),
        (&["--memory", "1GiB"], "cannot be used with"),
        (&["--device", "cpu"], "cannot be used with"),
        (&["--recipe", "mx"], "Circle has no tensor type for constants of mx"),
        (&["--set", "*_proj.weight=axis:1"], "axis = 1, but kernels take a grid for each row"),
        (&["--set", "*_proj.weight=dtype:int16,symmetric:false"], "zero points of 0"),
        (&["--set", "*embed_tokens=dtype:int8"], "rule `*embed_tokens` needs calibration rows"),
        (&["--set", "*norm*=dtype:int16"], "it speaks of activations, norms or biases"),
    ] {
        let fixed = ["quantize", "ck", "--weights-only", "--seq-len", "32", "-o", "refused"];
        let (code, stdout, stderr) = run(folder, &[&fixed[..], more].concat());
        assert_eq!((code, &stdout[..]), (2, ""), "{stderr}");
        assert!(stderr.contains(fact), "no {fact:?} in {stderr}");
        assert!(!folder.join("refused").exists(), "{stderr}");
    }
    let (code, _, stderr) = run(folder, &["quantize", "ck", "--weights-only"]);
    assert!(code == 2 && stderr.contains("--seq-len"), "{stderr}");
    let half = ["quantize", "ck", "--weights-only", "--seq-len", "32", "--grid", "1,8,8"];
    let (code, _, stderr) = run(folder, &half);
    assert!(code == 2 && stderr.contains("--visual-start"), "{stderr}");
}

#[test]
fn a_weight_that_allows_no_grid_is_named_and_no_file_is_left() {
    let folder = demo_folder(0..1);
    let path = folder.path().join("ck/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let name = "model.language_model.layers.1.mlp.down_proj.weight";
    let at = header[name]["data_offsets"][0].as_u64().unwrap();
    let size = match header[name]["dtype"].as_str().unwrap() {
        "F32" => 4,
        _ => 2,
    };
    let width = header[name]["shape"][1].as_u64().unwrap();
    // All bits of a number set is no number in every float type; this one is in the fourth row.
    let start = 8 + len + usize::try_from(at + (3 * width + 1) * size).unwrap();
    bytes[start..start + usize::try_from(size).unwrap()].fill(0xff);
    fs::write(path, bytes).unwrap();
    let args = ["quantize", "ck", "--weights-only", "--seq-len", "32", "-o", "out"];
    let (code, _, stderr) = run(folder.path(), &args);
    assert_eq!(code, 2);
    let element = format!(
        "tensor \"{name}\": expected finite numbers, found NaN at element {}",
        3 * width + 1
    );
    assert!(stderr.contains("ck/model.safetensors: ") && stderr.contains(&element), "{stderr}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn the_file_and_its_forms_for_runtimes_compute_what_the_integers_mean() {
    let folder = demo_folder(0..1);
    let folder = folder.path();
    rounded(folder, &["--recipe", "w4"]);
    let model = circle::read(&file(folder, "alone")).unwrap();
    let outputs = |model: &Model| {
        let program = Program::new(model, Limits::default()).unwrap();
        let graph = program.graph();
        let input = |id: &encircle::graph::ValueId| {
            let shape = graph.value(*id).shape.clone();
            let numbers = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32).collect();
            Tensor::new(shape, numbers)
        };
        let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
        program.run(&inputs).unwrap()
    };
    let expected = outputs(&model);
    assert!(expected[0].data().iter().all(|x| x.is_finite()));
    for form in [Form::Qdq, Form::Native(Target::Litert), Form::Native(Target::Onert)] {
        let how = Export { form, format: circle::Format::Circle, blocks: None };
        let exported = export(&model, how).unwrap();
        assert!(circle::verify(&exported).is_valid(), "{form:?}: {}", circle::verify(&exported));
        assert_eq!(outputs(&exported), expected, "{form:?}");
    }
}
