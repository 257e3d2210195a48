//! Mixture of experts: the families against Hugging Face's eager f32 (experts stacked and not, weights
//! divided by their sum and not, layers without experts, pictures), and the command line on the demo
//! with its feed-forward blocks made into experts.

use crate::support::*;
use assert_cmd::Command;
use encircle::checkpoint::{Checkpoint, Dtype, TensorFile};
use encircle::exec::{self, Float};
use encircle::graph::Graph;
use encircle::layout::Layout;
use encircle::models::{self, Request};
use encircle::tensor::{Par, Tensor};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// max |error| relative to the tensor's greatest value.
const TOLERANCE: f32 = 2e-4;

/// Every case: its checkpoint (the folder lives as long as the pair), and its layout.
fn cases() -> Vec<(Value, Checkpoint, tempfile::TempDir)> {
    let data = path("tests/data/moe");
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(data.join("cases.json")).unwrap()).unwrap();
    let open = |case: Value| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), case["config"].to_string()).unwrap();
        let weights = format!("{}.safetensors", case["name"].as_str().unwrap());
        fs::copy(data.join(weights), folder.path().join("model.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        (case, checkpoint, folder)
    };
    cases.into_iter().map(open).collect()
}

fn layout(case: &Value) -> Layout {
    let seq = case["input_ids"].as_array().unwrap().len();
    match case.get("grid_thw") {
        None => Layout::text(seq).unwrap(),
        Some(grid) => {
            let grid: [usize; 3] = serde_json::from_value(grid.clone()).unwrap();
            let start = case["visual_start"].as_u64().unwrap() as usize;
            Layout::single(grid, start, seq, 2).unwrap()
        }
    }
}

fn inputs(case: &Value, expected: &TensorFile) -> Vec<Tensor> {
    let ids: Vec<f32> = serde_json::from_value(case["input_ids"].clone()).unwrap();
    let pixels = format!("{}.pixels", case["name"].as_str().unwrap());
    let ids = Tensor::new([1, ids.len()], ids);
    std::iter::once(ids).chain(expected.read(&pixels).ok()).collect()
}

#[test]
fn layers_routers_and_logits_of_models_with_experts_equal_hugging_face() {
    let expected = TensorFile::open(&path("tests/data/moe/outputs.safetensors")).unwrap();
    let mut compared = 0;
    for (case, checkpoint, _folder) in cases() {
        let name = case["name"].as_str().unwrap();
        let config = checkpoint.config();
        checkpoint.verify(&models::tensors(config).unwrap()).unwrap();
        let graph = models::build(config, &Request::new(layout(&case))).unwrap();
        let weights = load(&checkpoint, &graph);
        let values = values(&graph, &inputs(&case, &expected), &weights);
        let prefix = if name.contains("vl") { "model.language_model" } else { "model" };
        let experts = config.text.experts.as_ref().unwrap();
        let mut router = 0;
        for i in 0..config.text.num_hidden_layers {
            let layer = format!("{prefix}.layers.{i}");
            let sparse = experts.in_layer(i);
            assert_eq!(graph.find(&format!("{layer}.mlp.gate")).is_some(), sparse, "{layer}");
            let mut pairs = vec![(layer.clone(), format!("{name}.layers.{i}"))];
            if sparse {
                pairs.push((format!("{layer}.mlp.gate"), format!("{name}.router.{router}")));
                router += 1;
            }
            for (ours, key) in pairs {
                let error =
                    relative_error(values[&ours].data(), expected.read(&key).unwrap().data());
                assert!(error <= TOLERANCE, "{key}: relative error {error:e}");
                compared += 1;
            }
        }
        let key = format!("{name}.logits");
        let error = relative_error(values["lm_head"].data(), expected.read(&key).unwrap().data());
        assert!(error <= TOLERANCE, "{key}: relative error {error:e}");
        compared += 1;
    }
    assert_eq!(compared, expected.names().count() - 1, "every golden tensor but the pixels");
}

