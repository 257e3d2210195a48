//! One file down on disk: written beside its final name, then renamed, so that nothing is ever
//! half-written.

use super::super::{Error, Trouble};
use crate::circle::{self, Model, WriteOptions};
use crate::cluster::Fnv;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a name is sought that nobody takes from us.
pub(super) const TRIES: usize = 100;

/// Writes a model to `path` and returns its size.
///
/// # Errors
/// What the format cannot express; a file that cannot be written.
pub fn save(model: &Model, how: &WriteOptions, path: &Path) -> Result<u64, Error> {
    save_with(path, |out| written(model, how, path, out))
}

/// Writes a Circle model, to go to `path`; its size and the hash of its bytes.
///
/// # Errors
/// Those of [`save`], and `trouble` with the weights that were read for it.
pub(in super::super) fn hashed(
    model: &Model,
    how: &WriteOptions,
    path: &Path,
    trouble: &Trouble,
) -> Result<(Partial, (u64, u64)), Error> {
    Partial::write(path, |out| {
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
pub(in super::super) fn save_with<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (partial, result) = Partial::write(path, write)?;
    Pending(vec![partial]).commit()?;
    Ok(result)
}

/// Writes files, none of which takes its name before all are complete.
///
/// # Errors
/// A file that cannot be written.
pub fn save_all(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Result<(), Error> {
    let mut pending = Pending::default();
    for (path, bytes) in files {
        pending.add(Partial::of(&path, &bytes)?);
    }
    pending.commit()
}

/// Files that wait open, and so locked: whoever writes beside them takes those of others for a dead
/// process's.
const OPEN: usize = 64;

/// Complete files beside their final names, to take these together; the last says what the others are.
#[derive(Default)]
pub struct Pending(pub(in super::super) Vec<Partial>);

impl Pending {
    /// One of many files.
    pub(in super::super) fn add(&mut self, partial: Partial) {
        let file = partial.file.filter(|_| self.0.len() < OPEN);
        self.0.push(Partial { file, ..partial });
    }

    /// One that says what others of its folder are.
    pub(in super::super) fn add_seal(&mut self, partial: Partial) {
        self.add(Partial { goes: true, ..partial });
    }

    /// A file of the set before that the one to come does not have.
    pub(in super::super) fn forget(&mut self, path: PathBuf) {
        self.0.push(Partial { path, file: None, beside: None, goes: true });
    }

    /// Gives all of them their names; none, if one cannot have its own.
    ///
    /// # Errors
    /// A file that cannot be replaced.
    pub fn commit(self) -> Result<(), Error> {
        let replacing = |file: &&Partial| file.goes || file.beside.is_some();
        let files: Vec<_> = self.0.iter().filter(replacing).collect();
        let (mut kept, mut names) = (Vec::new(), names());
        let replaced = replace(&files, &mut kept, &mut names);
        if replaced.is_err() {
            for Kept { path, old, .. } in &kept {
                let _ = match old {
                    Some(Beside(old)) => fs::rename(old, path),
                    None => fs::remove_file(path),
                };
            }
        }
        drop(names);
        replaced
    }
}

/// Renames files, each from beside its path; `kept` is told before what was there.
fn replace<'a>(
    files: &[&'a Partial],
    kept: &mut Vec<Kept<'a>>,
    names: &mut BTreeSet<PathBuf>,
) -> Result<(), Error> {
    // One alone takes the place of the one before in one step.
    let last = files.len().saturating_sub(1);
    for (i, file) in files.iter().enumerate().filter(|_| last > 0) {
        // Without those that say what others are nobody takes files of two sets for one, should we die
        // from here on. Others get both names, so that they have one whenever that is, where the file
        // system can do that.
        let goes = file.goes || i == last;
        let put = |old: &Path| match goes {
            true => fs::rename(&file.path, old),
            false => fs::hard_link(&file.path, old).or_else(|_| fs::rename(&file.path, old)),
        };
        kept.push(keep(&file.path, (put, i < OPEN || i == last), names)?);
        if goes {
            sync_folder(above(&file.path));
        }
    }
    let mut news = files.iter().filter_map(|file| Some((file, file.beside.as_ref()?)));
    news.try_for_each(|(file, new)| fs::rename(&new.0, &file.path).map_err(failed(&file.path)))
}

/// Makes names durable, where the system can do that.
pub(in super::super) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// What was at a path, if anything, beside it.
struct Kept<'a> {
    path: &'a Path,
    old: Option<Beside>,
    /// The same, open and so locked, as a [`Partial`] is.
    _file: Option<File>,
}

/// Keeps what is at `path`, if anything, beside it, where `put` gives it a name.
fn keep<'a>(
    path: &'a Path,
    (put, open): (impl Fn(&Path) -> io::Result<()>, bool),
    names: &mut BTreeSet<PathBuf>,
) -> Result<Kept<'a>, Error> {
    match path.symlink_metadata() {
        Err(_) => return Ok(Kept { path, old: None, _file: None }),
        Ok(found) if found.is_dir() => {
            return Err(failed(path)(io::ErrorKind::IsADirectory.into()));
        }
        Ok(_) => {}
    }
    let _file = open.then(|| File::open(path).ok()).flatten();
    // One that cannot be read, or a file system without locks, is used without.
    _file.iter().for_each(|file| drop(file.try_lock_shared()));
    let old = unique(path);
    put(&old).map_err(failed(path))?;
    names.insert(old.clone());
    Ok(Kept { path, old: Some(Beside(old)), _file })
}

