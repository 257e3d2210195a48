//! Learned rotations (after SpinQuant, Liu et al., ICLR 2025, without its network loss): descent over
//! the orthogonal group on what rounding the weights of a space costs.
//!
//! minimise f(R) = Σ_t Σ_rows ‖row of W_t turned by R‖ₚ² / ‖W_t‖²
//!
//! p is large, so that ‖·‖ₚ is a smooth stand-in for the greatest element of a row; G = ∂f/∂R, and
//! S = G Rᵀ − R Gᵀ is the steepest direction on the group.
//!
//! A step is R ← polar factor of R − τ S R, which is orthogonal again (Newton–Schulz; Higham, 2008).
//! τ doubles while f falls and halves until it does. Where R must keep the vector of ones, S is
//! projected so that S 1 = 0; the polar factor keeps it too. The descent sees a sample of each
//! weight, of bounded size; the caller compares the ends on whole weights.

use super::Space;
use crate::graph::{Graph, Read};
use crate::tensor::{Orthogonal, Side, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// p
const POWER: i32 = 8;
/// Numbers of all samples of a space, about.
const SAMPLED: usize = 1 << 22;
/// Greatest ‖τ S‖ of a step, in Frobenius' norm: within reach of the iteration.
pub(super) const STRIDE: f64 = 0.7;
/// Steps that make an orthogonal matrix of what a stride leaves: each squares the error.
const POLISH: usize = 6;
/// Times that a step may be halved before the descent ends.
const HALVINGS: usize = 8;

/// Rows of a weight that R turns, `[m, n]`.
pub(super) struct Sample {
    pub(super) data: Vec<f64>,
    /// Whether rows of the weight are its columns, as where outputs turn. Of heads side by side, rows
    /// at the same place in each count as one.
    pub(super) across: bool,
    /// Makes f relative to the tensor.
    pub(super) share: f64,
}

/// Follows the descent from `start` for `steps` steps at most.
///
/// # Errors
/// Those of `read`, which is asked for one weight at a time.
pub(super) fn learned<E>(
    graph: &Graph,
    read: Read<'_, E>,
    space: &Space,
    start: &Orthogonal,
    steps: usize,
) -> Result<Orthogonal, E> {
    let n = space.n;
    let budget = SAMPLED / n / space.tensors.len().max(1);
    let mut samples = Vec::new();
    for &(id, side) in &space.tensors {
        // A bias has a grid as fine as its accumulator; only the caller's comparison counts it.
        if graph.value(id).shape.len() > 1 {
            samples.push(sample(&graph.load(id, read)?, side, n, budget.max(8)));
        }
    }
    let mut r = start.matrix();
    let (mut loss, mut gradient) = judge(&samples, &r, n);
    let mut stride = STRIDE;
    for _ in 0..steps {
        let direction = steepest(&gradient, &r, n, space.fix_ones);
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length <= f64::MIN_POSITIVE {
            break;
        }
        let fallen = (0..HALVINGS).find_map(|_| {
            let next = moved(&r, &direction, stride / length, n);
            let (found, slope) = judge(&samples, &next, n);
            if found < loss {
                return Some((next, found, slope));
            }
            stride /= 2.0;
            None
        });
        let Some(better) = fallen else { break };
        (r, loss, gradient) = better;
        stride = (2.0 * stride).min(STRIDE);
    }
    Ok(Orthogonal::dense(n, r))
}

/// Evenly spread rows (or columns, where outputs turn) of a weight.
fn sample(tensor: &Tensor, side: Side, n: usize, budget: usize) -> Sample {
    let columns = tensor.shape().last().copied().unwrap_or(1).max(1);
    let rows = tensor.data().len() / columns;
    let energy: f64 = tensor.data().iter().map(|&x| f64::from(x).powi(2)).sum();
    let across = side == Side::Outputs;
    // Element i of vector v: consecutive along a row, a column's length apart across rows.
    let (vectors, at): (usize, &dyn Fn(usize, usize) -> usize) = match across {
        false => (rows * columns / n, &|v, i| v * n + i),
        true => (rows / n * columns, &|v, i| (v / columns * n + i) * columns + v % columns),
    };
    let step = vectors.div_ceil(budget).max(1);
    let data = (0..vectors)
        .step_by(step)
        .flat_map(|v| (0..n).map(move |i| f64::from(tensor.data()[at(v, i)])))
        .collect();
    let share = (columns * if across { 1 } else { step }) as f64 / energy.max(f64::MIN_POSITIVE);
    Sample { data, across, share }
}

/// f and G.
pub(super) fn judge(samples: &[Sample], r: &[f64], n: usize) -> (f64, Vec<f64>) {
    let (mut loss, mut gradient) = (0.0, vec![0.0; n * n]);
    for sample in samples {
        let m = sample.data.len() / n;
        let mut turned = vec![0.0; sample.data.len()];
        product(&mut turned, (&sample.data, m, n), (r, n), false);
        if !sample.across {
            loss += turned.chunks_exact_mut(n).map(|row| slope(row, sample.share)).sum::<f64>();
        }
        for j in (0..n).filter(|_| sample.across) {
            let mut row: Vec<f64> = (0..m).map(|i| turned[i * n + j]).collect();
            loss += slope(&mut row, sample.share);
            row.iter().enumerate().for_each(|(i, x)| turned[i * n + j] = *x);
        }
        product(&mut gradient, (&sample.data, m, n), (&turned, n), true);
    }
    (loss, gradient)
}

/// share · ‖x‖ₚ², and x replaced by its gradient.
fn slope(x: &mut [f64], share: f64) -> f64 {
    let most = x.iter().fold(0f64, |m, x| m.max(x.abs()));
    if most <= 0.0 {
        x.fill(0.0);
        return 0.0;
    }
    // Relative to the greatest, so that powers neither vanish nor overflow.
    let sum: f64 = x.iter().map(|x| (x / most).powi(POWER)).sum();
    let norm = sum.powf(1.0 / f64::from(POWER));
    let factor = 2.0 * share * most * norm * norm / sum;
    x.iter_mut().for_each(|x| *x = factor * (*x / most).powi(POWER - 1));
    share * (most * norm).powi(2)
}

/// out = a b, or out += aᵀ b; a is `[m, k]`, b has `columns` columns.
fn product(
    out: &mut [f64],
    (a, m, k): (&[f64], usize, usize),
    (b, columns): (&[f64], usize),
    gram: bool,
) {
    let a = MatRef::from_row_major_slice(a, m, k);
    if gram {
        let b = MatRef::from_row_major_slice(b, m, columns);
        let out = MatMut::from_row_major_slice_mut(out, k, columns);
        matmul(out, Accum::Add, a.transpose(), b, 1.0, Par::Seq);
    } else {
        let b = MatRef::from_row_major_slice(b, k, columns);
        let out = MatMut::from_row_major_slice_mut(out, m, columns);
        matmul(out, Accum::Replace, a, b, 1.0, Par::Seq);
    }
}

/// S, within the rotations that keep the vector of ones if asked.
pub(super) fn steepest(gradient: &[f64], r: &[f64], n: usize, fix_ones: bool) -> Vec<f64> {
    let transpose = |x: &[f64]| (0..n * n).map(|i| x[i % n * n + i / n]).collect::<Vec<f64>>();
    let mut half = vec![0.0; n * n];
    product(&mut half, (gradient, n, n), (&transpose(r), n), false);
    let other = transpose(&half);
    let mut s: Vec<f64> = half.iter().zip(&other).map(|(a, b)| a - b).collect();
    if fix_ones {
        for _ in 0..2 {
            // Rows, then by transposing columns, lose their mean; the sign of S turns twice.
            for row in s.chunks_exact_mut(n) {
                let mean = row.iter().sum::<f64>() / n as f64;
                row.iter_mut().for_each(|x| *x -= mean);
            }
            s = transpose(&s);
        }
    }
    s
}

/// The orthogonal matrix nearest to R − τ S R.
pub(super) fn moved(r: &[f64], s: &[f64], tau: f64, n: usize) -> Vec<f64> {
    let mut y = vec![0.0; n * n];
    product(&mut y, (s, n, n), (r, n), false);
    y.iter_mut().zip(r).for_each(|(y, r)| *y = r - tau * *y);
    for _ in 0..POLISH {
        // Y ← Y (3 I − YᵀY) / 2
        let mut gram = vec![0.0; n * n];
        product(&mut gram, (&y, n, n), (&y, n), true);
        gram.iter_mut().for_each(|x| *x *= -0.5);
        (0..n).for_each(|i| gram[i * n + i] += 1.5);
        let mut next = vec![0.0; n * n];
        product(&mut next, (&y, n, n), (&gram, n), false);
        y = next;
    }
    y
}
