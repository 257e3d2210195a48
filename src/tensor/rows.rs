//! Matrices whose rows are made when they are asked for: a table of a vocabulary is looked up a row
//! at a time and multiplied with a block of rows at a time, so it need never be in memory as f32.

use super::buffer::Buffer;
use super::gemm::{Columns, Integers, Packed, Par, Products, Whole, matmul_into};
use super::run::Run;
use rayon::prelude::*;
use std::fmt::Debug;
use std::sync::OnceLock;

/// Elements that are made at a time: 4 MiB, to stay near the cores.
const BLOCK: usize = 1 << 20;

/// Where the rows of a matrix come from: a stored table, or codes and their grid.
pub trait Rows: Debug + Send + Sync {
    /// Writes the rows from `first` on into `out`, which holds whole rows. What goes wrong is told
    /// to whoever made the source; `out` is then of no meaning.
    fn fill(&self, first: usize, out: &mut [f32]);

    /// Whether all that the rows are made of lies in memory.
    fn in_memory(&self) -> bool {
        false
    }
}

/// Rows, and all of them once somebody wanted that.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) rows: Box<dyn Rows>,
    pub(super) all: OnceLock<Buffer>,
}

impl Made {
    /// Every row of `[len / width, width]`.
    pub(super) fn everything(&self, len: usize, width: usize) -> Buffer {
        let mut out = Buffer::arbitrary(len);
        let width = width.max(1);
        let block = block(width);
        Par::free().pieces(&mut out, block * width, |i, out| self.rows.fill(i * block, out));
        out
    }
}

/// Rows of `width` in a block; even, so that a block of 4-bit codes ends with a byte.
pub(super) fn block(width: usize) -> usize {
    (BLOCK / width.max(1)).next_multiple_of(2).max(2)
}

/// `out [m, n] = a [m, k] · bᵀ`, in integers where that can be, with the rows `[n, k]` of b made block by
/// block; the same numbers as with all of b at hand.
pub(super) fn matmul_rows(
    out: &mut [f32],
    a: &[f32],
    (b, products): (&dyn Rows, Products),
    [n, k]: [usize; 2],
    run: Run<'_>,
) {
    let block = block(k);
    let columns = Columns::of(out, n);
    let integers = run.steps.and_then(|both| Integers::of(a, k, both, run.par).map(|a| (a, both)));
    let one = |start: usize| {
        let count = block.min(n - start);
        let mut rows = Buffer::arbitrary(count * k);
        b.fill(start, &mut rows);
        if let Some((a, [left, right])) = &integers {
            let both = [*left, right.of_rows(start, count)];
            if let Some(whole) = Whole::from_nt(&rows, [count, k], both) {
                // SAFETY: as below.
                return unsafe { whole.multiply_into(columns, start, a, run) };
            }
        }
        let packed = Packed::from_nt(&rows, k, count, products);
        drop(rows);
        // SAFETY: blocks are disjoint columns of `out`, which is borrowed until all are done.
        unsafe { matmul_into(columns, start, a, &packed, run) };
    };
    let starts = 0..n.div_ceil(block);
    match run.par {
        Par::Seq => starts.for_each(|i| one(i * block)),
        Par::All => starts.into_par_iter().for_each(|i| one(i * block)),
    }
}

#[cfg(test)]
mod tests;
