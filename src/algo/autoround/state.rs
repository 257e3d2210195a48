//! One row on its way: what is learned of it, and the step.

use super::super::gptq::Part;
use super::super::rows::Row;
use super::super::search::RowGrid;

/// How far the ends of a row's range may move from where they began: the start may already have cut
/// the range, so it may also grow back.
const KEEP: std::ops::RangeInclusive<f64> = 0.5..=1.25;

/// How the ends of a range may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Not at all: the grid is shared.
    Fixed,
    /// Together: the zero point must stay.
    Tied,
    /// On their own.
    Free,
}

/// A row that learns.
pub(super) struct State<'a> {
    target: &'a [f64],
    begun: RowGrid,
    grid: RowGrid,
    /// Least and greatest integer of the dtype.
    limits: [i32; 2],
    ends: Ends,
    offset: Vec<f64>,
    shift: Vec<f64>,
    /// Shares of the lower and the upper end.
    keep: [f64; 2],
}

impl<'a> State<'a> {
    /// Where `row`, which approximates `target`, stands.
    pub(super) fn new(target: &'a [f64], row: &Row, part: &Part<'_>) -> State<'a> {
        let grid = row.grids[0];
        let ends = match (part.asked.fixed, part.asked.scheme.symmetric) {
            (Some(_), _) => Ends::Fixed,
            (None, true) => Ends::Tied,
            (None, false) => Ends::Free,
        };
        let offset = target.iter().zip(&row.codes).map(|(&w, code)| code - grid.code(w)).collect();
        State {
            target,
            begun: grid,
            grid,
            limits: [part.asked.dtype.qmin(), part.asked.dtype.qmax()],
            ends,
            offset,
            shift: vec![0.0; target.len()],
            keep: [1.0; 2],
        }
    }

    fn code(&self, j: usize) -> f64 {
        let wanted = self.target[j] / self.grid.scale + self.offset[j] + self.shift[j];
        wanted.round_ties_even().clamp(self.grid.low, self.grid.high)
    }

    /// target − Ŵ
    pub(super) fn errors(&self, out: &mut [f64]) {
        for (j, out) in out.iter_mut().enumerate() {
            *out = self.target[j] - self.code(j) * self.grid.scale;
        }
    }

    /// The row as it stands, of unknown error.
    pub(super) fn row(&self) -> Row {
        let codes = (0..self.target.len()).map(|j| self.code(j)).collect();
        Row { grids: vec![self.grid], codes, error: f64::INFINITY }
    }

    /// One step downhill; `slope` is the negative gradient with respect to Ŵ. Rounding counts as the
    /// identity, and what is clipped moves with the end it is clipped to.
    pub(super) fn step(&mut self, slope: &[f64], rate: f64, range_rate: f64) {
        let grid = self.grid;
        let (low, high) = (grid.low * self.begun.scale, grid.high * self.begun.scale);
        let levels = grid.high - grid.low;
        let mut towards = [0.0; 2];
        for (j, &slope) in slope.iter().enumerate() {
            let wanted = self.target[j] / grid.scale + self.offset[j];
            let moved = wanted + self.shift[j];
            if moved < grid.low {
                towards[0] += slope * low;
            } else if moved > grid.high {
                towards[1] += slope * high;
            } else {
                let stretch = slope * (self.code(j) - self.target[j] / grid.scale) / levels;
                towards[0] -= stretch * low;
                towards[1] += stretch * high;
            }
            self.shift[j] = (self.shift[j] + rate * sign(slope)).clamp(-0.5, 0.5);
        }
        match self.ends {
            Ends::Fixed => return,
            Ends::Tied => towards = [towards[0] + towards[1]; 2],
            Ends::Free => {}
        }
        for (keep, towards) in self.keep.iter_mut().zip(towards) {
            *keep = (*keep + range_rate * sign(towards)).clamp(*KEEP.start(), *KEEP.end());
        }
        self.regrid();
    }

    /// The grid of the shares as they stand; where that is none, the one before stays.
    fn regrid(&mut self) {
        let begun = self.begun;
        let low = begun.low * begun.scale * self.keep[0];
        let high = begun.high * begun.scale * self.keep[1];
        let Some(grid) = begun.rescaled((high - low) / (begun.high - begun.low)) else { return };
        let [qmin, qmax] = self.limits;
        self.grid = match self.ends {
            Ends::Free => {
                let lowest = (low / grid.scale).round_ties_even() as i32;
                let zero = (qmin - lowest).clamp(qmin, qmax);
                let ends = [qmin, qmax].map(|q| f64::from(q - zero));
                RowGrid { zero, low: ends[0], high: ends[1], ..grid }
            }
            Ends::Fixed | Ends::Tied => grid,
        };
    }
}

/// −1, 0 or 1.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
