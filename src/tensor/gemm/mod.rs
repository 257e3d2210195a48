//! Matrix products on row-major slices.
//!
//! The right operand is packed into panels of `NR` columns, once for a weight and all its uses; the
//! left one is read in place, or gathered where that makes up for itself. A tile of `MR × NR` results
//! stays in registers while the reduction runs over blocks of one length, in the same order for every
//! tile, so results depend neither on the number of threads, nor on where a tile falls, nor on the
//! width of vectors.

mod gather;
mod isa;
mod kernel;
mod outer;
mod pairs;
#[cfg(test)]
mod tests;
mod transpose;
mod whole;

pub use outer::Outer;
pub use whole::Steps;
pub(super) use whole::{Integers, Whole, Wholes};

use super::buffer::Buffer;
use super::run::Run;
use isa::Isa;
use kernel::{Left, Panel};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use transpose::transpose;
use whole::Scaled;

/// How many threads a kernel may use. Results do not depend on it: work is split by output tiles,
/// never along a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Par {
    /// The calling thread alone: the caller runs several samples side by side.
    Seq,
    /// All threads of the current pool.
    All,
}

/// What the factors of a product are rounded to. Sums are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Nothing is rounded.
    #[default]
    F32,
    /// Both factors are rounded to bf16, ties to even; where the processor multiplies pairs of them
    /// (AVX512-BF16), that is twice as fast, elsewhere no faster. Each factor is off by at most 2⁻⁸
    /// of itself, so a result by little more than 2⁻⁷ Σ|aᵢbᵢ| at most, and the errors' signs being
    /// as good as random, by far less.
    Bf16,
}

/// Panels after which their results are finished: they are still in the second-level cache.
const FINISHED: usize = 4;

/// Results that stay there anyway: they are finished in one piece, since one a row and a few panels would
/// cost more than what is done to them.
const FEW: usize = 1 << 15;

/// Below this many multiply-adds, waking the pool costs more than the product.
const WORTHWHILE: usize = 1 << 20;

/// Rows that a thread takes at least, if there are so many: it reads the whole right operand for them.
const ROWS: usize = 128;

/// A right operand `[k, n]` in panels, ready for any number of products.
#[derive(Clone, Debug)]
pub struct Packed {
    k: usize,
    n: usize,
    isa: Isa,
    products: Products,
    /// 32-bit words along the reduction: `k` numbers, or pairs of them.
    depth: usize,
    /// Panels of `[depth, width]`, the last one padded with zeros.
    data: Buffer,
}

impl Packed {
    /// Packs `b` stored `[n, k]`, as weights of a linear layer are.
    pub fn from_nt(b: &[f32], k: usize, n: usize, products: Products) -> Packed {
        let isa = Isa::detect(products);
        let rounded = factor(b, k, products, isa, Par::Seq);
        let b = rounded.as_deref().unwrap_or(b);
        let depth = if isa.pairs() { pairs::words(k) } else { k };
        Packed::from_words(b, [k, n, depth], isa, products)
    }

    /// Packs `words` stored `[n, depth]`.
    fn from_words(words: &[f32], sizes: [usize; 3], isa: Isa, products: Products) -> Packed {
        let [.., depth] = sizes;
        Packed::fill(sizes, isa, products, Par::Seq, |panel, width, first, columns| {
            transpose(panel, width, &words[first * depth..(first + columns) * depth], depth);
        })
    }

    /// Packs `b` stored `[k, n]`, for f32 products.
    pub fn from_nn(b: &[f32], k: usize, n: usize, par: Par) -> Packed {
        let (isa, products) = (Isa::detect(Products::F32), Products::F32);
        Packed::fill([k, n, k], isa, products, par, |panel, width, first, columns| {
            for (panel, row) in panel.chunks_exact_mut(width).zip(b.chunks_exact(n)) {
                panel[..columns].copy_from_slice(&row[first..first + columns]);
            }
        })
    }

