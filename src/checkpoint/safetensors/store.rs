//! All tensors of a checkpoint, over one file or many, under canonical names.

use super::super::error::{Error, ErrorKind, Result, quoted};
use super::super::files::{Bytes, Files};
use super::convert::{Convert, TASK, to_f32};
use super::dtype::Dtype;
use super::header::{self, Entry};
use super::index::{self, INDEX, SINGLE, Weights};
use super::names::canonical;
use super::verify::benign;
use crate::tensor::{self, Tensor};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::Range;

/// What is known of a stored tensor without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type as stored.
    pub dtype: Dtype,
    /// Extent of every axis.
    pub shape: Vec<usize>,
}

pub(in super::super) struct Store {
    shards: Vec<Shard>,
    /// Canonical name → tensor; ordered, so that listings are deterministic.
    pub(super) tensors: BTreeMap<String, Located>,
    /// The file that stands for all in errors about all.
    pub(super) file: String,
}

struct Shard {
    file: String,
    bytes: Bytes,
}

pub(super) struct Located {
    shard: usize,
    /// The name in the file.
    pub(super) stored: String,
    pub(super) info: TensorInfo,
    range: Range<usize>,
}

impl Store {
    /// All weights of a checkpoint; `tied` excuses an index that lists a head which no shard has.
    pub(in super::super) fn open(files: &Files, tied: bool) -> Result<Store> {
        match index::find(files)? {
            Weights::Single => {
                let mut store = Store::empty(files.describe(SINGLE));
                store.add(files, SINGLE)?;
                Ok(store)
            }
            Weights::Shards(shards) => {
                let mut store = Store::empty(files.describe(INDEX));
                for (shard, names) in shards {
                    let found = store.add(files, &shard)?;
                    agree(&files.describe(&shard), &names, &found, tied)?;
                }
                Ok(store)
            }
        }
    }

    /// One file, whatever its name: test data.
    #[cfg(test)]
    pub(in super::super) fn open_single(files: &Files, name: &str) -> Result<Store> {
        let mut store = Store::empty(files.describe(name));
        store.add(files, name)?;
        Ok(store)
    }

    /// The tensors of one file of any name.
    pub(in super::super) fn open_one(files: &Files, name: &str) -> Result<Store> {
        let mut store = Store::empty(files.describe(name));
        store.add(files, name)?;
        Ok(store)
    }

    fn empty(file: String) -> Store {
        Store { shards: Vec::new(), tensors: BTreeMap::new(), file }
    }

    /// Adds the tensors of one file; says which names it stores.
    fn add(&mut self, files: &Files, name: &str) -> Result<Vec<String>> {
        let file = files.describe(name);
        let bytes = files.map(name)?;
        let entries = header::parse(&file, bytes.as_slice())?;
        let found = entries.iter().map(|entry| entry.name.clone()).collect();
        let shard = self.shards.len();
        for Entry { name, dtype, shape, range } in entries {
            let key = canonical(&name);
            if let Some(other) = self.tensors.get(&key) {
                let expected = "one tensor of this meaning";
                let found = format!("{} too", quoted(&other.stored));
                return Err(Error::new(ErrorKind::Duplicate, file, expected, found).tensor(name));
            }
            let info = TensorInfo { dtype, shape };
            self.tensors.insert(key, Located { shard, stored: name, info, range });
        }
        self.shards.push(Shard { file, bytes });
        Ok(found)
    }

    pub(in super::super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(in super::super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.find(name).map(|located| &located.info)
    }

    pub(in super::super) fn stored_name(&self, name: &str) -> Option<&str> {
        self.find(name).map(|located| located.stored.as_str())
    }

    /// The tensor that the file, a text model or a multimodal one calls `name`.
    pub(super) fn find(&self, name: &str) -> Option<&Located> {
        self.tensors.get(name).or_else(|| self.tensors.get(&canonical(name)))
    }

    fn locate(&self, name: &str) -> Result<(&Located, &Shard, &[u8])> {
        let missing =
            || Error::new(ErrorKind::Missing, &self.file, "it", "no such tensor").tensor(name);
        let located = self.find(name).ok_or_else(missing)?;
        let shard = self.shards.get(located.shard).ok_or_else(missing)?;
        let bytes = shard.bytes.as_slice().get(located.range.clone()).ok_or_else(missing)?;
        Ok((located, shard, bytes))
    }

    pub(in super::super) fn raw(&self, name: &str) -> Result<(&[u8], Dtype)> {
        let (located, _, bytes) = self.locate(name)?;
        Ok((bytes, located.info.dtype))
    }

    /// A part of the bytes of a tensor, read from the file: one that was cut short since is an error,
    /// where its map would end the program.
    pub(in super::super) fn part(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        let (located, shard, bytes) = self.locate(name)?;
        let end = part.end.min(bytes.len());
        let start = part.start.min(end);
        let mut found = vec![0; end - start];
        let read = shard.bytes.read_exact_at(located.range.start + start, &mut found);
        read.map_err(|source| changed(shard, located, source))?;
        Ok(found)
    }

    pub(in super::super) fn read(&self, name: &str, expected: &[usize]) -> Result<Tensor> {
        self.expect_shape(name, expected)?;
        Tensor::try_written(expected, |out| self.read_into(name, 0, out))
    }

    /// One index of the first axis of a tensor of shape `expected`.
    pub(in super::super) fn read_index(
        &self,
        name: &str,
        expected: &[usize],
        index: usize,
    ) -> Result<Tensor> {
        self.expect_shape(name, expected)?;
        self.read_rows(name, index..index + 1)
    }

    fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        let (located, shard, _) = self.locate(name)?;
        if located.info.shape == expected {
            return Ok(());
        }
        let (expected, found) = (format!("{expected:?}"), format!("{:?}", located.info.shape));
        let error = Error::new(ErrorKind::WrongShape, &shard.file, expected, found);
        Err(error.tensor(&located.stored))
    }

