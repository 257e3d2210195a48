//! Sharded safetensors: `model-0000i-of-0000n.safetensors` and their index.

use super::values;
use half::bf16;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes of tensors in a file: less than the format allows, so that there are several.
const SHARD: u64 = 2 << 30;
/// Numbers drawn at a time: what is in memory.
const PIECE: usize = 4 << 20;

/// The files of a checkpoint.
pub(super) struct Shards {
    pub(super) all: Vec<Shard>,
}

/// The tensors of one file: name and shape.
#[derive(Default)]
pub(super) struct Shard {
    tensors: Vec<(String, Vec<usize>)>,
}

impl Shards {
    /// Deals tensors to files, in order.
    pub(super) fn plan(tensors: &[(String, Vec<usize>)]) -> Shards {
        let mut all: Vec<Shard> = Vec::new();
        for tensor in tensors {
            let full = |shard: &Shard| shard.bytes() + bytes(&tensor.1) > SHARD;
            if all.last().is_none_or(full) {
                all.push(Shard::default());
            }
            all.last_mut().expect("invariant: one was just added").tensors.push(tensor.clone());
        }
        Shards { all }
    }

    /// Name of the i-th file.
    pub(super) fn name(&self, i: usize) -> String {
        format!("model-{:05}-of-{:05}.safetensors", i + 1, self.all.len())
    }

    /// Bytes of all tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.all.iter().map(Shard::bytes).sum()
    }

    /// How often [`Shard::write`] tells that it goes on, over all files.
    pub(super) fn pieces(&self) -> usize {
        let tensors = self.all.iter().flat_map(|shard| &shard.tensors);
        tensors.map(|(_, shape)| shape.iter().product::<usize>().div_ceil(PIECE)).sum()
    }

    /// `model.safetensors.index.json`.
    pub(super) fn index(&self) -> Value {
        let mut map = BTreeMap::new();
        for (i, shard) in self.all.iter().enumerate() {
            map.extend(shard.tensors.iter().map(|(name, _)| (name, self.name(i))));
        }
        json!({"metadata": {"total_size": self.bytes()}, "weight_map": map})
    }
}

impl Shard {
    fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, shape)| bytes(shape)).sum()
    }

    /// Writes the file, drawing its numbers on the way, as long as `step` says to go on; whether it is
    /// whole.
    pub(super) fn write(
        &self,
        path: &Path,
        seed: u64,
        step: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        let mut out = BufWriter::new(File::create(path)?);
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut at = 0;
        for (name, shape) in &self.tensors {
            let end = at + bytes(shape);
            let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]});
            header.insert(name.clone(), entry);
            at = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut piece = vec![bf16::ZERO; PIECE];
        let mut raw = Vec::with_capacity(2 * PIECE);
        for (name, shape) in &self.tensors {
            let count: usize = shape.iter().product();
            for start in (0..count).step_by(PIECE) {
                let piece = &mut piece[..PIECE.min(count - start)];
                values::fill(name, shape, start, seed, piece);
                raw.clear();
                raw.extend(piece.iter().flat_map(|x| x.to_le_bytes()));
                out.write_all(&raw)?;
                if !step() {
                    return Ok(false);
                }
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(true)
    }
}

fn bytes(shape: &[usize]) -> u64 {
    2 * shape.iter().product::<usize>() as u64
}
