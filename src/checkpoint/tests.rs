use super::*;
use serde_json::json;

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
    let text =
        embedded.chat_template().unwrap().render(&vec![Message::text("user", "hi")].into(), true);
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
fn a_stored_head_counts_where_the_text_part_does_not_say_that_it_is_tied() {
    let tied = |part: serde_json::Value, tensor: &str| {
        let dir = copy();
        let path = |name: &str| dir.path().join(name);
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path("config.json")).unwrap()).unwrap();
        config["text_config"]["tie_word_embeddings"] = part;
        std::fs::write(path("config.json"), config.to_string()).unwrap();
        let entry = json!({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]});
        let header = json!({ tensor: entry }).to_string();
        let len = header.len().to_le_bytes();
        let file = [&len[..], header.as_bytes(), &[0; 4]].concat();
        std::fs::write(path("model.safetensors"), file).unwrap();
        Checkpoint::open(dir.path()).unwrap().config().text.tie_word_embeddings
    };
    assert!(!tied(json!(null), "lm_head.weight"));
    assert!(tied(json!(null), "model.language_model.norm.weight"));
    assert!(tied(json!(true), "lm_head.weight"));
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
    let deep = format!(r#"{{"decoder": {}"#, "[".repeat(200));
    for damaged in ["{}", "{\"decoder\": {\"ty\npe\": 1}}", &deep] {
        let error = Tokenizer::parse("t", damaged.as_bytes()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{damaged}");
    }
}

/// The ids that transformers 4.57.3 gives `a<NEW> blue<OTHER>` as a document.
#[test]
fn a_tokenizer_has_what_its_class_adds_to_its_file() {
    const APART: [u32; 13] = [64, 27, 45, 36, 54, 29, 303, 27, 46, 51, 39, 36, 49];
    let apart = |before: &[u32], after: &[u32]| [before, &APART, &[29], after].concat();
    let plain = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
    let llama = json!({"tokenizer_class": "LlamaTokenizer", "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"});
    let older = json!({"eos_token": "<|im_end|>", "bos_token": {"content": "<NEW>"},
        "additional_special_tokens": ["<OTHER>"]});
    let decoder = json!({"600": {"content": "<OTHER>", "normalized": true},
        "494": {"content": "<NEW>", "special": true, "rstrip": true, "normalized": false}});
    let nothing = json!({});
    for (config, more, older, expected) in [
        (&plain, json!({}), &nothing, apart(&[], &[])),
        // ids are given in order, whatever those of the file
        (&plain, json!({"added_tokens_decoder": decoder}), &nothing, vec![64, 493, 479, 494]),
        (
            &plain,
            json!({"additional_special_tokens": ["<NEW>", "<OTHER>"]}),
            &nothing,
            vec![64, 493, 303, 494],
        ),
        (
            &plain,
            json!({"pad_token": "<NEW>", "extra_special_tokens": {"image_token": "<OTHER>"}}),
            &nothing,
            vec![64, 493, 303, 494],
        ),
        (&plain, json!({}), &older, vec![64, 493, 303, 494]),
        (&plain, json!({"added_tokens_decoder": {}}), &older, apart(&[], &[])),
        (&llama, json!({}), &nothing, apart(&[486], &[])),
        (&llama, json!({"add_bos_token": null}), &nothing, apart(&[], &[])),
        (
            &llama,
            json!({"add_bos_token": false, "add_eos_token": true}),
            &nothing,
            apart(&[], &[488]),
        ),
        (
            &json!({"tokenizer_class": "LlamaTokenizerFast"}),
            json!({}),
            &nothing,
            apart(&[493], &[]),
        ),
        (&json!({"tokenizer_class": "Qwen2Tokenizer"}), json!({}), &nothing, apart(&[], &[])),
    ] {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let dir = copy();
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        std::fs::write(dir.path().join("special_tokens_map.json"), older.to_string()).unwrap();
        let tokenizer = Tokenizer::load(&Files::folder(dir.path())).unwrap();
        let ids = tokenizer.encode_document("a<NEW> blue<OTHER>").unwrap();
        assert_eq!(ids, expected, "{config} {older}");
    }
}

/// A tokenizer of the folder with this `tokenizer_config.json` and these fields in `tokenizer.json`.
fn tokenizer_with(config: &serde_json::Value, fields: serde_json::Value) -> Result<Tokenizer> {
    let dir = copy();
    let path = |name: &str| dir.path().join(name);
    let mut file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("tokenizer.json")).unwrap()).unwrap();
    file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    std::fs::write(path("tokenizer.json"), file.to_string()).unwrap();
    std::fs::write(path("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::load(&Files::folder(dir.path()))
}

/// The ids that transformers 4.57.3 gives `a blue<|im_end|> seven`.
#[test]
fn a_space_goes_before_a_text_and_special_tokens_are_split_as_the_config_says() {
    let level = |prefix: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true,
            "use_regex": true})
    };
    let sequence = json!({"type": "Sequence", "pretokenizers": [level(true)]});
    let (bare, spaced) = ([64, 303, 488, 365], [367, 303, 488, 365]);
    let split = [64, 303, 27, 91, 72, 76, 62, 268, 67, 91, 29, 365];
    for (class, field, pre_tokenizer, expected) in [
        ("PreTrainedTokenizerFast", json!({}), level(true), &bare[..]),
        ("Qwen2Tokenizer", json!({"add_prefix_space": true}), level(false), &spaced),
        ("Qwen2TokenizerFast", json!({"add_prefix_space": false}), level(true), &bare),
        ("Qwen2Tokenizer", json!({"add_prefix_space": null}), level(true), &spaced),
        ("Qwen2Tokenizer", json!({"add_prefix_space": false}), sequence, &spaced),
        ("LlamaTokenizerFast", json!({}), level(true), &spaced),
        ("Qwen2Tokenizer", json!({"split_special_tokens": true}), level(false), &split),
    ] {
        let mut config = json!({"tokenizer_class": class});
        config.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let tokenizer = tokenizer_with(&config, json!({"pre_tokenizer": pre_tokenizer})).unwrap();
        let ids = tokenizer.encode("a blue<|im_end|> seven").unwrap();
        assert_eq!(ids, expected, "{config} {pre_tokenizer}");
    }
}

