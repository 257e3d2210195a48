//! Texts of Parquet files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use encircle::dataset::{Source, read_source};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;
use std::sync::Arc;

/// Two row groups of an optional `text` and a required `id`.
fn file(texts: [&[Option<&[u8]>]; 2], compression: Compression) -> Vec<u8> {
    let schema = "message m { OPTIONAL BYTE_ARRAY text (UTF8); REQUIRED INT32 id; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let how = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, how).unwrap();
    for texts in texts {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = texts.iter().map(|t| i16::from(t.is_some())).collect();
        let values: Vec<ByteArray> = texts.iter().flatten().map(|t| t.to_vec().into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i32> = (0..).take(texts.len()).collect();
        column.typed::<Int32Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    out
}

/// What is read of a column of these bytes as `a.parquet`; an error begins with that name.
fn read(bytes: &[u8], column: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    match read_source(&path, Some(column)) {
        Ok(Source::Text(text)) => Ok(text),
        Ok(Source::Rows(_)) => panic!("no rows"),
        Err(error) => Err(error.to_string().replace(&path.display().to_string(), "a.parquet")),
    }
}

#[test]
fn texts_of_all_row_groups_come_in_order_whatever_their_compression() {
    let many: Vec<Option<&[u8]>> = vec![Some(b"again"); 3000];
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        let bytes = file([&[Some(b"one"), None, Some(b"two")], &many], compression);
        let text = read(&bytes, "text").unwrap();
        let found: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(found[..3], ["one", "two", "again"], "{compression}");
        assert_eq!(found.len(), 3002);
    }
}

#[test]
fn a_compression_that_is_not_read_is_named() {
    let bytes = include_bytes!("data/brotli.parquet");
    assert_eq!(
        read(bytes, "text").unwrap_err(),
        "a.parquet: field \"text\": expected pages that are not compressed, or by snappy, gzip, \
         zstd or lz4, found BROTLI"
    );
}

#[test]
fn bad_parquet_is_refused_by_file_and_column() {
    let bytes = file([&[Some(b"one")], &[Some(b"\xff")]], Compression::SNAPPY);
    let error = |bytes: &[u8], column| read(bytes, column).unwrap_err();
    assert_eq!(
        error(&bytes, "body"),
        "a.parquet: field \"body\": expected it (--column), found the columns of strings \"text\""
    );
    assert!(
        error(&bytes, "id")
            .starts_with("a.parquet: field \"id\": expected a column of strings, found INT32")
    );
    assert_eq!(
        error(&bytes, "text"),
        "a.parquet: field \"text\": expected UTF-8 text, found other bytes in text 1"
    );
    assert_eq!(error(b"PAR1 no", "text"), "a.parquet: expected a Parquet file, found other bytes");
    assert!(error(&bytes[..40], "text").starts_with("a.parquet: expected a Parquet file"));
}

#[test]
fn damaged_pages_are_errors_and_never_panics() {
    let whole = file([&[Some(b"one"), Some(b"two")], &[None]], Compression::SNAPPY);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let _ = read(&bytes, "text");
    }
}

#[test]
fn lengths_that_do_not_fit_their_page_are_an_error() {
    let texts: &[Option<&[u8]>] = &[Some(b"one"), Some(b"two")];
    let mut bytes = file([texts, texts], Compression::UNCOMPRESSED);
    let at = bytes.windows(7).position(|seven| seven == b"\x03\0\0\0one").unwrap();
    bytes[at] = 8;
    let error = read(&bytes, "text").unwrap_err();
    assert!(error.contains("expected pages of strings, found damage in row group 0"), "{error}");
}
