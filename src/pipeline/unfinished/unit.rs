//! Rounded layers as a file: what is durable together.
//!
//! | bytes | what |
//! |---|---|
//! | … | rows of all layers, one after the other (`walk/codes.rs`) |
//! | … | the list of them, postcard: name, shape, grid, notes, where, hash |
//! | 8 | FNV-1a of the list |
//! | 8 | length of the list |
//! | 8 | `ENCWORK3` |
//!
//! The end is written last, so a file that was cut says so.

use super::super::files::save_with;
use super::super::walk::StoredCodes;
use super::super::{Error, Trouble};
use crate::algo::Note;
use crate::cluster::Fnv;
use crate::quant::{Coding, QuantParams};
use crate::tensor::{Lock, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"ENCWORK3";
/// The longest list believed, in bytes.
const LIST_MAX: u64 = 1 << 30;
/// Bytes of rows that are read at a time.
const PART_BYTES: usize = 1 << 18;

/// A layer in a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Entry {
    /// Of the weight.
    pub(in super::super) name: String,
    pub(in super::super) shape: [usize; 2],
    pub(in super::super) grid: QuantParams,
    /// JSON: their form for people's scripts says its own kind, which postcard cannot read.
    notes: String,
    start: u64,
    /// Of its rows as stored.
    hash: u64,
}

impl Entry {
    /// What was odd about the layer's calibration.
    pub(in super::super) fn notes(&self) -> Option<Vec<Note>> {
        serde_json::from_str(&self.notes).ok()
    }
}

/// A rounded matrix: name of the weight, values, the grid they are on, and what was odd.
pub(in super::super) type Layer = (String, Tensor, QuantParams, Vec<Note>);

/// A file of rounded layers.
#[derive(Clone)]
pub(in super::super) struct Unit {
    path: PathBuf,
    file: Arc<Lock<File>>,
}

/// Writes matrices to `path`, all of them or nothing.
pub(in super::super) fn write(layers: &[Layer], path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    save_with(path, |out| {
        let (mut list, mut end) = (Vec::new(), 0);
        for (name, tensor, grid, notes) in layers {
            let &[n, k] = tensor.shape() else { continue };
            let coding = Coding::of(Some(grid), k);
            let mut hash = Fnv::default();
            let put = |first: usize, reals: &[f32]| {
                let bytes = coding.bytes(first, reals);
                hash.add(&bytes);
                out.write_all(&bytes)
            };
            tensor.each_block(put).map_err(failed)?;
            let (name, grid, hash) = (name.clone(), grid.clone(), hash.0);
            let notes = serde_json::to_string(notes).expect("invariant: notes are plain data");
            list.push(Entry { name, shape: [n, k], grid, notes, start: end, hash });
            end += (n * coding.row_bytes()) as u64;
        }
        close(&list, out).map_err(failed)
    })
}

/// Writes the end of a file: what is in it.
pub(super) fn close(list: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let list = postcard::to_stdvec(list).expect("invariant: the list is plain data");
    let mut hash = Fnv::default();
    hash.add(&list);
    let (hash, len) = (hash.0.to_le_bytes(), (list.len() as u64).to_le_bytes());
    out.write_all(&[&list[..], &hash, &len, MAGIC].concat())
}

impl Unit {
    /// A finished one and its layers; none if it is cut or damaged.
    pub(in super::super) fn open(path: &Path) -> Result<Option<(Unit, Vec<Entry>)>, Error> {
        let unreadable =
            |source| Error::ReadUnfinished { path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let Some((list, end)): Option<(Vec<Entry>, u64)> = list(&mut file).map_err(unreadable)?
        else {
            return Ok(None);
        };
        let within = |entry: &Entry| {
            let row = Coding::of(Some(&entry.grid), entry.shape[1]).row_bytes() as u64;
            let bytes = (entry.shape[0] as u64).checked_mul(row);
            bytes.and_then(|bytes| bytes.checked_add(entry.start)).is_some_and(|last| last <= end)
        };
        let unit = Unit { path: path.to_owned(), file: Arc::new(Lock::new(file)) };
        let sound = list.iter().all(|entry| within(entry) && unit.each_part(entry, |_, _, _| ()));
        Ok(sound.then_some((unit, list)))
    }

    /// The values of a layer; none if they are not what was written.
    pub(in super::super) fn load(&self, entry: &Entry) -> Option<Tensor> {
        let coding = Coding::of(Some(&entry.grid), entry.shape[1]);
        let mut sound = false;
        let tensor = Tensor::written(entry.shape, |out| {
            let mut rest = out;
            sound = self.each_part(entry, |first, rows, bytes| {
                let (part, more) = std::mem::take(&mut rest).split_at_mut(rows * entry.shape[1]);
                coding.reals(first, bytes, part);
                rest = more;
            });
        });
        sound.then_some(tensor)
    }

    /// Shows the stored rows of a layer, some at a time: the first, how many, their bytes. False if
    /// they are not what was written.
    fn each_part(&self, entry: &Entry, mut see: impl FnMut(usize, usize, &[u8])) -> bool {
        let row = Coding::of(Some(&entry.grid), entry.shape[1]).row_bytes();
        let (mut file, mut hash) = (self.file.hold(), Fnv::default());
        let mut whole = file.seek(SeekFrom::Start(entry.start)).is_ok();
        let part = PART_BYTES.div_ceil(row.max(1));
        let mut bytes = vec![0; part * row];
        for first in (0..entry.shape[0]).step_by(part) {
            let rows = part.min(entry.shape[0] - first);
            let bytes = &mut bytes[..rows * row];
            whole = whole && file.read_exact(bytes).is_ok();
            hash.add(bytes);
            see(first, rows, bytes);
        }
        whole && hash.0 == entry.hash
    }

    /// The values of a layer, read when asked for.
    pub(in super::super) fn made(&self, entry: &Entry, trouble: &Trouble) -> Tensor {
        let coding = Coding::of(Some(&entry.grid), entry.shape[1]);
        let (file, start, path) = (Arc::clone(&self.file), entry.start, self.path.clone());
        Tensor::made(
            entry.shape,
            StoredCodes { file, start, coding, path, trouble: trouble.clone() },
        )
    }
}

/// What [`close`] said of a file, and how many bytes are before that; none if it was cut.
pub(in super::super) fn list<T: DeserializeOwned>(file: &mut File) -> io::Result<Option<(T, u64)>> {
    let len = file.metadata()?.len();
    let Some(tail) = len.checked_sub(24) else { return Ok(None) };
    let mut words = [0; 24];
    file.seek(SeekFrom::Start(tail))?;
    file.read_exact(&mut words)?;
    let word = |i: usize| words[8 * i..][..8].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    let (hash, bytes) = (word(0), word(1));
    let Some(end) = tail.checked_sub(bytes) else { return Ok(None) };
    if &words[16..] != MAGIC || bytes > LIST_MAX {
        return Ok(None);
    }
    let mut list = vec![0; bytes as usize];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut list)?;
    let mut found = Fnv::default();
    found.add(&list);
    let list = postcard::from_bytes(&list).ok().filter(|_| found.0 == hash);
    Ok(list.map(|list| (list, end)))
}

#[cfg(test)]
mod tests;
