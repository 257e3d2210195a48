//! Random numbers that look like trained weights: bell-shaped, with a few input channels an order
//! of magnitude above the rest, as trained transformers have them (Dettmers et al., 2022).

use crate::tensor::Random;
use half::bf16;
use rayon::prelude::*;

/// Standard deviation of ordinary weights: what such networks are initialized with.
const DEVIATION: f32 = 0.02;
/// One channel in so many stands out.
const RARITY: u64 = 256;
/// By how much at most.
const OUTLIER: f32 = 12.0;
/// Numbers that one task draws.
const TASK: usize = 1 << 16;

/// Fills `out`, the numbers from `start` on of a tensor called `name` with rows of `width`.
pub(super) fn fill(name: &str, shape: &[usize], start: usize, seed: u64, out: &mut [bf16]) {
    let key = hash(name.bytes().fold(seed, |key, byte| hash(key ^ u64::from(byte))));
    let width = if shape.len() > 1 { shape[1..].iter().product() } else { 1 };
    let gain = shape.len() == 1 && name.ends_with("weight");
    out.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
        let first = start + task * TASK;
        for (i, x) in out.iter_mut().enumerate() {
            let at = (first + i) as u64;
            let bell = DEVIATION * normal(hash(key ^ at));
            let channel = if width > 1 { at % width as u64 } else { at };
            let stands_out = factor(hash(key.rotate_left(32) ^ channel));
            *x = bf16::from_f32(if gain { 1.0 + stands_out * bell } else { stands_out * bell });
        }
    });
}

/// 1 for most channels, up to [`OUTLIER`] for one in [`RARITY`].
fn factor(bits: u64) -> f32 {
    match bits % RARITY {
        0 => 2.0 + (OUTLIER - 2.0) * ((bits >> 32) as f32 / u32::MAX as f32),
        _ => 1.0,
    }
}

/// About normal: the sum of four 16-bit uniforms, centred and scaled to variance 1.
fn normal(bits: u64) -> f32 {
    let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
    // Each has variance 65536²/12.
    (sum as f32 - 131_070.0) / 37_837.2
}

/// Bits that have nothing to do with those of x's neighbours.
fn hash(x: u64) -> u64 {
    Random(x).next()
}

#[cfg(test)]
mod tests;
