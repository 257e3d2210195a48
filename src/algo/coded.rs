//! A rounded matrix as its integers: what is too large to be dense is rounded some rows at a time.

use crate::quant::{self, QuantParams};
use crate::tensor::{Rows, Tensor};

/// Integers of the rows so far, and their grid.
#[derive(Debug)]
pub(super) struct Coded {
    width: usize,
    /// Of an integer in memory: 4, 8 or 16.
    bits: usize,
    /// The dtype's least integer is stored as 0.
    least: i32,
    grid: Option<QuantParams>,
    bytes: Vec<u8>,
}

impl Coded {
    /// None yet, of `n` rows of `width`. None if `grid` is not one for a row or for all.
    pub(super) fn new(grid: &QuantParams, [n, width]: [usize; 2]) -> Option<Coded> {
        let QuantParams::Affine { dtype, axis: None | Some(0), .. } = grid else { return None };
        let bits = match dtype.bits() {
            0..=4 => 4,
            5..=8 => 8,
            9..=16 => 16,
            _ => return None,
        };
        let mut coded = Coded { width, bits, least: dtype.qmin(), grid: None, bytes: Vec::new() };
        coded.bytes.reserve_exact(n * coded.row_bytes());
        Some(coded)
    }

    fn row_bytes(&self) -> usize {
        (self.width * self.bits).div_ceil(8)
    }

    /// Appends rows that lie on `grid`.
    pub(super) fn push(&mut self, grid: &QuantParams, rows: &Tensor) {
        let codes = quant::quantize(grid, rows.shape(), rows.data());
        for row in codes.chunks(self.width.max(1)) {
            let stored = row.iter().map(|&q| (q - self.least) as u16);
            match self.bits {
                4 => {
                    let nibbles: Vec<i32> = stored.map(i32::from).collect();
                    self.bytes.extend(quant::pack4(&nibbles));
                }
                8 => self.bytes.extend(stored.map(|q| q as u8)),
                _ => self.bytes.extend(stored.flat_map(u16::to_le_bytes)),
            }
        }
        match (&mut self.grid, grid) {
            (
                Some(QuantParams::Affine { scale, zero_point, axis: Some(0), .. }),
                QuantParams::Affine { scale: more, zero_point: zeros, .. },
            ) => {
                scale.extend(more);
                zero_point.extend(zeros);
            }
            (Some(_), _) => {}
            (none, _) => *none = Some(grid.clone()),
        }
    }

    /// The grid of all rows, and the matrix.
    pub(super) fn finish(self, n: usize) -> Option<(QuantParams, Tensor)> {
        let (grid, width) = (self.grid.clone()?, self.width);
        Some((grid, Tensor::made([n, width], self)))
    }
}

impl Rows for Coded {
    fn fill(&self, first: usize, out: &mut [f32]) {
        let Some(QuantParams::Affine { scale, zero_point, .. }) = &self.grid else { return };
        let size = self.row_bytes();
        let rows = out.chunks_mut(self.width.max(1)).zip(first..);
        for (out, row) in rows {
            let bytes = &self.bytes[row * size..(row + 1) * size];
            let of = if scale.len() == 1 { 0 } else { row };
            let (scale, least) = (scale[of], self.least - zero_point[of]);
            let real = |q: u16| (i32::from(q) + least) as f32 * scale;
            match self.bits {
                4 => out.chunks_mut(2).zip(bytes).for_each(|(pair, byte)| {
                    let codes = [byte & 0xf, byte >> 4];
                    pair.iter_mut().zip(codes).for_each(|(x, q)| *x = real(q.into()));
                }),
                8 => out.iter_mut().zip(bytes).for_each(|(x, q)| *x = real((*q).into())),
                _ => {
                    let (words, _) = bytes.as_chunks();
                    let reals = words.iter().map(|word| real(u16::from_le_bytes(*word)));
                    out.iter_mut().zip(reals).for_each(|(x, r)| *x = r);
                }
            }
        }
    }

    fn in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::DType;

    #[test]
    fn rows_rounded_a_few_at_a_time_come_back_as_they_were() {
        let (n, k) = (37, 13);
        let whole = Tensor::new([n, k], (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect());
        for dtype in [DType::UINT4, DType::INT4, DType::UINT8, DType::INT8, DType::INT16] {
            for axis in [None, Some(0)] {
                let count = if axis.is_none() { 1 } else { n };
                let scale = (0..count).map(|i| 0.01 + 0.001 * i as f32).collect();
                let zero_point = vec![if dtype.signed() { 0 } else { 7 }; count];
                let grid = QuantParams::Affine { dtype, scale, zero_point, axis };
                let mut rounded = whole.clone();
                quant::fake_quant(&grid, &[n, k], rounded.data_mut());
                let mut coded = Coded::new(&grid, [n, k]).unwrap();
                for first in (0..n).step_by(8) {
                    let last = n.min(first + 8);
                    let rows = rounded.data()[first * k..last * k].to_vec();
                    let rows = Tensor::new([last - first, k], rows);
                    coded.push(&grid.of_rows(first..last), &rows);
                }
                let (found, tensor) = coded.finish(n).unwrap();
                assert_eq!((&found, &tensor), (&grid, &rounded), "{dtype} {axis:?}");
            }
        }
    }
}