/// An expert computes, and shows to calibration, the rows of the tokens sent to it; the result is
/// that of computing all of them.
#[test]
fn experts_run_on_their_tokens_alone() {
    let expected = TensorFile::open(&path("tests/data/moe/outputs.safetensors")).unwrap();
    for (case, checkpoint, _folder) in cases() {
        let config = checkpoint.config();
        let graph = models::build(config, &Request::new(layout(&case))).unwrap();
        let weights = load(&checkpoint, &graph);
        let inputs = inputs(&case, &expected);
        let tokens = inputs[0].data().len();
        let experts = config.text.experts.as_ref().unwrap();
        let mut keep = Keep { graph: &graph, values: HashMap::new() };
        let sparse = exec::run(&graph, &inputs, &weights, &mut keep, Par::Seq);
        for i in (0..config.text.num_hidden_layers).filter(|&i| experts.in_layer(i)) {
            let of = |name: &str| {
                let layer = format!("layers.{i}.mlp.experts.");
                let found = keep.values.iter().filter(|(n, _)| n.contains(&layer));
                found.filter(|(n, _)| n.ends_with(name)).map(|(_, v)| v).collect::<Vec<_>>()
            };
            let rows: usize = of(".gated").iter().map(|v| v.shape()[1]).sum();
            assert_eq!(rows, tokens * experts.num_experts_per_tok, "layer {i}");
            let chosen = |v: &&Tensor| v.data().iter().filter(|w| **w != 0.0).count();
            assert_eq!(of(".route").iter().map(chosen).sum::<usize>(), rows, "layer {i}");
        }
        let mut dense: Graph = graph.clone();
        dense.nodes.iter_mut().for_each(|node| node.routed = None);
        let dense = exec::run(&dense, &inputs, &weights, &mut Float, Par::Seq);
        let error = relative_error(sparse[0].data(), dense[0].data());
        assert!(error <= 1e-6, "relative error {error:e}");
    }
}

const EXPERTS: usize = 4;
const ROWS: &str = r#"{"image": "train_000.jpg", "question": "Name the digit.", "answer": "six"}
{"image": "train_001.jpg", "question": "What is it?", "answer": "seven"}
{"image": "train_002.jpg", "question": "Name the digit.", "answer": "one"}
"#;

/// bf16 tensors by their stored names.
type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