#[test]
fn a_llama_tokenizer_that_transformers_makes_anew_must_be_the_one_of_the_file() {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let older = |list: serde_json::Value| json!({"type": "Sequence", "normalizers": list});
    let newer = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let none = json!(null);
    let made = [
        (json!({"add_prefix_space": true}), older(json!([prepend, replace])), none.clone()),
        (json!({"add_prefix_space": false}), older(json!([replace])), none.clone()),
        (json!({"add_prefix_space": true, "legacy": false}), none.clone(), newer("first")),
        (json!({"add_prefix_space": false, "legacy": false}), none, newer("never")),
    ];
    for (i, (fields, ..)) in made.iter().enumerate() {
        let mut config = json!({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false});
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        for (j, (_, normalizer, words)) in made.iter().enumerate() {
            let file = json!({"normalizer": normalizer, "pre_tokenizer": words});
            let error = tokenizer_with(&config, file).err();
            let item = error.as_ref().and_then(Error::item);
            assert_eq!(item, (i != j).then_some("field \"add_prefix_space\""), "{i} {j}");
        }
    }
}

#[test]
fn a_document_that_must_begin_with_a_token_needs_one() {
    let dir = copy();
    let config = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": null}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let error = Tokenizer::load(&Files::folder(dir.path())).err().unwrap();
    let text =
        "tokenizer_config.json: field \"bos_token\": expected it for add_bos_token, found none";
    assert!(error.to_string().ends_with(text), "{error}");
}

#[test]
fn picture_settings_are_found_in_each_of_their_places() {
    let dir = copy();
    let path = |name: &str| dir.path().join(name);
    let settings = || Checkpoint::open(dir.path()).unwrap().picture_settings();
    let own = settings().unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("preprocessor_config.json")).unwrap()).unwrap();
    let nested = json!({"image_processor": json, "processor_class": "P"}).to_string();
    std::fs::write(path("preprocessor_config.json"), &nested).unwrap();
    assert_eq!(settings().unwrap(), own);
    std::fs::remove_file(path("preprocessor_config.json")).unwrap();
    let error = settings().unwrap_err();
    let text = "expected preprocessor_config.json or processor_config.json, found none";
    assert!(error.kind() == ErrorKind::Missing && error.to_string().ends_with(text), "{error}");
    std::fs::write(path("processor_config.json"), nested).unwrap();
    let found = settings().unwrap();
    assert_eq!((found.max_pixels, found.image_mean), (own.max_pixels, own.image_mean));
    let videos = json!({"video_processor": {"patch_size": 8}}).to_string();
    std::fs::write(path("processor_config.json"), videos).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().video_settings().unwrap_err();
    assert_eq!(error.item(), Some("field \"video_processor.patch_size\""));
}

