//! Rows on their way through successive rounding, side by side: one under each of its candidates.

use super::rows::{Form, Row};
use super::search::RowGrid;
use crate::tensor::simd::dispatch;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Numbers of all lanes by position, then lane.
pub(super) struct Lanes<'a> {
    form: &'a Form<'a>,
    rows: &'a [f64],
    /// The row of each lane.
    owners: Vec<usize>,
    /// By group, then lane; those of a group must be known when its first input is rounded.
    pub(super) grids: Vec<RowGrid>,
    /// What the errors so far add to the entries to come.
    moved: Vec<f64>,
    codes: Vec<f64>,
    /// v − q of the block under way.
    e: Vec<f64>,
    /// f so far, by lane.
    errors: Vec<f64>,
}

impl<'a> Lanes<'a> {
    /// For `rows` `[m, k]`, of which each lane has one.
    pub(super) fn new(form: &'a Form<'a>, rows: &'a [f64], owners: Vec<usize>) -> Lanes<'a> {
        let (k, n) = (form.width(), owners.len());
        let (moved, codes) = (vec![0.0; k * n], vec![0.0; k * n]);
        Lanes {
            form,
            rows,
            owners,
            grids: Vec::new(),
            moved,
            codes,
            e: Vec::new(),
            errors: vec![0.0; n],
        }
    }

    /// Rounds a block of positions and tells all later ones.
    pub(super) fn round(&mut self, start: usize, end: usize) {
        self.round_within(start, end, start, end);
        self.tell(start, end);
    }

    /// Rounds the positions `from..to` of the block `start..end`, and tells those of the block.
    pub(super) fn round_within(&mut self, from: usize, to: usize, start: usize, end: usize) {
        let Form { factor, group, .. } = self.form;
        let (k, n) = (self.form.width(), self.owners.len());
        self.e.resize((end - start) * n, 0.0);
        for j in from..to {
            let (input, pivots) = (factor.order[j], &factor.upper[j * k..]);
            let grids = &self.grids[input / group * n..][..n];
            let e = &mut self.e[(j - start) * n..][..n];
            let at = j * n..(j + 1) * n;
            let lanes = self.owners.iter().zip(grids).zip(e.iter_mut());
            let (moved, codes) = (&self.moved[at.clone()], &mut self.codes[at]);
            let numbers = moved.iter().zip(codes).zip(&mut self.errors);
            for (((row, grid), e), ((moved, code), error)) in lanes.zip(numbers) {
                let target = self.rows[row * k + input];
                let wanted = target + moved / pivots[j];
                *code = grid.code(wanted);
                let q = *code * grid.scale;
                let miss = (wanted - q) * pivots[j];
                *error += miss * miss;
                *e = target - q;
            }
            spread(&mut self.moved[(j + 1) * n..end * n], &pivots[j + 1..end], e);
        }
    }

    /// Tells all positions behind a block what its errors add to them.
    pub(super) fn tell(&mut self, start: usize, end: usize) {
        let (k, n) = (self.form.width(), self.owners.len());
        if end < k {
            let upper = MatRef::from_row_major_slice(&self.form.factor.upper, k, k);
            let upper = upper.submatrix(start, end, end - start, k - end);
            let e = MatRef::from_row_major_slice(&self.e[..(end - start) * n], end - start, n);
            let moved = MatMut::from_row_major_slice_mut(&mut self.moved[end * n..], k - end, n);
            matmul(moved, Accum::Add, upper.transpose(), e, 1.0, Par::Seq);
        }
    }

    /// The group that begins at `start`, `[n, group]`: what its inputs would have to be to make up for
    /// all errors so far. All that is told to them must have been.
    pub(super) fn ahead(&self, start: usize) -> Vec<f64> {
        let Form { factor, group, .. } = self.form;
        let (k, n) = (self.form.width(), self.owners.len());
        let mut moved = self.moved[start * n..(start + group) * n].to_vec();
        let mut columns = vec![0.0; n * group];
        for i in 0..*group {
            let (input, pivots) =
                (factor.order[start + i], &factor.upper[(start + i) * k + start..]);
            let (now, later) = moved[i * n..].split_at_mut(n);
            for (l, x) in now.iter_mut().enumerate() {
                // The error that leaves nothing of this entry.
                *x = -*x / pivots[i];
                columns[l * group + i] = self.rows[self.owners[l] * k + input] - *x;
            }
            spread(later, &pivots[i + 1..*group], now);
        }
        columns
    }

    /// The best lane of each of `rows` rows by f, the first of equals.
    pub(super) fn best(&self, rows: usize) -> Vec<Row> {
        let (n, order) = (self.owners.len(), &self.form.factor.order);
        let mut best: Vec<Option<usize>> = vec![None; rows];
        for (l, &row) in self.owners.iter().enumerate() {
            if best[row].is_none_or(|best| self.errors[l] < self.errors[best]) {
                best[row] = Some(l);
            }
        }
        let row = |l: usize| {
            let mut codes = vec![0.0; order.len()];
            for (j, &input) in order.iter().enumerate() {
                codes[input] = self.codes[j * n + l];
            }
            let grids = self.grids.iter().skip(l).step_by(n).copied().collect();
            Row { grids, codes, error: self.errors[l] }
        };
        best.into_iter().flatten().map(row).collect()
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
