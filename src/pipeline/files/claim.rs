//! A folder for results that one process works in. Whoever is there holds the lock of a file in it, which
//! goes with them; after a death the file stays, and means nothing.

use super::super::unfinished::folder_of;
use super::super::{Error, check_folder};
use super::save::{Folder, TRIES, is_at, remove_left};
use super::write::STAGES;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = "job.lock";

/// Nobody else works in the folder while this lives, from before the first of its files is touched until
/// the last has its name.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Locked.
    _file: File,
    _folder: Folder,
}

impl Claim {
    /// Claims `out`, and removes what killed runs have left half-written there: it takes room that others
    /// need.
    ///
    /// # Errors
    /// Another process works there; a folder that nothing can be written in.
    pub fn of(out: &Path) -> Result<Claim, Error> {
        let folder = folder_of(out);
        let claim = Claim::locked(&folder)?;
        [out, &out.join(STAGES), &folder].iter().for_each(|folder| remove_left(folder, |_| true));
        Ok(claim)
    }

    /// Locks the file in `folder`, which is made if need be.
    fn locked(folder: &Path) -> Result<Claim, Error> {
        let path = folder.join(LOCK);
        let failed = |source| Error::Write { path: path.display().to_string(), source };
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        for _ in 0..TRIES {
            let made = Folder::make(folder);
            let opened = made.and_then(|made| Ok((made, options.open(&path).map_err(failed)?)));
            let (_folder, _file) = match opened {
                Ok(opened) => opened,
                // Whoever was here has left, and the folder with them, perhaps while we made it.
                Err(Error::Write { source, .. }) if has_left(&source, folder) => continue,
                Err(error) => return check_folder(folder).and(Err(error)),
            };
            match _file.try_lock() {
                Err(TryLockError::WouldBlock) => break,
                // A file system without locks is used without.
                _ if is_at(&_file, &path) => return Ok(Claim { path, _file, _folder }),
                // Whoever was here has removed it before we had it.
                _ => {}
            }
        }
        Err(Error::Busy { path: folder.display().to_string() })
    }
}

/// Whether an error only says that `folder` came or went.
fn has_left(source: &io::Error, folder: &Path) -> bool {
    match source.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::AlreadyExists => fs::symlink_metadata(folder).map_or(true, |m| m.is_dir()),
        _ => false,
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // What was finished stays, and what somebody else has put there.
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn a_folder_is_claimed_by_one_at_a_time_and_nothing_stays_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, came) = (AtomicBool::new(false), AtomicUsize::new(0));
        let visits = || {
            for _ in 0..200 {
                match Claim::of(folder.path()) {
                    Ok(claim) => {
                        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                        came.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.store(false, Ordering::SeqCst);
                        drop(claim);
                    }
                    Err(error) => assert!(matches!(error, Error::Busy { .. }), "{error}"),
                }
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(visits))));
        assert!(came.into_inner() > 0, "who comes first has it");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
