//! Rows of a JSONL file, and the pictures that they name.

use super::encode::unless_absent;
use super::parse::parse_row;
use super::text::COLUMN;
use crate::checkpoint::{Checkpoint, Conversation, Error, ErrorKind, Files, Result, unmarked};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::Path;

/// The longest JSONL file believed, in bytes; calibration takes a few thousand rows at most.
const JSONL_MAX: u64 = 1 << 30;
/// The longest picture file believed, in bytes.
const PICTURE_MAX: u64 = 256 << 20;

/// What the error of a row without a text says more where its field may be named.
const HINT: &str = " (or a field of text, by --column)";

/// One thing to ask, and perhaps its answer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Pictures, in the order in which the messages show them.
    pub images: Vec<ImageRef>,
    /// Videos, likewise.
    pub videos: Vec<VideoRef>,
    /// The conversation up to the answer; empty if the row is a plain text.
    pub conversation: Conversation,
    /// What the assistant should say.
    pub answer: Option<String>,
    /// A plain text without a conversation around it.
    pub text: Option<String>,
    /// File and line, such as `vqa/train.jsonl:12`.
    pub place: String,
}

impl Row {
    /// A question about pictures on disk, without an answer.
    ///
    /// # Errors
    /// What [`read_jsonl`] would say of such a row.
    pub fn asking(question: &str, images: &[String]) -> Result<Row> {
        Row::showing(question, images, (&[], &[]))
    }

    /// What somebody types about pictures and the frames of a video, each with its seconds. Of a
    /// checkpoint without a chat template to ask with, a text alone is what the model goes on from.
    ///
    /// # Errors
    /// What [`read_jsonl`] would say of such a row; a template that cannot be read.
    pub fn typed(
        checkpoint: &Checkpoint,
        text: &str,
        images: &[String],
        video: (&[String], &[f64]),
    ) -> Result<Row> {
        let asks = unless_absent(checkpoint.chat_template())?.is_ok();
        match asks || !images.is_empty() || !video.0.is_empty() {
            true => Row::showing(text, images, video),
            false => typed(&json!({ COLUMN: text })),
        }
    }

    fn showing(
        question: &str,
        images: &[String],
        (frames, seconds): (&[String], &[f64]),
    ) -> Result<Row> {
        let mut row = json!({ "question": question });
        if !images.is_empty() {
            row["image"] = json!(images);
        }
        if !frames.is_empty() {
            row["video"] = json!(frames);
            row["timestamps"] = json!(seconds);
        }
        typed(&row)
    }
}

/// A row that stands in no file.
fn typed(row: &Value) -> Result<Row> {
    let files = Files::folder("");
    let origin = Origin { files: &files, folder: "", column: COLUMN, hint: "" };
    parse_row("the prompt".into(), &row.to_string(), &origin)
}

/// A video that a row names: its sampled frames and when they were seen.
#[derive(Clone, Debug)]
pub struct VideoRef {
    /// Frames in order, at least one.
    pub frames: Vec<ImageRef>,
    /// Seconds from the start, one a frame, not falling.
    pub timestamps: Vec<f64>,
}

/// A picture that a row names; not read yet.
#[derive(Clone, Debug)]
pub struct ImageRef {
    files: Files,
    name: String,
}

impl ImageRef {
    /// The path, as an error or a report should spell it.
    pub fn path(&self) -> String {
        self.files.describe(&self.name)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// `Missing`, `OutOfRange` or `Unreadable`, naming the path.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        self.files.read(&self.name, PICTURE_MAX)
    }
}

/// Where a row stands: paths in it are relative to its file.
pub(super) struct Origin<'a> {
    pub(super) files: &'a Files,
    /// Folder of the file inside `files`, with a slash behind it, or nothing.
    pub(super) folder: &'a str,
    /// Field of a row that is a plain text.
    pub(super) column: &'a str,
    /// How else such a field is found, for errors.
    pub(super) hint: &'a str,
}

impl Origin<'_> {
    pub(super) fn image(&self, path: &str) -> ImageRef {
        let name =
            if path.starts_with('/') { path.to_owned() } else { format!("{}{path}", self.folder) };
        ImageRef { files: self.files.clone(), name }
    }
}

/// Reads a JSONL file: one row a line, empty lines skipped, picture paths relative to the file.
///
/// A row is `{"question", "answer"?, "image"?, "video"?}` with one path or a list of them, or
/// `{"messages": [...]}` as transformers has them, the last one of the assistant being the answer, or
/// `{"text"}`. Beside messages, `tools`, `documents` and `chat_template_kwargs` are for the template.
/// A video is the list of its sampled frames, beside it `"fps"` or `"timestamps"` in seconds, one a
/// frame.
///
/// # Errors
/// Names file and line, the field, what was found and what was expected. A file without rows is an
/// error too.
pub fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
    let (files, name) = Files::around(path)?;
    read_rows(&files, name, [COLUMN, ""])
}

/// [`read_jsonl`] with plain texts in the field `column`, where somebody names one.
pub(super) fn read_jsonl_column(path: &Path, column: Option<&str>) -> Result<Vec<Row>> {
    let (files, name) = Files::around(path)?;
    read_rows(&files, name, column.map_or([COLUMN, HINT], |column| [column, ""]))
}

/// Reads the JSONL file `name` of `files`, which may be embedded; otherwise as [`read_jsonl`].
///
/// # Errors
/// Those of [`read_jsonl`].
pub fn read_jsonl_from(files: &Files, name: &str) -> Result<Vec<Row>> {
    read_rows(files, name, [COLUMN, ""])
}

fn read_rows(files: &Files, name: &str, [column, hint]: [&str; 2]) -> Result<Vec<Row>> {
    let bytes = files.read(name, JSONL_MAX)?;
    let bytes = unmarked(&bytes);
    let file = files.describe(name);
    let folder = name.rfind('/').map_or("", |slash| &name[..=slash]);
    let origin = Origin { files, folder, column, hint };
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let place = format!("{file}:{}", index + 1);
        let line = str::from_utf8(line).map_err(|source| {
            let (expected, found) = ("UTF-8 text", "other bytes");
            Error::new(ErrorKind::Malformed, &place, expected, found).caused_by(source)
        })?;
        if line.trim().is_empty() {
            continue;
        }
        rows.push(parse_row(place, line, &origin)?);
    }
    if rows.is_empty() {
        return Err(Error::new(ErrorKind::Missing, file, "at least one row", "none"));
    }
    Ok(rows)
}
