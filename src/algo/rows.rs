//! Rounding rows of a weight against the quadratic form of its inputs.
//!
//! minimise f(q) = (v − q) A (v − q)ᵀ over q on the row's grid, A = H + λI. With
//! A = M Mᵀ, M upper triangular in the order of treatment, f is the sum of squares of (v − q)M whose
//! j-th entry involves q₀…qⱼ only. Choosing each qⱼ to make its entry least, given those before it,
//! is GPTQ without any inverse (Chen et al., "The Geometry of LLM Quantization", 2025: Babai's
//! nearest plane): vⱼ moves by the errors already made, and f is known when the row is done.
//!
//! | symbol | meaning |
//! |---|---|
//! | v | the row to be approximated |
//! | q | the row on its grid, scale · code |
//! | e | v − q |
//! | c | the row's codes |
//!
//! Rows do not depend on each other but read the same matrices, which are larger than any cache, so a
//! few go through them together: what a block of inputs does to all later ones is one product.

use super::factor::Factor;
use super::search::RowGrid;
use crate::tensor::simd::dispatch;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Rows that are treated together, at most; fixed, so that results do not depend on threads.
pub(super) const ROWS: usize = 32;
/// Rows under one grid each that are rounded together: what `ROWS` means with several candidates.
const LANES: usize = 64;
/// Inputs whose effect on later ones is added at once.
const BLOCK: usize = 32;

/// A quadratic form in two guises.
pub(super) struct Form<'a> {
    /// M and λ.
    pub(super) factor: &'a Factor,
    /// H `[k, k]` in the original order.
    pub(super) hessian: &'a [f64],
}

/// A rounded row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) grid: RowGrid,
    /// In the original order.
    pub(super) codes: Vec<f64>,
    /// f
    pub(super) error: f64,
}

/// One row under one of its candidates.
struct Lane {
    row: usize,
    grid: RowGrid,
}

impl Form<'_> {
    pub(super) fn width(&self) -> usize {
        self.factor.order.len()
    }

    /// Successive rounding of `rows` `[n, k]` under all candidates of each; the best by f, the first
    /// of equals.
    pub(super) fn nearest_plane(&self, rows: &[f64], grids: &[Vec<RowGrid>]) -> Vec<Row> {
        let most = grids.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let together = (LANES / most).max(1);
        let parts = rows.chunks(together * self.width()).zip(grids.chunks(together));
        parts.flat_map(|(rows, grids)| self.nearest_planes(rows, grids)).collect()
    }

    fn nearest_planes(&self, rows: &[f64], grids: &[Vec<RowGrid>]) -> Vec<Row> {
        let k = self.width();
        let lanes: Vec<Lane> = (0..grids.len())
            .flat_map(|row| grids[row].iter().map(move |&grid| Lane { row, grid }))
            .collect();
        let n = lanes.len();
        // By position, then lane.
        let (mut moved, mut codes) = (vec![0.0; k * n], vec![0.0; k * n]);
        let (mut errors, mut e) = (vec![0.0; n], vec![0.0; BLOCK * n]);
        for start in (0..k).step_by(BLOCK) {
            let end = (start + BLOCK).min(k);
            for j in start..end {
                let (input, pivots) = (self.factor.order[j], &self.factor.upper[j * k..]);
                let e = &mut e[(j - start) * n..][..n];
                for (l, lane) in lanes.iter().enumerate() {
                    let target = rows[lane.row * k + input];
                    let wanted = target + moved[j * n + l] / pivots[j];
                    let code = lane.grid.code(wanted);
                    let q = code * lane.grid.scale;
                    let miss = (wanted - q) * pivots[j];
                    codes[j * n + l] = code;
                    errors[l] += miss * miss;
                    e[l] = target - q;
                }
                spread(&mut moved[(j + 1) * n..end * n], &pivots[j + 1..end], e);
            }
            if end < k {
                let upper = MatRef::from_row_major_slice(&self.factor.upper, k, k);
                let upper = upper.submatrix(start, end, end - start, k - end);
                let e = MatRef::from_row_major_slice(&e[..(end - start) * n], end - start, n);
                let moved = MatMut::from_row_major_slice_mut(&mut moved[end * n..], k - end, n);
                matmul(moved, Accum::Add, upper.transpose(), e, 1.0, Par::Seq);
            }
        }
        let mut best: Vec<Option<usize>> = vec![None; grids.len()];
        for (l, lane) in lanes.iter().enumerate() {
            if best[lane.row].is_none_or(|best| errors[l] < errors[best]) {
                best[lane.row] = Some(l);
            }
        }
        let row = |l: usize| {
            let mut chosen = vec![0.0; k];
            for (j, &input) in self.factor.order.iter().enumerate() {
                chosen[input] = codes[j * n + l];
            }
            Row { grid: lanes[l].grid, codes: chosen, error: errors[l] }
        };
        best.into_iter().flatten().map(row).collect()
    }

    /// Each of `rows` `[n, k]` rounded to nearest on its grid.
    pub(super) fn nearest(&self, rows: &[f64], grids: &[RowGrid]) -> Vec<Row> {
        let k = self.width();
        let rounded = rows.chunks_exact(k).zip(grids).map(|(row, &grid)| Row {
            grid,
            codes: row.iter().map(|&w| grid.code(w)).collect(),
            error: 0.0,
        });
        let mut rounded: Vec<Row> = rounded.collect();
        let misses = |(row, of): (&[f64], &Row)| -> Vec<f64> {
            row.iter().zip(&of.codes).map(|(w, code)| w - code * of.grid.scale).collect()
        };
        let errors: Vec<f64> = rows.chunks_exact(k).zip(&rounded).flat_map(misses).collect();
        let costs = self.times(&errors);
        let parts = errors.chunks_exact(k).zip(costs.chunks_exact(k));
        for (row, (e, ae)) in rounded.iter_mut().zip(parts) {
            row.error = e.iter().zip(ae).map(|(e, ae)| e * ae).sum();
        }
        rounded
    }

    /// A applied to `rows` `[n, k]`.
    pub(super) fn times(&self, rows: &[f64]) -> Vec<f64> {
        let k = self.width();
        let mut out: Vec<f64> = rows.iter().map(|x| self.factor.damping * x).collect();
        let n = rows.len() / k.max(1);
        let a = MatRef::from_row_major_slice(rows, n, k);
        let h = MatRef::from_row_major_slice(self.hessian, k, k);
        let product = MatMut::from_row_major_slice_mut(&mut out, n, k);
        matmul(product, Accum::Add, a, h, 1.0, Par::Seq);
        out
    }

    /// Coordinate descent on all rows (QuantEase; Behdin et al., 2023), then, `rounds` times at most
    /// and as long as f falls: the scale that fits the codes best, v A cᵀ / c A cᵀ, and descent
    /// again. Never makes f worse.
    pub(super) fn refine(
        &self,
        rows: &[f64],
        found: Vec<Row>,
        sweeps: usize,
        rounds: usize,
    ) -> Vec<Row> {
        if sweeps == 0 && rounds == 0 {
            return found;
        }
        let k = self.width();
        let codes: Vec<f64> = found.iter().flat_map(|row| row.codes.iter().copied()).collect();
        let (av, ac) = (self.times(rows), self.times(&codes));
        let work = |(i, row)| {
            let at = i * k..(i + 1) * k;
            Work { v: &rows[at.clone()], av: &av[at.clone()], ac: ac[at].to_vec(), row }
        };
        let mut works: Vec<Work<'_>> = found.into_iter().enumerate().map(work).collect();
        self.descend(&mut works, sweeps);
        let mut open: Vec<usize> = (0..works.len()).collect();
        for _ in 0..rounds {
            let refit = |&i: &usize| works[i].refitted().map(|work| (i, work));
            let (which, mut next): (Vec<usize>, Vec<Work<'_>>) =
                open.iter().filter_map(refit).unzip();
            self.descend(&mut next, sweeps);
            open.clear();
            for (i, next) in which.into_iter().zip(next) {
                if next.row.error < works[i].row.error {
                    works[i] = next;
                    open.push(i);
                }
            }
        }
        works.into_iter().map(|work| work.row).collect()
    }

    /// Each code in turn takes its best value given all others, until none of its row changes or
    /// `sweeps` are over.
    fn descend(&self, works: &mut [Work<'_>], sweeps: usize) {
        let (k, damping) = (self.width(), self.factor.damping);
        let mut open: Vec<usize> = (0..works.len()).collect();
        for _ in 0..sweeps {
            let mut changed = vec![false; works.len()];
            // Inputs outside, rows inside: a row of H is read once for all.
            for &j in &self.factor.order {
                let h = &self.hessian[j * k..(j + 1) * k];
                let curvature = h[j] + damping;
                if curvature <= 0.0 {
                    continue;
                }
                for &i in &open {
                    let step = works[i].step(j, curvature);
                    if step != 0.0 {
                        works[i].row.codes[j] += step;
                        works[i].ac[j] += step * damping;
                        add(&mut works[i].ac, h, step);
                        changed[i] = true;
                    }
                }
            }
            open.retain(|&i| changed[i]);
        }
        works.iter_mut().for_each(Work::settle);
    }
}

/// A row on its way down.
#[derive(Clone)]
struct Work<'a> {
    v: &'a [f64],
    /// A v
    av: &'a [f64],
    /// A c, kept as the codes change: with A v it gives the slope of f under any scale.
    ac: Vec<f64>,
    row: Row,
}

