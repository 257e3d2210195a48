//! How fast files are read and written by somebody who does nothing else.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

/// Bytes at a time.
const PIECE: usize = 1 << 20;

/// Seconds of reading every file of `folder` from its first byte to its last.
pub(crate) fn read(folder: &Path) -> io::Result<f64> {
    let start = Instant::now();
    let mut piece = vec![0; PIECE];
    for entry in fs::read_dir(folder)? {
        let mut file = File::open(entry?.path())?;
        while file.read(&mut piece)? > 0 {}
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of writing a file of `size` bytes and waiting until the disk has it. It is removed then.
pub(crate) fn write(path: &Path, size: u64) -> io::Result<f64> {
    let piece: Vec<u8> = (0..PIECE).map(|i| ((i * i) >> 7) as u8).collect();
    let start = Instant::now();
    let mut file = File::create(path)?;
    let mut left = size;
    while left > 0 {
        let some = left.min(PIECE as u64);
        file.write_all(&piece[..some as usize])?;
        left -= some;
    }
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(seconds)
}
