//! Matrix products on row-major slices.
//!
//! The right operand is packed into panels of `NR` columns, once for a weight and all its uses; the
//! left one is read in place. A tile of `MR × NR` results stays in registers while the reduction
//! runs over blocks of `KC`, in the same order for every tile, so results depend neither on the
//! number of threads nor on where a tile falls.

mod kernel;

use super::buffer::Buffer;
use super::simd::dispatch;
use kernel::Isa;
use rayon::prelude::*;

/// How many threads a kernel may use. Results do not depend on it: work is split by output tiles,
/// never along a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Par {
    /// The calling thread alone: the caller runs several samples side by side.
    Seq,
    /// All threads of the current pool.
    All,
}

/// Length of a reduction block: a panel of it (`KC · NR · 4` bytes) stays in the second-level cache.
const KC: usize = 1024;
/// Below this many multiply-adds, waking the pool costs more than the product.
const WORTHWHILE: usize = 1 << 20;

/// A right operand `[k, n]` in panels, ready for any number of products.
#[derive(Clone, Debug)]
pub struct Packed {
    k: usize,
    n: usize,
    width: usize,
    /// Panels of `[k, width]`, the last one padded with zeros.
    data: Buffer,
}

impl Packed {
    /// Packs `b` stored `[n, k]`, as weights of a linear layer are.
    pub fn from_nt(b: &[f32], k: usize, n: usize) -> Packed {
        Packed::fill(k, n, |panel, width, first, columns| {
            let rows = &b[first * k..(first + columns) * k];
            transpose(panel, width, rows, k);
        })
    }

    /// Packs `b` stored `[k, n]`.
    pub fn from_nn(b: &[f32], k: usize, n: usize) -> Packed {
        Packed::fill(k, n, |panel, width, first, columns| {
            for (panel, row) in panel.chunks_exact_mut(width).zip(b.chunks_exact(n)) {
                panel[..columns].copy_from_slice(&row[first..first + columns]);
            }
        })
    }

    fn fill(k: usize, n: usize, panel: impl Fn(&mut [f32], usize, usize, usize)) -> Packed {
        let width = Isa::detect().panel_width();
        let mut data = Buffer::arbitrary(n.div_ceil(width) * width * k);
        if !n.is_multiple_of(width) {
            let last = data.len() - width * k;
            data[last..].fill(0.0);
        }
        if k > 0 {
            for (i, chunk) in data.chunks_exact_mut(k * width).enumerate() {
                panel(chunk, width, i * width, width.min(n - i * width));
            }
        }
        Packed { k, n, width, data }
    }
}

dispatch! {
    /// Writes `rows` `[columns, k]` as columns of `panel` `[k, width]`, a block of the reduction at
    /// a time so that both sides stay in the first-level cache.
    fn transpose(panel: &mut [f32], width: usize, rows: &[f32], k: usize) {
        const BLOCK: usize = 16;
        for start in (0..k).step_by(BLOCK) {
            let depth = BLOCK.min(k - start);
            let panel = &mut panel[start * width..(start + depth) * width];
            for (p, panel) in panel.chunks_exact_mut(width).enumerate() {
                for (x, row) in panel.iter_mut().zip(rows.chunks_exact(k)) {
                    *x = row[start + p];
                }
            }
        }
    }
}

/// `out [m, n] = a [m, k] · b`, `b` packed.
///
/// # Panics
/// If the slices do not have these sizes: a mistake of ours.
pub fn matmul(out: &mut [f32], a: &[f32], b: &Packed, par: Par) {
    let (k, n) = (b.k, b.n);
    if n == 0 || out.is_empty() {
        return;
    }
    let m = out.len() / n;
    assert!(out.len() == m * n && a.len() == m * k, "operands of a product have matching sizes");
    let isa = Isa::detect();
    let tile = Tiles { out: Columns::of(out, n), first: 0, a, b, isa };
    if par == Par::Seq || m * k * n < WORTHWHILE {
        tile.run(0..m, 0..n.div_ceil(b.width));
        return;
    }
    // Rows in pieces that keep a few tiles per thread; every piece walks all panels, so packed
    // weights stream through the shared cache once.
    let rows = m.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(isa.tile_rows());
    let panels = n.div_ceil(b.width);
    let panel_step = panels.div_ceil(rayon::current_num_threads()).max(1);
    let row_pieces = m.div_ceil(rows);
    let column_pieces = if row_pieces < 4 { panels.div_ceil(panel_step) } else { 1 };
    let panel_step = if column_pieces == 1 { panels } else { panel_step };
    (0..row_pieces * column_pieces).into_par_iter().for_each(|i| {
        let (r, c) = (i % row_pieces * rows, i / row_pieces * panel_step);
        tile.run(r..m.min(r + rows), c..panels.min(c + panel_step));
    });
}

