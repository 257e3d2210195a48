//! `eval` as a person types it: text of every form, figures, and bad input.

use crate::support::path;
use assert_cmd::Command;
use serde_json::Value;
use std::fs;

/// Runs `eval` on the demo checkpoint in `folder`, calibrating on `calib` and judging `text`.
fn eval(
    folder: &tempfile::TempDir,
    calib: &str,
    text: &str,
    more: &[&str],
) -> (i32, String, String) {
    let model = path("assets/pixie").display().to_string();
    let mut command = Command::cargo_bin("encircle").unwrap();
    command.current_dir(folder.path()).args(["eval", &model, "--calib", calib, "--text", text]);
    let output = command.args(more).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked at"), "{stderr}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), stderr)
}

fn words(count: usize) -> String {
    let words = ["the ", "digit ", "is ", "seven ", "on ", "a ", "red ", "square "];
    (0..count).map(|i| words[i * i % 8]).collect()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), words(120)).unwrap();
    let rows: String =
        (0..3).map(|_| serde_json::json!({"body": words(40)}).to_string() + "\n").collect();
    fs::write(folder.path().join("b.jsonl"), rows).unwrap();
    folder
}

const SMALL: [&str; 4] = ["--recipe", "w8a16", "--context", "24"];

#[test]
fn perplexity_of_text_is_windowed_and_states_its_context() {
    let folder = folder();
    let more = [&SMALL[..], &["--stride", "12", "--set", "algo.rounding=rtn"]].concat();
    let (code, table, stderr) = eval(&folder, "a.txt", "a.txt", &more);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(table.contains("windows, context 24, stride 12"), "{table}");
    for name in ["ppl", "accuracy", "KL", "KL 99.9%", "KL all", "top-1", "exact", "float", "w8a16"]
    {
        assert!(table.contains(name), "no {name:?} in {table}");
    }
    assert!(table.lines().any(|line| line.starts_with("w8a16") && line.contains(" - ")), "{table}");
    let wide = table.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "a terminal has 80 columns");
    let more = [&more[..], &["--json"]].concat();
    let (code, json, _) = eval(&folder, "a.txt", "a.txt", &more);
    assert_eq!(code, 0);
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&facts["context"], &facts["stride"]), (&24.into(), &12.into()));
    let [float, quantized] = ["float", "quantized"].map(|side| &facts[side]);
    assert_eq!((&float["exact"], &quantized["exact"]), (&Value::Null, &Value::Null), "text");
    let figure = |name: &str| quantized[name].as_f64().unwrap();
    assert_eq!((&float["kl"], &float["top1"]), (&0.0.into(), &1.0.into()));
    assert!(figure("kl") > 0.0 && figure("kl_999") >= figure("kl") && figure("answer_ppl") > 1.0);
    // windows that overlap see tokens again: more tokens in all than are judged
    assert!(figure("tokens_all") > figure("tokens") && figure("kl_all") > 0.0);
}

#[test]
fn text_of_jsonl_rows_is_joined_and_cut_as_plain_text_is() {
    let folder = folder();
    let text = [words(40), words(40), words(40)].join("\n\n");
    fs::write(folder.path().join("joined.txt"), text).unwrap();
    let figures = |file: &str, more: &[&str]| {
        let more = [&SMALL[..], &["--set", "algo.rounding=rtn", "--json"], more].concat();
        let (code, json, stderr) = eval(&folder, "a.txt", file, &more);
        assert_eq!((code, stderr.as_str()), (0, ""));
        serde_json::from_str::<Value>(&json).unwrap()["quantized"].clone()
    };
    let rows = fs::read_to_string(folder.path().join("b.jsonl")).unwrap();
    fs::write(folder.path().join("t.jsonl"), rows.replace("body", "text")).unwrap();
    let joined = figures("joined.txt", &[]);
    assert_eq!(figures("t.jsonl", &[]), joined);
    // beside plain text, which has no columns
    assert_eq!(figures("b.jsonl", &["--column", "body"]), joined);
}

