//! Texts of a Parquet file: one column of strings, row group by row group.

use crate::checkpoint::{Error, ErrorKind, Result, quoted};
use bytes::Bytes;
use parquet::basic::{Compression, ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rows that are decoded at a time.
const BATCH: usize = 1024;

/// The texts of `column`, in order; rows where it is null are left out.
///
/// # Errors
/// Bytes that are no Parquet file, a column that is missing, nested, no text or not UTF-8: names
/// `file` and column, and the columns that there are.
pub(super) fn texts(file: &str, bytes: Vec<u8>, column: &str) -> Result<Vec<String>> {
    let broken = |source: ParquetError| {
        Error::new(ErrorKind::Malformed, file, "a Parquet file", "other bytes").caused_by(source)
    };
    let size = bytes.len();
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let wrong =
        |kind, expected: &str, found: String| Error::new(kind, file, expected, found).field(column);
    let Some(at) = schema.columns().iter().position(|c| c.path().string() == column) else {
        let texts = schema.columns().iter().filter(|column| is_text(column));
        let names: Vec<String> = texts.map(|c| quoted(&c.path().string())).collect();
        let found = match &names[..] {
            [] => "no column of strings".to_owned(),
            names => format!("the columns of strings {}", names.join(", ")),
        };
        return Err(wrong(ErrorKind::Missing, "it (--column)", found));
    };
    let described = &schema.columns()[at];
    if !is_text(described) {
        let found = match described.max_rep_level() {
            0 => described.physical_type().to_string(),
            _ => "one of lists".into(),
        };
        return Err(wrong(ErrorKind::WrongType, "a column of strings", found));
    }
    let mut texts = Vec::new();
    for group in 0..reader.num_row_groups() {
        if !lies_within(reader.metadata().row_group(group).column(at), size) {
            let found = format!("an impossible place in row group {group}");
            return Err(wrong(ErrorKind::Malformed, "pages within the file", found));
        }
        let packed = reader.metadata().row_group(group).column(at).compression();
        if matches!(packed, Compression::BROTLI(_) | Compression::LZO) {
            let expected = "pages that are not compressed, or by snappy, gzip, zstd or lz4";
            let found = packed.to_string();
            let found = found.split('(').next().unwrap_or_default().to_owned();
            return Err(wrong(ErrorKind::Unsupported, expected, found));
        }
        let column = reader.get_row_group(group).and_then(|group| group.get_column_reader(at));
        let damaged = |source: ParquetError| {
            let found = format!("damage in row group {group}");
            wrong(ErrorKind::Malformed, "pages of strings", found).caused_by(source)
        };
        let ColumnReader::ByteArrayColumnReader(mut column) = column.map_err(damaged)? else {
            return Err(wrong(ErrorKind::WrongType, "a column of strings", "others".into()));
        };
        let mut values = Vec::new();
        while read(&mut column, &mut values, described.max_def_level()).map_err(damaged)? {}
        for value in &values {
            let row = texts.len();
            let text = std::str::from_utf8(value.data()).map_err(|source| {
                let found = format!("other bytes in text {row}");
                wrong(ErrorKind::Malformed, "UTF-8 text", found).caused_by(source)
            })?;
            texts.push(text.to_owned());
        }
    }
    Ok(texts)
}

/// Whether the pages are where a file of `size` bytes can hold them; the reader believes what it is
/// told and panics.
fn lies_within(column: &ColumnChunkMetaData, size: usize) -> bool {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let end = start.checked_add(column.compressed_size());
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    start >= 0 && column.compressed_size() >= 0 && end.is_some_and(|end| end <= size)
}

/// One batch more in `values`; false at the end.
fn read(
    column: &mut ColumnReaderImpl<ByteArrayType>,
    values: &mut Vec<ByteArray>,
    optional: i16,
) -> std::result::Result<bool, ParquetError> {
    let mut levels = Vec::new();
    let levels = (optional > 0).then_some(&mut levels);
    let batch = AssertUnwindSafe(|| column.read_records(BATCH, levels, None, values));
    // where lengths inside of a page are wrong, the library panics
    let gave_up = |_| Err(ParquetError::General("the reader gave up".into()));
    let (records, _, _) = catch_unwind(batch).unwrap_or_else(gave_up)?;
    Ok(records > 0)
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY
        && column.max_rep_level() == 0
        && (column.logical_type_ref() == Some(&LogicalType::String)
            || column.converted_type() == ConvertedType::UTF8)
}
