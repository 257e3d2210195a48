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
        (image("[1, 8]"), "length 2"),
        (image("[1, -8, 8]"), "-8"),
        (image("[1, 8, 8.5]"), "8.5"),
        (image("[1, 1099511627776, 1099511627776]"), "1099511627776"),
        (
            r#"[{"kind": "video", "grid_thw": [2, 4, 4], "timestamp_tokens": [1]}]"#.into(),
            "2 frames, found 1",
        ),
        (r#"[{"kind": "text", "tokens": 1152921504606846976}]"#.into(), "at most 16777216"),
        (r#"[{"kind": "audio", "tokens": 1}]"#.into(), "audio"),
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
