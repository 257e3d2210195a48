//! Numbers that tell one job's input from another's.

use crate::checkpoint::{Checkpoint, Result};
use crate::dataset::Sample;
use crate::tensor::each;
use std::convert::Infallible;
use std::ops::Range;

/// Bytes of a page, and pages of a tensor that count: whole weights would be read for nothing.
const PAGE: usize = 4096;
const PAGES: usize = 16;

/// FNV-1a, 64 bits: tells a file that was changed or mixed up, not one that was forged.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Goes on with `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The same with the length before, so that neighbours cannot trade bytes.
    fn add_part(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }
}

/// Of names, dtypes, shapes and pages of every tensor, and of the configuration.
///
/// # Errors
/// A tensor that cannot be read.
pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<u64> {
    let names: Vec<&str> = checkpoint.tensor_names().collect();
    let parts = each(names, |name| of_tensor(checkpoint, name))?;
    let mut hash = Fnv::default();
    hash.add_part(&checkpoint.files().read("config.json", 16 << 20)?);
    parts.iter().for_each(|part| hash.add(&part.to_le_bytes()));
    Ok(hash.0)
}

fn of_tensor(checkpoint: &Checkpoint, name: &str) -> Result<u64> {
    let (bytes, dtype) = checkpoint.raw(name)?;
    let shape = checkpoint.info(name).map(|info| info.shape.clone());
    let mut hash = Fnv::default();
    hash.add_part(name.as_bytes());
    hash.add_part(format!("{dtype:?} {shape:?}").as_bytes());
    for part in parts(bytes.len()) {
        hash.add_part(&checkpoint.part(name, part)?);
    }
    Ok(hash.0)
}

/// What counts of a tensor of `len` bytes: all of a short one, else pages spread evenly from its first
/// byte to its last. Training changes all of a tensor; a run of it that was lost is seen if it is longer
/// than what lies between two pages.
pub(super) fn parts(len: usize) -> Vec<Range<usize>> {
    if len <= PAGE * PAGES {
        return std::iter::once(0..len).collect();
    }
    let start = |i| (len - PAGE) * i / (PAGES - 1);
    (0..PAGES).map(|i| start(i)..start(i) + PAGE).collect()
}

/// Of all that a model reads of samples, in their order.
pub fn of_samples(samples: &[Sample]) -> u64 {
    let one = |sample: &Sample| {
        let mut hash = Fnv::default();
        let ids: Vec<u8> = sample.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        hash.add_part(&ids);
        hash.add_part(format!("{:?} {:?}", sample.grids, sample.video_grids).as_bytes());
        for x in sample.pixel_values.iter().flat_map(|pixels| pixels.data()) {
            hash.add(&x.to_le_bytes());
        }
        Ok(hash.0)
    };
    let Ok(parts) = each::<_, _, Infallible>(samples, one);
    let mut hash = Fnv::default();
    parts.iter().for_each(|part| hash.add(&part.to_le_bytes()));
    hash.0
}
