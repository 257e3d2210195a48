//! The header of one safetensors file, checked against the size of that file.

use super::super::error::{Error, ErrorKind, Result, quoted};
use super::dtype::Dtype;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// The longest header believed, in bytes; the format's own limit. A tensor takes about a hundred
/// bytes of it, so this is room for a million tensors.
const HEADER_MAX: usize = 100_000_000;
/// The most axes believed; real weights have at most five.
const RANK_MAX: usize = 64;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Bytes of the file.
    pub(super) range: Range<usize>,
}

/// Reads the header of `bytes`, a whole file that errors call `file`.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Entry>> {
    let malformed = |expected: String, found: String| {
        Err(Error::new(ErrorKind::Malformed, file, expected, found))
    };
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        let expected = "a safetensors file of at least 8 bytes".to_owned();
        return malformed(expected, format!("{} bytes", bytes.len()));
    };
    let length = u64::from_le_bytes(*prefix);
    let limit = rest.len().min(HEADER_MAX);
    let header = match usize::try_from(length).ok().filter(|&len| len <= limit) {
        Some(len) => &rest[..len],
        None => return malformed(format!("a header of at most {limit} bytes"), length.to_string()),
    };
    let payload = &rest[header.len()..];
    let raw: UniqueMap<RawEntry> = serde_json::from_slice(header).map_err(|source| {
        let expected = "a JSON header of tensors";
        Error::new(ErrorKind::Malformed, file, expected, "another text").caused_by(source)
    })?;
    if let Some(name) = raw.duplicate {
        let error = Error::new(ErrorKind::Duplicate, file, "each tensor once", "it twice");
        return Err(error.tensor(name));
    }
    let base = bytes.len() - payload.len();
    let mut entries = raw
        .entries
        .into_iter()
        .filter_map(|(name, entry)| match entry {
            RawEntry::Metadata => None,
            RawEntry::Tensor(raw) => Some(entry_of(file, name, raw, base, payload.len())),
        })
        .collect::<Result<Vec<Entry>>>()?;
    entries.sort_by(|a, b| (a.range.start, a.range.end).cmp(&(b.range.start, b.range.end)));
    check_tiling(file, &entries, base, bytes.len())?;
    Ok(entries)
}

/// The ranges, sorted, must tile the bytes behind the header.
fn check_tiling(file: &str, entries: &[Entry], base: usize, end: usize) -> Result<()> {
    let mut at = base;
    for entry in entries {
        if entry.range.start != at {
            let expected = format!("bytes from {}, where the one before ends", at - base);
            let found = format!("bytes from {}", entry.range.start - base);
            let error = Error::new(ErrorKind::Malformed, file, expected, found);
            return Err(error.tensor(&entry.name));
        }
        at = entry.range.end;
    }
    if at != end {
        let expected = format!("{} bytes of tensors as the header says", at - base);
        let found = format!("{}", end - base);
        return Err(Error::new(ErrorKind::Malformed, file, expected, found));
    }
    Ok(())
}

fn entry_of(
    file: &str,
    name: String,
    raw: RawTensor,
    base: usize,
    payload: usize,
) -> Result<Entry> {
    let wrong = |kind, expected: String, found: String| {
        Err(Error::new(kind, file, expected, found).tensor(&name))
    };
    let Some(dtype) = Dtype::named(&raw.dtype) else {
        let expected = "a dtype of the format".to_owned();
        return wrong(ErrorKind::Unsupported, expected, quoted(&raw.dtype));
    };
    let sizes: Option<Vec<usize>> =
        raw.shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let Some(shape) = sizes.filter(|shape| shape.len() <= RANK_MAX) else {
        let expected = format!("a shape of at most {RANK_MAX} axes");
        return wrong(ErrorKind::OutOfRange, expected, format!("{} axes", raw.shape.len()));
    };
    let [start, end] = raw.data_offsets.map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    if start > end || end > payload {
        let expected = format!("a byte range inside the file's {payload}");
        return wrong(ErrorKind::Malformed, expected, format!("{start}..{end}"));
    }
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let bits = elements.and_then(|elements| elements.checked_mul(dtype.bits()));
    match bits {
        Some(bits) if bits.is_multiple_of(8) && bits / 8 == end - start => {
            Ok(Entry { name, dtype, shape, range: base + start..base + end })
        }
        _ => {
            let found = format!("{} bytes", end - start);
            wrong(ErrorKind::Malformed, format!("the bytes of {dtype} {shape:?}"), found)
        }
    }
}

struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

enum RawEntry {
    Metadata,
    Tensor(RawTensor),
}

/// A JSON object whose keys must differ; remembers the first that does not.
pub(super) struct UniqueMap<V> {
    pub(super) entries: Vec<(String, V)>,
    pub(super) duplicate: Option<String>,
}

/// How the value under a key is read; the key decides because `__metadata__` is no tensor.
pub(super) trait KeyedValue: Sized {
    fn read<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error>;
}

impl KeyedValue for String {
    fn read<'de, A: MapAccess<'de>>(
        _key: &str,
        map: &mut A,
    ) -> std::result::Result<String, A::Error> {
        map.next_value()
    }
}

impl KeyedValue for RawEntry {
    fn read<'de, A: MapAccess<'de>>(
        key: &str,
        map: &mut A,
    ) -> std::result::Result<RawEntry, A::Error> {
        #[derive(serde::Deserialize)]
        struct Tensor {
            dtype: String,
            shape: Vec<u64>,
            data_offsets: [u64; 2],
        }
        if key == "__metadata__" {
            map.next_value::<IgnoredAny>()?;
            return Ok(RawEntry::Metadata);
        }
        let Tensor { dtype, shape, data_offsets } = map.next_value()?;
        Ok(RawEntry::Tensor(RawTensor { dtype, shape, data_offsets }))
    }
}

impl<'de, V: KeyedValue> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);
        impl<'de, V: KeyedValue> Visitor<'de> for Keys<V> {
            type Value = UniqueMap<V>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<UniqueMap<V>, A::Error> {
                let mut entries = Vec::new();
                let mut seen = std::collections::HashSet::new();
                let mut duplicate = None;
                while let Some(key) = map.next_key::<String>()? {
                    let value = V::read(&key, &mut map)?;
                    if !seen.insert(key.clone()) && duplicate.is_none() {
                        duplicate = Some(key.clone());
                    }
                    entries.push((key, value));
                }
                Ok(UniqueMap { entries, duplicate })
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}