/// All names of [`Beside`]; whoever holds this alone gives and takes names.
static NAMES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn names() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is half-written, for a program that ends at once: from now on no file gets its name.
pub fn give_up() {
    let names = names();
    names.iter().for_each(|path| drop(fs::remove_file(path)));
    std::mem::forget(names);
}

/// A name for what does not have its own yet, or not any more: what has it is gone when this is dropped.
pub(super) struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let mut names = names();
        let _ = fs::remove_file(&self.0);
        names.remove(&self.0);
    }
}

/// A complete file beside its final name; gone if dropped before it takes that name.
pub(in super::super) struct Partial {
    path: PathBuf,
    /// Locked as long as it is open.
    file: Option<File>,
    /// None where there is no file to replace, but a device or a pipe, which took the bytes.
    beside: Option<Beside>,
    /// Whether what is at the path goes before the first of others takes its name.
    goes: bool,
}

impl Partial {
    /// Writes these bytes, to go to `path`.
    pub(in super::super) fn of(path: &Path, bytes: &[u8]) -> Result<Partial, Error> {
        let write = |out: &mut BufWriter<File>| out.write_all(bytes).map_err(failed(path));
        Ok(Partial::write(path, write)?.0)
    }

    /// Writes whatever `write` puts out, to go to `path`.
    pub(in super::super) fn write<T>(
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Error>,
    ) -> Result<(Partial, T), Error> {
        let failed = failed(path);
        // `.`, `..` and `/` are folders that have no name of their own
        if path.file_name().is_none() || path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let path = place(path).map_err(&failed)?;
        let stream = path.metadata().is_ok_and(|found| !found.is_file());
        let made = match stream {
            true => File::create(&path).map(|file| (file, None)),
            false => {
                let ours = path.file_name().unwrap_or_default().to_string_lossy();
                remove_left(above(&path), |name| name == ours);
                beside(&path).map(|(file, beside)| (file, Some(beside)))
            }
        };
        let (file, beside) = made.map_err(&failed)?;
        let mut out = BufWriter::new(file);
        let mut partial = Partial { path, file: None, beside, goes: false };
        let result = write(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        if !stream {
            file.sync_all().map_err(&failed)?;
        }
        partial.file = Some(file);
        Ok((partial, result))
    }
}

/// Where what is written to `path` goes: a link stays one, and what it leads to is replaced or comes to be.
pub(super) fn place(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.is_symlink()) {
        (Ok(path), _) => Ok(path),
        (Err(_), false) => Ok(path.to_owned()),
        (Err(error), true) if error.kind() != io::ErrorKind::NotFound => Err(error),
        (Err(_), true) => {
            let to = above(path).join(fs::read_link(path)?);
            if to.is_symlink() || above(&to).is_dir() {
                return place(&to);
            }
            let to = to.display();
            Err(io::Error::other(format!(
                "found a link to {to}, expected one into a folder that exists"
            )))
        }
    }
}

fn above(path: &Path) -> &Path {
    // of a relative path the last ancestor is empty and means the folder we are in
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// A name beside `path` that no process makes twice: those of several containers have the same number.
fn unique(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = RandomState::new().hash_one(&name);
    path.with_file_name(format!(".{name}.{unique:016x}.partial"))
}

/// A new file beside `path`, locked.
pub(super) fn beside(path: &Path) -> io::Result<(File, Beside)> {
    for _ in 0..TRIES {
        let beside = unique(path);
        let mut names = names();
        match File::create_new(&beside) {
            Ok(file) => {
                let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                if !swept && is_at(&file, &beside) {
                    names.insert(beside.clone());
                    return Ok((file, Beside(beside)));
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
pub(super) fn remove_left(folder: &Path, which: impl Fn(&str) -> bool) {
    let meant = |name: &str| {
        let name = name.strip_prefix('.')?.strip_suffix(".partial")?;
        let (name, unique) = name.rsplit_once('.')?;
        let ours = unique.len() == 16 && unique.bytes().all(|b| b.is_ascii_hexdigit());
        Some(ours && which(name))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if meant(&entry.file_name().to_string_lossy()) == Some(true)
            && let Ok(file) = File::options().write(true).open(&path).or_else(|_| File::open(&path))
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

#[cfg(test)]
mod tests;
