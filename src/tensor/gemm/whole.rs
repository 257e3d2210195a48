//! Products of numbers on grids, in integers: where both factors are whole multiples of a step, sums of
//! products are whole multiples of both steps, and a processor multiplies two pairs of 16-bit integers,
//! or four of 8 bits, where it multiplies one pair of f32.
//!
//! The integers of two or four neighbours along the reduction share a word, as bf16 do (see `pairs.rs`).
//! Sums of one block are exact in 32 bits; blocks are added in f32, scaled. Of four, those of the left
//! operand are unsigned and those of the right one signed. What is taken from them to make them so comes
//! back by the sums of the other operand's rows or columns, so sums of a block are the same either way.

use super::super::buffer::Buffer;
use super::super::run::Run;
use super::gather::{gathered, range};
use super::isa::Isa;
use super::kernel::Scale;
use super::{Columns, Packed, Par, Products};
use std::sync::OnceLock;

/// What is known of numbers on a grid: each is a whole multiple of a step.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// The step of all numbers, or one for each row.
    pub sizes: &'a [f32],
    /// The smallest and the largest multiple.
    pub limits: [i32; 2],
    /// How far apart multiples of one step lie at most.
    pub span: u32,
}

impl<'a> Steps<'a> {
    /// The same of some rows.
    pub(crate) fn of_rows(self, first: usize, count: usize) -> Steps<'a> {
        match self.sizes {
            [_] => self,
            sizes => Steps { sizes: &sizes[first..first + count], ..self },
        }
    }

    /// Whether signed bytes of a row may need something taken from them.
    fn shifted(self) -> bool {
        self.limits.into_iter().any(|limit| i8::try_from(limit).is_err())
    }

    /// The largest multiple, either way, where it is a 16-bit integer.
    fn most(self) -> Option<u64> {
        let fits = self.limits.into_iter().all(|limit| i16::try_from(limit).is_ok());
        fits.then(|| self.limits.map(i32::unsigned_abs).into_iter().fold(1, u32::max).into())
    }
}

/// Shortest block of a reduction, in words, that is worth its pass over the results.
const SHORTEST: usize = 128;

/// A right operand as integers.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    packed: Packed,
    /// Step of each column, padded to whole panels.
    steps: Vec<f32>,
    /// Sums of each column over each block, `[panels, blocks, width]`; only of bytes.
    columns: Vec<i32>,
    /// What was taken from each column to make it bytes, padded; none: nothing.
    shifts: Vec<i32>,
}

/// A right operand for left ones of 16 bits and for those of 8, each made at the first product.
#[derive(Debug, Default)]
pub(crate) struct Wholes([OnceLock<Option<Whole>>; 2]);

impl Wholes {
    /// As [`Whole::from_nt`], once.
    pub(crate) fn of<'a>(
        &self,
        b: impl FnOnce() -> &'a [f32],
        nk: [usize; 2],
        both: [Steps<'_>; 2],
    ) -> Option<&Whole> {
        let way = Way::of(nk[1], both)?;
        let made = &self.0[usize::from(way.isa.takes_bytes())];
        made.get_or_init(|| Whole::from_nt(b(), nk, both)).as_ref()
    }
}

impl Whole {
    /// Packs `b` stored `[n, k]` for products of such operands; none where sums do not fit, or `b` is
    /// not what its steps say.
    pub(crate) fn from_nt(b: &[f32], nk: [usize; 2], both: [Steps<'_>; 2]) -> Option<Whole> {
        Whole::by(Way::of(nk[1], both)?, b, nk, both[1])
    }

    fn by(way: Way, b: &[f32], [n, k]: [usize; 2], right: Steps<'_>) -> Option<Whole> {
        if right.sizes.len() != 1 && right.sizes.len() != n {
            return None;
        }
        let (isa, bytes) = (way.isa, way.isa.takes_bytes());
        let mut shifts = if bytes { shifts(b, k, right)? } else { Vec::new() };
        let words = gathered(b, k, right, (isa.integers(), &shifts), Par::Seq)?;
        let depth = k.div_ceil(isa.integers());
        let packed = Packed::from_words(&words, [k, n, depth], isa, Products::F32);
        let mut steps = right.sizes.to_vec();
        if let [one] = steps[..] {
            steps.resize(n, one);
        }
        steps.resize(n.next_multiple_of(isa.panel_width()), 0.0);
        let columns = if bytes { way.columns(&words, [n, depth]) } else { Vec::new() };
        if !shifts.is_empty() {
            shifts.resize(steps.len(), 0);
        }
        Some(Whole { packed, steps, columns, shifts })
    }

    /// `out [m, n] = a [m, k] · b`.
    ///
    /// # Panics
    /// If the operands do not have these sizes: a mistake of ours.
    pub(crate) fn multiply(&self, out: &mut [f32], a: &Integers, run: Run<'_>) {
        super::product(out, &a.words, &self.packed, Some(self.scaled(a)), run);
    }

    /// As `matmul_into`.
    ///
    /// # Safety
    /// As of `matmul_into`.
    pub(crate) unsafe fn multiply_into(
        &self,
        out: Columns,
        first: usize,
        a: &Integers,
        run: Run<'_>,
    ) {
        // SAFETY: passed on.
        unsafe { super::words_into(out, first, &a.words, &self.packed, Some(self.scaled(a)), run) };
    }

    fn scaled<'a>(&'a self, a: &'a Integers) -> Scaled<'a> {
        Scaled { right: self, left: a }
    }
}

/// A left operand as integers.
pub(crate) struct Integers {
    words: Buffer,
    step: f32,
    /// What was taken from each.
    low: i32,
    /// Sums of each row over each block, before that, `[rows, blocks]`; only of bytes.
    rows: Vec<i32>,
    /// Words that are summed up.
    block: usize,
}

impl Integers {
    /// Rows of `k` numbers for products of such operands; none where sums do not fit, or `a` is not
    /// what its steps say.
    pub(crate) fn of(a: &[f32], k: usize, both: [Steps<'_>; 2], par: Par) -> Option<Integers> {
        Integers::by(Way::of(k, both)?, a, k, both, par)
    }

    fn by(way: Way, a: &[f32], k: usize, both: [Steps<'_>; 2], par: Par) -> Option<Integers> {
        let (Way { isa, block }, [left, right]) = (way, both);
        let &[step] = left.sizes else { return None };
        let (of, bytes) = (isa.integers(), isa.takes_bytes());
        let low = if bytes { left.limits[0] } else { 0 };
        let words = gathered(a, k, left, (of, &[low]), par)?;
        let mut rows = Vec::new();
        if bytes && right.shifted() {
            let depth = k.div_ceil(of);
            rows = isa.sums::<false>(&words, depth, block, par);
            let last = depth.div_ceil(block).max(1) - 1;
            for sums in rows.chunks_exact_mut(last + 1) {
                sums[..last].iter_mut().for_each(|sum| *sum += low * (of * block) as i32);
                sums[last] += low * (k - last * of * block) as i32;
            }
        }
        Some(Integers { words, step, low, rows, block })
    }
}

/// What makes numbers of a product's integers.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    right: &'a Whole,
    left: &'a Integers,
}

impl<'a> Scaled<'a> {
    /// Words that are summed up.
    pub(super) fn block(self) -> usize {
        self.left.block
    }

