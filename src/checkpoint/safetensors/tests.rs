use super::super::error::ErrorKind;
use super::header::{Entry, parse};
use super::store::Store;
use super::{Dtype, header};
use crate::checkpoint::Files;
use proptest::prelude::*;

/// A file with this JSON as its header and this many bytes of payload.
fn file(header: &str, payload: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..payload).map(|i| (i * 37 % 251) as u8));
    bytes
}

/// A file of bf16 tensors, packed in the given order.
fn file_of(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let mut at = 0;
    let entry = |(name, shape): &(&str, &[usize])| {
        let start = at;
        at += shape.iter().product::<usize>() * 2;
        format!(r#""{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{start},{at}]}}"#)
    };
    let entries: Vec<String> = tensors.iter().map(entry).collect();
    file(&format!("{{{}}}", entries.join(",")), at)
}

fn refused(header: &str, payload: usize) -> (ErrorKind, String) {
    let error = parse("w", &file(header, payload)).unwrap_err();
    (error.kind(), error.to_string())
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn store(files: &[(&str, &[u8])]) -> crate::checkpoint::Result<Store> {
    Store::open(&Files::folder(folder(files).path()), false)
}

#[test]
fn entries_come_out_in_file_order_with_metadata_and_padding_skipped() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},
        "a":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]},
        "empty":{"dtype":"I64","shape":[0,7],"data_offsets":[10,10]}}    "#;
    let entries = parse("w", &file(header, 10)).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "empty"]);
    assert_eq!((entries[1].dtype, entries[1].shape.as_slice()), (Dtype::F32, &[2][..]));
    let base = 8 + header.len();
    assert_eq!(entries[1].range, base + 2..base + 10);
}

#[test]
fn a_file_shorter_than_its_header_is_refused_before_anything_is_allocated() {
    assert_eq!(parse("w", b"abc").unwrap_err().kind(), ErrorKind::Malformed);
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    let error = parse("w", &bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "w: expected a header of at most 2 bytes, found 18446744073709551615"
    );
}

#[test]
fn every_lie_of_a_header_is_named() {
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    assert_eq!(
        refused(overlap, 6).1,
        "w: tensor \"b\": expected bytes from 4, where the one before ends, found bytes from 2"
    );
    let hole = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    assert!(refused(hole, 6).1.contains("found bytes from 2"));
    let rest = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    assert_eq!(refused(rest, 9).1, "w: expected 4 bytes of tensors as the header says, found 9");
    assert!(refused(rest, 3).1.contains("expected a byte range inside the file's 3, found 0..4"));
    let shape = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}"#;
    assert_eq!(
        refused(shape, 4).1,
        "w: tensor \"a\": expected the bytes of F32 [4], found 4 bytes"
    );
    let product = r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    assert_eq!(refused(product, 0).0, ErrorKind::Malformed);
    let reversed = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[4,3]}}"#;
    assert_eq!(refused(reversed, 4).0, ErrorKind::Malformed);
    let dtype = r#"{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}}"#;
    assert_eq!(refused(dtype, 1).0, ErrorKind::Unsupported);
    let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert_eq!(refused(twice, 2).0, ErrorKind::Duplicate);
    for json in ["[]", "{", r#"{"a":1}"#, r#"{"a":{"dtype":"U8"}}"#, &"[".repeat(5000)] {
        assert_eq!(refused(json, 0).0, ErrorKind::Malformed, "{json}");
    }
}

#[test]
fn tensors_are_found_by_canonical_and_by_stored_name() {
    let bytes = file_of(&[("model.norm.weight", &[3]), ("lm_head.weight", &[2, 3])]);
    let store = store(&[("model.safetensors", &bytes)]).unwrap();
    let names: Vec<&str> = store.names().collect();
    assert_eq!(names, ["lm_head.weight", "model.language_model.norm.weight"]);
    assert_eq!(store.stored_name("model.language_model.norm.weight"), Some("model.norm.weight"));
    assert_eq!(store.info("model.norm.weight"), store.info("model.language_model.norm.weight"));
    let whole = store.read("lm_head.weight", &[2, 3]).unwrap();
    let row = store.read_rows("lm_head.weight", 1..2).unwrap();
    assert_eq!((row.shape(), row.data()), (&[1, 3][..], &whole.data()[3..]));
    assert_eq!(store.raw("lm_head.weight").unwrap().0.len(), 12);
}

#[test]
fn a_tensor_is_found_by_every_spelling_of_its_name_whichever_the_file_has() {
    let spellings = ["model.language_model.norm.weight", "model.norm.weight", "norm.weight"];
    for stored in spellings {
        let store = store(&[("model.safetensors", &file_of(&[(stored, &[3])]))]).unwrap();
        for name in spellings {
            store.verify(&[(name.to_owned(), vec![3])], true).unwrap();
            assert_eq!(store.read(name, &[3]).unwrap().shape(), [3], "{stored} {name}");
        }
    }
}

