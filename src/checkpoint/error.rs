//! What can be wrong with a checkpoint or a data set, and where.

use std::fmt::{self, Display, Write};

/// The result of everything that reads.
pub type Result<T> = std::result::Result<T, Error>;

/// How many differing tensors an error lists before it only counts the rest: a wrong `config.json`
/// makes every tensor differ, and a screen of them says no more than the first few.
const LINES_MAX: usize = 20;

/// The sort of mistake, for code that reacts to it and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, field or tensor that must exist does not.
    Missing,
    /// The operating system would not hand the file over.
    Unreadable,
    /// The bytes do not follow the format of the file.
    Malformed,
    /// A value of another JSON type stands there.
    WrongType,
    /// A value or a size beyond what any real checkpoint needs, or zero where zero is senseless.
    OutOfRange,
    /// Two facts contradict each other.
    Inconsistent,
    /// A tensor of another shape.
    WrongShape,
    /// A tensor whose element type cannot be read as asked.
    WrongDtype,
    /// The same name twice.
    Duplicate,
    /// Well formed, but not something this crate can do.
    Unsupported,
    /// Stored tensors differ from the expected ones; the message lists every difference.
    TensorsDiffer,
}

/// A mistake with its address: file, field or tensor, what stood there and what should have.
///
/// Printed as `qwen3/model.safetensors: tensor "model.norm.weight": expected [2048], found [4096]`.
/// The cause below it, if any, is [`std::error::Error::source`] and is not repeated in the message.
#[derive(Debug, thiserror::Error)]
#[error("{facts}")]
pub struct Error {
    facts: Box<Facts>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug)]
struct Facts {
    kind: ErrorKind,
    file: String,
    item: Option<String>,
    expected: String,
    found: String,
    lines: Vec<String>,
}

impl Error {
    /// A mistake in `file`: `expected` should stand there, `found` does.
    pub fn new(
        kind: ErrorKind,
        file: impl Display,
        expected: impl Display,
        found: impl Display,
    ) -> Error {
        let facts = Facts {
            kind,
            file: file.to_string(),
            item: None,
            expected: expected.to_string(),
            found: found.to_string(),
            lines: Vec::new(),
        };
        Error { facts: Box::new(facts), source: None }
    }

    /// The same mistake, blamed on a (dotted) field of the file.
    pub fn field(mut self, path: impl Display) -> Error {
        self.facts.item = Some(format!("field {}", quoted(&path.to_string())));
        self
    }

    /// The same mistake, blamed on a tensor of the file.
    pub fn tensor(mut self, name: impl Display) -> Error {
        self.facts.item = Some(format!("tensor {}", quoted(&name.to_string())));
        self
    }

    /// The same mistake, blamed on the place, such as a row, that led to the file.
    pub(crate) fn led_to_from(mut self, place: &str) -> Error {
        let Facts { file, expected, .. } = &mut *self.facts;
        *expected = format!("{expected} in {file}");
        place.clone_into(file);
        self
    }

    /// The same mistake with the error that led to it.
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The same mistake with one line for each detail of it.
    pub(crate) fn lines(mut self, lines: Vec<String>) -> Error {
        self.facts.lines = lines;
        self
    }

    /// The sort of mistake.
    pub fn kind(&self) -> ErrorKind {
        self.facts.kind
    }

    /// The file it is in, with the line after a colon where the file has lines.
    pub fn file(&self) -> &str {
        &self.facts.file
    }

    /// The field or tensor it is about, such as `field "text_config.hidden_size"`.
    pub fn item(&self) -> Option<&str> {
        self.facts.item.as_deref()
    }

    /// What should have stood there.
    pub fn expected(&self) -> &str {
        &self.facts.expected
    }

    /// What stood there.
    pub fn found(&self) -> &str {
        &self.facts.found
    }
}

impl Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(item) = &self.item {
            write!(f, ": {item}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)?;
        for line in self.lines.iter().take(LINES_MAX) {
            write!(f, "\n  {line}")?;
        }
        if self.lines.len() > LINES_MAX {
            write!(f, "\n  and {} more", self.lines.len() - LINES_MAX)?;
        }
        Ok(())
    }
}

/// `text` as an error message may quote it: control characters escaped and the rest cut, because a
/// hostile file chooses both.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut out = String::from("\"");
    for (index, c) in text.chars().enumerate() {
        if index == CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() || c == '"' {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}
