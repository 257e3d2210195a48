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
mod tests {
    use super::*;
    use crate::quant::{self, DType, Grain};

    #[test]
    fn rows_rounded_a_few_at_a_time_come_back_as_they_were() {
        let (n, k) = (37, 12);
        let whole = Tensor::new([n, k], (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect());
        for dtype in [DType::UINT4, DType::INT4, DType::UINT8, DType::INT8, DType::INT16] {
            for grain in [Grain::Tensor, Grain::Axis(0), Grain::Groups(4)] {
                let count = grain.grids(&[n, k]).unwrap();
                let scale = (0..count).map(|i| 0.01 + 0.001 * i as f32).collect();
                let zero_point = vec![if dtype.signed() { 0 } else { 7 }; count];
                let grid = QuantParams::Affine { dtype, scale, zero_point, grain };
                let mut rounded = whole.clone();
                quant::round(&grid, &mut rounded);
                let mut coded = Coded::new(&grid, [n, k]).unwrap();
                for first in (0..n).step_by(8) {
                    let last = n.min(first + 8);
                    let rows = rounded.data()[first * k..last * k].to_vec();
                    let rows = Tensor::new([last - first, k], rows);
                    coded.push(&grid.of_rows(first..last, k), &rows);
                }
                let (found, tensor) = coded.finish(n).unwrap();
                assert_eq!((&found, &tensor), (&grid, &rounded), "{dtype} {grain}");
            }
        }
    }
}