#[test]
fn answers_about_pictures_are_matched_exactly() {
    let rows = path("assets/vqa/test.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let few = |count: usize| -> String {
        let text = fs::read_to_string(&rows).unwrap();
        let base = path("assets/vqa").display().to_string();
        let lines = text
            .lines()
            .take(count)
            .map(|line| line.replace("\"image\": \"", &format!("\"image\": \"{base}/")) + "\n");
        lines.collect()
    };
    fs::write(folder.path().join("few.jsonl"), few(4)).unwrap();
    let more = ["--recipe", "a16", "--recipe", "w8a8-minmax", "--json"];
    let (code, json, stderr) = eval(&folder, "few.jsonl", "few.jsonl", &more);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let facts: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(facts.len(), 2);
    for fact in &facts {
        let score = &fact["quantized"];
        assert_eq!(score["rows"], 4);
        let exact = score["exact"].as_f64().unwrap();
        assert!([0.0, 0.25, 0.5, 0.75, 1.0].contains(&exact) && fact["context"].is_null());
        assert!(score["tokens_all"].as_u64() > score["tokens"].as_u64());
    }
    for (more, fact) in [
        (["--windows", "2"], "--windows: few.jsonl: found rows that ask something"),
        (["--stride", "0"], "--stride: few.jsonl: found rows that ask something"),
        (["--calib-windows", "2"], "--calib-windows: few.jsonl: found rows that ask something"),
    ] {
        let more = [&["--recipe", "npu"][..], &more].concat();
        let (code, _, stderr) = eval(&folder, "few.jsonl", "few.jsonl", &more);
        assert!(code == 2 && stderr.contains(fact), "no {fact:?} in {stderr}");
    }
    let kl = |i: usize| facts[i]["quantized"]["kl"].as_f64().unwrap();
    assert!(kl(0) < kl(1), "16 bits lose less than 8: {} and {}", kl(0), kl(1));
}

#[test]
fn bad_text_is_refused_by_file_field_and_both_numbers() {
    let folder = folder();
    fs::write(folder.path().join("short.txt"), words(5)).unwrap();
    fs::write(folder.path().join("no.parquet"), "PAR1 nothing").unwrap();
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("short.txt", &[], &["short.txt: ", "tokens, expected at least the context of 24"]),
        ("b.jsonl", &[], &["b.jsonl:1: field \"question\"", "by --column"]),
        ("b.jsonl", &["--column", "boddy"], &["b.jsonl:1: field \"boddy\""]),
        ("a.txt", &["--column", "body"], &["--column: found plain text in a.txt and a.txt"]),
        ("a.txt", &["--context", "1"], &["context is 1, expected at least 2"]),
        ("no.parquet", &[], &["no.parquet: expected", "Parquet"]),
        ("none.txt", &[], &["none.txt: expected a file, found none"]),
        ("a.txt", &["--stride", "25"], &["stride is 25, expected 1 to the context of 24"]),
    ];
    for (text, more, facts) in cases {
        let calib = if more.contains(&"boddy") { "b.jsonl" } else { "a.txt" };
        // the context of a case is its own
        let more = if more.contains(&"--context") { [&SMALL[..2], more] } else { [&SMALL, more] };
        let (code, stdout, stderr) = eval(&folder, calib, text, &more.concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{text}: {stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "{text}: no {fact:?} in {stderr}");
        }
    }
}

