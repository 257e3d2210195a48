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
//! | q | the row on its grids, scale · code |
//! | e | v − q |
//! | c | the row's codes |
//!
//! A row has one grid, or one for every group of neighbouring inputs (`group`, in the original order,
//! whatever the order of treatment).
//!
//! Rows do not depend on each other but read the same matrices, which are larger than any cache, so a
//! few go through them together: what a block of inputs does to all later ones is one product.

use super::factor::Factor;
use super::lanes::Lanes;
use super::search::RowGrid;
use crate::quant::ParamsError;
use crate::tensor::simd::dispatch;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Rows, or candidates of rows, that are treated together, at most: the factor, which no cache holds, is
/// read once for all of them. Fixed, so that results do not depend on threads.
pub(super) const ROWS: usize = 64;
/// Inputs whose effect on later ones is added at once.
const BLOCK: usize = 32;

/// A quadratic form in two guises.
pub(super) struct Form<'a> {
    /// M and λ.
    pub(super) factor: &'a Factor,
    /// H `[k, k]` in the original order.
    pub(super) hessian: &'a [f64],
    /// Inputs that share a grid; divides k, and is k where a row has one grid.
    pub(super) group: usize,
}

/// A rounded row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// One for each group.
    pub(super) grids: Vec<RowGrid>,
    /// In the original order.
    pub(super) codes: Vec<f64>,
    /// f
    pub(super) error: f64,
}

/// Chooses the grids of a group, one for each row, from its columns `[n, group]`, which make up for all
/// that was rounded before.
pub(super) type Begin<'a> = &'a dyn Fn(usize, &[f64]) -> Result<Vec<RowGrid>, ParamsError>;

impl Form<'_> {
    pub(super) fn width(&self) -> usize {
        self.factor.order.len()
    }

    /// Grids of a row.
    pub(super) fn groups(&self) -> usize {
        self.width() / self.group.max(1)
    }

    /// Successive rounding of `rows` `[n, k]` under all candidates of each, a candidate being the grids
    /// of all groups; the best by f, the first of equals.
    pub(super) fn nearest_plane(&self, rows: &[f64], candidates: &[Vec<Vec<RowGrid>>]) -> Vec<Row> {
        let most = candidates.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let together = (ROWS / most).max(1);
        let parts = rows.chunks(together * self.width()).zip(candidates.chunks(together));
        let round = |(rows, candidates): (&[f64], &[Vec<Vec<RowGrid>>])| {
            let lanes = candidates.iter().enumerate();
            let lanes = lanes.flat_map(|(row, of)| of.iter().map(move |grids| (row, grids)));
            let (owners, grids): (Vec<usize>, Vec<&Vec<RowGrid>>) = lanes.unzip();
            let mut lanes = Lanes::new(self, rows, owners);
            for group in 0..self.groups() {
                lanes.grids.extend(grids.iter().map(|grids| grids[group]));
            }
            for (start, end) in self.blocks() {
                lanes.round(start, end);
            }
            lanes.best(candidates.len())
        };
        parts.flat_map(round).collect()
    }

    /// The same in the order of the inputs, with grids that `begin` chooses when a group's turn comes.
    ///
    /// # Errors
    /// Those of `begin`.
    pub(super) fn nearest_plane_by_groups(
        &self,
        rows: &[f64],
        begin: Begin<'_>,
    ) -> Result<Vec<Row>, ParamsError> {
        let n = rows.len() / self.width().max(1);
        let mut lanes = Lanes::new(self, rows, (0..n).collect());
        for (start, end) in self.blocks() {
            // Groups begin where a block does, or end before it does: what moves them is known.
            let mut from = start;
            while from < end {
                if from.is_multiple_of(self.group) {
                    let columns = lanes.ahead(from);
                    lanes.grids.extend(begin(from / self.group, &columns)?);
                }
                let to = end.min((from / self.group + 1) * self.group);
                lanes.round_within(from, to, start, end);
                from = to;
            }
            lanes.tell(start, end);
        }
        Ok(lanes.best(n))
    }

    /// Positions that are treated together: whole groups, or parts of one.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (k, group) = (self.width(), self.group.max(1));
        let end = move |start: usize| match group <= BLOCK {
            true => start + BLOCK / group * group,
            false => (start + BLOCK).min((start / group + 1) * group),
        };
        std::iter::successors(Some(0), move |&start| Some(end(start)))
            .take_while(move |&start| start < k)
            .map(move |start| (start, end(start).min(k)))
    }

    /// Each of `rows` `[n, k]` rounded to nearest on its one grid.
    pub(super) fn nearest(&self, rows: &[f64], grids: &[RowGrid]) -> Vec<Row> {
        let k = self.width();
        let rounded = rows.chunks_exact(k).zip(grids).map(|(row, &grid)| Row {
            grids: vec![grid],
            codes: row.iter().map(|&w| grid.code(w)).collect(),
            error: 0.0,
        });
        let mut rounded: Vec<Row> = rounded.collect();
        let misses = |(row, of): (&[f64], &Row)| -> Vec<f64> {
            let scale = of.grids[0].scale;
            row.iter().zip(&of.codes).map(|(w, code)| w - code * scale).collect()
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
    /// and as long as f falls: the scales that fit the codes best, and descent again. Never makes f
    /// worse.
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
        let reals: Vec<f64> = found.iter().flat_map(|row| row.reals(self.group)).collect();
        let (av, aq) = (self.times(rows), self.times(&reals));
        let work = |(i, row)| {
            let at = i * k..(i + 1) * k;
            let (v, av, aq) = (&rows[at.clone()], &av[at.clone()], aq[at].to_vec());
            Work { form: self, v, av, aq, row }
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
        let mut open: Vec<usize> = (0..works.len()).collect();
        for _ in 0..sweeps {
            let mut changed = vec![false; works.len()];
            // Inputs outside, rows inside: a row of H is read once for all.
            for &j in &self.factor.order {
                let curvature = self.hessian[j * self.width() + j] + self.factor.damping;
                if curvature <= 0.0 {
                    continue;
                }
                let group = j / self.group;
                for &i in &open {
                    let step = works[i].step(j, group, curvature);
                    if step != 0.0 {
                        works[i].row.codes[j] += step;
                        works[i].moved(j, step * works[i].row.grids[group].scale);
                        changed[i] = true;
                    }
                }
            }
            open.retain(|&i| changed[i]);
        }
        works.iter_mut().for_each(Work::settle);
    }
}

impl Row {
    /// q, with grids for every `group` inputs.
    fn reals(&self, group: usize) -> impl Iterator<Item = f64> {
        let parts = self.codes.chunks(group.max(1)).zip(&self.grids);
        parts.flat_map(|(codes, grid)| codes.iter().map(|code| code * grid.scale))
    }
}

/// A row on its way down.
#[derive(Clone)]
struct Work<'a> {
    form: &'a Form<'a>,
    v: &'a [f64],
    /// A v
    av: &'a [f64],
    /// A q, kept as the codes change: A v − A q is the slope of f.
    aq: Vec<f64>,
    row: Row,
}

