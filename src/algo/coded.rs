//! A rounded matrix as its integers: what is too large to be dense is rounded some rows at a time.

use crate::quant::{Coding, QuantParams};
use crate::tensor::{Rows, Tensor};

/// Integers of the rows so far, and their grid.
#[derive(Debug)]
pub(super) struct Coded {
    coding: Coding,
    grid: Option<QuantParams>,
    bytes: Vec<u8>,
}

impl Coded {
    /// None yet, of `n` rows of `width`. None if rows neither have grids of their own nor share one.
    pub(super) fn new(grid: &QuantParams, [n, width]: [usize; 2]) -> Option<Coded> {
        let coding = Coding::of(Some(grid), width);
        coding.grid()?;
        let bytes = Vec::with_capacity(n * coding.row_bytes());
        Some(Coded { coding, grid: None, bytes })
    }

    /// Appends rows that lie on `grid`.
    pub(super) fn push(&mut self, grid: &QuantParams, rows: &Tensor) {
        self.bytes.extend(Coding::of(Some(grid), self.coding.width()).bytes(0, rows.data()));
        match (&mut self.grid, grid) {
            (
                Some(QuantParams::Affine { scale, zero_point, grain, .. }),
                QuantParams::Affine { scale: more, zero_point: zeros, .. },
            ) if grain.of_row(self.coding.width()).is_some() => {
                scale.extend(more);
                zero_point.extend(zeros);
            }
            (Some(_), _) => {}
            (none, _) => *none = Some(grid.clone()),
        }
    }

    /// The grid of all rows, and the matrix.
    pub(super) fn finish(mut self, n: usize) -> Option<(QuantParams, Tensor)> {
        let (grid, width) = (self.grid.take()?, self.coding.width());
        self.coding = Coding::of(Some(&grid), width);
        Some((grid, Tensor::made([n, width], self)))
    }
}

impl Rows for Coded {
    fn fill(&self, first: usize, out: &mut [f32]) {
        let start = first * self.coding.row_bytes();
        self.coding.reals(first, &self.bytes[start..], out);
    }

    fn in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