/// A folder with the demo as a model with experts, all of which are the trained block: the router,
/// whose rows are `router`, decides nothing but who computes.
fn desk(per_token: usize, router: impl Fn(usize, usize) -> f32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ck = folder.path().join("ck");
    fs::create_dir(&ck).unwrap();
    for entry in fs::read_dir(path("assets/pixie")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), ck.join(entry.file_name())).unwrap();
    }
    for name in ["train_000.jpg", "train_001.jpg", "train_002.jpg"] {
        fs::copy(path("assets/vqa").join(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("rows.jsonl"), ROWS).unwrap();
    let pixie = pixie();
    let mut config: Value =
        serde_json::from_slice(&fs::read(path("assets/pixie/config.json")).unwrap()).unwrap();
    config["architectures"] = json!(["Qwen3VLMoeForConditionalGeneration"]);
    config["model_type"] = "qwen3_vl_moe".into();
    config["text_config"]["num_experts"] = EXPERTS.into();
    config["text_config"]["num_experts_per_tok"] = per_token.into();
    config["text_config"]["moe_intermediate_size"] = pixie.config().text.intermediate_size.into();
    fs::write(ck.join("config.json"), config.to_string()).unwrap();
    write(&ck.join("model.safetensors"), &tensors(&pixie, router));
    folder
}

fn tensors(pixie: &Checkpoint, router: impl Fn(usize, usize) -> f32) -> Tensors {
    let (hidden, wide) = (pixie.config().text.hidden_size, pixie.config().text.intermediate_size);
    let mut tensors = Tensors::new();
    let transposed = |name: &str, rows: usize, columns: usize| -> Vec<[u8; 2]> {
        let (bytes, dtype) = pixie.raw(name).unwrap();
        assert_eq!(dtype, Dtype::Bf16);
        let at = |i: usize| [bytes[2 * i], bytes[2 * i + 1]];
        (0..rows * columns).map(|i| at(i % rows * columns + i / rows)).collect()
    };
    for name in pixie.tensor_names() {
        match name.strip_suffix(".mlp.gate_proj.weight") {
            Some(layer) => {
                let [gate, up] = ["gate_proj", "up_proj"]
                    .map(|name| transposed(&format!("{layer}.mlp.{name}.weight"), wide, hidden));
                let rows = gate.chunks(wide).zip(up.chunks(wide));
                let both: Vec<u8> = rows.flat_map(|(g, u)| [g, u].concat().concat()).collect();
                let down = transposed(&format!("{layer}.mlp.down_proj.weight"), hidden, wide);
                let shape = vec![EXPERTS, hidden, 2 * wide];
                let stack = format!("{layer}.mlp.experts.gate_up_proj");
                tensors.push((stack, shape, both.repeat(EXPERTS)));
                let stack = format!("{layer}.mlp.experts.down_proj");
                let shape = vec![EXPERTS, wide, hidden];
                tensors.push((stack, shape, down.concat().repeat(EXPERTS)));
                let gate = (0..EXPERTS * hidden).flat_map(|i| {
                    let bits = router(i / hidden, i % hidden).to_bits() >> 16;
                    u16::try_from(bits).unwrap().to_le_bytes()
                });
                let shape = vec![EXPERTS, hidden];
                tensors.push((format!("{layer}.mlp.gate.weight"), shape, gate.collect()));
            }
            None if name.contains("language_model") && name.contains(".mlp.") => {}
            None => {
                let shape = pixie.info(name).unwrap().shape.clone();
                tensors.push((name.into(), shape, pixie.raw(name).unwrap().0.to_vec()));
            }
        }
    }
    tensors
}

fn write(file: &Path, tensors: &Tensors) {
    let mut header = Map::new();
    let mut at = 0;
    for (name, shape, bytes) in tensors {
        let entry =
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes.len()]});
        header.insert(name.clone(), entry);
        at += bytes.len();
    }
    let header = Value::Object(header).to_string().into_bytes();
    let mut out = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    tensors.iter().for_each(|(_, _, bytes)| out.extend(bytes));
    fs::write(file, out).unwrap();
}

/// Rows of about unit length that have nothing to do with each other.
fn spread(expert: usize, column: usize) -> f32 {
    let bits = (expert * 7919 + column * 104_729 + 1).wrapping_mul(2_654_435_761) >> 7;
    (bits % 2001) as f32 / 1000.0 - 1.0
}

/// Experts 0, 1 and 3 have equal logits, so the last of them is never among the two chosen.
fn neglected(expert: usize, column: usize) -> f32 {
    spread(if expert == 2 { 2 } else { 0 }, column)
}

fn run(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("encircle").unwrap();
    let output = command.current_dir(folder.path()).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stderr = text(output.stderr);
    assert!(!stderr.contains("panicked at"), "{stderr}");
    (output.status.code().unwrap(), text(output.stdout), stderr)
}

fn quantize(folder: &TempDir, recipe: &str) -> (i32, String, String) {
    let fixed = ["quantize", "ck", "--calib", "rows.jsonl", "--eval", "rows.jsonl"];
    let more = ["-o", "out", "--save-every", "0", "--json", "--recipe", recipe];
    run(folder, &[&fixed[..], &more].concat())
}

