//! The one factorization the weight algorithms need: a damped Hessian as M Mᵀ, M upper triangular.

use super::AlgoError;
use faer::linalg::cholesky::llt::factor::{
    LltParams, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{Accum, Auto, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

/// Damping over the mean of the diagonal that makes any sum of squares positive beyond rounding.
const ENOUGH: f64 = 1.0;

/// Columns that are factored before the rest learns of them; fixed, so that results do not depend on
/// threads.
const PANEL: usize = 128;

/// P (H + λ I) Pᵀ = M Mᵀ for an order P of the inputs.
#[derive(Clone, Debug)]
pub(super) struct Factor {
    /// Input at each position.
    pub(super) order: Vec<usize>,
    /// M `[k, k]`, row-major; zero below the diagonal.
    pub(super) upper: Vec<f64>,
    /// λ, after retries.
    pub(super) damping: f64,
    /// λ over the mean of the diagonal.
    pub(super) damp: f64,
    k: usize,
}

impl Factor {
    /// Factors `hessian` `[k, k]` with λ = `damp` times the mean of its diagonal, ten times more
    /// whenever that does not suffice.
    ///
    /// # Errors
    /// Values that are not finite, no input that is ever non-zero, or what is no sum of squares.
    pub(super) fn of(hessian: &[f64], order: Vec<usize>, damp: f64) -> Result<Factor, AlgoError> {
        let k = order.len();
        let trace: f64 = (0..k).map(|i| hessian[i * k + i]).sum();
        if !hessian.par_iter().all(|x| x.is_finite()) {
            return Err(AlgoError::NonFinite);
        }
        if trace <= 0.0 {
            return Err(AlgoError::NoInputs);
        }
        let mean = trace / k as f64;
        let mut attempt = 0;
        loop {
            let tried = damp * 10f64.powi(attempt);
            let damping = tried * mean;
            if let Some(upper) = upper_factor(hessian, &order, damping) {
                return Ok(Factor { order, upper, damping, damp: tried, k });
            }
            if tried >= ENOUGH {
                return Err(AlgoError::Singular { damp: tried });
            }
            attempt += 1;
        }
    }

    /// The factor of some consecutive inputs, of which `upper` is the block of M; only where positions
    /// are inputs.
    pub(super) fn part(&self, upper: Vec<f64>) -> Factor {
        let k = upper.len().isqrt();
        Factor { order: (0..k).collect(), upper, damping: self.damping, damp: self.damp, k }
    }

    /// The factor of some inputs alone, whose block of H is `hessian`, inputs of great energy first,
    /// under the same λ. None if there is none.
    pub(super) fn alone(&self, hessian: &[f64]) -> Option<Factor> {
        let order = by_energy(hessian);
        let upper = upper_factor(hessian, &order, self.damping)?;
        let k = order.len();
        Some(Factor { order, upper, damping: self.damping, damp: self.damp, k })
    }

    /// Solves v (H + λ I) = r for rows `r` `[n, k]`, in place, in the original order of the inputs.
    pub(super) fn solve(&self, rows: &mut [f64]) {
        let k = self.k;
        let n = rows.len() / k.max(1);
        // Columns of the right-hand side are the permuted rows.
        let mut rhs = vec![0.0; rows.len()];
        for (r, row) in rows.chunks_exact(k).enumerate() {
            for (i, &from) in self.order.iter().enumerate() {
                rhs[r * k + i] = row[from];
            }
        }
        let upper = MatRef::from_row_major_slice(&self.upper, k, k);
        let mut view = MatMut::from_column_major_slice_mut(&mut rhs, k, n);
        solve_upper_triangular_in_place(upper, view.as_mut(), Par::Seq);
        solve_lower_triangular_in_place(upper.transpose(), view.as_mut(), Par::Seq);
        for (r, row) in rows.chunks_exact_mut(k).enumerate() {
            for (i, &to) in self.order.iter().enumerate() {
                row[to] = rhs[r * k + i];
            }
        }
    }
}

/// Inputs of great energy first.
pub(super) fn by_energy(hessian: &[f64]) -> Vec<usize> {
    let k = hessian.len().isqrt();
    let energy = |j: usize| hessian[j * k + j];
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| energy(b).total_cmp(&energy(a)).then(a.cmp(&b)));
    order
}

/// Cholesky of the reversed matrix, reversed back: L Lᵀ becomes M Mᵀ with M upper.
fn upper_factor(hessian: &[f64], order: &[usize], damping: f64) -> Option<Vec<f64>> {
    let k = order.len();
    let reversed = |i: usize| order[k - 1 - i];
    let mut a = vec![0.0; k * k];
    a.par_chunks_exact_mut(k.max(1)).enumerate().for_each(|(i, row)| {
        let from = &hessian[reversed(i) * k..][..k];
        // Row-major, lower triangle.
        row[..=i].iter_mut().enumerate().for_each(|(j, x)| *x = from[reversed(j)]);
        row[i] += damping;
    });
    cholesky(&mut a, k)?;
    turned(&mut a);
    a.par_chunks_exact_mut(k.max(1)).enumerate().for_each(|(i, row)| row[..i].fill(0.0));
    let upper = a;
    (0..k).all(|i| upper[i * k + i].is_finite() && upper[i * k + i] > 0.0).then_some(upper)
}

/// Reverses both axes of a matrix, which is to reverse all of it, in place: it may be most of the memory.
fn turned(a: &mut [f64]) {
    const PIECE: usize = 1 << 11;
    let half = a.len() / 2;
    let (head, tail) = a.split_at_mut(half);
    // Of an odd number the one in the middle stays.
    let odd = tail.len() - half;
    let tail = &mut tail[odd..];
    head.par_chunks_mut(PIECE).zip(tail.par_rchunks_mut(PIECE)).for_each(|(head, tail)| {
        head.swap_with_slice(tail);
        head.reverse();
        tail.reverse();
    });
}

/// L of a row-major symmetric matrix, in its lower triangle; none if it is not positive.
///
/// Panel by panel: the diagonal block, the rows below it, then what they take from all columns to
/// come, split over threads by rows.
fn cholesky(a: &mut [f64], k: usize) -> Option<()> {
    for start in (0..k).step_by(PANEL) {
        let end = (start + PANEL).min(k);
        let n = end - start;
        let (head, below) = a.split_at_mut(end * k);
        let mut diagonal =
            MatMut::from_row_major_slice_mut(&mut head[start * k..], n, k).subcols_mut(start, n);
        block(diagonal.as_mut())?;
        let diagonal = diagonal.as_ref();
        below.par_chunks_mut(PANEL * k).for_each(|rows| {
            let rows =
                MatMut::from_row_major_slice_mut(rows, rows.len() / k, k).subcols_mut(start, n);
            // X Lᵀ = B, that is L Xᵀ = Bᵀ.
            solve_lower_triangular_in_place(diagonal, rows.transpose_mut(), Par::Seq);
        });
        let mut panel = vec![0.0; (k - end) * n];
        let rows = panel.par_chunks_exact_mut(n).zip(below.par_chunks_exact(k));
        rows.for_each(|(to, row)| to.copy_from_slice(&row[start..end]));
        let panel = MatRef::from_row_major_slice(&panel, k - end, n);
        below.par_chunks_mut(PANEL * k).enumerate().for_each(|(i, rows)| {
            let m = rows.len() / k;
            let columns = i * PANEL + m;
            let rows = MatMut::from_row_major_slice_mut(rows, m, k).subcols_mut(end, columns);
            let (lhs, rhs) = (panel.subrows(i * PANEL, m), panel.subrows(0, columns));
            matmul(rows, Accum::Add, lhs, rhs.transpose(), -1.0, Par::Seq);
        });
    }
    Some(())
}

fn block(a: MatMut<'_, f64>) -> Option<()> {
    let params: Spec<LltParams, f64> = <LltParams as Auto<f64>>::auto().into();
    let scratch = cholesky_in_place_scratch::<f64>(a.nrows(), Par::Seq, params);
    let mut memory = faer::dyn_stack::MemBuffer::new(scratch);
    let stack = faer::dyn_stack::MemStack::new(&mut memory);
    cholesky_in_place(a, Default::default(), Par::Seq, stack, params).ok().map(drop)
}

#[cfg(test)]
mod tests;
