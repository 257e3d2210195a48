//! Rows of a matrix as bytes: the integers of its grid, or its reals where that gives none.

use super::{QuantParams, affine};
use crate::tensor;

/// How rows are stored; each begins with a byte of its own.
#[derive(Clone, Debug)]
pub struct Coding {
    width: usize,
    /// Of an integer: 4, 8 or 16; 32 for plain reals.
    bits: usize,
    grid: Option<QuantParams>,
}

impl Coding {
    /// For rows of `width` on `grid`: as integers if rows have grids of their own or share one, of 16
    /// bits at most.
    pub fn of(grid: Option<&QuantParams>, width: usize) -> Coding {
        let bits = match grid {
            Some(QuantParams::Affine { dtype, grain, .. }) if grain.by_rows() => {
                dtype.stored_bits().min(32)
            }
            _ => 32,
        };
        Coding { width, bits, grid: grid.filter(|_| bits < 32).cloned() }
    }

    /// The grid that integers are on; none where reals are stored.
    pub fn grid(&self) -> Option<&QuantParams> {
        self.grid.as_ref()
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        (self.width * self.bits).div_ceil(8)
    }

    /// The rows from `first` on, which lie on the grid, as stored.
    pub fn bytes(&self, first: usize, reals: &[f32]) -> Vec<u8> {
        let count = reals.len() / self.width.max(1);
        let Some(grid) = &self.grid else { return tensor::le_bytes(reals) };
        if self.bits == 4 && self.width % 2 == 1 {
            let row = |(i, row): (usize, &[f32])| {
                affine::packed(
                    &grid.of_rows(first + i..first + i + 1, self.width),
                    &[1, self.width],
                    row,
                )
            };
            return reals.chunks(self.width).enumerate().flat_map(row).collect();
        }
        affine::packed(&grid.of_rows(first..first + count, self.width), &[count, self.width], reals)
    }

    /// The reals of stored rows, of which the first is the row `first`.
    pub fn reals(&self, first: usize, bytes: &[u8], out: &mut [f32]) {
        let Some(QuantParams::Affine { dtype, scale, zero_point, grain }) = &self.grid else {
            let (words, _) = bytes.as_chunks();
            return out.iter_mut().zip(words).for_each(|(x, w)| *x = f32::from_le_bytes(*w));
        };
        let signed = dtype.signed();
        let own = grain.of_row(self.width);
        let [grids, run] = own.unwrap_or([1, self.width]);
        let rows = out.chunks_mut(self.width.max(1)).zip(bytes.chunks(self.row_bytes().max(1)));
        for (row, (out, bytes)) in (first..).zip(rows) {
            self.codes(bytes, signed, out);
            let of = if own.is_some() { row * grids } else { 0 };
            for (i, part) in out.chunks_mut(run.max(1)).enumerate() {
                // Integers of 16 bits differ by less than 2^24: f32 holds that, so this rounds once.
                let (scale, zero) = (scale[of + i], zero_point[of + i] as f32);
                part.iter_mut().for_each(|x| *x = (*x - zero) * scale);
            }
        }
    }

    /// The integers of one stored row.
    fn codes(&self, bytes: &[u8], signed: bool, out: &mut [f32]) {
        match (self.bits, signed) {
            (4, _) => {
                let nibble = |q: u8| if signed { i32::from((q << 4) as i8 >> 4) } else { q.into() };
                for (pair, byte) in out.chunks_mut(2).zip(bytes) {
                    let codes = [byte & 0xf, byte >> 4];
                    pair.iter_mut().zip(codes).for_each(|(x, q)| *x = nibble(q) as f32);
                }
            }
            (8, true) => out.iter_mut().zip(bytes).for_each(|(x, &q)| *x = (q as i8).into()),
            (8, false) => out.iter_mut().zip(bytes).for_each(|(x, &q)| *x = q.into()),
            (_, _) => {
                let (words, _) = bytes.as_chunks();
                let code = |word: [u8; 2]| match signed {
                    true => i16::from_le_bytes(word).into(),
                    false => u16::from_le_bytes(word).into(),
                };
                out.iter_mut().zip(words).for_each(|(x, word)| *x = code(*word));
            }
        }
    }
}
