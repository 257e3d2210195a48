//! Where the bytes come from: a folder, or files compiled into the program. One code path after.

use super::error::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DANGLING: &str = "a link that leads nowhere";

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
    read_marked(path, &[], limit)
}

/// [`read_within`], but of a file that does not begin with `mark` only as much as that.
pub(crate) fn read_marked(path: &Path, mark: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut file, len) = (File::open(path)?, mark.len() as u64);
    (&mut file).take(len).read_to_end(&mut bytes)?;
    if bytes == mark {
        file.take(limit.saturating_add(1).saturating_sub(len)).read_to_end(&mut bytes)?;
    }
    match bytes.len() as u64 > limit {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("found more than {limit} bytes, expected at most that"),
        )),
        false => Ok(bytes),
    }
}

/// What stands where a file that can be mapped should.
pub(crate) fn unmappable(metadata: &Metadata) -> Option<&'static str> {
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => None,
        (false, true) => Some("a folder"),
        (false, false) => Some("a pipe or a device"),
    }
}

/// A text without the byte order mark that some editors put before it.
pub(crate) fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
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

    /// The folder of the file at `path`, and the file's name in it.
    ///
    /// # Errors
    /// `Unreadable` of a path that only a folder can have, and of a name that is not UTF-8.
    pub(crate) fn around(path: &Path) -> Result<(Files, &str)> {
        let refused = |found| Error::new(ErrorKind::Unreadable, path.display(), "a file", found);
        // `.`, `..` and `/` have no name of their own
        let name = path.file_name().ok_or_else(|| refused("a folder"))?;
        let name = name.to_str().ok_or_else(|| refused("a name that is not UTF-8"))?;
        Ok((Files::folder(path.parent().unwrap_or(Path::new(""))), name))
    }

    /// How an error calls the file `name`, or by the name "" the folder: the path as the user would
    /// type it.
    pub fn describe(&self, name: &str) -> String {
        match &self.place {
            Place::Folder(folder) if name.is_empty() => folder.display().to_string(),
            Place::Folder(folder) => folder.join(name).display().to_string(),
            Place::Embedded(_) => format!("embedded/{name}"),
        }
    }

    /// Whether a file `name` exists.
    ///
    /// # Errors
    /// `Unreadable` of what is there and no file, such as a link that leads nowhere, and if the
    /// operating system refuses: what somebody put there is not as good as absent.
    pub fn contains(&self, name: &str) -> Result<bool> {
        let Place::Folder(folder) = &self.place else {
            return Ok(self.embedded_bytes(name).is_some());
        };
        match self.metadata(name, &folder.join(name)) {
            Ok(metadata) => match unmappable(&metadata) {
                None => Ok(true),
                Some(found) => Err(self.other(name, found)),
            },
            Err(error) if error.kind() == ErrorKind::Missing => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first of `names` that exists.
    pub(crate) fn first<'a>(&self, names: &[&'a str]) -> Result<Option<&'a str>> {
        for &name in names {
            if self.contains(name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The name in the folder that ends with `end`, the least of several.
    pub(crate) fn ending(&self, end: &str) -> Option<String> {
        let Place::Folder(folder) = &self.place else { return None };
        let names = folder.read_dir().ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(end)).min()
    }

    /// What stands where the folder should be, unless it is there.
    pub(crate) fn absent(&self) -> Option<&'static str> {
        match &self.place {
            Place::Folder(folder) if folder.is_dir() => None,
            Place::Folder(folder) if folder.exists() => Some("a file"),
            Place::Folder(folder) if folder.is_symlink() => Some(DANGLING),
            Place::Folder(_) => Some("none"),
            Place::Embedded(_) => None,
        }
    }

    /// The whole file `name`, of at most `limit` bytes; a pipe or a device to its end, or as far.
    ///
    /// # Errors
    /// `Missing` without such a file, `OutOfRange` beyond the limit, `Malformed` of what only stands for
    /// a file, `Unreadable` of a folder and if the operating system refuses.
    pub fn read(&self, name: &str, limit: u64) -> Result<Cow<'static, [u8]>> {
        let folder = match &self.place {
            Place::Embedded(_) => {
                let bytes = self.embedded_bytes(name).ok_or_else(|| self.missing(name))?;
                return Ok(Cow::Borrowed(bytes));
            }
            Place::Folder(folder) => folder,
        };
        let path = folder.join(name);
        if self.metadata(name, &path)?.is_dir() {
            return Err(self.other(name, "a folder"));
        }
        let bytes = read_within(&path, limit).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => {
                let expected = format_args!("at most {limit} bytes");
                Error::new(ErrorKind::OutOfRange, self.describe(name), expected, "more")
            }
            _ => self.refused(name, source),
        })?;
        self.check_fetched(name, &bytes)?;
        Ok(Cow::Owned(bytes))
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
        serde_json::from_slice(unmarked(&bytes)).map_err(|source| {
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
        if let Some(found) = unmappable(&self.metadata(name, &path)?) {
            return Err(self.other(name, found));
        }
        let file = File::open(&path).map_err(unreadable)?;
        // SAFETY: the map is read-only and private. Truncating the file while we run would end the
        // program with a bus error, as with every reader that maps; nothing else can be violated.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
        self.check_fetched(name, &map)?;
        Ok(Bytes::Mapped(Arc::new(map), Arc::new(file)))
    }

    fn metadata(&self, name: &str, path: &Path) -> Result<Metadata> {
        path.metadata().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => self.other(name, DANGLING),
            _ => self.refused(name, source),
        })
    }

    /// Refuses what stands for a large file in a clone that has not fetched it.
    fn check_fetched(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if !bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
            return Ok(());
        }
        let (expected, found) =
            ("the file, which `git lfs pull` fetches", "a Git LFS pointer to it");
        Err(Error::new(ErrorKind::Malformed, self.describe(name), expected, found))
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

    fn other(&self, name: &str, found: &str) -> Error {
        Error::new(ErrorKind::Unreadable, self.describe(name), "a file", found)
    }

    fn refused(&self, name: &str, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::NotFound {
            return self.missing(name);
        }
        let file = self.describe(name);
        Error::new(ErrorKind::Unreadable, file, "a readable file", "a refusal").caused_by(source)
    }
}