    fn fill(
        [k, n, depth]: [usize; 3],
        isa: Isa,
        products: Products,
        par: Par,
        panel: impl Fn(&mut [f32], usize, usize, usize) + Sync,
    ) -> Packed {
        let width = isa.panel_width();
        let mut data = Buffer::arbitrary(n.div_ceil(width) * width * depth);
        if !n.is_multiple_of(width) {
            let last = data.len() - width * depth;
            data[last..].fill(0.0);
        }
        if depth > 0 {
            par.pieces(&mut data, depth * width, |i, chunk| {
                panel(chunk, width, i * width, width.min(n - i * width));
            });
        }
        Packed { k, n, isa, products, depth, data }
    }
}

/// Rows of `k` numbers as a product takes them; none: as they are.
fn factor(rows: &[f32], k: usize, products: Products, isa: Isa, par: Par) -> Option<Buffer> {
    match products {
        Products::F32 => None,
        Products::Bf16 if isa.pairs() => Some(pairs::paired(rows, k, par)),
        Products::Bf16 => Some(pairs::rounded(rows, par)),
    }
}

/// `out [m, n] = a [m, k] · b`, `b` packed.
///
/// # Panics
/// If the slices do not have these sizes: a mistake of ours.
pub fn matmul<'a>(out: &mut [f32], a: &[f32], b: &Packed, run: impl Into<Run<'a>>) {
    let run = run.into();
    let rounded = factor(a, b.k, b.products, b.isa, run.par);
    product(out, rounded.as_deref().unwrap_or(a), b, None, run);
}

