//! `rope` as a person types it: the golden layouts, and layout files that lie.

use crate::artifact::encircle;
use serde_json::Value;

const GOLDEN: &str = "tests/data/golden/layouts.json";

#[test]
fn rope_prints_the_golden_positions_of_every_case() {
    let (code, stdout, stderr) = encircle(&["rope", "--layout", GOLDEN, "--json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    let found = printed["cases"].as_array().unwrap();
    let file = std::fs::read(crate::support::path(GOLDEN)).unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&file).unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        for field in ["name", "position_ids", "rope_delta"] {
            assert_eq!(found[field], expected[field], "{field} of {}", expected["name"]);
        }
    }
}

#[test]
fn rope_takes_a_layout_that_begins_with_a_byte_order_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.json");
    std::fs::write(&path, "\u{feff}[{\"segments\": [{\"kind\": \"text\", \"tokens\": 3}]}]")
        .unwrap();
    let (code, _, stderr) = encircle(&["rope", "--layout", path.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn rope_text_fits_80_columns() {
    let (code, stdout, _) = encircle(&["rope", "--layout", GOLDEN]);
    assert_eq!(code, 0);
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    assert!(stdout.contains("rope_delta -12"), "{stdout}");
}

#[test]
fn rope_keeps_columns_apart_however_large_the_positions() {
    let (code, stdout, _) = encircle(&["rope", "--seq-len", "10002"]);
    assert_eq!(code, 0);
    assert!(stdout.contains(" 10000 10001\n"));
}

#[test]
fn rope_asks_for_a_list_of_cases() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.json");
    for (text, fact) in [("{}", "expected a list of cases"), ("[{", "EOF"), ("", "EOF")] {
        std::fs::write(&path, text).unwrap();
        let (code, stdout, stderr) = encircle(&["rope", "--layout", path.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("l.json: ") && stderr.contains(fact), "{stderr}");
    }
}

#[test]
fn rope_names_the_case_and_the_number_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.json");
    let image = |grid: &str| format!(r#"[{{"kind": "image", "grid_thw": {grid}}}]"#);
    let cases = [
        (image("[1, 3, 8]"), "height 3 of grid [1, 3, 8]"),
        (image("[1, 0, 8]"), "height of grid [1, 0, 8] is 0"),
        (image("[0, 8, 8]"), "frames of grid [0, 8, 8] is 0"),
        (
            image("[1, 8]"),
            "field \"segments[0].grid_thw\": expected 3 numbers: frames, height and width, found 2",
        ),
        (
            image("[1, -8, 8]"),
            "field \"segments[0].grid_thw[1]\": expected a whole number of at least 0, found -8",
        ),
        (
            image("[1, 8, 8.5]"),
            "field \"segments[0].grid_thw[2]\": expected a whole number of at least 0, found 8.5",
        ),
        (image("[1, 1099511627776, 1099511627776]"), "1099511627776"),
        (
            r#"[{"kind": "video", "grid_thw": [2, 4, 4], "timestamp_tokens": [1]}]"#.into(),
            "2 frames, found 1",
        ),
        (r#"[{"kind": "text", "tokens": 1152921504606846976}]"#.into(), "at most 16777216"),
        (
            r#"[{"kind": "audio", "tokens": 1}]"#.into(),
            "field \"segments[0].kind\": expected \"text\", \"image\" or \"video\", found \"audio\"",
        ),
        (
            r#"[{"kind": "text", "tokens": 1}, {"kind": "text", "tokens": "3"}]"#.into(),
            "field \"segments[1].tokens\": expected a whole number of at least 0, found \"3\"",
        ),
        (
            r#"[{"kind": "text", "tokens": 1, "length": 1}]"#.into(),
            "field \"segments[0].length\": expected only kind, tokens, found another field",
        ),
        (
            r#"[{"kind": "image"}]"#.into(),
            "field \"segments[0].grid_thw\": expected a list of numbers",
        ),
        (r#"3"#.into(), "field \"segments\": expected a list of objects, found 3"),
        ("[]".into(), "empty"),
    ];
    for (segments, fact) in cases {
        let good = r#"{"name": "fine", "segments": [{"kind": "text", "tokens": 1}]}"#;
        let text = format!(r#"[{good}, {{"name": "bad one", "segments": {segments}}}]"#);
        std::fs::write(&path, text).unwrap();
        let args = ["rope", "--layout", path.to_str().unwrap(), "--json"];
        let (code, stdout, stderr) = encircle(&args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{segments}: {stderr}");
        assert!(stderr.contains("l.json: case 1 (bad one): "), "{segments}: {stderr}");
        assert!(stderr.contains(fact), "{segments}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn rope_tables_fit_80_columns_and_say_that_they_are_halves() {
    let (code, stdout, _) = encircle(&["rope", "--seq-len", "12", "--tables"]);
    assert_eq!(code, 0);
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    assert!(stdout.contains("the first 64 columns; the other 64 repeat them\n"), "{stdout}");
    let numbers = |line: &str| line.split_whitespace().filter(|n| n.contains('.')).count();
    let of = |start: &str| -> usize {
        let lines = stdout.lines().skip_while(|line| !line.trim_start().starts_with(start));
        lines.take(8).map(numbers).sum()
    };
    assert_eq!((of("cos[0]"), of("sin[11]")), (64, 64));
}

#[test]
fn rope_refuses_layouts_that_the_model_of_the_checkpoint_cannot_have() {
    let refused = |more: &[&str], facts: [&str; 2]| {
        let (code, stdout, stderr) = encircle(&[&["rope"], more].concat());
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(facts.iter().all(|fact| stderr.contains(fact)), "{stderr}");
    };
    let long = ["--checkpoint", "assets/pixie", "--seq-len", "513"];
    let limit = "sequence length 513 is beyond max_position_embeddings 512";
    refused(&long, ["assets/pixie/config.json: layout: ", limit]);
    let folder = crate::support::demo_folder(0..0);
    let file = folder.path().join("ck/config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut text = config["text_config"].clone();
    text["architectures"] = serde_json::json!(["Qwen3ForCausalLM"]);
    text["model_type"] = "qwen3".into();
    text.as_object_mut().unwrap().remove("rope_scaling");
    std::fs::write(&file, text.to_string()).unwrap();
    let picture = ["--grid", "1,8,8", "--visual-start", "4", "--seq-len", "32", "--checkpoint"];
    let checkpoint = folder.path().join("ck");
    let blind = [&picture[..], &[checkpoint.to_str().unwrap()]].concat();
    refused(&blind, ["config.json: layout: ", "the model reads text only"]);
    refused(&["--visual-start", "4", "--seq-len", "32"], ["--grid <T,H,W>", "required"]);
}

#[test]
fn rope_refuses_a_merge_size_that_the_checkpoint_contradicts() {
    let given = ["rope", "--checkpoint", "assets/pixie", "--seq-len", "4", "--merge"];
    let (code, stdout, stderr) = encircle(&[&given[..], &["4"]].concat());
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("--merge: found 4, expected 2, the spatial_merge_size"), "{stderr}");
    assert_eq!(encircle(&[&given[..], &["2"]].concat()).0, 0);
}

#[test]
fn rope_tables_without_a_checkpoint_follow_all_three_axes() {
    let picture = ["rope", "--grid", "1,4,4", "--visual-start", "1", "--seq-len", "8"];
    let (code, stdout, _) = encircle(&[&picture[..], &["--tables", "--json"]].concat());
    assert_eq!(code, 0);
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    let case = &printed["cases"][0];
    // The first visual row: equal times and heights, widths that differ.
    let number = |table: &str, i: usize, j: usize| case[table][i][j].as_f64().unwrap();
    assert_eq!(number("sin", 1, 0), number("sin", 2, 0), "time");
    assert_eq!(number("sin", 1, 1), number("sin", 2, 1), "height");
    assert_ne!(number("sin", 1, 2), number("sin", 2, 2), "width");
    assert_ne!(number("sin", 1, 1), number("sin", 3, 1), "height of the second row");
}
