//! One file down on disk: written beside its final name, then renamed, so that nothing is ever
//! half-written.

use super::Error;
use crate::circle::{self, Format, Model, WriteOptions};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a model to `path` and returns its size.
///
/// # Errors
/// What the format cannot express; a file that cannot be written.
pub fn save(model: &Model, format: Format, path: &Path) -> Result<u64, Error> {
    let how = WriteOptions { format, ..WriteOptions::default() };
    save_with(path, |out| Ok(circle::write_with(model, &how, out)?))
}

/// Writes a Circle model to `path`; its size and the hash of its bytes.
///
/// # Errors
/// Those of [`save`].
pub(super) fn save_hashed(model: &Model, path: &Path) -> Result<(u64, u64), Error> {
    save_with(path, |out| {
        let mut hashing = Hashing { out, hash: Fnv::default() };
        let size = circle::write(model, &mut hashing)?;
        Ok((size, hashing.hash.0))
    })
}

/// FNV-1a, 64 bits: tells a file that was changed or mixed up, not one that was forged.
#[derive(Clone, Copy)]
pub(super) struct Fnv(pub(super) u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
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
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    let beside = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let put = || {
        let mut out = BufWriter::new(File::create(&beside).map_err(failed)?);
        let result = write(&mut out)?;
        out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)?;
        Ok(result)
    };
    put().inspect_err(|_| drop(fs::remove_file(&beside)))
}
