//! A file that several threads write, each at places of its own.

use super::super::Error;
use crate::circle::Buffer;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes that may wait for the disk before it is told to take them: it writes while we go on.
const WAITING: u64 = 128 << 20;

/// A file of known size, zero wherever nothing was put.
pub(super) struct Sheet<'a> {
    file: &'a File,
    path: &'a Path,
    /// Bytes since the disk was told last.
    waiting: AtomicU64,
}

impl<'a> Sheet<'a> {
    /// Over a new file, which will go to `path`.
    pub(super) fn new(file: &'a File, path: &'a Path, size: u64) -> Result<Sheet<'a>, Error> {
        let sheet = Sheet { file, path, waiting: AtomicU64::new(0) };
        file.set_len(size).map_err(|e| sheet.failed(e))?;
        Ok(sheet)
    }

    /// Writes `bytes` from the byte `at` on.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        write_at(self.file, at, bytes).map_err(|e| self.failed(e))?;
        self.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Does `work`, which puts much, while the disk takes what was put so far: else most of that would
    /// wait for the end.
    ///
    /// # Errors
    /// Those of `work`, or what the system said of the disk: it says so once.
    pub(super) fn meanwhile<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let disk = thread::Builder::new().spawn_scoped(scope, || {
                let mut taken = Ok(());
                while taken.is_ok() && !done.load(Ordering::Acquire) {
                    match self.waiting.load(Ordering::Relaxed) >= WAITING {
                        true => {
                            self.waiting.store(0, Ordering::Relaxed);
                            taken = self.file.sync_data();
                        }
                        false => thread::park_timeout(Duration::from_millis(5)),
                    }
                }
                taken
            });
            let disk = disk.map_err(|e| self.failed(e))?;
            // However `work` ends, the other must not wait for it.
            let ended = Ended(&done);
            let result = work();
            drop(ended);
            disk.thread().unpark();
            let taken = disk.join().expect("invariant: telling the disk never panics");
            result.and_then(|result| taken.map(|()| result).map_err(|e| self.failed(e)))
        })
    }

    /// Writes a payload that its buffer gives, from the byte `at` on.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn stream(&self, at: u64, buffer: &Buffer) -> Result<(), Error> {
        let mut out = From { file: self.file, at };
        let path = || self.path.display().to_string();
        buffer.write_to(&mut out).map_err(|source| Error::File { path: path(), source })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.display().to_string(), source }
    }
}

/// Says so when it is dropped.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes one thing after the other.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl Write for From<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_at(self.file, self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}
