//! One file down on disk: written beside its final name, then renamed, so that nothing is ever
//! half-written.

use super::Error;
use super::floats::Trouble;
use crate::circle::{self, Model, WriteOptions};
pub(super) use crate::cluster::Fnv;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a model to `path` and returns its size.
///
/// # Errors
/// What the format cannot express; a file that cannot be written.
pub fn save(model: &Model, how: &WriteOptions, path: &Path) -> Result<u64, Error> {
    save_with(path, |out| written(model, how, path, out))
}

/// Writes a Circle model to `path`; its size and the hash of its bytes.
///
/// # Errors
/// Those of [`save`], and `trouble` with the weights that were read for it.
pub(super) fn save_hashed(
    model: &Model,
    how: &WriteOptions,
    path: &Path,
    trouble: &Trouble,
) -> Result<(u64, u64), Error> {
    save_with(path, |out| {
        let mut hashing = Hashing { out, hash: Fnv::default() };
        let size = written(model, how, path, &mut hashing)?;
        trouble.check()?;
        Ok((size, hashing.hash.0))
    })
}

/// Writes a model; errors name the file.
pub(super) fn written(
    model: &Model,
    how: &WriteOptions,
    path: &Path,
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let path = || path.display().to_string();
    circle::write_with(model, how, out).map_err(|source| Error::File { path: path(), source })
}

struct Hashing<'a> {
    out: &'a mut BufWriter<File>,
    hash: Fnv,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Writes whatever `write` puts out to `path`, all of it or nothing.
pub(super) fn save_with<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (partial, result) = Partial::write(path, write)?;
    Partial::commit_all(vec![partial])?;
    Ok(result)
}

/// A complete file beside its final name; gone if dropped before it takes that name.
pub(super) struct Partial {
    path: PathBuf,
    beside: PathBuf,
}

impl Partial {
    /// Writes whatever `write` puts out, to go to `path`.
    pub(super) fn write<T>(
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Error>,
    ) -> Result<(Partial, T), Error> {
        let failed = failed(path);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let beside = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let partial = Partial { path: path.to_owned(), beside };
        let mut out = BufWriter::new(File::create(&partial.beside).map_err(&failed)?);
        let result = write(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(&failed)?;
        Ok((partial, result))
    }

    /// Gives all of them their names.
    pub(super) fn commit_all(partials: Vec<Partial>) -> Result<(), Error> {
        for partial in &partials {
            fs::rename(&partial.beside, &partial.path).map_err(failed(&partial.path))?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.beside);
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Write { path: path.clone(), source }
}
