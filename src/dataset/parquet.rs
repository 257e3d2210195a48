//! Texts of a Parquet file: one column of strings, row group by row group.

use crate::checkpoint::{Error, ErrorKind, Result, quoted};
use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

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
        let names: Vec<String> =
            schema.columns().iter().map(|c| quoted(&c.path().string())).collect();
        let found = format!("the columns {}", names.join(", "));
        return Err(wrong(ErrorKind::Missing, "it (--column)", found));
    };
    let described = &schema.columns()[at];
    if !is_text(described) {
        let found =
            format!("{:?}, logical {:?}", described.physical_type(), described.logical_type_ref());
        return Err(wrong(ErrorKind::WrongType, "a column of strings", found));
    }
    let mut texts = Vec::new();
    for group in 0..reader.num_row_groups() {
        if !lies_within(reader.metadata().row_group(group).column(at), size) {
            let found = format!("an impossible place in row group {group}");
            return Err(wrong(ErrorKind::Malformed, "pages within the file", found));
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
    let (records, _, _) = column.read_records(BATCH, levels, None, values)?;
    Ok(records > 0)
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY
        && column.max_rep_level() == 0
        && (column.logical_type_ref() == Some(&LogicalType::String)
            || column.converted_type() == ConvertedType::UTF8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::Int32Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
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
            let values: Vec<ByteArray> =
                texts.iter().flatten().map(|t| t.to_vec().into()).collect();
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

    #[test]
    fn texts_of_all_row_groups_come_in_order_whatever_their_compression() {
        let many: Vec<Option<&[u8]>> = vec![Some(b"again"); 3000];
        for compression in
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(Default::default())]
        {
            let bytes = file([&[Some(b"one"), None, Some(b"two")], &many], compression);
            let found = texts("a.parquet", bytes, "text").unwrap();
            assert_eq!(found[..3], ["one", "two", "again"], "{compression}");
            assert_eq!(found.len(), 3002);
        }
    }

    #[test]
    fn bad_parquet_is_refused_by_file_and_column() {
        let bytes = || file([&[Some(b"one")], &[Some(b"\xff")]], Compression::SNAPPY);
        let error = |bytes, column| texts("a.parquet", bytes, column).unwrap_err().to_string();
        assert_eq!(
            error(bytes(), "body"),
            "a.parquet: field \"body\": expected it (--column), found the columns \"text\", \"id\""
        );
        assert!(
            error(bytes(), "id")
                .starts_with("a.parquet: field \"id\": expected a column of strings, found INT32")
        );
        assert_eq!(
            error(bytes(), "text"),
            "a.parquet: field \"text\": expected UTF-8 text, found other bytes in text 1"
        );
        assert_eq!(
            error(b"PAR1 no".to_vec(), "text"),
            "a.parquet: expected a Parquet file, found other bytes"
        );
        let cut = bytes()[..40].to_vec();
        assert!(error(cut, "text").starts_with("a.parquet: expected a Parquet file"));
    }

    #[test]
    fn damaged_pages_are_errors_and_never_panics() {
        let whole = file([&[Some(b"one"), Some(b"two")], &[None]], Compression::SNAPPY);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let _ = texts("a.parquet", bytes, "text");
        }
    }
}
