//! Where the bytes come from: a folder, or files compiled into the program. One code path after.

use super::error::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A set of named files: a folder on disk or a table embedded in the binary. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Files {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Folder(Arc<Path>),
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The bytes of one file, mapped rather than read where the file is on disk.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Mapped(Arc<memmap2::Mmap>, Arc<File>),
    Embedded(&'static [u8]),
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, _) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// The bytes from `start` on, as many as `out` has: read from the file, so that they are not
    /// counted as memory of ours and a file that was cut short is an error.
    pub(crate) fn read_exact_at(&self, start: usize, out: &mut [u8]) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Bytes::Mapped(_, file) => {
                std::os::unix::fs::FileExt::read_exact_at(&**file, out, start as u64)
            }
            #[cfg(not(unix))]
            Bytes::Mapped(map, _) => copied(map, start, out),
            Bytes::Embedded(bytes) => copied(bytes, start, out),
        }
    }
}

/// The whole file at `path`, read until it is longer than `limit` bytes: what the file system states
/// is only a hint, and a device or a pipe may never end.
pub(crate) fn read_within(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("found more than {limit} bytes, expected at most that"),
        )),
        false => Ok(bytes),
    }
}

fn copied(bytes: &[u8], start: usize, out: &mut [u8]) -> io::Result<()> {
    let found = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    out.copy_from_slice(found);
    Ok(())
}

impl Files {
    /// The files of a folder. Nothing is touched yet.
    pub fn folder(path: impl Into<PathBuf>) -> Files {
        let path: PathBuf = path.into();
        Files { place: Place::Folder(path.into()) }
    }

    /// Files compiled into the program, as (name, bytes).
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Files {
        Files { place: Place::Embedded(files) }
    }

    /// How an error calls the file `name`: the path as the user would type it.
    pub fn describe(&self, name: &str) -> String {
        match &self.place {
            Place::Folder(folder) => folder.join(name).display().to_string(),
            Place::Embedded(_) => format!("embedded/{name}"),
        }
    }

    /// Whether a file `name` exists.
    pub fn contains(&self, name: &str) -> bool {
        match &self.place {
            Place::Folder(folder) => folder.join(name).is_file(),
            Place::Embedded(_) => self.embedded_bytes(name).is_some(),
        }
    }

    /// Whether the set itself is there: a folder may not be.
    pub(crate) fn exist(&self) -> bool {
        match &self.place {
            Place::Folder(folder) => folder.is_dir(),
            Place::Embedded(_) => true,
        }
    }

    /// The whole file `name`, of at most `limit` bytes.
    ///
    /// # Errors
    /// `Missing` without such a file, `OutOfRange` beyond the limit, `Unreadable` if the operating
    /// system refuses.
    pub fn read(&self, name: &str, limit: u64) -> Result<Cow<'static, [u8]>> {
        let folder = match &self.place {
            Place::Embedded(_) => {
                let bytes = self.embedded_bytes(name).ok_or_else(|| self.missing(name))?;
                return Ok(Cow::Borrowed(bytes));
            }
            Place::Folder(folder) => folder,
        };
        let unreadable = |source| self.refused(name, source);
        let path = folder.join(name);
        // a pipe or a device has no length and may never end
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(self.missing(name));
        }
        read_within(&path, limit).map(Cow::Owned).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => {
                let expected = format_args!("at most {limit} bytes");
                Error::new(ErrorKind::OutOfRange, self.describe(name), expected, "more")
            }
            _ => unreadable(source),
        })
    }

    /// The whole file `name`, which must be UTF-8 text of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`Files::read`], and `Malformed` if it is not UTF-8.
    pub fn read_text(&self, name: &str, limit: u64) -> Result<String> {
        String::from_utf8(self.read(name, limit)?.into_owned()).map_err(|source| {
            Error::new(ErrorKind::Malformed, self.describe(name), "UTF-8 text", "other bytes")
                .caused_by(source)
        })
    }

    /// The file `name` as JSON of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`Files::read`], and `Malformed` if it is no JSON or nested too deep.
    pub(crate) fn read_json(&self, name: &str, limit: u64) -> Result<serde_json::Value> {
        let bytes = self.read(name, limit)?;
        serde_json::from_slice(&bytes).map_err(|source| {
            let found = format!("a mistake in line {}", source.line());
            Error::new(ErrorKind::Malformed, self.describe(name), "JSON", found).caused_by(source)
        })
    }

    /// The file `name`, mapped into memory.
    pub(crate) fn map(&self, name: &str) -> Result<Bytes> {
        let folder = match &self.place {
            Place::Embedded(_) => {
                let bytes = self.embedded_bytes(name).ok_or_else(|| self.missing(name))?;
                return Ok(Bytes::Embedded(bytes));
            }
            Place::Folder(folder) => folder,
        };
        let unreadable = |source| self.refused(name, source);
        let path = folder.join(name);
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(self.missing(name));
        }
        let file = File::open(&path).map_err(unreadable)?;
        // SAFETY: the map is read-only and private. Truncating the file while we run would end the
        // program with a bus error, as with every reader that maps; nothing else can be violated.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Bytes::Mapped(Arc::new(map), Arc::new(file)))
    }

    fn embedded_bytes(&self, name: &str) -> Option<&'static [u8]> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Embedded(files) => files.iter().find(|(n, _)| *n == name).map(|(_, b)| *b),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(ErrorKind::Missing, self.describe(name), "a file", "none")
    }

    fn refused(&self, name: &str, source: std::io::Error) -> Error {
        if source.kind() == std::io::ErrorKind::NotFound {
            return self.missing(name);
        }
        let file = self.describe(name);
        Error::new(ErrorKind::Unreadable, file, "a readable file", "a refusal").caused_by(source)
    }
}
