//! `plan`, and what `quantize` refuses before it starts.

use crate::support::path;
use assert_cmd::Command;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

const ROW: &str = r#"{"image": "train_000.jpg", "question": "Name the digit.", "answer": "six"}"#;

/// A folder to work in, with the demo checkpoint and one row.
fn desk() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("ck")).unwrap();
    for entry in fs::read_dir(path("assets/pixie")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), at("ck").join(entry.file_name())).unwrap();
    }
    fs::copy(path("assets/vqa/train_000.jpg"), at("train_000.jpg")).unwrap();
    fs::write(at("rows.jsonl"), format!("{ROW}\n")).unwrap();
    folder
}

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("encircle").unwrap();
    let output = command.current_dir(folder).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A checkpoint of a vocabulary of `vocab` and `hidden` channels whose weights are one hole in a
/// file: enough to plan with.
fn hollow(folder: &Path, name: &str, [vocab, hidden]: [usize; 2]) {
    let dir = folder.join(name);
    fs::create_dir(&dir).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(path("assets/pixie").join(file), dir.join(file)).unwrap();
    }
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocab,
        "hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 4096,
        "hidden_act": "silu", "tie_word_embeddings": true, "attention_bias": false,
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let config = encircle::checkpoint::Config::parse("config.json", config).unwrap();
    let (mut header, mut at) = (Map::new(), 0u64);
    for (name, shape) in encircle::models::tensors(&config).unwrap() {
        let end = at + 2 * shape.iter().map(|&n| n as u64).product::<u64>();
        header.insert(name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
}

#[test]
fn a_plan_tells_memory_disk_time_and_output_of_every_stage_and_writes_nothing() {
    let folder = desk();
    let (code, stdout, stderr) = run(folder.path(), &["plan", "ck", "--calib", "rows.jsonl"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for fact in [
        "model.visual.blocks.0",
        "model.language_model.layers.3",
        "lm_head",
        "1 of at most",
        "memory  ",
        "disk  ",
        "time  ",
        "model.q.circle",
    ] {
        assert!(stdout.contains(fact), "no {fact:?} in {stdout}");
    }
    let wide = stdout.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "a terminal has 80 columns");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left behind");
}

#[test]
fn planned_sizes_are_those_of_the_files_within_a_quarter() {
    let folder = desk();
    for (out, more) in [
        &["--recipe", "npu"][..],
        &["--recipe", "w8a8", "--stages", "--share-weights"],
        &["--recipe", "npu", "--budget-bits", "8"],
        &["--recipe", "npu", "--budget-mib", "1.5"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = out.to_string();
        let args = |verb: &'static str| {
            [&[verb, "ck", "--calib", "rows.jsonl", "--json", "-o", &out], more].concat()
        };
        let (code, stdout, stderr) = run(folder.path(), &args("plan"));
        assert_eq!((code, stderr.as_str()), (0, ""));
        let plan: Value = serde_json::from_str(&stdout).unwrap();
        let (code, _, stderr) = run(folder.path(), &args("quantize"));
        assert_eq!((code, stderr.as_str()), (0, ""));
        let files = plan["estimate"]["files"].as_array().unwrap();
        assert!(files.len() >= 2);
        let mut written = 2;
        for file in files {
            let (name, planned) = (file["name"].as_str().unwrap(), file["size"].as_u64().unwrap());
            let real = fs::metadata(folder.path().join(&out).join(name)).unwrap().len();
            assert!(4 * planned.abs_diff(real) <= real, "{name}: planned {planned}, found {real}");
            written += usize::from(name.starts_with("stages/"));
        }
        assert_eq!(written, files.len(), "no file is forgotten");
        let circle = |dir: &str| {
            let entries = fs::read_dir(folder.path().join(&out).join(dir));
            let names = entries.into_iter().flatten().map(|e| e.unwrap().file_name());
            names.filter(|n| n.to_str().unwrap().ends_with(".circle")).count()
        };
        assert_eq!(circle("") + circle("stages"), files.len());
        for fact in ["memory", "least", "spill", "seconds"] {
            assert!(plan["estimate"][fact].is_number(), "{fact}");
        }
        assert!(plan["machine"]["gflops"].as_f64().unwrap() > 0.0);
        assert_eq!(plan["refused"], Value::Null);
    }
}

#[test]
fn a_plan_tells_what_measuring_a_budget_takes_before_the_job() {
    let folder = desk();
    let plan = |more: &[&str]| {
        let args = [&["plan", "ck", "--calib", "rows.jsonl", "--recipe", "npu"], more].concat();
        let (code, stdout, stderr) = run(folder.path(), &args);
        assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
        stdout
    };
    let told: Value = serde_json::from_str(&plan(&["--json", "--budget-bits", "5"])).unwrap();
    let budget = &told["budget"];
    // uint4, uint8 and int16 for every linear weight.
    assert_eq!(budget["losses"].as_u64().unwrap(), 3 * budget["scopes"].as_u64().unwrap());
    assert_eq!(budget["samples"], 1);
    assert!(budget["memory"].as_u64().unwrap() > 0 && budget["seconds"].as_f64().unwrap() > 0.0);
    let losses = format!("{} losses on 1 row\n", budget["losses"]);
    assert!(plan(&["--budget-mib", "2"]).contains(&losses));
    let told: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!((&told["budget"], &told["budget_kl"]), (&Value::Null, &Value::Null));

    // Kinds of activations: none are narrow beside npu.
    let kinds = |more: &[&str]| {
        let args = [&["--json", "--budget-kl", "0.1"], more].concat();
        let told: Value = serde_json::from_str(&plan(&args)).unwrap();
        ["scopes", "losses"].map(|key| told["budget_kl"][key].as_u64().unwrap())
    };
    let [scopes, losses] = kinds(&["--set", "policy.activation.dtype=uint8"]);
    assert!(scopes > 50 && losses >= 3 * scopes, "{scopes} {losses}");
    assert_eq!(kinds(&[])[0], 0);
}

#[test]
fn a_plan_counts_what_each_thread_sees_of_the_samples() {
    let folder = desk();
    fs::write(folder.path().join("rows.jsonl"), format!("{ROW}\n").repeat(8)).unwrap();
    let told = |threads: &str, key: &str| {
        let job = ["plan", "ck", "--calib", "rows.jsonl", "--preset", "w8a8", "--json"];
        let rest = ["--set", "algo.rounding=rtn", "--threads", threads, "-o", "out"];
        let (code, stdout, stderr) = run(folder.path(), &[&job[..], &rest].concat());
        assert_eq!(code, 0, "{stderr}");
        let told: Value = serde_json::from_str(&stdout).unwrap();
        told["estimate"][key].as_u64().unwrap()
    };
    // Histograms of 200 sites and more, some 40 kB each.
    let [one, eight] = ["1", "8"].map(|threads| told(threads, "memory"));
    assert!(eight - one > 7 * 200 * 40_000, "{one} B with a thread, {eight} B with eight");
    // In the least memory lanes walk one by one, and are seen by one.
    let [one, eight] = ["1", "8"].map(|threads| told(threads, "least"));
    assert!(eight < one + (5 << 20), "{one} B with a thread, {eight} B with eight");
}

/// `plan` says that it would refuse, `quantize` refuses, both for the same reason, and leave no OUT.
#[track_caller]
fn refused(folder: &Path, checkpoint: &str, more: &[&str], facts: &[&str]) {
    let rows = ["--samples", "4", "--seq-len", "64"];
    let plan = [&["plan", checkpoint, "--json", "-o", "out"], &rows[..], more].concat();
    let (code, stdout, stderr) = run(folder, &plan);
    assert_eq!((code, stderr.as_str()), (1, ""), "{stdout}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let told = told["refused"].as_str().unwrap().to_owned();
    let fixed = ["quantize", checkpoint, "--calib", "text.jsonl", "-o", "out", "--json"];
    let (code, stdout, stderr) = run(folder, &[&fixed, more].concat());
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    for fact in facts {
        assert!(stderr.contains(fact), "no {fact:?} in: {stderr}");
        assert!(told.contains(fact), "no {fact:?} in: {told}");
    }
    assert!(!folder.join("out").exists(), "OUT exists after: {stderr}");
}

#[test]
fn what_cannot_end_well_is_refused_before_anything_starts_with_the_way_out() {
    let folder = desk();
    let at = folder.path();
    fs::write(at.join("text.jsonl"), "{\"text\": \"one two three\"}\n").unwrap();
    // 2.4 GB in float.
    hollow(at, "large", [600_000, 1024]);
    let way_out = ["model.circle", "at most 2147483647", "--buffers external", "--stages"];
    refused(at, "large", &["--recipe", "npu", "--memory", "2GiB"], &way_out);
    let external = ["--recipe", "npu", "--buffers", "external"];
    let memory = [&external[..], &["--memory", "20MiB"]].concat();
    refused(at, "large", &memory, &["21.0 MB of memory", "--memory", "at least about"]);
    // The job itself needs less, but losses are measured with all weights in memory.
    let budget = [&external[..], &["--memory", "2GiB", "--budget-bits", "6"]].concat();
    refused(at, "large", &budget, &["2.15 GB of memory", "--memory", "all weights", "recipe.toml"]);
    // However little there is, the first refusal already names what is enough for both.
    for budget in [&["--budget-bits", "6"], &["--budget-kl", "0.1"]] {
        let little = [&memory[..], budget].concat();
        refused(at, "large", &little, &["21.0 MB of memory", "all weights in memory, about"]);
    }
    // 18 TB in float, more than there is anywhere near.
    hollow(at, "huge", [1 << 22, 1 << 20]);
    let disk = [&external[..], &["--memory", "8TiB"]].concat();
    refused(at, "huge", &disk, &["out: ", "bytes are free", "for the files"]);
}

#[test]
fn a_plan_of_weights_alone_says_what_the_job_then_reads_and_writes() {
    let folder = desk();
    let job = ["ck", "--weights-only", "--preset", "w4", "--seq-len", "40", "--json"];
    let (code, stdout, stderr) = run(folder.path(), &[&["plan"], &job[..]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let plan: Value = serde_json::from_str(&stdout).unwrap();
    let (code, stdout, stderr) = run(folder.path(), &[&["quantize"], &job[..]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let done: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(plan["output"], done["files"][0]["size"]);
    assert_eq!(plan["estimate"]["read"], done["read_bytes"]);
    assert!(plan["estimate"]["seconds"].as_f64().unwrap() > 0.0);
    let (_, text, _) = run(folder.path(), &[&["plan"], &job[..6]].concat());
    assert!(text.contains("weights only") && text.contains("model.q.circle"), "{text}");

    hollow(folder.path(), "large", [2_400_000, 1024]);
    let large = ["plan", "large", "--weights-only", "--seq-len", "8"];
    let (code, stdout, _) = run(folder.path(), &large);
    assert!(code == 1 && stdout.contains("--buffers external"), "{code}: {stdout}");
}

#[test]
fn plans_without_rows_say_what_is_missing() {
    let folder = desk();
    let (code, _, stderr) = run(folder.path(), &["plan", "ck"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--calib") && stderr.contains("--samples"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["plan", "ck", "--samples", "3"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--seq-len"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["plan", "--samples", "3", "--seq-len", "8"]);
    assert!(code == 2 && stderr.contains("CHECKPOINT_DIR"), "{stderr}");
}

#[test]
fn a_plan_of_a_baked_prefix_is_of_the_tokens_that_remain() {
    let folder = desk();
    let plan = |more: &[&str]| {
        let args = [&["plan", "ck", "--calib", "rows.jsonl", "--json"], more].concat();
        run(folder.path(), &args)
    };
    let seq_len = |more: &[&str]| {
        let (code, stdout, stderr) = plan(more);
        assert_eq!((code, stderr.as_str()), (0, ""));
        serde_json::from_str::<Value>(&stdout).unwrap()["estimate"]["seq_len"].as_u64().unwrap()
    };
    let baked = ["--recipe", "npu", "--set", "policy.prefix=bake"];
    assert_eq!(seq_len(&baked) + 3, seq_len(&["--recipe", "npu"]), "3 stand before the picture");
    // What only quantize could find else.
    for (more, fact) in [
        (&["--set", "policy.prefix=bake", "--budget-bits", "6"][..], "behind a prefix"),
        (&["--set", "policy.prefix=99"], "policy.prefix"),
        (&["--shard", "1/2"], "--shard: found 1/2, expected none"),
        (&["--statistics", "none.stats"], "none.stats"),
        (&["--io", "io", "--io-samples", "2"], "--io-samples: found 2, expected at most 1"),
    ] {
        let (code, stdout, stderr) = plan(more);
        assert_eq!((code, stdout.as_str()), (2, ""), "{more:?}: {stderr}");
        assert!(stderr.contains(fact), "no {fact:?} in {stderr}");
    }
    let announced = ["plan", "ck", "--samples", "4", "--seq-len", "40"];
    for (more, fact) in [
        (&["--eval", "rows.jsonl"][..], "cannot be used with"),
        (&["--weights-only"], "cannot be used with"),
        (&["--io", "io", "--io-samples", "5"], "expected at most 4"),
    ] {
        let (code, _, stderr) = run(folder.path(), &[&announced[..], more].concat());
        assert!(code == 2 && stderr.contains(fact), "{more:?}: no {fact:?} in {stderr}");
    }
}

#[test]
fn a_plan_refuses_the_checkpoints_and_arguments_that_quantize_refuses() {
    let folder = desk();
    let refuse = |more: &[&str], fact: &str| {
        for verb in ["plan", "quantize"] {
            let args = [&[verb, "ck", "--calib", "rows.jsonl", "-o", "out"], more].concat();
            let (code, stdout, stderr) = run(folder.path(), &args);
            assert_eq!((code, stdout.as_str()), (2, ""), "{verb}: {stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains(fact), "{verb}: {stderr}");
            assert!(!folder.path().join("out").exists());
        }
    };
    refuse(
        &["--set", "*.q_proj.weight=group:32"],
        "groups of 32 inputs have no place in a Circle file",
    );
    for (budget, least) in
        [("--budget-bits=2", "4.0000 bits a weight"), ("--budget-mib=0.1", "MiB")]
    {
        refuse(&["--preset", "npu", budget], least);
    }
    let file = folder.path().join("ck/model.safetensors");
    let weights = fs::read(&file).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let end = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = text(&weights[8..end]).replace("model.visual.pos_embed.weight", "another.one");
    let len = (header.len() as u64).to_le_bytes();
    fs::write(&file, [&len[..], header.as_bytes(), &weights[end..]].concat()).unwrap();
    refuse(&[], "missing: tensor \"model.visual.pos_embed.weight\"");
}

#[test]
fn a_plan_without_rows_has_the_picture_that_arguments_fix_or_says_what_it_leaves_out() {
    let folder = desk();
    let plan = |more: &[&str]| {
        run(folder.path(), &[&["plan", "ck", "--samples", "3", "--seq-len", "40"], more].concat())
    };
    let (code, stdout, stderr) = plan(&[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let note =
        "  left out    69 tensors that this layout does not read:\n              --grid T,H,W and";
    assert!(stdout.contains(note) && !stdout.contains("model.visual"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "a terminal has 80 columns");
    let picture = ["--grid", "1,8,8", "--visual-start", "3"];
    let (code, stdout, stderr) = plan(&picture);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("model.visual.blocks.0") && !stdout.contains("left out"), "{stdout}");
    // The files are those of rows that hold such a picture.
    let files =
        |stdout: &str| serde_json::from_str::<Value>(stdout).unwrap()["estimate"]["files"].clone();
    let rows = ["plan", "ck", "--calib", "rows.jsonl", "--seq-len", "40", "--json"];
    let (_, with_rows, _) = run(folder.path(), &rows);
    assert_eq!(files(&plan(&[&picture[..], &["--json"]].concat()).1), files(&with_rows));
    for (more, fact) in [
        (&picture[..2], "--grid with --visual-start"),
        (&["--grid", "1,7,8", "--visual-start", "3"], "7"),
        (&["--grid", "1,8,8", "--visual-start", "30"], "40"),
    ] {
        let (code, _, stderr) = plan(more);
        assert!(code == 2 && stderr.contains(fact), "{more:?}: {stderr}");
    }
}

#[test]
fn rows_of_text_leave_the_vision_tower_out_and_say_so() {
    let folder = desk();
    fs::write(folder.path().join("text.jsonl"), "{\"text\": \"one two\"}\n").unwrap();
    let note = "  left out    69 tensors that this layout does not read:\n              rows with pictures need";
    for verb in ["plan", "quantize"] {
        for (rows, noted) in [("text.jsonl", true), ("rows.jsonl", false)] {
            let job = [verb, "ck", "--calib", rows, "--preset", "w8a8", "-o", "out"];
            let (code, stdout, stderr) = run(folder.path(), &job);
            assert_eq!((code, stderr.as_str()), (0, ""));
            assert_eq!(stdout.contains(note), noted, "{verb} {rows}: {stdout}");
        }
    }
}
