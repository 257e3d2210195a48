//! What is judged or calibrated on, whatever the file: rows that ask something, or one long text.

use super::rows::{Row, read_jsonl_column};
use crate::checkpoint::{Error, ErrorKind, Files, Result, unmarked};
use std::path::Path;

/// The longest text or Parquet file believed, in bytes.
const TEXT_MAX: u64 = 4 << 30;

/// What stands between the documents of a file: an empty line, as where perplexity is measured on
/// data sets of paragraphs.
const BETWEEN: &str = "\n\n";

/// The column, or field of a row, that holds text where nobody says which.
pub(super) const COLUMN: &str = "text";

/// What a file holds.
#[derive(Clone, Debug)]
pub enum Source {
    /// Questions and conversations, each to be seen as a whole.
    Rows(Vec<Row>),
    /// Running text, to be cut into windows.
    Text(String),
}

/// Reads `path` by its extension: `.jsonl` as rows, or as text if every row is a plain text;
/// `.parquet` as text; all else as plain text. Documents are joined with an empty line. `column`
/// names the field or column of texts, `text` by default; plain text has none.
///
/// # Errors
/// Names the file, and the line or column that is missing or of the wrong type.
pub fn read_source(path: &Path, column: Option<&str>) -> Result<Source> {
    match form(path) {
        Form::Jsonl => jsonl(path, column),
        Form::Parquet => documents(path, parquet(path, column.unwrap_or(COLUMN))?),
        Form::Plain => plain(path),
        Form::Table => {
            let expected = "plain text, JSON lines or Parquet";
            Err(Error::new(ErrorKind::Unsupported, path.display(), expected, "a table by its name"))
        }
    }
}

/// Whether [`read_source`] looks for texts in a field or column of the file at `path`.
pub fn has_columns(path: &Path) -> bool {
    form(path) != Form::Plain
}

#[derive(PartialEq, Eq)]
enum Form {
    Jsonl,
    Parquet,
    Plain,
    /// Judged as prose, separators would count as text.
    Table,
}

fn form(path: &Path) -> Form {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("jsonl" | "ndjson" | "json") => Form::Jsonl,
        Some("parquet") => Form::Parquet,
        Some("csv" | "tsv") => Form::Table,
        _ => Form::Plain,
    }
}

fn jsonl(path: &Path, column: Option<&str>) -> Result<Source> {
    let mut rows = read_jsonl_column(path, column)?;
    let texts = rows.iter().filter(|row| row.text.is_some()).count();
    if texts == rows.len() {
        return documents(path, rows.iter_mut().filter_map(|row| row.text.take()).collect());
    }
    if let (Some(column), true) = (column, texts == 0) {
        let (expected, found) = ("a field of text in every row", "questions");
        return Err(Error::new(ErrorKind::Missing, path.display(), expected, found).field(column));
    }
    Ok(Source::Rows(rows))
}

fn plain(path: &Path) -> Result<Source> {
    let (files, name) = Files::around(path)?;
    let mut text = files.read_text(name, TEXT_MAX)?;
    text.drain(..text.len() - unmarked(text.as_bytes()).len());
    documents(path, vec![text])
}

fn documents(path: &Path, texts: Vec<String>) -> Result<Source> {
    let text = texts.join(BETWEEN);
    if text.trim().is_empty() {
        return Err(Error::new(ErrorKind::Missing, path.display(), "some text", "none"));
    }
    Ok(Source::Text(text))
}

fn parquet(path: &Path, column: &str) -> Result<Vec<String>> {
    let (files, name) = Files::around(path)?;
    let data = files.read(name, TEXT_MAX)?;
    super::parquet::texts(&path.display().to_string(), data.into_owned(), column)
}

#[cfg(test)]
mod tests;
