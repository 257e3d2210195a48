use super::*;
use std::fs;

#[test]
fn answers_end_with_the_tokens_that_the_checkpoint_names() {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir("assets/pixie").unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let at = dir.path().join(FILE);
    let ends = || Checkpoint::open(dir.path()).unwrap().end_tokens();
    for (json, expected) in [
        (r#"{"eos_token_id": 7}"#, &[7][..]),
        (r#"{"eos_token_id": [7, 9]}"#, &[7, 9]),
        (r#"{"eos_token_id": null}"#, &[]),
        ("{}", &[]),
    ] {
        fs::write(&at, json).unwrap();
        assert_eq!(ends().unwrap(), expected, "{json}");
    }
    for wrong in [r#"{"eos_token_id": "7"}"#, r#"{"eos_token_id": [7, -1]}"#] {
        fs::write(&at, wrong).unwrap();
        let error = ends().unwrap_err().to_string();
        assert!(error.contains(r#"generation_config.json: field "eos_token_id""#), "{error}");
    }
    fs::remove_file(&at).unwrap();
    let config = dir.path().join(CONFIG);
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove(NAME);
    json["text_config"][NAME] = serde_json::json!([5]);
    fs::write(&config, json.to_string()).unwrap();
    assert_eq!(ends().unwrap(), [5]);
    json[NAME] = serde_json::json!(6);
    fs::write(&config, json.to_string()).unwrap();
    assert_eq!(ends().unwrap(), [6]);
}
