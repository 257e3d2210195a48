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
        let blocks = out.par_chunks_mut(block * width).enumerate();
        blocks.for_each(|(i, out)| self.rows.fill(i * block, out));
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
mod tests {
    use super::*;
    use crate::tensor::{Steps, Tensor, matmul};
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Table(Vec<f32>, usize);

    impl Rows for Table {
        fn fill(&self, first: usize, out: &mut [f32]) {
            out.copy_from_slice(&self.0[first * self.1..][..out.len()]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn rows_made_on_demand_give_the_bits_of_the_dense_matrix(
            m in 1usize..30, k in 1usize..2100, blocks in 1usize..3, rest in 0usize..40,
        ) {
            let n = (blocks * block(k) + rest).min(3_000_000 / k).max(1);
            let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let made = Tensor::made([n, k], Table(b.clone(), k));
            for products in [Products::F32, Products::Bf16] {
                let made = made.clone().with_products(products);
                let mut dense = vec![0.0; m * n];
                matmul(&mut dense, &a, &Packed::from_nt(&b, k, n, products), Par::Seq);
                for par in [Par::Seq, Par::All] {
                    let mut out = vec![f32::NAN; m * n];
                    made.matmul_nt(&mut out, &a, par);
                    prop_assert_eq!(&out, &dense);
                }
            }
            // The same of numbers on grids, one for the left and one a row for the right.
            let sizes: Vec<f32> = (0..n).map(|i| 0.01 + i as f32 * 1e-5).collect();
            let on = |x: f32, most: f32, size: f32| (x * most).round_ties_even() * size;
            let a: Vec<f32> = a.iter().map(|&x| on(x, 120.0, 0.1)).collect();
            let b: Vec<f32> = b.iter().zip(0..).map(|(&x, i)| on(x, 7.0, sizes[i / k])).collect();
            let left = Steps { sizes: &[0.1], limits: [-128, 127], span: 255 };
            let right = Steps { sizes: &sizes, limits: [-8, 7], span: 15 };
            let grids = |par: Par| Run::from(par).on_grids(Some([left, right]));
            let mut dense = vec![0.0; m * n];
            Tensor::new([n, k], b.clone()).matmul_nt(&mut dense, &a, grids(Par::Seq));
            let made = Tensor::made([n, k], Table(b.clone(), k));
            for par in [Par::Seq, Par::All] {
                let mut out = vec![f32::NAN; m * n];
                made.matmul_nt(&mut out, &a, grids(par));
                prop_assert_eq!(&out, &dense);
            }
            let mut row = vec![0.0; k];
            made.read_rows(n - 1, &mut row);
            prop_assert_eq!(&row, &b[(n - 1) * k..]);
            let all = made.dense();
            prop_assert_eq!(all.data(), &b[..]);
        }
    }
}