/// A matrix `[rows, stride]` whose columns are written by several products.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    data: *mut f32,
    rows: usize,
    stride: usize,
}

// SAFETY: it is only written to by `matmul_into`, whose callers vouch for disjoint columns, and by
// `Tiles::run`, which is called for disjoint rectangles.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}

impl Columns {
    /// All columns of `out`, rows of `stride`.
    pub(super) fn of(out: &mut [f32], stride: usize) -> Columns {
        Columns { data: out.as_mut_ptr(), rows: out.len() / stride.max(1), stride }
    }
}

/// `a [m, k] · b` into the columns from `first` on of `out`, on the calling thread.
///
/// # Safety
/// What `out` was made of must be alive, and nobody else may use these columns.
pub(super) unsafe fn matmul_into(out: Columns, first: usize, a: &[f32], b: &Packed) {
    assert!(first + b.n <= out.stride && a.len() == out.rows * b.k, "operands have matching sizes");
    if out.rows > 0 && b.n > 0 {
        let tile = Tiles { out, first, a, b, isa: Isa::detect() };
        tile.run(0..out.rows, 0..b.n.div_ceil(b.width));
    }
}

/// A product being computed; tasks own disjoint tiles of `out`.
struct Tiles<'a> {
    out: Columns,
    /// Column of `out` that the first of `b` goes to.
    first: usize,
    a: &'a [f32],
    b: &'a Packed,
    isa: Isa,
}

impl Tiles<'_> {
    fn run(&self, rows: std::ops::Range<usize>, panels: std::ops::Range<usize>) {
        let Packed { k, n, width, ref data } = *self.b;
        let step = self.isa.tile_rows();
        for start in (0..k.max(1)).step_by(KC) {
            let depth = KC.min(k - start);
            for panel in panels.clone() {
                let columns = width.min(n - panel * width);
                let b = &data[(panel * k + start) * width..(panel * k + start + depth) * width];
                for row in rows.clone().step_by(step) {
                    let count = step.min(rows.end - row);
                    let a = &self.a[row * k + start..(row + count - 1) * k + start + depth];
                    // SAFETY: the tile lies inside `out`: rows end at m, columns at first + n.
                    unsafe {
                        let column = self.first + panel * width;
                        let out = self.out.data.add(row * self.out.stride + column);
                        self.isa.tile(kernel::Tile {
                            out,
                            n: self.out.stride,
                            columns,
                            a,
                            k,
                            b,
                            depth,
                            count,
                            add: start > 0,
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operands(m: usize, k: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
        let a = (0..m * k).map(|i| ((i * 7 % 13) as f32) - 6.0).collect();
        let b = (0..n * k).map(|i| ((i * 5 % 11) as f32) - 5.0).collect();
        (a, b)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_equal_the_definition(m in 1usize..40, k in 1usize..70, n in 1usize..80) {
            // Small integers: every sum is exact, so any order gives the same result.
            let (a, b) = operands(m, k, n);
            let mut out = vec![f32::NAN; m * n];
            matmul(&mut out, &a, &Packed::from_nt(&b, k, n), Par::Seq);
            for i in 0..m * n {
                let exact: f32 = (0..k).map(|p| a[i / n * k + p] * b[i % n * k + p]).sum();
                prop_assert_eq!(out[i], exact);
            }
            let transposed: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
            let mut again = vec![f32::NAN; m * n];
            matmul(&mut again, &a, &Packed::from_nn(&transposed, k, n), Par::All);
            prop_assert_eq!(out, again);
        }
    }

    #[test]
    fn result_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (150, 2100, 333);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
        let packed = Packed::from_nt(&b, k, n);
        let run = |threads: usize, par| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; m * n];
            pool.install(|| matmul(&mut out, &a, &packed, par));
            out
        };
        let one = run(1, Par::Seq);
        for threads in [1, 2, 3, 7] {
            assert_eq!(one, run(threads, Par::All));
        }
    }
}
