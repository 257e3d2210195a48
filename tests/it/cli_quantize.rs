//! `quantize` as a person types it: the demo, the interface of scripts, and bad input.

use crate::support::demo_folder;
use assert_cmd::Command;
use encircle::circle::{self, TensorType};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ROW: &str = r#"{"image": "train_000.jpg", "question": "Name the digit.", "answer": "six"}"#;
const ROW2: &str = r#"{"image": "train_001.jpg", "question": "What is it?", "answer": "seven"}"#;

/// A folder with a copy of the demo checkpoint and a few rows; the binary runs in it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: demo_folder(0..2) };
        desk.rows(&[ROW, ROW2]);
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rows(&self, rows: &[&str]) {
        fs::write(self.at("rows.jsonl"), rows.join("\n") + "\n").unwrap();
    }

    fn config(&self, edit: impl FnOnce(&mut Value)) {
        let file = self.at("ck/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        edit(&mut config);
        fs::write(file, config.to_string()).unwrap();
    }

    /// Edits the header and the payload of the weights.
    fn weights(&self, edit: impl FnOnce(&mut Value, &mut Vec<u8>)) {
        let file = self.at("ck/model.safetensors");
        let bytes = fs::read(&file).unwrap();
        let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let mut header = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let mut payload = bytes[8 + len..].to_vec();
        edit(&mut header, &mut payload);
        let header = header.to_string().into_bytes();
        let out = [&(header.len() as u64).to_le_bytes()[..], &header, &payload].concat();
        fs::write(file, out).unwrap();
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("encircle").unwrap();
        let output = command.current_dir(self.folder.path()).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let stderr = text(output.stderr);
        assert!(!stderr.contains("panicked at"), "{stderr}");
        (output.status.code().unwrap(), text(output.stdout), stderr)
    }

    fn quantize(&self, more: &[&str]) -> (i32, String, String) {
        let fixed = ["quantize", "ck", "--calib", "rows.jsonl", "-o", "out", "--json"];
        self.run(&[&fixed[..], more].concat())
    }

    #[track_caller]
    fn succeeds(&self, more: &[&str]) -> Value {
        let (code, stdout, stderr) = self.quantize(more);
        assert_eq!((code, stderr.as_str()), (0, ""));
        serde_json::from_str(&stdout).unwrap()
    }

    /// Both files of the last run.
    fn files(&self) -> [Vec<u8>; 2] {
        ["model.circle", "model.q.circle"].map(|name| fs::read(self.at("out").join(name)).unwrap())
    }

    /// The run fails with one error that holds all `facts`, and leaves no OUT.
    #[track_caller]
    fn fails(&self, more: &[&str], facts: &[&str]) {
        let (code, stdout, stderr) = self.quantize(more);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "no {fact:?} in: {stderr}");
        }
        assert!(!self.at("out").is_dir(), "OUT exists after: {stderr}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_baked_prefix_leaves_the_files_and_an_isolated_one_stays() {
    let desk = Desk::new();
    desk.fails(&["--set", "policy.prefix=30"], &["policy.prefix: found 30", "the first picture"]);
    let bake = ["--preset", "npu", "--set", "policy.prefix=bake"];
    desk.fails(&[&bake[..], &["--stages"]].concat(), &["--stages", "bake"]);
    let short = ["rows.jsonl:1", "tokens, expected at most 20 (--seq-len)"];
    desk.fails(&[&bake[..], &["--seq-len", "20"]].concat(), &short);
    let isolated = desk.succeeds(&["--preset", "npu", "--set", "policy.prefix=isolate"]);
    let baked = desk.succeeds(&bake);
    let number = |facts: &Value, key: &str| facts["layout"][key].as_u64().unwrap();
    let known = number(&baked, "prefix");
    assert!(known > 0 && number(&isolated, "prefix") == 0);
    assert_eq!(number(&isolated, "seq_len"), number(&baked, "seq_len") + known);
    for bytes in desk.files() {
        let model = circle::read(&bytes).unwrap();
        let graph = &model.subgraphs[0];
        let tensor = |name: &str| {
            graph.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"))
        };
        let ids = i32::try_from(number(&baked, "seq_len")).unwrap();
        assert_eq!(tensor("input_ids").shape, [1, ids]);
        let keys = &tensor("model.language_model.layers.1.self_attn.past_k").shape;
        assert_eq!(keys[2], i32::try_from(known).unwrap());
    }
    let (code, _, stderr) = desk.run(&["verify", "out/model.q.circle"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn without_arguments_the_demo_is_quantized_and_summed_up() {
    let desk = Desk::new();
    let (code, stdout, stderr) = desk.run(&["quantize"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let files = ["model.circle", "model.q.circle", "recipe.toml"];
    assert_eq!(names(&desk.at("encircle-out")), files);
    for fact in
        ["mean |diff|", "PEIR", "MSE", "SQNR", "cosine", "wrote encircle-out/model.q.circle"]
    {
        assert!(stdout.contains(fact), "no {fact:?} in {stdout}");
    }
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
    for line in stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn json_is_one_object_with_all_facts() {
    let desk = Desk::new();
    let facts = desk.succeeds(&["--eval", "rows.jsonl"]);
    for figure in ["mean_abs_diff", "peir", "mse", "sqnr_db", "cosine"] {
        assert!(facts["error"][figure].is_f64(), "{figure}: {facts}");
    }
    for model in ["float", "quantized"] {
        for figure in ["exact", "kl", "answer_ppl"] {
            assert!(facts["eval"][model][figure].is_f64(), "{model} {figure}: {facts}");
        }
    }
    assert_eq!(facts["quantcheck"]["unquantized"], 0);
    for file in facts["files"].as_array().unwrap() {
        let size = fs::metadata(desk.at(file["path"].as_str().unwrap())).unwrap().len();
        assert_eq!(file["size"], size);
    }
    assert!(facts["seconds"]["calibrate"].is_f64(), "{facts}");
}

#[test]
fn strict_refuses_too_little_calibration_by_layer() {
    let desk = Desk::new();
    let recipe = ["--recipe", "w4a16-fast"];
    assert_ne!(desk.succeeds(&recipe)["notes"], json!([]));
    fs::remove_dir_all(desk.at("out")).unwrap();
    let (code, stdout, stderr) = desk.quantize(&[&recipe[..], &["--strict"]].concat());
    assert_eq!((code, stdout.as_str()), (1, ""));
    let layer = "warning: model.language_model.layers.0.mlp.down_proj.weight: ";
    let line = stderr.lines().find(|line| line.starts_with(layer)).unwrap();
    assert!(line.contains("calibration tokens for 384 inputs"), "{line}");
    let why = stderr.lines().last().unwrap();
    assert!(why.starts_with("error: --strict: 0 real tensors without qparams and "), "{why}");
    assert!(!desk.at("out/model.q.circle").exists());
    desk.succeeds(&["--recipe", "npu", "--strict"]);
}

#[test]
fn files_do_not_depend_on_the_number_of_threads() {
    let desk = Desk::new();
    let files = ["1", "2", "5"].map(|threads| {
        desk.succeeds(&["--threads", threads]);
        desk.files()
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
    fs::remove_dir_all(desk.at("out")).unwrap();
    desk.fails(&["--threads", "0"], &["--threads"]);
    desk.fails(&["--threads", "100000000"], &["--threads", "1024"]);
}

#[test]
fn rows_of_every_form_work() {
    let desk = Desk::new();
    let pair = r#"{"image": ["train_000.jpg", "train_001.jpg"], "question": "Which?"}"#;
    let text = r#"{"question": "What is it?", "answer": "six"}"#;
    let messages = r#"{"messages": [{"role": "user", "content": [{"type": "image", "image": "train_000.jpg"}, {"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "six"}]}"#;
    let forms: [(&[&str], usize); 4] = [
        (&[pair, pair], 2),
        (&[text, text], 0),
        (&[r#"{"text": "one two"}"#], 0),
        (&[messages, ROW], 1),
    ];
    for (rows, pictures) in forms {
        desk.rows(rows);
        for preset in ["w8a8", "a16", "w4a16"] {
            let facts = desk.succeeds(&["--preset", preset]);
            assert_eq!(facts["layout"]["spans"].as_array().unwrap().len(), pictures);
        }
    }
}

#[test]
fn rows_with_videos_are_calibrated_on_frame_by_frame() {
    let desk = Desk::new();
    let template = desk.at("ck/chat_template.jinja");
    let text = "{% elif content['type'] == 'text' %}";
    let video = "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>";
    let shows_pictures = fs::read_to_string(&template).unwrap();
    fs::write(&template, shows_pictures.replace(text, &format!("{video}{text}"))).unwrap();
    let row = r#"{"video": ["train_000.jpg", "train_001.jpg", "train_001.jpg", "train_000.jpg"], "fps": 2.0, "question": "What?", "answer": "six"}"#;
    desk.rows(&[row, row]);
    let facts = desk.succeeds(&["--preset", "w8a8"]);
    let spans = facts["layout"]["spans"].as_array().unwrap();
    let grids: Vec<&Value> = spans.iter().map(|span| &span["grid_thw"]).collect();
    assert_eq!(grids, [&json!([1, 4, 4]), &json!([1, 4, 4])]);
    assert!(facts["error"]["mean_abs_diff"].as_f64().unwrap() > 0.0);
    let job = ["quantize", "ck", "--calib", "rows.jsonl", "--preset", "w8a8-minmax", "-o", "out"];
    let (_, told, _) = desk.run(&job);
    assert!(told.contains(" tokens, video frames 1x4x4 at "), "{told}");
    fs::remove_dir_all(desk.at("out")).unwrap();
    desk.rows(&[row, &row.replace("train_000.jpg\"]", "train_000.jpg\", \"train_000.jpg\"]")]);
    desk.fails(&[], &["rows.jsonl:2", "do not fit the static layout"]);
}

#[test]
fn a_fixed_layout_is_accepted_when_right_and_refused_by_row_when_wrong() {
    let desk = Desk::new();
    desk.fails(&["--grid", "1,8,4"], &["rows.jsonl:1", "[1, 8, 8]", "[1, 8, 4]"]);
    desk.fails(&["--visual-start", "-1"], &["invalid value '-1' for '--visual-start <N>'"]);
    desk.fails(&["--visual-start", "9"], &["rows.jsonl:1", "found 4", "expected 9"]);
    desk.fails(&["--seq-len", "20"], &["rows.jsonl:1", "tokens, expected at most 20"]);
    desk.fails(&["--seq-len", "513"], &["config.json", "513", "max_position_embeddings 512"]);
    let right = ["--grid", "1,8,8", "--visual-start", "4", "--seq-len", "48"];
    assert_eq!(desk.succeeds(&right)["layout"]["seq_len"], 48);
}

#[test]
fn a_row_that_does_not_fit_the_others_is_named() {
    let desk = Desk::new();
    let pair = r#"{"image": ["train_000.jpg", "train_001.jpg"], "question": "Which?"}"#;
    desk.rows(&[ROW, pair]);
    desk.fails(&[], &["rows.jsonl:2", "expected picture 1x8x8 at 4 as in rows.jsonl:1"]);
    desk.rows(&[ROW, r#"{"question": "Which?"}"#]);
    desk.fails(&[], &["rows.jsonl:2", "found no pictures"]);
}

#[test]
fn a_directory_that_is_no_checkpoint_is_refused() {
    let desk = Desk::new();
    fs::write(desk.at("ck/config.json"), "{").unwrap();
    desk.fails(&[], &["ck/config.json: expected JSON"]);
    fs::remove_file(desk.at("ck/config.json")).unwrap();
    desk.fails(&[], &["ck/config.json: expected a file, found none"]);
    fs::remove_dir_all(desk.at("ck")).unwrap();
    desk.fails(&[], &["ck: expected a folder with a checkpoint"]);
}

#[test]
fn absurd_configs_are_refused_by_field() {
    let cases: [(&str, Value, &[&str]); 8] = [
        ("/text_config/num_attention_heads", json!(0), &["num_attention_heads", "found 0"]),
        ("/text_config/head_dim", json!(64), &["mrope_section", "32", "[6, 5, 5]"]),
        ("/text_config/num_hidden_layers", json!(1u64 << 60), &["num_hidden_layers", "4096"]),
        ("/text_config/hidden_size", Value::Null, &["hidden_size", "found nothing"]),
        ("/text_config/hidden_size", json!("128"), &["hidden_size", "found \"128\""]),
        ("/text_config/hidden_act", json!("relu"), &["text_config.hidden_act", "\"relu\""]),
        ("/vision_config/hidden_act", json!("silu"), &["vision_config.hidden_act", "\"silu\""]),
        ("/architectures", json!(["Foo"]), &["Foo", "Qwen3VLFor", "LlamaFor", "Qwen3For"]),
    ];
    let desk = Desk::new();
    let good = fs::read(desk.at("ck/config.json")).unwrap();
    for (field, value, facts) in cases {
        desk.config(|config| *config.pointer_mut(field).unwrap() = value);
        desk.fails(&[], &[&["ck/config.json"][..], facts].concat());
        fs::write(desk.at("ck/config.json"), &good).unwrap();
    }
}

#[test]
fn broken_and_lying_weights_are_refused_by_tensor() {
    let desk = Desk::new();
    let file = desk.at("ck/model.safetensors");
    let good = fs::read(&file).unwrap();
    for len in [0, 5, 1000, 100_000] {
        fs::write(&file, &good[..len]).unwrap();
        desk.fails(&[], &["ck/model.safetensors: ", "expected", "found"]);
    }
    let gate = "model.language_model.layers.0.mlp.gate_proj.weight";
    let lies: [(&str, Value, &str); 5] = [
        ("shape", json!([1u64 << 62, 4]), "found 98304 bytes"),
        ("data_offsets", json!([5, 1u64 << 60]), "found 5..1152921504606846976"),
        ("dtype", json!("Q7"), "found \"Q7\""),
        ("dtype", json!("I16"), "one of F32, F16, BF16, found I16"),
        ("shape", json!([768, 64]), "expected [384, 128], found [768, 64]"),
    ];
    for (field, value, fact) in lies {
        fs::write(&file, &good).unwrap();
        desk.weights(|header, _| header[gate][field] = value);
        desk.fails(&[], &["ck/model.safetensors: ", gate, fact]);
    }
    fs::write(&file, &good).unwrap();
    desk.weights(|header, _| header["model.foo"] = header[gate].take());
    desk.weights(|header, _| drop(header.as_object_mut().unwrap().remove(gate)));
    desk.fails(&[], &["missing: tensor", gate, "extra: tensor", "model.foo"]);
    fs::write(&file, &good).unwrap();
    desk.weights(|header, payload| {
        let at = usize::try_from(header[gate]["data_offsets"][0].as_u64().unwrap()).unwrap();
        payload[at + 6..at + 8].copy_from_slice(&0x7fc0u16.to_le_bytes());
    });
    desk.fails(&[], &["ck/model.safetensors", gate, "finite", "NaN at element 3"]);
}

#[test]
fn other_spellings_of_one_checkpoint_give_the_same_bytes() {
    let desk = Desk::new();
    desk.succeeds(&[]);
    let expected = desk.files();
    desk.config(|config| {
        let text = config["text_config"].as_object_mut().unwrap();
        let mut rope = text.remove("rope_scaling").unwrap();
        rope["rope_theta"] = text.remove("rope_theta").unwrap();
        text.insert("rope_parameters".into(), rope);
    });
    desk.succeeds(&[]);
    assert!(desk.files() == expected, "rope_parameters");
    desk.weights(|header, _| {
        let map = std::mem::take(header.as_object_mut().unwrap());
        let renamed = map.into_iter().map(|(name, entry)| {
            let name = match name.strip_prefix("model.language_model.") {
                Some(rest) => format!("language_model.model.{rest}"),
                None => name.strip_prefix("model.").unwrap_or(&name).to_owned(),
            };
            (name, entry)
        });
        *header = Value::Object(renamed.collect());
    });
    desk.succeeds(&[]);
    assert!(desk.files() == expected, "language_model.model");
}

#[test]
fn bad_rows_and_pictures_are_refused_by_line() {
    let desk = Desk::new();
    fs::write(desk.at("text.jpg"), "no picture").unwrap();
    let cut = fs::read(desk.at("train_000.jpg")).unwrap()[..900].to_vec();
    fs::write(desk.at("cut.jpg"), cut).unwrap();
    let cases: [(&str, &[&str]); 7] = [
        ("", &["rows.jsonl: expected at least one row"]),
        ("hello", &["rows.jsonl:1: expected a JSON object"]),
        (r#"{"image": "nope.jpg", "question": "a"}"#, &["rows.jsonl:1", "nope.jpg", "found none"]),
        (r#"{"image": "text.jpg", "question": "a"}"#, &["rows.jsonl:1", "text.jpg", "a picture"]),
        (r#"{"image": "cut.jpg", "question": "a"}"#, &["rows.jsonl:1", "cut.jpg", "breaks off"]),
        (r#"{"image": 3, "question": "a"}"#, &["rows.jsonl:1", "field \"image\"", "found 3"]),
        (r#"{"image": "train_000.jpg"}"#, &["rows.jsonl:1", "field \"question\""]),
    ];
    for (row, facts) in cases {
        desk.rows(&[row]);
        desk.fails(&[], facts);
    }
    fs::remove_file(desk.at("rows.jsonl")).unwrap();
    desk.fails(&[], &["rows.jsonl: expected a file, found none"]);
}

#[cfg(unix)]
#[test]
fn rows_come_through_a_pipe_too() {
    let desk = Desk::new();
    let mut command = Command::cargo_bin("encircle").unwrap();
    let args = ["plan", "ck", "--calib", "/dev/stdin", "--json"];
    command.current_dir(desk.folder.path()).args(args);
    let output = command.write_stdin("{\"question\": \"Which?\"}\n").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["estimate"]["samples"], 1);
}

#[test]
fn a_folder_in_place_of_a_file_is_called_one_and_the_reverse() {
    let desk = Desk::new();
    let refused = |args: &[&str], fact: &str| {
        let (code, _, stderr) = desk.run(&[args, &["-o", "out"]].concat());
        assert!(code == 2 && stderr.contains(fact), "{args:?}: {stderr}");
    };
    let folder = |name: &str| format!("error: {name}: expected a file, found a folder");
    for name in [".", "..", "ck"] {
        refused(&["quantize", "ck", "--calib", name], &folder(name));
    }
    refused(&["extract", "ck", "--ops", "1"], &folder("ck"));
    let file = "ck/config.json";
    let fact = format!("{file}: expected a folder with a checkpoint, found a file");
    refused(&["quantize", file, "--calib", "rows.jsonl"], &fact);
    desk.rows(&[r#"{"image": ".", "question": "a"}"#]);
    desk.fails(&[], &["rows.jsonl:1: field \"image\": ", "found a folder"]);
    fs::remove_file(desk.at(file)).unwrap();
    fs::create_dir(desk.at(file)).unwrap();
    desk.fails(&[], &[&folder(file)[7..]]);
}

#[test]
fn bad_presets_and_overrides_are_refused() {
    let desk = Desk::new();
    desk.fails(&["--preset", "w8a9"], &["`w8a9`", "did you mean `w8a8`"]);
    desk.fails(&["--set", "foo"], &["--set foo", "expected GLOB="]);
    desk.fails(&["--set", "*=dtipe:uint8"], &["unknown field `dtipe`", "did you mean `dtype`?"]);
    let twice = ["--set", "*=dtype:uint8,dtype:int8"];
    desk.fails(&twice, &["dtype is set twice, first to \"uint8\""]);
    desk.fails(&["--set", "*=dtype:uint17"], &["expected uint2 to uint16"]);
    let both = ["--preset", "w8a8", "--recipe", "npu"];
    desk.fails(&both, &["'--preset <PRESET>' cannot be used with", "--recipe"]);
    desk.fails(&["--set", "algo.rotat.seed=1"], &["did you mean `rotate`?"]);
    desk.fails(&["--set", "*.nothing*=dtype:uint8"], &["`*.nothing*`", "matches no tensor"]);
    // after a recipe with rules of its own, the misfit is still called by what was typed
    let wrong = ["--preset", "w4a16", "--set", "*q_proj.weight=axis:7"];
    desk.fails(&wrong, &["q_proj.weight", "axis 7", "then rule `*q_proj.weight`:"]);
    let wrong = ["--preset", "w4a16", "--set", "x*=dtype:uint8,symmetric:true"];
    desk.fails(&wrong, &["rule `x*`: uint8 cannot be symmetric"]);
}

#[test]
fn grids_that_no_file_can_hold_are_refused_by_their_rule_before_anything_is_computed() {
    let desk = Desk::new();
    let none = "Circle has no tensor type for";
    for (key, place, dtype) in [
        ("policy.activation.dtype=int7", "policy.activation: ", "int7"),
        ("policy.weight.dtype=uint6", "policy.weight: ", "uint6"),
        ("*.mlp.act*=dtype:int12", "rule `*.mlp.act*`: ", "int12"),
        ("*.up_proj.weight=dtype:int12", "rule `*.up_proj.weight`: ", "int12"),
    ] {
        let begun = std::time::Instant::now();
        desk.fails(&["--preset", "w4a16", "--set", key], &[place, none, dtype]);
        assert!(begun.elapsed().as_secs_f64() < 2.0, "{key}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_layout_without_pictures_is_called_text_only() {
    let desk = Desk::new();
    desk.rows(&[r#"{"text": "Which digit is it? It is a seven."}"#]);
    let job = ["quantize", "ck", "--calib", "rows.jsonl", "--preset", "npu", "-o", "out"];
    let (code, stdout, stderr) = desk.run(&job);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains(" tokens, text only\n"), "{stdout}");
}

#[test]
fn every_picture_must_have_the_grid_that_was_asked_for() {
    let desk = Desk::new();
    let odd = crate::support::path("tests/data/pictures/odd.jpg");
    fs::copy(odd, desk.at("odd.jpg")).unwrap();
    let row = r#"{"image": ["train_000.jpg", "odd.jpg"], "question": "Same?", "answer": "no"}"#;
    desk.rows(&[row]);
    let facts = ["rows.jsonl:1: grid_thw: found [1, ", "expected [1, 8, 8] (--grid)"];
    desk.fails(&["--grid", "1,8,8"], &facts);
}

#[test]
fn mx_activations_are_written_and_mx_weights_are_refused_by_name() {
    let desk = Desk::new();
    let recipe = |role: &str, format: &str| {
        let rule = format!("pattern = \"*layers.1.mlp*\"\nrole = \"{role}\"");
        let text = format!("[[policy.rules]]\n{rule}\nset = {{ observer = \"mx:{format}\" }}\n");
        let defaults =
            "[policy]\nactivation = { dtype = \"uint8\" }\nweight = { dtype = \"uint8\" }\n";
        fs::write(desk.at("mx.toml"), format!("{defaults}{text}")).unwrap();
    };
    // the preset is blocks throughout: measured by `eval`, not written
    desk.fails(&["--preset", "mx"], &["model.visual.", "no tensor type for constants of mx int8"]);
    recipe("weight", "fp4");
    desk.fails(
        &["--recipe", "mx.toml"],
        &["layers.1.mlp", "no tensor type for constants of mx fp4"],
    );
    recipe("activation", "fp8_e4m3");
    desk.fails(&["--recipe", "mx.toml"], &["layers.1.mlp", "no tensor type for mx fp8_e4m3"]);
    for (format, dtype) in [("fp4", TensorType::MxFp4), ("int8", TensorType::MxInt8)] {
        recipe("activation", format);
        assert_eq!(desk.succeeds(&["--recipe", "mx.toml"])["quantcheck"]["unquantized"], 0);
        let model = circle::read(&desk.files()[1]).unwrap();
        assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
        let found = model.subgraphs[0].tensors.iter().filter(|tensor| tensor.dtype == dtype);
        let mut names = found.map(|tensor| &tensor.name);
        assert!(names.clone().count() > 3 && names.all(|name| name.contains("layers.1.mlp")));
    }
}

#[test]
fn an_out_that_cannot_be_written_keeps_what_was_there() {
    let desk = Desk::new();
    fs::write(desk.at("out"), "keep").unwrap();
    desk.fails(&[], &["out: cannot write", "is a file, expected a folder"]);
    assert_eq!(fs::read(desk.at("out")).unwrap(), b"keep");
    fs::remove_file(desk.at("out")).unwrap();
    fs::create_dir_all(desk.at("out/model.q.circle")).unwrap();
    // A slow run would keep what it has finished.
    let (code, _, stderr) = desk.quantize(&["--save-every", "1000"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("out/model.q.circle: cannot write"), "{stderr}");
    assert_eq!(names(&desk.at("out")), ["model.q.circle"]);
}

#[test]
fn a_bad_io_folder_fails_before_models_are_written() {
    let desk = Desk::new();
    fs::write(desk.at("io"), "keep").unwrap();
    desk.fails(&["--io", "io"], &["io: cannot write", "io is a file, expected a folder"]);
    desk.fails(&["--io", "io/deeper"], &["io is a file, expected a folder"]);
    fs::remove_file(desk.at("io")).unwrap();
    fs::create_dir_all(desk.at("io/out0.npy")).unwrap();
    // A slow run would keep what it has finished.
    let job = ["--io", "io", "--save-every", "1000"];
    desk.fails(&job, &["io/out0.npy: cannot write"]);
    assert_eq!(names(&desk.at("io")), ["out0.npy"]);
    fs::remove_dir(desk.at("io/out0.npy")).unwrap();
    desk.succeeds(&["--io", "io"]);
    assert_eq!(names(&desk.at("io")), ["in0.npy", "in1.npy", "out0.npy"]);
    desk.succeeds(&["--io", "io", "--io-samples", "2"]);
    assert_eq!(names(&desk.at("io")), ["1", "in0.npy", "in1.npy", "out0.npy"]);
    assert_eq!(names(&desk.at("io/1")), ["in0.npy", "in1.npy", "out0.npy"]);
}

#[test]
fn what_would_be_taken_silently_is_refused() {
    let desk = Desk::new();
    desk.rows(&[ROW, ROW2]);
    let silent = ROW.replace(", \"answer\": \"six\"", "");
    fs::write(desk.at("silent.jsonl"), format!("{silent}\n{silent}\n")).unwrap();
    desk.fails(&["--eval", "silent.jsonl"], &["silent.jsonl:1: found no answer", "any row"]);
    desk.fails(&["--io", "io", "--io-samples", "0"], &["'0' for '--io-samples"]);
    desk.fails(&["--io", "io", "--io-samples", "3"], &["--io-samples: found 3", "at most 2"]);
    for (budget, value) in [("bits", "nan"), ("bits", "inf"), ("mib", "-1"), ("mib", "some")] {
        let flag = format!("--budget-{budget}={value}");
        desk.fails(&[&flag], &[&format!("--budget-{budget}"), "expected a number above 0"]);
    }
    desk.fails(&["--memory", "99999999999999GiB"], &["expected less than 8 EiB"]);
    desk.fails(&["--memory", "0"], &["expected at least one byte"]);
    for more in [&["--io", "io"][..], &["--stages"], &["--strict"]] {
        desk.fails(&[&["--shard", "1/2"], more].concat(), &["--shard", more[0], "cannot be used"]);
    }
    desk.config(|config| config["text_config"]["max_position_embeddings"] = json!(20));
    desk.fails(&[], &["rows.jsonl:1: ", "tokens, expected at most 20 (max_position_embeddings)"]);
}

#[test]
fn what_stands_in_the_place_of_a_file_is_found_before_anything_is_computed() {
    let desk = Desk::new();
    let refused = |verb: &str, more: &[&str], facts: [&str; 2]| {
        let job = [verb, "ck", "-o", "out", "--save-every", "0"];
        let (code, stdout, stderr) = desk.run(&[&job[..], more].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(facts.iter().all(|fact| stderr.contains(fact)), "{facts:?}: {stderr}");
    };
    let (rows, alone) = (["--calib", "rows.jsonl"], ["--weights-only", "--seq-len", "8"]);
    let folder = "found a folder, expected a file";
    let cases: [(&str, &[&str]); 5] = [
        ("recipe.toml", &rows),
        ("model.circle", &rows),
        ("stages/lm_head.q.circle", &[&rows[..], &["--stages"]].concat()),
        ("statistics.1-of-2.stats", &[&rows[..], &["--shard", "1/2"]].concat()),
        ("recipe.toml", &alone),
    ];
    for (name, more) in cases {
        let path = desk.at("out").join(name);
        fs::create_dir_all(&path).unwrap();
        refused("quantize", more, [&format!("out/{name}: cannot write"), folder]);
        assert!(!desk.at("out/unfinished").exists() && !desk.at("out/model.q.circle").exists());
        fs::remove_dir_all(desk.at("out")).unwrap();
    }
    for name in ["stages", "unfinished"] {
        fs::create_dir(desk.at("out")).unwrap();
        fs::write(desk.at("out").join(name), "keep").unwrap();
        let facts = [&format!("out/{name}: cannot write")[..], "is a file, expected a folder"];
        refused("quantize", &[&rows[..], &["--stages"]].concat(), facts);
        if name == "stages" {
            refused("plan", &[&rows[..], &["--stages"]].concat(), facts);
        }
        assert_eq!(names(&desk.at("out")), [name]);
        fs::remove_dir_all(desk.at("out")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_no_folder_for_plan_and_quantize() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("gone", desk.at("link")).unwrap();
    for (command, out) in [("plan", "link"), ("quantize", "link"), ("quantize", "link/below")] {
        let (code, stdout, stderr) = desk.run(&[command, "-o", out]);
        assert_eq!((code, &stdout[..]), (2, ""), "{stderr}");
        let fact = "cannot write: link is a link that leads nowhere, expected a folder";
        assert!(stderr.contains(fact), "{stderr}");
    }
}

#[test]
fn help_has_examples() {
    let desk = Desk::new();
    let (code, stdout, _) = desk.run(&["quantize", "--help"]);
    assert!(code == 0 && stdout.contains("Examples:\n  encircle quantize"), "{stdout}");
    let examples = stdout.split_once("Examples:").unwrap().1;
    assert!(examples.lines().all(|line| line.chars().count() <= 80), "{examples}");
    let start = |_| {
        let now = std::time::Instant::now();
        assert_eq!(desk.run(&["--help"]).0, 0);
        now.elapsed()
    };
    let best = (0..5).map(start).min().unwrap();
    assert!(best < std::time::Duration::from_millis(50), "{best:?}");
}

#[test]
fn a_layer_whose_inputs_are_all_zero_is_rounded_to_nearest_with_a_note() {
    let desk = Desk::new();
    let layer = "model.language_model.layers.1";
    desk.weights(|header, payload| {
        let offsets = &header[format!("{layer}.input_layernorm.weight")]["data_offsets"];
        let [from, to] = [0, 1].map(|i| offsets[i].as_u64().unwrap() as usize);
        payload[from..to].fill(0);
    });
    let quick = ["--set", "algo.rounding=gptq", "--set", "algo.options.search=weighted"];
    let facts = desk.succeeds(&[&quick[..], &["--preset", "npu"]].concat());
    // Zeros that q, k and v read are what the output projection reads too.
    let notes = facts["notes"].as_array().unwrap().iter().filter(|note| note["what"] == "silent");
    let layers: Vec<&str> = notes.filter_map(|note| note["layer"].as_str()).collect();
    let expected = ["q_proj", "o_proj"].map(|name| format!("{layer}.self_attn.{name}.weight"));
    assert_eq!(layers, expected);
    let model = circle::read(&desk.files()[1]).unwrap();
    assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
}

#[test]
fn files_of_io_are_told_with_their_sizes() {
    let desk = Desk::new();
    let told = desk.succeeds(&["--io", "io", "--io-samples", "2"]);
    let files = told["files"].as_array().unwrap();
    let of_io = |file: &&Value| file["path"].as_str().unwrap().starts_with("io/");
    let of_io: Vec<&Value> = files.iter().filter(of_io).collect();
    assert_eq!((files.len(), of_io.len()), (8, 6), "{told}");
    let mut sum = 0;
    for file in of_io {
        let len = fs::metadata(desk.at(file["path"].as_str().unwrap())).unwrap().len();
        assert_eq!(file["size"], len, "{file}");
        sum += len;
    }
    let job = ["quantize", "ck", "--calib", "rows.jsonl", "-o", "out", "--io", "io"];
    let (code, stdout, _) = desk.run(&[&job[..], &["--io-samples", "2"]].concat());
    let line = stdout.lines().find(|line| line.starts_with("  wrote io  6 files, ")).unwrap();
    assert!(code == 0 && line.contains(&sum.to_string()[..2]), "{line}: {sum}");
}

#[test]
fn results_of_an_earlier_job_that_stay_beside_new_ones_are_named_once() {
    let desk = Desk::new();
    desk.succeeds(&["--stages", "--preset", "w8a8"]);
    let warned = |more: &[&str], names: &str| {
        let (code, _, stderr) = desk.quantize(more);
        let warning = match names {
            "" => String::new(),
            names => format!("warning: of an earlier job, not of this one: {names}\n"),
        };
        assert_eq!((code, stderr), (0, warning), "{more:?}");
    };
    warned(&["--preset", "a16"], "out/stages");
    assert!(desk.at("out/stages/manifest.json").exists(), "it is named, not removed");
    warned(&["--preset", "a16", "--stages"], "");
    let alone = ["quantize", "ck", "--weights-only", "--seq-len", "8", "-o", "out"];
    let (code, _, stderr) = desk.run(&alone);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.ends_with("not of this one: out/model.circle, out/stages\n"), "{stderr}");
}
