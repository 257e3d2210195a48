//! What can go wrong with a Circle file, and where in it.

use std::fmt;
use std::io;

/// The outcome of everything in this room that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes 4..8 name neither Circle nor TFLite.
    Identifier([u8; 4]),
    /// The bytes do not form the table, vector or string that should stand here.
    Malformed(String),
    /// The file makes its reader do far more work than its size justifies (tables shared by many).
    WorkLimit {
        /// Units of work that a file of this size may cost.
        limit: u64,
    },
    /// The file would be larger than a FlatBuffer may be.
    TooLarge {
        /// Bytes that the file would have.
        needed: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The format asked for cannot express this, or this crate cannot write it.
    Unsupported(String),
    /// A lazily produced payload did not have the length it was announced with.
    PayloadLength {
        /// The announced length.
        declared: u64,
        /// The bytes that came.
        written: u64,
    },
    /// A request to cut a model names something that is not there or not possible.
    Selection(String),
    /// Reading a payload or writing the file failed.
    Io(io::ErrorKind),
}

/// An error with its place in the file: `subgraphs[0].tensors[12].shape`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    place: String,
    source: Option<io::Error>,
}

impl Error {
    /// An error whose place is still to be said by [`Error::within`].
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self { kind, place: String::new(), source: None }
    }

    /// Bytes that are not what they should be.
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed(what.into()))
    }

    /// Something that cannot be written.
    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported(what.into()))
    }

    /// Puts `segment` in front of the place, as the error travels up through the tables.
    pub(super) fn within(mut self, segment: impl fmt::Display) -> Self {
        let dot = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("{segment}{dot}{}", self.place);
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Where: a path through the tables, empty for the file as a whole.
    pub fn at(&self) -> &str {
        &self.place
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self { kind: ErrorKind::Io(source.kind()), place: String::new(), source: Some(source) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        match &self.kind {
            ErrorKind::Identifier(found) => write!(
                f,
                "bytes 4..8 are \"{}\", expected \"CIR0\" or \"TFL3\"",
                found.escape_ascii()
            ),
            ErrorKind::Malformed(what)
            | ErrorKind::Unsupported(what)
            | ErrorKind::Selection(what) => f.write_str(what),
            ErrorKind::WorkLimit { limit } => {
                write!(f, "reading costs more than the {limit} steps a file of this size may cost")
            }
            ErrorKind::TooLarge { needed, limit } => write!(
                f,
                "the file would have {needed} bytes, a FlatBuffer at most {limit}: write fewer layers \
                 per file, or append the payloads"
            ),
            ErrorKind::PayloadLength { declared, written } => {
                write!(f, "payload announced with {declared} bytes, {written} came")
            }
            ErrorKind::Io(kind) => write!(f, "{kind}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}
