//! Second moments of a linear layer's inputs: all that the weight algorithms know of the data.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | X̂ | `seen` | inputs as the quantized network sees them, one row a token |
//! | X | `wanted` | inputs of the float network |
//! | H | [`Moments::hessian`] | X̂ᵀX̂, half the Hessian of ‖(W − Ŵ)X̂ᵀ‖² |
//! | C | [`Moments::gap`] | (X − X̂)ᵀX̂ |
//! | D | [`Moments::drift`] | (R − R̂)ᵀX̂, R and R̂ being what the layer's output is added to |
//!
//! Products are summed in f32 over [`BLOCK`] tokens at most, those sums in f64: what f32 loses on so
//! few is far below any damping, and most of the time of a rounding goes into these products.

use super::AlgoError;
use super::factor::{self, Factor};
use crate::tensor::{Outer, Par};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::OnceLock;

/// Columns of H that one task makes: whole tiles of registers.
const TILE: usize = 96;
/// Tokens of a sample whose products are summed in f32.
const BLOCK: usize = 256;
/// Numbers that are packed before the tiles take them.
const PACKED: usize = 1 << 21;
/// Blocks at least that add to a tile one after the other while its sums are in the cache.
const TOGETHER: usize = 4;

/// Sums over tokens; samples are added in their order.
#[derive(Clone, Debug)]
pub struct Moments {
    width: usize,
    tokens: u64,
    hessian: Vec<f64>,
    gap: Option<Vec<f64>>,
    drift: Option<Vec<f64>>,
    /// Which tiles are added up here, and out of how many parts.
    part: [usize; 2],
    /// Of the first order and damping asked for: layers that share inputs share it.
    factor: OnceLock<((bool, f64), Result<Factor, AlgoError>)>,
}

impl Moments {
    /// Of no token yet. `two_streams` also sums the products with what the float network's inputs are
    /// off.
    pub fn new(width: usize, two_streams: bool) -> Moments {
        Moments::part(width, two_streams, [0, 1])
    }

    /// The same of which this process adds up one part of several: every so many-th tile.
    pub(super) fn part(width: usize, two_streams: bool, part: [usize; 2]) -> Moments {
        let square = width * width;
        let gap = two_streams.then(|| vec![0.0; square]);
        let hessian = vec![0.0; square];
        Moments { width, tokens: 0, hessian, gap, drift: None, part, factor: OnceLock::new() }
    }

    /// Adds samples in their order, each what the layer sees, rows of `width`, and what was wanted,
    /// which counts with two streams only.
    ///
    /// # Panics
    /// If the two streams have different numbers of tokens: a mistake of ours.
    pub fn add_all(&mut self, samples: &[(&[f32], &[f32])]) {
        self.add_weighed(samples, &vec![None; samples.len()]);
    }

    /// The same where a row counts as the square of its root in `roots`, by sample; once where there
    /// are none.
    ///
    /// # Panics
    /// As [`Moments::add_all`].
    pub fn add_weighed(&mut self, samples: &[(&[f32], &[f32])], roots: &[Roots]) {
        let k = self.width;
        for (seen, wanted) in samples {
            assert_eq!(seen.len(), wanted.len(), "two streams of one sample have the same tokens");
            self.tokens += (seen.len() / k.max(1)) as u64;
        }
        let counted: Vec<Cow<'_, [f32]>> = samples
            .par_iter()
            .zip(roots)
            .map(|((seen, _), roots)| weighed(seen, k, roots))
            .collect();
        let seen: Vec<[&[f32]; 2]> = counted.iter().map(|seen| [&seen[..]; 2]).collect();
        accumulate(&mut self.hessian, &seen, [k; 2], (self.part, true));
        if let Some(gap) = &mut self.gap {
            let off = |((seen, wanted), roots): (&(&[f32], &[f32]), &Roots)| {
                weighed(&difference(wanted, seen), k, roots).into_owned()
            };
            let off: Vec<Vec<f32>> = samples.par_iter().zip(roots).map(off).collect();
            let pairs: Vec<[&[f32]; 2]> =
                off.iter().zip(&counted).map(|(off, seen)| [&off[..], &seen[..]]).collect();
            accumulate(gap, &pairs, [k; 2], (self.part, false));
        }
        if self.part[1] == 1 {
            mirror(&mut self.hessian, k);
        }
        self.factor = OnceLock::new();
    }

