//! Which files hold the tensors: one `model.safetensors`, or the shards that an index names.

use super::super::error::{Error, ErrorKind, Result, quoted};
use super::super::files::{Files, unmarked};
use super::super::instead::instead;
use super::header::{KeyedValue, UniqueMap};
use serde::de::MapAccess;
use std::collections::BTreeMap;

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The longest index believed, in bytes: as long as the longest header.
const INDEX_MAX: u64 = 100_000_000;

/// The longest name of a file, in bytes, that file systems take.
const NAME_MAX: usize = 255;

/// The weight files of a checkpoint.
pub(super) enum Weights {
    Single,
    /// Shard → the tensors that the index places there.
    Shards(BTreeMap<String, Vec<String>>),
}

/// Finds the weights; a single file wins over an index, as it does in transformers.
pub(super) fn find(files: &Files) -> Result<Weights> {
    if files.contains(SINGLE)? {
        return Ok(Weights::Single);
    }
    if files.contains(INDEX)? {
        return read_index(files).map(Weights::Shards);
    }
    let found = instead(files, "neither")?;
    Err(Error::new(ErrorKind::Missing, files.describe(SINGLE), format!("it or {INDEX}"), found))
}

struct Field(Option<UniqueMap<String>>);

impl KeyedValue for Field {
    fn read<'de, A: MapAccess<'de>>(
        key: &str,
        map: &mut A,
    ) -> std::result::Result<Field, A::Error> {
        if key == "weight_map" {
            return map.next_value().map(|weights| Field(Some(weights)));
        }
        map.next_value::<serde::de::IgnoredAny>()?;
        Ok(Field(None))
    }
}

fn read_index(files: &Files) -> Result<BTreeMap<String, Vec<String>>> {
    let file = files.describe(INDEX);
    let bytes = files.read(INDEX, INDEX_MAX)?;
    let root: UniqueMap<Field> = serde_json::from_slice(unmarked(&bytes)).map_err(|source| {
        let expected = "JSON with a weight_map of tensors to files";
        Error::new(ErrorKind::Malformed, &file, expected, "another text").caused_by(source)
    })?;
    let map = root.entries.into_iter().find_map(|(_, field)| field.0).ok_or_else(|| {
        Error::new(ErrorKind::Missing, &file, "a map of tensors to files", "nothing")
            .field("weight_map")
    })?;
    if let Some(name) = map.duplicate {
        let error = Error::new(ErrorKind::Duplicate, &file, "each tensor once", "it twice");
        return Err(error.tensor(name));
    }
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, shard) in map.entries {
        // an index names files beside it; anything else could reach outside the checkpoint
        let outside = shard.starts_with('.') || shard.contains(['/', '\\']);
        if shard.is_empty() || outside || shard.len() > NAME_MAX || shard.contains(char::is_control)
        {
            let expected = "the name of a file beside the index";
            let error = Error::new(ErrorKind::Malformed, &file, expected, quoted(&shard));
            return Err(error.tensor(name));
        }
        shards.entry(shard).or_default().push(name);
    }
    for shard in shards.keys() {
        if !files.contains(shard)? {
            let expected = format!("this shard, named by {INDEX}");
            return Err(Error::new(ErrorKind::Missing, files.describe(shard), expected, "none"));
        }
    }
    Ok(shards)
}
