//! Payloads: none, bytes at hand, or bytes produced only while the file is written.

use std::fmt;
use std::io::{self, Write};
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::error::{Error, ErrorKind, Result};

/// A shared, immutable range of bytes: a vector of its own or a window into a mapped file.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`, for instance of a memory map.
    pub fn from_owner(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// A window; `None` where it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end)
            .then(|| Self { owner: Arc::clone(&self.owner), range: start..end })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // An owner whose bytes shrink would break its contract; it then has no bytes at all.
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or(&[])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_owner(Arc::new(bytes))
    }
}

/// Produces a payload of known length when the file is written, so that weights need never be in
/// memory all at once.
pub trait Source: Send + Sync {
    /// The exact number of bytes that [`Source::write_to`] writes.
    fn len(&self) -> u64;

    /// Writes the payload. Called once per written file; must give the same bytes each time.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that payloads of equal bytes share and others do not, where one is known: graphs
    /// joined in one file then hold the payload once.
    fn digest(&self) -> Option<u128> {
        None
    }
}

struct Closure<F> {
    len: u64,
    write: F,
}

impl<F: Fn(&mut dyn Write) -> io::Result<()> + Send + Sync> Source for Closure<F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        (self.write)(out)
    }
}

/// The table `Buffer`: the payload of constants and of metadata.
#[derive(Clone, Default)]
pub enum Buffer {
    /// No payload: buffer 0 always, and the buffer of a tensor that is computed.
    #[default]
    Empty,
    /// Bytes at hand.
    Data(Bytes),
    /// Bytes at hand that lay behind the FlatBuffer (`offset`, `size`) in the file they came from.
    External(Bytes),
    /// Bytes produced while writing.
    Lazy(Arc<dyn Source>),
}

impl Buffer {
    /// A payload of these bytes.
    pub fn data(bytes: impl Into<Bytes>) -> Self {
        Self::Data(bytes.into())
    }

    /// A payload of `len` bytes that `write` produces when the file is written.
    pub fn lazy(
        len: u64,
        write: impl Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::Lazy(Arc::new(Closure { len, write }))
    }

    /// The length of the payload.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Data(bytes) | Self::External(bytes) => bytes.len() as u64,
            Self::Lazy(source) => source.len(),
        }
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload where it is at hand; `None` for a lazy one.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Data(bytes) | Self::External(bytes) => Some(bytes),
            Self::Lazy(_) => None,
        }
    }

    /// Writes the payload and holds a lazy one to its announced length.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        match self {
            Self::Empty => {}
            Self::Data(bytes) | Self::External(bytes) => out.write_all(bytes)?,
            Self::Lazy(source) => {
                let mut counted = Counted { out, written: 0, limit: source.len() };
                let outcome = source.write_to(&mut counted);
                let (declared, written) = (counted.limit, counted.written);
                if written != declared && (outcome.is_ok() || written > declared) {
                    return Err(Error::new(ErrorKind::PayloadLength { declared, written }));
                }
                outcome?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Empty => return f.write_str("Empty"),
            Self::Data(_) => "Data",
            Self::External(_) => "External",
            Self::Lazy(_) => "Lazy",
        };
        write!(f, "{name}({} bytes)", self.len())
    }
}

/// Buffers are equal when their payloads are, wherever those lie.
impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        let collect = |buffer: &Self| {
            let mut bytes = Vec::new();
            buffer.write_to(&mut bytes).is_ok().then_some(bytes)
        };
        self.len() == other.len()
            && match (self.bytes(), other.bytes()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((collect(self), collect(other)), (Some(a), Some(b)) if a == b),
            }
    }
}

/// Counts what passes, and stops a source that writes more than it announced.
struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
    limit: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limit {
            return Err(io::Error::other("payload longer than announced"));
        }
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