    /// Refuses NaN and infinity in what was read as `name`: no grid holds them.
    pub(in super::super) fn check_finite(&self, name: &str, tensor: &Tensor) -> Result<()> {
        if tensor::all_finite(tensor.data()) {
            return Ok(());
        }
        let at = tensor.data().iter().position(|x| !x.is_finite()).unwrap_or_default();
        let (located, shard, _) = self.locate(name)?;
        let found = format!("{} at element {at}", tensor.data()[at]);
        let error = Error::new(ErrorKind::OutOfRange, &shard.file, "finite numbers", found);
        Err(error.tensor(&located.stored))
    }

    pub(in super::super) fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor> {
        let (located, shard, _) = self.locate(name)?;
        let count = located.info.shape.first().copied().unwrap_or(0);
        let wrong = |kind, expected: String, found: String| {
            Err(Error::new(kind, &shard.file, expected, found).tensor(&located.stored))
        };
        if rows.start > rows.end || rows.end > count {
            return wrong(
                ErrorKind::OutOfRange,
                format!("rows inside its {count}"),
                format!("{rows:?}"),
            );
        }
        let mut shape = located.info.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        Tensor::try_written(shape, |out| self.read_into(name, rows.start, out))
    }

    /// The rows (indices of the first axis) from `first` on, as many as `out` holds.
    pub(in super::super) fn read_into(
        &self,
        name: &str,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let (located, shard, _) = self.locate(name)?;
        let width: usize = located.info.shape.iter().skip(1).product();
        floats(located, shard, first * width, out)
    }
}

/// Elements from `first` on into `out`.
fn floats(located: &Located, shard: &Shard, first: usize, out: &mut [f32]) -> Result<()> {
    let blamed = |kind, expected: &str, found: String| {
        Error::new(kind, &shard.file, expected, found).tensor(&located.stored)
    };
    let dtype = located.info.dtype;
    let Some((size, convert)) = to_f32(dtype) else {
        return Err(blamed(ErrorKind::WrongDtype, "one of F32, F16, BF16", dtype.to_string()));
    };
    let start = located.range.start + first * size;
    if start + out.len() * size > located.range.end {
        let found = format!("elements {first} to {}", first + out.len());
        return Err(blamed(ErrorKind::OutOfRange, "elements inside it", found));
    }
    let piece = |(i, out): (usize, &mut [f32])| {
        let read = numbers(&shard.bytes, start + i * TASK * size, (size, convert), out);
        read.map_err(|source| changed(shard, located, source))
    };
    if out.len() <= TASK {
        return piece((0, out));
    }
    tensor::each(out.chunks_mut(TASK).enumerate(), piece).map(|_: Vec<()>| ())
}

/// Bytes that are read before they become numbers: they stay in the first-level cache.
const STORED: usize = 1 << 14;

/// Numbers of so many bytes from the byte `start` on. Where they are stored as memory has them, they are
/// read to their place.
fn numbers(
    bytes: &Bytes,
    start: usize,
    (size, convert): (usize, Convert),
    out: &mut [f32],
) -> io::Result<()> {
    if size == size_of::<f32>() && cfg!(target_endian = "little") {
        return bytes.read_exact_at(start, bytemuck::cast_slice_mut(out));
    }
    let mut stored = [0; STORED];
    for (i, out) in out.chunks_mut(STORED / size).enumerate() {
        let stored = &mut stored[..out.len() * size];
        bytes.read_exact_at(start + i * STORED, stored)?;
        convert(stored, out);
    }
    Ok(())
}

/// The error of a file that has not what it had when it was opened.
fn changed(shard: &Shard, located: &Located, source: io::Error) -> Error {
    let (expected, found) = ("its bytes, as when it was opened", "a file that changed");
    let error = Error::new(ErrorKind::Unreadable, &shard.file, expected, found);
    error.tensor(&located.stored).caused_by(source)
}

/// The index and a shard must speak of the same tensors, apart from those that nobody reads: of what the
/// index does not name transformers reads nothing.
fn agree(file: &str, indexed: &[String], stored: &[String], tied: bool) -> Result<()> {
    let disagreement = |expected: String, found: &str, name: &str| {
        Err(Error::new(ErrorKind::Inconsistent, file, expected, found).tensor(name))
    };
    if let Some(name) = lacking(indexed, stored, tied) {
        return disagreement(format!("it here, where {INDEX} places it"), "no such tensor", name);
    }
    match lacking(stored, indexed, false) {
        Some(name) => {
            disagreement(format!("only the tensors that {INDEX} places here"), "it too", name)
        }
        None => Ok(()),
    }
}

/// The first of `names` that counts and is not `among` the others.
fn lacking<'a>(names: &'a [String], among: &[String], tied: bool) -> Option<&'a String> {
    let known: HashSet<&String> = among.iter().collect();
    names.iter().find(|name| !known.contains(name) && !benign(&canonical(name), tied))
}
