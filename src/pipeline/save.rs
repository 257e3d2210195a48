//! One file down on disk: written beside its final name, then renamed, so that nothing is ever
//! half-written.

use super::Error;
use super::floats::Trouble;
use crate::circle::{self, Model, WriteOptions};
pub(super) use crate::cluster::Fnv;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How often a name is sought that nobody takes from us.
pub(super) const TRIES: usize = 100;

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
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
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

/// Writes files, none of which takes its name before all are complete.
///
/// # Errors
/// A file that cannot be written.
pub fn save_all(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Result<(), Error> {
    let partials = files.into_iter().map(|(path, bytes)| Partial::of(&path, &bytes));
    Partial::commit_all(partials.collect::<Result<_, _>>()?)
}

/// A complete file beside its final name; gone if dropped before it takes that name.
pub(super) struct Partial {
    path: PathBuf,
    /// Locked as long as it is open.
    file: Option<File>,
    /// None where there is no file to replace, but a device or a pipe, which took the bytes.
    beside: Option<PathBuf>,
}

impl Partial {
    /// Writes these bytes, to go to `path`. The file is closed: there may be more of them than may be
    /// open.
    pub(super) fn of(path: &Path, bytes: &[u8]) -> Result<Partial, Error> {
        let (mut partial, ()) =
            Partial::write(path, |out| out.write_all(bytes).map_err(failed(path)))?;
        partial.file = None;
        Ok(partial)
    }

    /// Writes whatever `write` puts out, to go to `path`.
    pub(super) fn write<T>(
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Error>,
    ) -> Result<(Partial, T), Error> {
        let failed = failed(path);
        // `.`, `..` and `/` are folders that have no name of their own
        if path.file_name().is_none() || path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        // A link stays one: what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let stream = path.metadata().is_ok_and(|found| !found.is_file());
        let made = match stream {
            true => File::create(&path).map(|file| (file, None)),
            false => beside(&path).map(|(file, beside)| (file, Some(beside))),
        };
        let (file, beside) = made.map_err(&failed)?;
        let mut out = BufWriter::new(file);
        let mut partial = Partial { path, file: None, beside };
        let result = write(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        if !stream {
            file.sync_all().map_err(&failed)?;
        }
        partial.file = Some(file);
        Ok((partial, result))
    }

    /// Gives all of them their names.
    pub(super) fn commit_all(partials: Vec<Partial>) -> Result<(), Error> {
        for Partial { path, beside, .. } in &partials {
            if let Some(beside) = beside {
                fs::rename(beside, path).map_err(failed(path))?;
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = fs::remove_file(beside);
        }
    }
}

/// A new file beside `path`, locked, under a name that no process makes twice: those of several containers
/// have the same number.
pub(super) fn beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for _ in 0..TRIES {
        let unique = RandomState::new().hash_one(&name);
        let beside = path.with_file_name(format!(".{name}.{unique:016x}.partial"));
        match File::create_new(&beside) {
            Ok(file) => {
                let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                if !swept && is_at(&file, &beside) {
                    return Ok((file, beside));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes from a folder what dead processes have left half-written, of the files that `which` names.
/// Where there are no locks, nobody knows who is dead: then it stays.
pub(super) fn sweep(folder: &Path, which: impl Fn(&str) -> bool) {
    let meant = |name: &str| {
        let name = name.strip_prefix('.')?.strip_suffix(".partial")?;
        let (name, unique) = name.rsplit_once('.')?;
        let ours = unique.len() == 16 && unique.bytes().all(|b| b.is_ascii_hexdigit());
        Some(ours && which(name))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if meant(&entry.file_name().to_string_lossy()) == Some(true)
            && let Ok(file) = File::options().write(true).open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether what is at `path` is this file still.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let same = |(a, b): (fs::Metadata, fs::Metadata)| (a.dev(), a.ino()) == (b.dev(), b.ino());
        file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(same)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// A folder for files; if none comes, what was made of it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    made: Vec<PathBuf>,
}

impl Folder {
    /// Makes it, with those above it.
    pub(super) fn make(folder: &Path) -> Result<Folder, Error> {
        let missing = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
        let made = missing.filter(|path| !path.exists()).map(Path::to_owned).collect();
        let made = Folder { made };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        Ok(made)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // From within; a folder that holds something stays.
        self.made.iter().for_each(|path| drop(fs::remove_dir(path)));
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Write { path: path.clone(), source }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn names_beside_a_file_never_meet_and_only_what_the_dead_have_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (_file, living) = beside(&at("file")).unwrap();
        let (dead, left) = beside(&at("file")).unwrap();
        let (other, kept) = beside(&at("other")).unwrap();
        drop((dead, other));
        assert_ne!(living, left);
        let theirs = [".mine.partial", ".file.17.partial", ".0123456789abcdef.partial"].map(at);
        theirs.iter().for_each(|path| fs::write(path, "keep").unwrap());
        sweep(folder.path(), |name| name == "file");
        assert!(!left.exists() && living.exists() && kept.exists());
        assert!(theirs.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_link_is_followed_and_what_is_no_file_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str| {
            let put = |out: &mut BufWriter<File>| -> Result<(), Error> {
                out.write_all(b"new").unwrap();
                Ok(())
            };
            save_with(&at(name), put).unwrap();
        };
        fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        put("link");
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert!(at("link").is_symlink());
        std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
        put("device");
        assert!(at("device").is_symlink() && !Path::new("/dev/null").is_file());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing beside");
    }
}
