//! Second moments of a linear layer's inputs: all that the weight algorithms know of the data.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | X̂ | `seen` | inputs as the quantized network sees them, one row a token |
//! | X | `wanted` | inputs of the float network |
//! | H | [`Moments::hessian`] | X̂ᵀX̂, half the Hessian of ‖(W − Ŵ)X̂ᵀ‖² |
//! | G | [`Moments::cross`] | XᵀX̂ |
//! | D | [`Moments::drift`] | (R − R̂)ᵀX̂, R and R̂ being what the layer's output is added to |

use super::AlgoError;
use super::factor::Factor;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::OnceLock;

/// Columns of H that one task makes: fixed, so that sums do not depend on the number of threads.
const TILE: usize = 64;

/// Sums over tokens in f64; samples are added in their order.
#[derive(Clone, Debug)]
pub struct Moments {
    width: usize,
    tokens: u64,
    hessian: Vec<f64>,
    cross: Option<Vec<f64>>,
    drift: Option<Vec<f64>>,
    /// Which tiles are added up here, and out of how many parts.
    part: [usize; 2],
    /// Of the first order and damping asked for: layers that share inputs share it.
    factor: OnceLock<((bool, f64), Result<Factor, AlgoError>)>,
}

impl Moments {
    /// Of no token yet. `two_streams` also sums the products with the float network's inputs.
    pub fn new(width: usize, two_streams: bool) -> Moments {
        Moments::part(width, two_streams, [0, 1])
    }

    /// The same of which this process adds up one part of several: every so many-th tile.
    pub(super) fn part(width: usize, two_streams: bool, part: [usize; 2]) -> Moments {
        let square = width * width;
        let cross = two_streams.then(|| vec![0.0; square]);
        let hessian = vec![0.0; square];
        Moments { width, tokens: 0, hessian, cross, drift: None, part, factor: OnceLock::new() }
    }

    /// Adds the tokens of one sample, rows of `width`; `wanted` counts with two streams only.
    ///
    /// # Panics
    /// If the two streams have different numbers of tokens: a mistake of ours.
    pub fn add(&mut self, seen: &[f32], wanted: &[f32]) {
        self.add_all(&[(seen, wanted)]);
    }

    /// Adds samples, each what the layer sees and what was wanted, in their order.
    ///
    /// # Panics
    /// As [`Moments::add`].
    pub fn add_all(&mut self, samples: &[(&[f32], &[f32])]) {
        self.add_weighed(samples, &vec![None; samples.len()]);
    }

    /// The same where a row counts as the square of its root in `roots`, by sample; once where there
    /// are none.
    ///
    /// # Panics
    /// As [`Moments::add`].
    pub fn add_weighed(&mut self, samples: &[(&[f32], &[f32])], roots: &[Roots]) {
        let k = self.width;
        for ((seen, wanted), roots) in samples.iter().zip(roots) {
            assert_eq!(seen.len(), wanted.len(), "two streams of one sample have the same tokens");
            let m = seen.len() / k.max(1);
            let seen = wide(seen, k, roots);
            accumulate(&mut self.hessian, &seen, &seen, [m, k], (self.part, true));
            if let Some(cross) = &mut self.cross {
                accumulate(cross, &wide(wanted, k, roots), &seen, [m, k], (self.part, false));
            }
            self.tokens += m as u64;
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
        for ([seen, float, quantized], roots) in samples.iter().zip(roots) {
            let m = seen.len() / k.max(1);
            assert_eq!([float.len(), quantized.len()], [m * out; 2], "streams share their tokens");
            let missing = float.iter().zip(*quantized);
            let mut missing: Vec<f64> =
                missing.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
            weigh(&mut missing, out, roots);
            let seen = wide(seen, k, roots);
            accumulate(&mut drift, &missing, &seen, [m, k], (self.part, false));
        }
        self.drift = Some(drift);
    }

    /// Joins the sums of other samples; (a + b) + c and a + (b + c) differ by rounding only.
    pub fn merge(&mut self, other: &Moments) {
        let join = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        join(&mut self.hessian, &other.hessian);
        if let (Some(a), Some(b)) = (&mut self.cross, &other.cross) {
            join(a, b);
        }
        if let (Some(a), Some(b)) = (&mut self.drift, &other.drift) {
            join(a, b);
        }
        self.tokens += other.tokens;
        self.factor = OnceLock::new();
    }

    /// The tiles that were added up here, as bytes.
    pub(super) fn tiles(&self) -> Vec<u8> {
        let size = (TILE * self.width).max(1);
        let [rank, of] = self.part;
        let sums = [Some(&self.hessian), self.cross.as_ref(), self.drift.as_ref()];
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
        let sums = [Some(&mut self.hessian), self.cross.as_mut(), self.drift.as_mut()];
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
            let (k, hessian) = (self.width, &self.hessian);
            let mut order: Vec<usize> = (0..k).collect();
            if by_energy {
                let energy = |j: usize| hessian[j * k + j];
                order.sort_by(|&a, &b| energy(b).total_cmp(&energy(a)).then(a.cmp(&b)));
            }
            Factor::of(hessian, order, damp)
        };
        match self.factor.get_or_init(|| (key, make())) {
            (of, factor) if *of == key => factor.as_ref().map(Cow::Borrowed).map_err(Clone::clone),
            _ => make().map(Cow::Owned),
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

    /// G `[width, width]`, row-major: wanted by seen. None with one stream.
    pub fn cross(&self) -> Option<&[f64]> {
        self.cross.as_deref()
    }

    /// D `[out, width]`, row-major. None where the layer's output is added to no stream.
    pub fn drift(&self) -> Option<&[f64]> {
        self.drift.as_deref()
    }
}

/// Square roots of what the rows of a sample count; none if each counts once.
pub type Roots = Option<Vec<f64>>;

/// Rows of `width` in f64, each times its root.
fn wide(x: &[f32], width: usize, roots: &Roots) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    weigh(&mut x, width, roots);
    x
}

fn weigh(x: &mut [f64], width: usize, roots: &Roots) {
    let Some(roots) = roots else { return };
    for (row, root) in x.chunks_exact_mut(width.max(1)).zip(roots) {
        row.iter_mut().for_each(|x| *x *= root);
    }
}

/// out += aᵀ b with a `[m, n]`, b `[m, k]`; only the tiles on and right of the diagonal if `upper`,
/// and of those the ones of a part.
fn accumulate(
    out: &mut [f64],
    a: &[f64],
    b: &[f64],
    [m, k]: [usize; 2],
    ([rank, of], upper): ([usize; 2], bool),
) {
    if m == 0 || k == 0 {
        return;
    }
    let tiles = out.par_chunks_mut(TILE * k).enumerate();
    tiles.filter(|(i, _)| i % of == rank).for_each(|(i, out)| {
        let rows = out.len() / k;
        let from = if upper { i * TILE } else { 0 };
        let a = MatRef::from_row_major_slice(a, m, a.len() / m);
        let a = a.subcols(i * TILE, rows).transpose();
        let b = MatRef::from_row_major_slice(b, m, k).subcols(from, k - from);
        let out = MatMut::from_row_major_slice_mut(out, rows, k).subcols_mut(from, k - from);
        matmul(out, Accum::Add, a, b, 1.0, Par::Seq);
    });
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