    /// Adds what is missing from the stream that the layer's output is added to: of each sample what
    /// the layer sees `[tokens, width]`, and the stream in the float and in the quantized network
    /// `[tokens, out]`; rows count as in [`Moments::add_weighed`].
    ///
    /// # Panics
    /// If the streams have different numbers of tokens: a mistake of ours.
    pub fn add_drift(&mut self, samples: &[[&[f32]; 3]], out: usize, roots: &[Roots]) {
        let k = self.width;
        let mut drift = self.drift.take().unwrap_or_else(|| vec![0.0; out * k]);
        let missing = samples.par_iter().zip(roots).map(|(&[seen, float, quantized], roots)| {
            let tokens = seen.len() / k.max(1);
            assert_eq!([float.len(), quantized.len()], [tokens * out; 2], "streams share tokens");
            let off = weighed(&difference(float, quantized), out, roots).into_owned();
            (off, weighed(seen, k, roots))
        });
        let missing: Vec<(Vec<f32>, Cow<'_, [f32]>)> = missing.collect();
        let pairs: Vec<[&[f32]; 2]> =
            missing.iter().map(|(off, seen)| [&off[..], &seen[..]]).collect();
        accumulate(&mut drift, &pairs, [out, k], (self.part, false));
        self.drift = Some(drift);
    }

    /// Whether no input was ever anything but zero.
    pub fn is_silent(&self) -> bool {
        self.hessian.iter().step_by(self.width + 1).all(|energy| *energy == 0.0)
    }

    /// The tiles that were added up here, as bytes.
    pub(super) fn tiles(&self) -> Vec<u8> {
        let size = (TILE * self.width).max(1);
        let [rank, of] = self.part;
        let sums = [Some(&self.hessian), self.gap.as_ref(), self.drift.as_ref()];
        let tiles = sums.into_iter().flatten().flat_map(|sum| {
            sum.chunks(size).enumerate().filter(move |(i, _)| i % of == rank).map(|(_, tile)| tile)
        });
        tiles.flatten().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Takes the tiles of a part, as [`Moments::tiles`] gave them; none if they are of other sums.
    /// With the last of all parts the moments are whole.
    pub(super) fn put(&mut self, bytes: &[u8], [rank, of]: [usize; 2]) -> Option<()> {
        let size = (TILE * self.width).max(1);
        let (words, rest) = bytes.as_chunks::<8>();
        let mut words = words.iter();
        let sums = [Some(&mut self.hessian), self.gap.as_mut(), self.drift.as_mut()];
        for sum in sums.into_iter().flatten() {
            let tiles = sum.chunks_mut(size).enumerate().filter(|(i, _)| i % of == rank);
            for x in tiles.flat_map(|(_, tile)| tile) {
                *x = f64::from_le_bytes(*words.next()?);
            }
        }
        if rank + 1 == of {
            mirror(&mut self.hessian, self.width);
            self.part = [0, 1];
        }
        (words.next().is_none() && rest.is_empty()).then_some(())
    }

    /// H + λI factored, λ being `damp` of the mean diagonal; inputs of great energy first if asked.
    pub(super) fn factor(&self, by_energy: bool, damp: f64) -> Result<Cow<'_, Factor>, AlgoError> {
        let key = (by_energy, damp);
        let make = || {
            let order = match by_energy {
                true => factor::by_energy(&self.hessian),
                false => (0..self.width).collect(),
            };
            Factor::of(&self.hessian, order, damp)
        };
        match self.factor.get_or_init(|| (key, make())) {
            (of, factor) if *of == key => factor.as_ref().map(Cow::Borrowed).map_err(Clone::clone),
            _ => make().map(Cow::Owned),
        }
    }

    /// The damping that was asked for first and the one that was needed, if it is greater: shares of
    /// the mean diagonal.
    pub fn raised_damping(&self) -> Option<[f64; 2]> {
        match self.factor.get() {
            Some(((_, asked), Ok(factor))) if factor.damp > *asked => Some([*asked, factor.damp]),
            _ => None,
        }
    }

    /// Number of inputs.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokens seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// H `[width, width]`, row-major, symmetric.
    pub fn hessian(&self) -> &[f64] {
        &self.hessian
    }

    /// C `[width, width]`, row-major: what the float network's inputs are off, by seen. None with one
    /// stream.
    pub fn gap(&self) -> Option<&[f64]> {
        self.gap.as_deref()
    }

    /// D `[out, width]`, row-major. None where the layer's output is added to no stream.
    pub fn drift(&self) -> Option<&[f64]> {
        self.drift.as_deref()
    }
}

/// Square roots of what the rows of a sample count; none if each counts once.
pub type Roots = Option<Vec<f64>>;

/// Rows of `width`, each times its root.
fn weighed<'x>(x: &'x [f32], width: usize, roots: &Roots) -> Cow<'x, [f32]> {
    let Some(roots) = roots else { return Cow::Borrowed(x) };
    let mut x = x.to_vec();
    for (row, root) in x.chunks_exact_mut(width.max(1)).zip(roots) {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * root) as f32);
    }
    Cow::Owned(x)
}

/// out `[n, k]` += Σ aᵀ b over the pairs in their order, a `[tokens, n]`, b `[tokens, k]`; only the
/// tiles on and right of the diagonal if `upper`, and of those the ones of a part.
fn accumulate(
    out: &mut [f64],
    pairs: &[[&[f32]; 2]],
    [n, k]: [usize; 2],
    ([rank, of], upper): ([usize; 2], bool),
) {
    if k == 0 {
        return;
    }
    let blocks = pairs.iter().flat_map(|[a, b]| a.chunks(BLOCK * n).zip(b.chunks(BLOCK * k)));
    let blocks: Vec<[&[f32]; 2]> = blocks.map(|(a, b)| [a, b]).collect();
    // Large ones come a few at a time, small ones many: all tiles wait for them.
    for blocks in blocks.chunks((PACKED / (BLOCK * k)).max(TOGETHER)) {
        let blocks: Vec<Outer<'_>> =
            blocks.par_iter().map(|&block| Outer::new(block, [n, k], Par::All)).collect();
        let tiles = out.par_chunks_mut(TILE * k).enumerate();
        tiles.filter(|(i, _)| i % of == rank).for_each(|(i, out)| {
            let from = if upper { i * TILE } else { 0 };
            Outer::add_all(&blocks, out, i * TILE, from);
        });
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Copies what is right of the diagonal to its left, tile by tile: both sides stay in cache.
fn mirror(square: &mut [f64], k: usize) {
    for top in (0..k).step_by(TILE) {
        for left in (0..=top).step_by(TILE) {
            for i in top..(top + TILE).min(k) {
                for j in left..(left + TILE).min(i) {
                    square[i * k + j] = square[j * k + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