#[test]
fn reading_names_the_tensor_that_is_not_as_expected() {
    let header = r#"{"model.norm.weight":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
    let dir = folder(&[("model.safetensors", &file(header, 4))]);
    let store = Store::open(&Files::folder(dir.path()), false).unwrap();
    let name = "model.language_model.norm.weight";
    let error = store.read(name, &[5]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongShape);
    assert!(
        error
            .to_string()
            .ends_with("model.safetensors: tensor \"model.norm.weight\": expected [5], found [4]")
    );
    assert_eq!(store.read(name, &[4]).unwrap_err().kind(), ErrorKind::WrongDtype);
    assert_eq!(store.read("nothing", &[4]).unwrap_err().kind(), ErrorKind::Missing);
    assert_eq!(store.read_rows(name, 2..9).unwrap_err().kind(), ErrorKind::OutOfRange);
    let reversed = std::ops::Range { start: 3, end: 2 };
    assert_eq!(store.read_rows(name, reversed).unwrap_err().kind(), ErrorKind::OutOfRange);
}

#[test]
fn long_tensors_are_the_numbers_of_their_bytes_whole_and_by_rows() {
    // Longer than what a thread takes at a time, and no multiple of what is read at once.
    let (rows, width) = (9_001, 9);
    for (dtype, size) in [("F32", 4), ("BF16", 2), ("F16", 2)] {
        let len = rows * width * size;
        let header = format!(
            r#"{{"x":{{"dtype":"{dtype}","shape":[{rows},{width}],"data_offsets":[0,{len}]}}}}"#
        );
        let bytes = file(&header, len);
        let dir = folder(&[("model.safetensors", &bytes)]);
        let store = Store::open(&Files::folder(dir.path()), false).unwrap();
        let number = |stored: &[u8]| match *stored {
            [a, b] if dtype == "F16" => half::f16::from_le_bytes([a, b]).to_f32(),
            [a, b] => half::bf16::from_le_bytes([a, b]).to_f32(),
            _ => f32::from_le_bytes(stored.try_into().unwrap()),
        };
        let payload = bytes[8 + header.len()..].chunks(size);
        // Of NaN it is enough that it is one.
        let bits = |x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
        let expected: Vec<u32> = payload.map(|stored| bits(number(stored))).collect();
        let bits = |x: &[f32]| x.iter().map(|&x| bits(x)).collect::<Vec<_>>();
        let whole = store.read("x", &[rows, width]).unwrap();
        assert!(bits(whole.data()) == expected, "{dtype}");
        let some = store.read_rows("x", 8_000..9_001).unwrap();
        assert!(bits(some.data()) == expected[8_000 * width..], "{dtype}");
    }
}

#[test]
fn two_tensors_of_one_meaning_are_refused() {
    let bytes = file_of(&[("model.norm.weight", &[3]), ("norm.weight", &[3])]);
    let error = store(&[("model.safetensors", &bytes)]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Duplicate);
}

