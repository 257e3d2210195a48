//! One file down on disk: written beside its final name, then renamed, so that nothing is ever
//! half-written.

use super::Error;
use crate::circle::{self, Format, Model, WriteOptions};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

/// Writes a model to `path` and returns its size.
///
/// # Errors
/// What the format cannot express; a file that cannot be written.
pub fn save(model: &Model, format: Format, path: &Path) -> Result<u64, Error> {
    let how = WriteOptions { format, ..WriteOptions::default() };
    save_with(path, |out| Ok(circle::write_with(model, &how, out)?))
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