impl<'a> Work<'a> {
    /// By how much code `j` moves to its best value; 0 if that gains nothing, as ties and rounding
    /// must not make it run in circles.
    fn step(&self, j: usize, group: usize, curvature: f64) -> f64 {
        let (grid, code) = (&self.row.grids[group], self.row.codes[j]);
        // Half the gradient of f with respect to e.
        let slope = self.av[j] - self.aq[j];
        let step = grid.code(code * grid.scale + slope / curvature) - code;
        let moved = step * grid.scale;
        if moved * (moved * curvature - 2.0 * slope) < 0.0 { step } else { 0.0 }
    }

    /// q moves by `by` at input `j`.
    fn moved(&mut self, j: usize, by: f64) {
        let k = self.form.width();
        self.aq[j] += by * self.form.factor.damping;
        add(&mut self.aq, &self.form.hessian[j * k..(j + 1) * k], by);
    }

    /// f, from its definition.
    fn settle(&mut self) {
        let entries = self.v.iter().zip(self.av.iter().zip(&self.aq));
        let reals = self.row.reals(self.form.group);
        self.row.error = entries.zip(reals).map(|((v, (av, aq)), q)| (v - q) * (av - aq)).sum();
    }

    /// The same codes under the scales that fit them best: v A cᵀ / c A cᵀ, of several groups each
    /// given those before it. None where that is no scale.
    fn refitted(&self) -> Option<Work<'a>> {
        let mut work = self.clone();
        let [grid] = self.row.grids[..] else {
            (0..self.row.grids.len()).for_each(|group| work.refit(group));
            return Some(work);
        };
        let wanted: f64 = self.v.iter().zip(&self.aq).map(|(v, aq)| v * aq).sum();
        let had: f64 = self.row.reals(self.form.group).zip(&self.aq).map(|(q, aq)| q * aq).sum();
        let fitted = grid.rescaled(grid.scale * (wanted / had))?;
        work.aq.iter_mut().for_each(|aq| *aq *= fitted.scale / grid.scale);
        work.row.grids = vec![fitted];
        Some(work)
    }

    /// The best scale of one group, all others staying; where that is none, the one before stays.
    fn refit(&mut self, group: usize) {
        let (k, size) = (self.form.width(), self.form.group);
        let at = group * size..(group + 1) * size;
        let codes = self.row.codes[at.clone()].to_vec();
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (j, c) in at.clone().zip(&codes).filter(|(_, c)| **c != 0.0) {
            let row = &self.form.hessian[j * k..][at.clone()];
            let ac: f64 = row.iter().zip(&codes).map(|(h, c)| h * c).sum();
            slope += c * (self.av[j] - self.aq[j]);
            curvature += c * (ac + self.form.factor.damping * c);
        }
        let grid = self.row.grids[group];
        let Some(fitted) = grid.rescaled(grid.scale + slope / curvature) else { return };
        self.row.grids[group] = fitted;
        for (j, c) in at.zip(codes).filter(|(_, c)| *c != 0.0) {
            self.moved(j, c * (fitted.scale - grid.scale));
        }
    }
}

dispatch! {
    /// out[i] += factor · x[i]
    fn add(out: &mut [f64], x: &[f64], factor: f64) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x);
    }
}
