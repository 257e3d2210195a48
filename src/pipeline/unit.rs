//! Rounded layers as a file: what is durable together.
//!
//! | bytes | what |
//! |---|---|
//! | … | rows of all layers, one after the other (`codes.rs`) |
//! | … | the list of them, postcard: name, shape, grid, where, hash |
//! | 8 | FNV-1a of the list |
//! | 8 | length of the list |
//! | 8 | `ENCCODE1` |
//!
//! The end is written last, so a file that was cut says so.

use super::Error;
use super::codes::{Coding, StoredCodes};
use super::floats::Trouble;
use super::save::{Fnv, save_with};
use crate::quant::QuantParams;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: &[u8; 8] = b"ENCCODE1";
/// The longest list believed, in bytes.
const LIST_MAX: u64 = 1 << 30;
/// Bytes of rows that are read at a time.
const ROWS_BYTES: usize = 1 << 18;

/// A layer in a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Of the weight.
    pub(super) name: String,
    pub(super) shape: [usize; 2],
    pub(super) grid: QuantParams,
    start: u64,
    /// Of its rows as stored.
    hash: u64,
}

/// A rounded matrix: name of the weight, values, and the grid they are on.
pub(super) type Layer = (String, Tensor, QuantParams);

/// A file of rounded layers.
#[derive(Clone)]
pub(super) struct Unit {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

/// Writes matrices to `path`, all of them or nothing.
pub(super) fn write(layers: &[Layer], path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    save_with(path, |out| {
        let (mut list, mut end) = (Vec::new(), 0);
        for (name, tensor, grid) in layers {
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
            list.push(Entry { name, shape: [n, k], grid, start: end, hash });
            end += (n * coding.row_bytes()) as u64;
        }
        let list = postcard::to_stdvec(&list).expect("invariant: grids are plain data");
        let mut hash = Fnv::default();
        hash.add(&list);
        let (hash, len) = (hash.0.to_le_bytes(), (list.len() as u64).to_le_bytes());
        out.write_all(&[&list[..], &hash, &len, MAGIC].concat()).map_err(failed)
    })
}

impl Unit {
    /// A finished one and its layers; none if it is cut or damaged.
    pub(super) fn open(path: &Path) -> Result<Option<(Unit, Vec<Entry>)>, Error> {
        let unreadable =
            |source| Error::ReadUnfinished { path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let Some((list, end)) = list(&mut file).map_err(unreadable)? else { return Ok(None) };
        let within = |entry: &Entry| {
            let row = Coding::of(Some(&entry.grid), entry.shape[1]).row_bytes() as u64;
            let bytes = (entry.shape[0] as u64).checked_mul(row);
            bytes.and_then(|bytes| bytes.checked_add(entry.start)).is_some_and(|last| last <= end)
        };
        let unit = Unit { path: path.to_owned(), file: Arc::new(Mutex::new(file)) };
        Ok(list.iter().all(within).then_some((unit, list)))
    }

    /// The values of a layer; none if they are not what was written.
    pub(super) fn load(&self, entry: &Entry) -> Option<Tensor> {
        let [n, k] = entry.shape;
        let coding = Coding::of(Some(&entry.grid), k);
        let mut file = self.lock();
        file.seek(SeekFrom::Start(entry.start)).ok()?;
        let (mut hash, mut whole) = (Fnv::default(), true);
        let tensor = Tensor::written([n, k], |out| {
            let rows = ROWS_BYTES.div_ceil(coding.row_bytes().max(1));
            for (i, out) in out.chunks_mut((rows * k).max(1)).enumerate() {
                let mut bytes = vec![0; out.len() / k * coding.row_bytes()];
                whole = whole && file.read_exact(&mut bytes).is_ok();
                hash.add(&bytes);
                coding.reals(i * rows, &bytes, out);
            }
        });
        (whole && hash.0 == entry.hash).then_some(tensor)
    }

    /// The values of a layer, read when asked for.
    pub(super) fn made(&self, entry: &Entry, trouble: &Trouble) -> Tensor {
        let coding = Coding::of(Some(&entry.grid), entry.shape[1]);
        let (file, start, path) = (Arc::clone(&self.file), entry.start, self.path.clone());
        Tensor::made(
            entry.shape,
            StoredCodes { file, start, coding, path, trouble: trouble.clone() },
        )
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layers of a file, and how long their rows are together.
fn list(file: &mut File) -> io::Result<Option<(Vec<Entry>, u64)>> {
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