#[test]
fn what_is_assumed_in_place_of_a_missing_field_is_not_said_to_be_found() {
    let dir = copy();
    std::fs::write(dir.path().join("preprocessor_config.json"), "{}").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().picture_settings().unwrap_err();
    assert_eq!(error.item(), Some("field \"patch_size\""));
    assert_eq!(error.found(), "nothing, which stands for 14");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("video_token_id");
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let error = refused(&dir);
    assert_eq!(error.item(), Some("field \"video_token_id\""));
    assert_eq!(error.found(), "nothing, which stands for 151656");
}

#[test]
fn a_folder_that_is_none_or_empty_is_named() {
    let error = Checkpoint::open("no/such/folder".as_ref()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no/such/folder: expected a folder with a checkpoint, found none"
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
    assert_eq!((refused(&dir).kind(), refused(&dir).found()), (ErrorKind::Unreadable, "a folder"));
}

#[cfg(unix)]
#[test]
fn what_is_there_and_no_file_is_called_what_it_is_and_not_taken_for_absent() {
    let read = |checkpoint: Checkpoint| {
        checkpoint.end_tokens()?;
        checkpoint.tokenizer()?;
        checkpoint.chat_template()?;
        checkpoint.picture_settings()
    };
    let names = [
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "preprocessor_config.json",
    ];
    let nowhere = "a link that leads nowhere";
    for (target, found) in [("gone", nowhere), ("/dev/null", "a pipe or a device")] {
        for name in names {
            let dir = copy();
            let _ = std::fs::remove_file(dir.path().join(name));
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
            let error = Checkpoint::open(dir.path()).and_then(read).unwrap_err();
            assert_eq!((error.kind(), error.found()), (ErrorKind::Unreadable, found), "{error}");
            assert!(error.file().ends_with(name), "{error}");
        }
    }
    let dir = copy();
    std::os::unix::fs::symlink("gone", dir.path().join("link")).unwrap();
    let error = Checkpoint::open(&dir.path().join("link")).err().unwrap();
    assert_eq!(error.found(), nowhere);
}

#[test]
fn a_pointer_of_git_lfs_says_how_the_file_is_fetched() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let dir = copy();
        std::fs::write(dir.path().join(name), pointer).unwrap();
        let opened = Checkpoint::open(dir.path()).and_then(|checkpoint| checkpoint.tokenizer());
        let error = opened.err().unwrap().to_string();
        let text = "expected the file, which `git lfs pull` fetches, found a Git LFS pointer to it";
        assert!(error.ends_with(&format!("{name}: {text}")), "{error}");
    }
}

#[test]
fn a_folder_that_holds_something_else_says_what() {
    let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B"}"#;
    let merged = "which must be merged into \"Qwen/Qwen3-0.6B\" first";
    for (name, content, fact) in [
        ("adapter_config.json", adapter, format!("a LoRA adapter, {merged}")),
        ("m.Q4_K_M.gguf", "GGUF", "\"m.Q4_K_M.gguf\", which is not made of safetensors".into()),
        ("consolidated.00.pth", "x", "consolidated.00.pth, which holds pickled objects".into()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), content).unwrap();
        assert_eq!(refused(&dir).found(), format!("none, but {fact}"));
        std::fs::write(dir.path().join("config.json"), PIXIE[0].1).unwrap();
        assert_eq!(refused(&dir).found(), format!("neither, but {fact}"));
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_json() {
    let dir = copy();
    for name in ["config.json", "tokenizer.json"] {
        let path = dir.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("\u{feff}{text}")).unwrap();
    }
    Checkpoint::open(dir.path()).unwrap().tokenizer().unwrap();
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
