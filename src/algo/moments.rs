//! Second moments of a linear layer's inputs: all that the weight algorithms know of the data.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | X̂ | `seen` | inputs as the quantized network sees them, one row a token |
//! | X | `wanted` | inputs of the float network |
//! | H | [`Moments::hessian`] | X̂ᵀX̂, half the Hessian of ‖(W − Ŵ)X̂ᵀ‖² |
//! | G | [`Moments::cross`] | XᵀX̂ |

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Columns of H that one task makes: fixed, so that sums do not depend on the number of threads.
const TILE: usize = 64;

/// Sums over tokens in f64; samples are added in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    width: usize,
    tokens: u64,
    hessian: Vec<f64>,
    cross: Option<Vec<f64>>,
}

impl Moments {
    /// Of no token yet. `two_streams` also sums the products with the float network's inputs.
    pub fn new(width: usize, two_streams: bool) -> Moments {
        let square = width * width;
        let cross = two_streams.then(|| vec![0.0; square]);
        Moments { width, tokens: 0, hessian: vec![0.0; square], cross }
    }

    /// Adds the tokens of one sample, rows of `width`; `wanted` counts with two streams only.
    ///
    /// # Panics
    /// If the two streams have different numbers of tokens: a mistake of ours.
    pub fn add(&mut self, seen: &[f32], wanted: &[f32]) {
        assert_eq!(seen.len(), wanted.len(), "two streams of one sample have the same tokens");
        let (k, m) = (self.width, seen.len() / self.width.max(1));
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let seen = wide(seen);
        accumulate(&mut self.hessian, &seen, &seen, m, k);
        if let Some(cross) = &mut self.cross {
            accumulate(cross, &wide(wanted), &seen, m, k);
        }
        self.tokens += m as u64;
    }

    /// Joins the sums of other samples; (a + b) + c and a + (b + c) differ by rounding only.
    pub fn merge(&mut self, other: &Moments) {
        let join = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        join(&mut self.hessian, &other.hessian);
        if let (Some(a), Some(b)) = (&mut self.cross, &other.cross) {
            join(a, b);
        }
        self.tokens += other.tokens;
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
}

/// out += aᵀ b with a, b `[m, k]`.
fn accumulate(out: &mut [f64], a: &[f64], b: &[f64], m: usize, k: usize) {
    if m == 0 || k == 0 {
        return;
    }
    out.par_chunks_mut(TILE * k).enumerate().for_each(|(i, out)| {
        let rows = out.len() / k;
        let a = MatRef::from_row_major_slice(a, m, k).subcols(i * TILE, rows).transpose();
        let b = MatRef::from_row_major_slice(b, m, k);
        let out = MatMut::from_row_major_slice_mut(out, rows, k);
        matmul(out, Accum::Add, a, b, 1.0, Par::Seq);
    });
}
