//! Sums of outer products: the rows of two matrices are what is summed over, so that both are packed as
//! they lie, and sums of f32 go on in f64.

use super::kernel::{Left, Panel};
use super::{Buffer, FINISHED, Packed, Par};
use crate::tensor::simd::dispatch;
use std::ops::Range;

/// Rows of two matrices, `[rows, n]` and `[rows, k]`; their products are summed in f32.
pub struct Outer<'a> {
    left: &'a [f32],
    n: usize,
    right: Packed,
}

impl<'a> Outer<'a> {
    /// Packs the right matrix, of `k` columns.
    ///
    /// # Panics
    /// If there are other numbers of rows: a mistake of ours.
    pub fn new([left, right]: [&'a [f32]; 2], [n, k]: [usize; 2], par: Par) -> Outer<'a> {
        let rows = right.len() / k.max(1);
        assert_eq!([left.len(), right.len()], [rows * n, rows * k], "both have the same rows");
        Outer { left, n, right: Packed::from_nn(right, rows, k, par) }
    }

    /// `out [columns, k]` += the products of the left columns from `first` on with the right ones from
    /// `from` on, which starts a panel; of one after the other, all of the same sizes but for the rows.
    pub fn add_all(several: &[Outer<'_>], out: &mut [f64], first: usize, from: usize) {
        let Some(Outer { n, right: Packed { n: k, isa, .. }, .. }) = several.first() else {
            return;
        };
        let (k, width) = (*k, isa.panel_width());
        let rows = out.len() / k.max(1);
        assert!(first + rows <= *n && from.is_multiple_of(width), "columns that there are");
        let strips: Vec<Buffer> = several.iter().map(|one| one.strips(first, rows)).collect();
        let stride = FINISHED * width;
        let mut sums = Buffer::arbitrary(rows * stride);
        for from in (from..k).step_by(stride) {
            let columns = from..k.min(from + stride);
            // all of them here before the next columns, whose sums in f64 come from far away
            for (one, strips) in several.iter().zip(&strips) {
                one.products(strips, rows, columns.clone(), &mut sums);
                for (out, sums) in out.chunks_exact_mut(k).zip(sums.chunks_exact(stride)) {
                    widen(&mut out[columns.clone()], &sums[..columns.len()]);
                }
            }
        }
    }

    /// Those of `rows` left columns in `strips` with some right ones, side by side in `out`.
    fn products(&self, strips: &Buffer, rows: usize, columns: Range<usize>, out: &mut Buffer) {
        let Packed { n: k, isa, depth, ref data, .. } = self.right;
        let width = isa.panel_width();
        for at in columns.clone().step_by(width) {
            let of = |at: usize| data.get(at * depth..).unwrap_or_default();
            let after = if isa.fetches() { of(at + width) } else { &[] };
            let panel = Panel {
                out: out[at - columns.start..].as_mut_ptr(),
                n: FINISHED * width,
                rows,
                columns: width.min(k - at),
                a: strips,
                left: Left::Strips { after, share: isa.share(rows, depth) },
                b: &of(at)[..depth * width],
                depth,
                block: depth.max(1),
                scale: None,
                add: false,
            };
            // SAFETY: the panel's columns lie inside the rows of `out`, which nobody else sees.
            unsafe { isa.panel(&panel) };
        }
    }

    /// Left columns from `first` on, those of each tile in one piece, `[depth, count]`.
    fn strips(&self, first: usize, rows: usize) -> Buffer {
        let (depth, step) = (self.right.depth, self.right.isa.tile_rows());
        let mut strips = Buffer::arbitrary(rows * depth);
        let each = strips.chunks_mut((step * depth).max(1));
        for (strip, row) in each.zip((0..rows).step_by(step)) {
            let count = step.min(rows - row);
            let left = self.left[first + row..].chunks(self.n);
            for (strip, left) in strip.chunks_exact_mut(count).zip(left) {
                strip.copy_from_slice(&left[..count]);
            }
        }
        strips
    }
}

dispatch! {
    /// out[i] += x[i]
    fn widen(out: &mut [f64], x: &[f32]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out += f64::from(*x));
    }
}

#[cfg(test)]
mod tests;