#[test]
fn shards_are_joined_by_their_index() {
    let index = r#"{"metadata":{"total_size":12},
        "weight_map":{"model.norm.weight":"a.safetensors","lm_head.weight":"b.safetensors"}}"#;
    let a = file_of(&[("model.norm.weight", &[3])]);
    let b = file_of(&[("lm_head.weight", &[3])]);
    let name = "model.safetensors.index.json";
    let all: [(&str, &[u8]); 3] =
        [(name, index.as_bytes()), ("a.safetensors", &a), ("b.safetensors", &b)];
    assert_eq!(store(&all).unwrap().names().count(), 2);

    let lacking = store(&all[..2]).err().unwrap();
    assert_eq!(lacking.kind(), ErrorKind::Missing);
    assert!(lacking.file().ends_with("b.safetensors"), "{lacking}");

    let swapped = store(&[all[0], ("a.safetensors", &b), ("b.safetensors", &a)]).err().unwrap();
    assert_eq!(swapped.kind(), ErrorKind::Inconsistent);
    assert_eq!(swapped.item(), Some("tensor \"model.norm.weight\""));

    let more = file_of(&[("lm_head.weight", &[3]), ("score.weight", &[1])]);
    let extra = store(&[all[0], all[1], ("b.safetensors", &more)]).err().unwrap();
    assert_eq!(extra.item(), Some("tensor \"score.weight\""));

    for shard in ["../b.safetensors", "/b", "", ".."] {
        let index = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
        let error = store(&[(name, index.as_bytes())]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{shard}");
    }
    for (index, kind) in [
        ("{}", ErrorKind::Missing),
        ("7", ErrorKind::Malformed),
        (r#"{"weight_map":{"a":"x","a":"y"}}"#, ErrorKind::Duplicate),
    ] {
        assert_eq!(store(&[(name, index.as_bytes())]).err().unwrap().kind(), kind, "{index}");
    }
}

#[test]
fn an_index_may_be_wrong_about_what_nobody_reads() {
    let index = r#"{"weight_map":{"model.norm.weight":"a","lm_head.weight":"a"}}"#;
    let frequencies = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let shard = file_of(&[("model.norm.weight", &[3]), (frequencies, &[2])]);
    let dir = folder(&[("model.safetensors.index.json", index.as_bytes()), ("a", &shard)]);
    let open = |tied| Store::open(&Files::folder(dir.path()), tied);
    open(true).unwrap();
    assert_eq!(open(false).err().unwrap().item(), Some("tensor \"lm_head.weight\""));
}

#[test]
fn a_folder_of_pickles_says_so() {
    let error = store(&[("pytorch_model.bin", b"x")]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.to_string().contains("pytorch_model.bin, which holds pickled objects"));
}

#[test]
fn verifying_reports_every_difference_at_once() {
    let stored: [(&str, &[usize]); 4] = [
        ("model.norm.weight", &[3]),
        ("lm_head.weight", &[2, 3]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]),
        ("score.weight", &[1]),
    ];
    let store = store(&[("model.safetensors", &file_of(&stored))]).unwrap();
    let expected = [
        ("model.language_model.norm.weight".to_owned(), vec![4]),
        ("model.language_model.embed_tokens.weight".to_owned(), vec![2, 3]),
    ];
    let message = store.verify(&expected, true).unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().skip(1).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "other shape: tensor \"model.norm.weight\": expected [4], found [3]",
            "missing: tensor \"model.language_model.embed_tokens.weight\": expected [2, 3]",
            "extra: tensor \"score.weight\": found [1]",
        ]
    );
    let untied = store.verify(&expected, false).unwrap_err().to_string();
    assert!(untied.contains("extra: tensor \"lm_head.weight\": found [2, 3]"));
}

#[test]
fn names_that_a_file_chooses_reach_no_terminal_as_they_are() {
    let long = "x".repeat(100_000);
    for name in ["\\u001b[31mred\\n", &long] {
        let store = store(&[("model.safetensors", &file_of(&[(name, &[1])]))]).unwrap();
        let stored = store.names().next().unwrap();
        let kept = [(stored.to_owned(), vec![2])];
        let messages = [
            store.verify(&[], true).unwrap_err(),
            store.verify(&kept, true).unwrap_err(),
            store.read(stored, &[2]).unwrap_err(),
        ];
        for message in messages.map(|error| error.to_string()) {
            assert!(message.len() < 400, "{} bytes", message.len());
            assert!(!message.contains('\u{1b}') && message.lines().count() <= 2, "{message:?}");
        }
    }
    let index = r#"{"weight_map":{"a":"\u001b[31mred.safetensors"}}"#;
    let error = store(&[("model.safetensors.index.json", index.as_bytes())]).err().unwrap();
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[test]
fn a_long_list_of_differences_is_cut_and_counted() {
    let store = store(&[("model.safetensors", &file_of(&[]))]).unwrap();
    let expected: Vec<(String, Vec<usize>)> = (0..31).map(|i| (format!("t{i}"), vec![1])).collect();
    let message = store.verify(&expected, false).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 22);
    assert!(message.ends_with("and 11 more"), "{message}");
}

/// What the parser promises of any bytes that it accepts.
fn check_tiled(bytes: &[u8], entries: &[Entry]) {
    let total: usize = entries.iter().map(|entry| entry.range.len()).sum();
    assert!(total <= bytes.len());
    for entry in entries {
        assert!(bytes.get(entry.range.clone()).is_some());
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(entries) = header::parse("w", &bytes) {
            check_tiled(&bytes, &entries);
        }
    }

    #[test]
    fn mutated_files_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = file_of(&[("model.norm.weight", &[3]), ("x", &[2, 2]), ("y", &[0])]);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(entries) = header::parse("w", &bytes) {
            check_tiled(&bytes, &entries);
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(header::parse("w", &bytes).is_err());
    }

    #[test]
    fn what_is_written_is_read(shapes in proptest::collection::vec(
        proptest::collection::vec(0usize..5, 0..4), 0..8)
    ) {
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("t{i}")).collect();
        let tensors: Vec<(&str, &[usize])> =
            names.iter().zip(&shapes).map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let bytes = file_of(&tensors);
        let entries = header::parse("w", &bytes).unwrap();
        check_tiled(&bytes, &entries);
        prop_assert_eq!(entries.len(), shapes.len());
        for entry in entries {
            let index: usize = entry.name[1..].parse().unwrap();
            prop_assert_eq!(&entry.shape, &shapes[index]);
        }
    }
}