    /// That of the rows from `row` on and a panel, from a block of the reduction on.
    pub(super) fn of(self, row: usize, panel: usize, block: usize) -> Scale<'a> {
        let Scaled { right, left } = self;
        let (width, depth) = (right.packed.isa.panel_width(), right.packed.depth);
        let blocks = depth.div_ceil(left.block).max(1);
        let columns = panel * width..(panel + 1) * width;
        Scale {
            steps: &right.steps[columns.clone()],
            by: left.step,
            low: left.low,
            columns: right.columns.get((panel * blocks + block) * width..).unwrap_or_default(),
            shifts: right.shifts.get(columns).unwrap_or_default(),
            rows: left.rows.get(row * blocks + block..).unwrap_or_default(),
            blocks,
        }
    }
}

/// How integers are multiplied.
#[derive(Clone, Copy)]
struct Way {
    isa: Isa,
    /// Words that are summed up before they are scaled: the same integers whatever the words hold.
    block: usize,
}

impl Way {
    /// That of operands with `k` numbers a row; none if so few words have sums of 32 bits that it does not
    /// pay.
    fn of(k: usize, both: [Steps<'_>; 2]) -> Option<Way> {
        let isa = Isa::bytes().filter(|_| bytes(both)).unwrap_or_else(Isa::whole);
        Way::by(isa, k, both)
    }

    fn by(isa: Isa, k: usize, both: [Steps<'_>; 2]) -> Option<Way> {
        let most = 2 * both[0].most()? * both[1].most()?;
        let fit = usize::try_from(i32::MAX as u64 / most).ok().filter(|&fit| fit >= SHORTEST)?;
        let pairs = k.div_ceil(2).max(1);
        // So many that none is much shorter than the others.
        let block = pairs.div_ceil(pairs.div_ceil(fit.min(if pairs >= 1024 { 256 } else { 1024 })));
        let block = if bytes(both) { block.next_multiple_of(2) } else { block };
        Some(Way { isa, block: 2 * block / isa.integers() })
    }

    /// Sums of `words` `[n, depth]` of four signed integers over each block, as [`Whole`] holds them.
    fn columns(self, words: &[f32], [n, depth]: [usize; 2]) -> Vec<i32> {
        let (width, blocks) = (self.isa.panel_width(), depth.div_ceil(self.block).max(1));
        let mut columns = vec![0; n.next_multiple_of(width) * blocks];
        let sums = self.isa.sums::<true>(words, depth, self.block, Par::Seq);
        for (i, sum) in sums.into_iter().enumerate() {
            let (column, block) = (i / blocks, i % blocks);
            columns[(column / width * blocks + block) * width + column % width] = sum;
        }
        columns
    }
}

/// What is to be taken from each row of `k` multiples so that they are signed bytes, nothing if it is empty;
/// none if that cannot be.
fn shifts(b: &[f32], k: usize, steps: Steps<'_>) -> Option<Vec<i32>> {
    if !steps.shifted() {
        return Some(Vec::new());
    }
    let row = |(row, numbers): (usize, &[f32])| {
        let [least, most] = range(numbers, steps.sizes[row % steps.sizes.len()].recip());
        match (least, most) {
            (-128.0.., ..=127.0) => Some(0),
            _ if most - least <= 255.0 => Some(least as i32 + 128),
            _ => None,
        }
    };
    b.chunks_exact(k.max(1)).enumerate().map(row).collect()
}

/// Whether integers of both operands have 8 bits, once something is taken from those of one step.
fn bytes([left, right]: [Steps<'_>; 2]) -> bool {
    let [low, high] = left.limits;
    high.abs_diff(low) <= u8::MAX.into() && right.span <= u8::MAX.into()
}

#[cfg(test)]
mod tests;
