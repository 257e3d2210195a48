use super::*;

const PIXIE: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../../assets/pixie/config.json")),
    ("model.safetensors", include_bytes!("../../assets/pixie/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../assets/pixie/tokenizer.json")),
    ("chat_template.jinja", include_bytes!("../../assets/pixie/chat_template.jinja")),
    ("preprocessor_config.json", include_bytes!("../../assets/pixie/preprocessor_config.json")),
];

fn pixie() -> Checkpoint {
    Checkpoint::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pixie").as_ref()).unwrap()
}

/// A copy of the folder without its weights, for spoiling.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in PIXIE {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn refused(dir: &tempfile::TempDir) -> Error {
    Checkpoint::open(dir.path()).err().unwrap()
}

#[test]
fn a_folder_and_the_embedded_files_are_the_same_checkpoint() {
    let (folder, embedded) = (pixie(), Checkpoint::embedded(PIXIE).unwrap());
    assert!(folder.tensor_names().eq(embedded.tensor_names()));
    let name = "model.language_model.embed_tokens.weight";
    let whole = folder.read(name, &[512, 128]).unwrap();
    assert_eq!(whole, embedded.read(name, &[512, 128]).unwrap());
    let rows = embedded.read_rows(name, 7..9).unwrap();
    assert_eq!((rows.shape(), rows.data()), (&[2, 128][..], &whole.data()[7 * 128..9 * 128]));
    assert_eq!(embedded.info(name).unwrap().dtype, Dtype::Bf16);
    let text = embedded.chat_template().unwrap().render(&[Message::text("user", "hi")], true);
    let expected = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(text.unwrap(), expected);
}

#[test]
fn verifying_passes_with_the_right_list_and_names_a_wrong_one() {
    let checkpoint = pixie();
    let mut expected: Vec<(String, Vec<usize>)> = checkpoint
        .tensor_names()
        .map(|name| (name.to_owned(), checkpoint.info(name).unwrap().shape.clone()))
        .collect();
    checkpoint.verify(&expected).unwrap();
    expected[0].1 = vec![1];
    assert_eq!(checkpoint.verify(&expected).unwrap_err().kind(), ErrorKind::TensorsDiffer);
}

#[test]
fn text_survives_the_tokenizer() {
    let tokenizer = pixie().tokenizer().unwrap();
    let text = "a blue seven at the center";
    let ids = tokenizer.encode(&format!("{text}<|im_end|>")).unwrap();
    assert_eq!(ids.last(), tokenizer.token_id("<|im_end|>").as_ref());
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    assert!(tokenizer.decode(&ids, false).unwrap().ends_with("<|im_end|>"));
    assert_eq!(tokenizer.token(491).as_deref(), Some("<|image_pad|>"));
    assert_eq!(tokenizer.token_id("<|no such|>"), None);
    assert_eq!(Tokenizer::parse("t", b"{}").err().unwrap().kind(), ErrorKind::Malformed);
}

#[test]
fn a_folder_that_is_none_or_empty_is_named() {
    let error = Checkpoint::open("no/such/folder".as_ref()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no/such/folder/: expected a folder with a checkpoint, found none"
    );
    let error = refused(&tempfile::tempdir().unwrap());
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.file().ends_with("config.json"));
    assert_eq!(Checkpoint::embedded(&[]).err().unwrap().file(), "embedded/config.json");
}

#[test]
fn a_spoiled_file_is_named() {
    for (name, content, kind) in [
        ("config.json", "{", ErrorKind::Malformed),
        ("config.json", &"[".repeat(100_000), ErrorKind::Malformed),
        ("config.json", "{}", ErrorKind::Missing),
        ("model.safetensors", "", ErrorKind::Malformed),
    ] {
        let dir = copy();
        std::fs::write(dir.path().join(name), content).unwrap();
        let error = refused(&dir);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.file().ends_with(name), "{error}");
    }
    let dir = copy();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(refused(&dir).kind(), ErrorKind::Missing);
}

#[test]
fn picture_settings_must_agree_with_the_config() {
    let dir = copy();
    let wrong = r#"{"patch_size": 14, "merge_size": 2}"#;
    std::fs::write(dir.path().join("preprocessor_config.json"), wrong).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().picture_settings().unwrap_err();
    assert_eq!(
        (error.kind(), error.item()),
        (ErrorKind::Inconsistent, Some("field \"patch_size\""))
    );
}

#[test]
fn a_file_beyond_its_limit_is_refused() {
    let dir = copy();
    let error = Files::folder(dir.path()).read("config.json", 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
}

#[test]
fn quoting_tames_what_a_file_says() {
    assert_eq!(quoted("a\n\u{1b}\"b"), r#""a\n\u{1b}\"b""#);
    assert!(quoted(&"x".repeat(10_000)).len() < 200);
}