impl<'a> Work<'a> {
    /// By how much code `j` moves to its best value; 0 if that gains nothing, as ties and rounding
    /// must not make it run in circles.
    fn step(&self, j: usize, curvature: f64) -> f64 {
        let (grid, code) = (&self.row.grid, self.row.codes[j]);
        // Half the gradient of f with respect to e.
        let slope = self.av[j] - grid.scale * self.ac[j];
        let step = grid.code(code * grid.scale + slope / curvature) - code;
        let moved = step * grid.scale;
        if moved * (moved * curvature - 2.0 * slope) < 0.0 { step } else { 0.0 }
    }

    /// f, from its definition.
    fn settle(&mut self) {
        let scale = self.row.grid.scale;
        let entries = self.v.iter().zip(&self.row.codes).zip(self.av.iter().zip(&self.ac));
        self.row.error =
            entries.map(|((v, c), (av, ac))| (v - scale * c) * (av - scale * ac)).sum();
    }

    /// The same codes under the scale that fits them best.
    fn refitted(&self) -> Option<Work<'a>> {
        let fit = |x: &[f64]| x.iter().zip(&self.ac).map(|(x, w)| x * w).sum::<f64>();
        let grid = self.row.grid.rescaled(fit(self.v) / fit(&self.row.codes))?;
        Some(Work { row: Row { grid, ..self.row.clone() }, ..self.clone() })
    }
}

dispatch! {
    /// moved[i][l] += row[i] · e[l]
    fn spread(moved: &mut [f64], row: &[f64], e: &[f64]) {
        for (moved, m) in moved.chunks_exact_mut(e.len().max(1)).zip(row) {
            moved.iter_mut().zip(e).for_each(|(moved, e)| *moved += m * e);
        }
    }
}

dispatch! {
    /// out[i] += factor · x[i]
    fn add(out: &mut [f64], x: &[f64], factor: f64) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x);
    }
}
