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
mod tests {
    use super::*;

    fn drawn(shape: &[usize]) -> Vec<f32> {
        let mut out = vec![bf16::ZERO; shape.iter().product()];
        fill("a.weight", shape, 0, 7, &mut out);
        out.iter().map(|x| x.to_f32()).collect()
    }

    #[test]
    fn ordinary_weights_have_the_deviation_of_initialized_ones() {
        let (rows, width) = (64, 4096);
        let all = drawn(&[rows, width]);
        let mut squares: Vec<f32> = (0..width)
            .map(|c| (0..rows).map(|r| all[r * width + c].powi(2)).sum::<f32>() / rows as f32)
            .collect();
        squares.sort_by(f32::total_cmp);
        let median = squares[width / 2].sqrt();
        assert!((median / DEVIATION - 1.0).abs() < 0.1, "{median}");
        let loud = squares.iter().filter(|s| s.sqrt() > 1.9 * DEVIATION).count();
        assert!((4..=40).contains(&loud), "one channel in {RARITY} stands out, found {loud}");
    }

    #[test]
    fn gains_are_about_one() {
        let mean = drawn(&[4096]).iter().sum::<f32>() / 4096.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn a_part_equals_the_same_part_of_the_whole() {
        let whole = drawn(&[3, 70_000]);
        let mut part = vec![bf16::ZERO; 1000];
        fill("a.weight", &[3, 70_000], 99_500, 7, &mut part);
        assert!(part.iter().zip(&whole[99_500..]).all(|(a, b)| a.to_f32() == *b));
    }
}