#[test]
fn recipes_that_contradict_themselves_are_refused() {
    let folder = folder();
    let refused = |more: &[&str], facts: &[&str]| {
        let (code, _, stderr) =
            eval(&folder, "a.txt", "a.txt", &[&["--context", "24"], more].concat());
        assert_eq!(code, 2, "{stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "{more:?}: no {fact:?} in {stderr}");
        }
    };
    let recipe = |name: &str, text: &str| {
        let text = format!("[policy]\nactivation = {{ dtype = \"uint8\" }}\n{text}");
        fs::write(folder.path().join(name), text).unwrap();
    };
    recipe("ema.toml", "weight = { observer = \"ema\" }\n");
    refused(&["--recipe", "ema.toml"], &["weight", "ema:0.9 averages over samples"]);
    recipe("logits.toml", "weight = { observer = \"softmax:16\", axis = \"tensor\" }\n");
    refused(&["--recipe", "logits.toml"], &["weight", "softmax:16 is for attention logits"]);
    recipe(
        "silent.toml",
        "weight = {}\nrules = [{ pattern = \"*.nothing\", set = { dtype = \"int16\" } }]\n",
    );
    refused(&["--recipe", "silent.toml"], &["`*.nothing`", "matches no tensor"]);
    recipe("typo.toml", "weight = { observr = \"mse\" }\n");
    refused(&["--recipe", "typo.toml"], &["typo.toml", "`observr`", "did you mean `observer`?"]);
    refused(&["--recipe", "w8a88"], &["`w8a88`", "did you mean `w8a8`?"]);
    // A later one too, before the first has run.
    for (later, fact) in [("w8a88", "did you mean `w8a8`?"), ("silent.toml", "silent.toml: rule")] {
        let more = ["--context", "24", "--recipe", "w8a16", "--recipe", later];
        let (code, stdout, stderr) = eval(&folder, "a.txt", "a.txt", &more);
        assert!(code == 2 && stdout.is_empty() && stderr.contains(fact), "{stdout}{stderr}");
    }
}

#[test]
fn rows_without_answers_are_not_judged_silently() {
    let folder = folder();
    let picture = path("assets/vqa/train_000.jpg").display().to_string();
    let row = serde_json::json!({"image": picture, "question": "Which digit is it?"});
    let mut answered = row.clone();
    answered["answer"] = "six".into();
    fs::write(folder.path().join("none.jsonl"), format!("{row}\n{row}\n")).unwrap();
    fs::write(folder.path().join("some.jsonl"), format!("{answered}\n{row}\n{row}\n")).unwrap();
    let recipe = ["--recipe", "w8a8-minmax", "--json"];
    let (code, stdout, stderr) = eval(&folder, "none.jsonl", "none.jsonl", &recipe);
    assert!(code == 2 && stdout.is_empty(), "{stdout}");
    assert!(stderr.starts_with("error: none.jsonl:1: found no answer here or in any row"));
    let (code, json, stderr) = eval(&folder, "none.jsonl", "some.jsonl", &recipe);
    assert_eq!(
        (code, &stderr[..]),
        (0, "warning: some.jsonl:2: no answer to judge; so in 2 of 3 rows\n")
    );
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["quantized"]["rows"], 1);
}

#[test]
fn too_little_calibration_is_noted_with_layer_tokens_and_channels() {
    let folder = folder();
    let more = ["--context", "24", "--calib-windows", "1", "--windows", "1"];
    let recipe = ["--recipe", "w4a16-fast"];
    let (code, table, stderr) = eval(&folder, "a.txt", "a.txt", &[&more[..], &recipe].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("note: ")).collect();
    let [note] = lines[..] else { panic!("one note of a kind: {table}") };
    let first =
        "note: model.language_model.layers.0.self_attn.q_proj.weight: 24 calibration tokens";
    assert!(note.starts_with(first) && note.contains("rank-deficient"), "{note}");
    let more = [&more[..], &["--json"]].concat();
    let (code, json, stderr) = eval(&folder, "a.txt", "a.txt", &[&more[..], &recipe].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let facts: Value = serde_json::from_str(&json).unwrap();
    let notes = facts["notes"].as_array().unwrap();
    assert!(note.contains(&format!("and {} more", notes.len() - 1)), "{note}");
    for note in notes {
        assert_eq!((&note["what"], &note["tokens"]), (&"few_tokens".into(), &24.into()));
        assert!(note["channels"].as_u64() > Some(24) && note["layer"].is_string());
    }
    // A rounding that never looks at the data has nothing to say about it.
    let nearest = [&more[..], &recipe, &["--set", "algo.rounding=rtn"]].concat();
    let (code, json, stderr) = eval(&folder, "a.txt", "a.txt", &nearest);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["notes"], serde_json::json!([]));
    assert!(facts["phases"]["calibrate"].as_f64() > Some(0.0));
}