/// Files of all presets are whole, sound, and as good as those of the block that became experts.
#[test]
fn models_with_experts_are_quantized_end_to_end() {
    let folder = desk(2, spread);
    for recipe in ["w8a8", "w4a16"] {
        let (code, stdout, stderr) = quantize(&folder, recipe);
        assert_eq!((code, &stderr[..]), (0, ""), "{recipe}");
        let facts: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(facts["quantcheck"]["unquantized"], 0, "{recipe}");
        assert_eq!(facts["unseen_experts"], json!([]), "{recipe}");
        let cosine = facts["error"]["cosine"].as_f64().unwrap();
        assert!(cosine > 0.995, "{recipe}: {cosine}");
        for file in ["out/model.circle", "out/model.q.circle"] {
            let (code, stdout, stderr) = run(&folder, &["verify", file]);
            assert_eq!(code, 0, "{recipe}: {file}: {stdout}{stderr}");
        }
    }
}

/// A layer is one file of the staged set, however many stages its experts are, and the chain of
/// files answers as the dense model that became the experts.
#[test]
fn a_layer_with_experts_is_one_file_and_the_chain_answers_as_the_dense_model() {
    let folder = desk(2, spread);
    let fixed = ["quantize", "ck", "--calib", "rows.jsonl", "--preset", "npu", "-o", "out"];
    let (code, _, stderr) = run(&folder, &[&fixed[..], &["--stages", "--json"]].concat());
    assert_eq!((code, &stderr[..]), (0, ""));
    let manifest = fs::read(folder.path().join("out/stages/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let layers =
        |file: &&Value| file["role"] == "decoder_layer_prefill" && file["quantized"] == true;
    assert_eq!(files.iter().filter(layers).count(), 4);
    let (code, _, stderr) = {
        let dense = path("assets/pixie");
        let fixed = ["quantize", dense.to_str().unwrap(), "--calib", "rows.jsonl"];
        run(&folder, &[&fixed[..], &["--preset", "npu", "-o", "dense", "--stages"]].concat())
    };
    assert_eq!(code, 0, "{stderr}");
    let asked = ["--image", "train_000.jpg", "--prompt", "Name the digit.", "--float"];
    let answer = |set: &str, checkpoint: &str| {
        let fixed = ["generate", set, "--checkpoint", checkpoint];
        let (code, stdout, stderr) = run(&folder, &[&fixed[..], &asked[..]].concat());
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let dense = path("assets/pixie");
    assert_eq!(answer("out/stages", "ck"), answer("dense/stages", dense.to_str().unwrap()));
}

/// Nobody falls to another scheme unless the recipe says so, and then it is said who. What a refused job
/// has observed does not stand in the way of the recipe that the error advises.
#[test]
fn an_expert_that_calibration_never_reaches_is_refused_or_falls_back_by_policy() {
    let folder = desk(2, neglected);
    let (code, _, stderr) = quantize(&folder, "w4a16");
    assert_eq!(code, 2, "{stderr}");
    let names: Vec<String> =
        (0..4).map(|i| format!("model.language_model.layers.{i}.mlp.experts.3")).collect();
    let all = format!("no calibration token reached {}: ", names.join(", "));
    assert!(stderr.contains(&all), "{stderr}");
    assert!(stderr.contains("unseen_experts = \"weight_only\""), "{stderr}");

    let recipe = fs::read_to_string(path("assets/recipes/w4a16-fast.toml")).unwrap();
    let recipe = format!("[policy]\nunseen_experts = \"weight_only\"\n\n{recipe}");
    fs::write(folder.path().join("lenient.toml"), recipe).unwrap();
    let (code, stdout, stderr) = quantize(&folder, "lenient.toml");
    assert_eq!(code, 0, "{stderr}");
    assert!(names.iter().all(|name| stderr.contains(name.as_str())), "{stderr}");
    let facts: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(facts["unseen_experts"], json!(names));
    assert_eq!(facts["quantcheck"]["unquantized"], 0);
}

#[test]
fn a_policy_for_unseen_experts_that_does_not_exist_is_refused() {
    let folder = desk(2, neglected);
    let recipe = "[policy]\nunseen_experts = \"ignore\"\n";
    fs::write(folder.path().join("wrong.toml"), recipe).unwrap();
    let (code, _, stderr) = quantize(&folder, "wrong.toml");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("wrong.toml") && stderr.contains("weight_only"), "{stderr}");
}