/// The same of rows of words.
fn product(out: &mut [f32], a: &[f32], b: &Packed, scaled: Option<Scaled<'_>>, run: Run<'_>) {
    let (n, isa) = (b.n, b.isa);
    if n == 0 || out.is_empty() {
        return;
    }
    let m = out.len() / n;
    let fits = out.len() == m * n && a.len() == m * b.depth;
    assert!(fits, "operands of a product have matching sizes");
    let width = isa.panel_width();
    let par = if out.len() * b.k < WORTHWHILE { Par::Seq } else { run.par };
    let tile = Tiles { out: Columns::of(out, n), first: 0, a, b, scaled, run };
    if par == Par::Seq {
        tile.run(0..m, 0..n.div_ceil(width));
        return;
    }
    // A piece walks its panels once for all its rows, so as many rows as keep a panel busy while the next
    // one comes; only where that leaves threads idle are columns split too.
    let (panels, pieces) = (n.div_ceil(width), 4 * rayon::current_num_threads());
    let row_pieces = m.div_ceil(ROWS).min(pieces);
    let rows = m.div_ceil(row_pieces).next_multiple_of(isa.tile_rows());
    let row_pieces = m.div_ceil(rows);
    let some = panels.div_ceil(pieces.div_ceil(row_pieces));
    let column_pieces = panels.div_ceil(some);
    (0..row_pieces * column_pieces).into_par_iter().for_each(|i| {
        let (r, c) = (i % row_pieces * rows, i / row_pieces * some);
        tile.run(r..m.min(r + rows), c..panels.min(c + some));
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
pub(super) unsafe fn matmul_into(out: Columns, first: usize, a: &[f32], b: &Packed, run: Run<'_>) {
    let rounded = factor(a, b.k, b.products, b.isa, Par::Seq);
    // SAFETY: passed on.
    unsafe { words_into(out, first, rounded.as_deref().unwrap_or(a), b, None, run) };
}

/// The same of rows of words.
///
/// # Safety
/// As of [`matmul_into`].
unsafe fn words_into(
    out: Columns,
    first: usize,
    a: &[f32],
    b: &Packed,
    scaled: Option<Scaled<'_>>,
    run: Run<'_>,
) {
    let fits = first + b.n <= out.stride && a.len() == out.rows * b.depth;
    assert!(fits, "operands of a product have matching sizes");
    if out.rows > 0 && b.n > 0 {
        let tile = Tiles { out, first, a, b, scaled, run };
        tile.run(0..out.rows, 0..b.n.div_ceil(b.isa.panel_width()));
    }
}

/// A product being computed; tasks own disjoint tiles of `out`.
struct Tiles<'a> {
    out: Columns,
    /// Column of `out` that the first of `b` goes to.
    first: usize,
    /// Rows of as many words as `b` is deep.
    a: &'a [f32],
    b: &'a Packed,
    /// What integers are multiplied by.
    scaled: Option<Scaled<'a>>,
    run: Run<'a>,
}

impl Tiles<'_> {
    fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        let Packed { n, isa, depth: k, .. } = *self.b;
        let block = self.scaled.map_or_else(|| isa.block(k), Scaled::block);
        let walk = block * (isa.walk() / block).max(1);
        for start in (0..k.max(1)).step_by(walk) {
            let part = start..k.min(start + walk);
            match isa.strips(n) {
                None => self.block(rows.clone(), panels.clone(), part, block, None),
                Some(room) => {
                    let some = (room / part.len().max(1)).next_multiple_of(isa.tile_rows());
                    for first in rows.clone().step_by(some) {
                        let rows = first..rows.end.min(first + some);
                        let strips = self.strips(rows.clone(), part.clone());
                        self.block(rows, panels.clone(), part.clone(), block, Some(&strips));
                    }
                }
            }
        }
    }

    /// Rows of the left operand, those of each tile in one piece, `[depth, count]`.
    fn strips(&self, rows: Range<usize>, part: Range<usize>) -> Buffer {
        let (k, step) = (self.b.depth, self.b.isa.tile_rows());
        let mut strips = Buffer::arbitrary(rows.len() * part.len());
        let each = strips.chunks_mut((step * part.len()).max(1));
        for (strip, first) in each.zip(rows.clone().step_by(step)) {
            let count = step.min(rows.end - first);
            let rows = &self.a[first * k + part.start..][..(count - 1) * k + part.len()];
            transpose(strip, count, rows, k);
        }
        strips
    }

    /// The tiles of some rows and panels over a `part` of the reduction.
    fn block(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        part: Range<usize>,
        block: usize,
        strips: Option<&[f32]>,
    ) {
        let Packed { n, isa, depth: k, ref data, .. } = *self.b;
        let (width, depth) = (isa.panel_width(), part.len());
        let share = isa.share(rows.len(), depth);
        let (mut first, last) = (panels.start, panels.end);
        let finished = if rows.len() * n <= FEW { panels.len() } else { FINISHED };
        for panel in panels {
            let columns = width.min(n - panel * width);
            let of =
                |panel: usize| data.get((panel * k + part.start) * width..).unwrap_or_default();
            let b = &of(panel)[..depth * width];
            let scale = self.scaled.map(|s| s.of(rows.start, panel, part.start / block));
            let (a, left) = match strips {
                Some(strips) => {
                    let after = if isa.fetches() { of(panel + 1) } else { &[] };
                    (strips, Left::Strips { after, share })
                }
                None => {
                    let reach = rows.len().saturating_sub(1) * k + depth;
                    (&self.a[rows.start * k + part.start..][..reach], Left::Rows { stride: k })
                }
            };
            let column = self.first + panel * width;
            let (stride, add) = (self.out.stride, part.start > 0);
            // SAFETY: the panel lies inside `out`: rows end at m, columns at first + n.
            unsafe {
                let out = self.out.data.add(rows.start * stride + column);
                let (rows, n) = (rows.len(), stride);
                isa.panel(&Panel { out, n, rows, columns, a, left, b, depth, block, scale, add });
            }
            let done = panel + 1 - first;
            if part.end == k && (done == finished || panel + 1 == last) {
                self.finish(rows.clone(), first * width..n.min((panel + 1) * width));
                first = panel + 1;
            }
        }
    }

    /// What is to be done to these results, of which nothing is to come any more.
    fn finish(&self, rows: Range<usize>, columns: Range<usize>) {
        if !self.run.finishes() || rows.is_empty() {
            return;
        }
        let (stride, width) = (self.out.stride, columns.len());
        // Whole rows lie one behind the other.
        let (pieces, len) = match width == stride {
            true => (1, rows.len() * stride),
            false => (rows.len(), width),
        };
        for row in rows.start..rows.start + pieces {
            let at = row * stride + self.first + columns.start;
            // SAFETY: the rectangle lies inside `out` and is this task's own.
            let results = unsafe { std::slice::from_raw_parts_mut(self.out.data.add(at), len) };
            self.run.finish(at, results);
        }
    }
}
