//! Products of numbers on grids, in integers: where both factors are whole multiples of a step, sums of
//! products are whole multiples of both steps, and a processor multiplies two pairs of 16-bit integers
//! where it multiplies one pair of f32.
//!
//! The integers of two neighbours along the reduction share a word, as bf16 do (see `pairs.rs`). Sums of
//! one block are exact in 32 bits; blocks are added in f32, scaled.

use super::super::buffer::Buffer;
use super::super::in_pieces;
use super::super::run::Run;
use super::super::simd::{ROUNDER, dispatch};
use super::isa::Isa;
use super::{Columns, Packed, Par, Products, pairs};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of numbers on a grid: each is a whole multiple of a step.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// The step of all numbers, or one for each row.
    pub sizes: &'a [f32],
    /// The smallest and the largest multiple.
    pub limits: [i32; 2],
}

impl<'a> Steps<'a> {
    /// The same of some rows.
    pub(crate) fn of_rows(self, first: usize, count: usize) -> Steps<'a> {
        match self.sizes {
            [_] => self,
            sizes => Steps { sizes: &sizes[first..first + count], ..self },
        }
    }

    /// The largest multiple, either way, where it is a 16-bit integer.
    fn most(self) -> Option<u64> {
        let fits = self.limits.into_iter().all(|limit| i16::try_from(limit).is_ok());
        fits.then(|| self.limits.map(i32::unsigned_abs).into_iter().fold(1, u32::max).into())
    }
}

/// Shortest block of a reduction, in words, that is worth its pass over the results.
const SHORTEST: usize = 128;

/// How far from a whole number a multiple may lie: rounding to f32 takes it 2⁻⁷ away at most.
const TOLERANCE: f32 = 1.0 / 32.0;

/// A right operand as integers.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    packed: Packed,
    /// Step of each column, padded to whole panels.
    steps: Vec<f32>,
}

impl Whole {
    /// Packs `b` stored `[n, k]` for products of such operands; none where sums do not fit, or `b` is
    /// not what its steps say.
    pub(crate) fn from_nt(b: &[f32], [n, k]: [usize; 2], both: [Steps<'_>; 2]) -> Option<Whole> {
        let (isa, [_, right]) = (Isa::whole(), both);
        block(both).filter(|_| right.sizes.len() == 1 || right.sizes.len() == n)?;
        let words = words(b, k, right, Par::Seq)?;
        let packed = Packed::from_words(&words, [k, n, pairs::words(k)], isa, Products::F32);
        let mut steps = right.sizes.to_vec();
        if let [one] = steps[..] {
            steps.resize(n, one);
        }
        steps.resize(n.next_multiple_of(isa.panel_width()), 0.0);
        Some(Whole { packed, steps })
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

    fn scaled(&self, a: &Integers) -> Scaled<'_> {
        Scaled { steps: &self.steps, by: a.step, block: a.block }
    }
}

/// A left operand as integers.
pub(crate) struct Integers {
    words: Buffer,
    step: f32,
    /// Words that can be summed up.
    block: usize,
}

impl Integers {
    /// Rows of `k` numbers for products of such operands; none where sums do not fit, or `a` is not
    /// what its steps say.
    pub(crate) fn of(a: &[f32], k: usize, both: [Steps<'_>; 2], par: Par) -> Option<Integers> {
        let ([left, _], block) = (both, block(both)?);
        let &[step] = left.sizes else { return None };
        Some(Integers { words: words(a, k, left, par)?, step, block })
    }
}

/// What a product of integers is to be multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    /// Step of each column.
    pub(super) steps: &'a [f32],
    /// Step of the left operand.
    pub(super) by: f32,
    /// Words that can be summed up.
    pub(super) block: usize,
}

/// Words of which 32 bits hold the sum of products, if so few are worth it.
fn block([left, right]: [Steps<'_>; 2]) -> Option<usize> {
    let most = 2 * left.most()? * right.most()?;
    usize::try_from(i32::MAX as u64 / most).ok().filter(|&words| words >= SHORTEST)
}

/// Rows of `k` numbers as rows of words, two multiples each; none if one of them is no such multiple.
fn words(data: &[f32], k: usize, steps: Steps<'_>, par: Par) -> Option<Buffer> {
    let (k, width) = (k.max(1), pairs::words(k).max(1));
    let mut out = Buffer::arbitrary(data.len() / k * width);
    let wrong = AtomicBool::new(false);
    let limits = steps.limits.map(|limit| limit as f32);
    // Even rows of one step are one long row.
    let long = k.is_multiple_of(2) && steps.sizes.len() == 1;
    in_pieces(&mut out, width, par, |at, out| {
        let each = if long { out.len() } else { width };
        for (i, out) in out.chunks_exact_mut(each).enumerate() {
            let row = (at + i * each) / width;
            let size = steps.sizes[if steps.sizes.len() == 1 { 0 } else { row }];
            if !pair(out, &data[row * k..][..each / width * k], size.recip(), limits) {
                wrong.store(true, Ordering::Relaxed);
            }
        }
    });
    (!wrong.into_inner()).then_some(out)
}

/// Numbers that are rounded at a time.
const BLOCK: usize = 16;

dispatch! {
    fn pair(out: &mut [f32], row: &[f32], inverse: f32, limits: [f32; 2]) -> bool {
        let (blocks, rest) = row.as_chunks::<BLOCK>();
        let (words, last) = out.split_at_mut(blocks.len() * BLOCK / 2);
        let (mut off, mut least, mut most) = ([0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
        for (words, block) in words.as_chunks_mut::<{ BLOCK / 2 }>().0.iter_mut().zip(blocks) {
            let mut halves = [0; BLOCK];
            for i in 0..BLOCK {
                halves[i] = half(block[i] * inverse, &mut off[i], &mut least[i], &mut most[i]);
            }
            for (word, two) in words.iter_mut().zip(halves.as_chunks().0) {
                *word = word_of(*two);
            }
        }
        for (word, some) in last.iter_mut().zip(rest.chunks(2)) {
            let mut two = [0; 2];
            for (whole, x) in two.iter_mut().zip(some) {
                *whole = half(x * inverse, &mut off[0], &mut least[0], &mut most[0]);
            }
            *word = word_of(two);
        }
        off == [0; BLOCK]
            && least.into_iter().all(|least| limits[0] <= least)
            && most.into_iter().all(|most| most <= limits[1])
    }
}

/// The word of two halves.
#[inline(always)]
fn word_of([low, high]: [u16; 2]) -> f32 {
    f32::from_bits(u32::from(low) | u32::from(high) << 16)
}

/// The lower half of a number that should be whole; whether it is far from that, and the extremes.
#[inline(always)]
fn half(x: f32, off: &mut u32, least: &mut f32, most: &mut f32) -> u16 {
    let rounded = x + ROUNDER;
    let whole = rounded - ROUNDER;
    // NaN is near to nothing.
    *off |= if (x - whole).abs() <= TOLERANCE { 0 } else { u32::MAX };
    *least = if whole < *least { whole } else { *least };
    *most = if whole > *most { whole } else { *most };
    rounded.to_bits() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers `[rows, k]` on a grid of a step a row.
    fn on_grid(seeds: &[u64], k: usize, sizes: &[f32], [low, high]: [i32; 2]) -> Vec<f32> {
        let each = seeds.iter().zip(0..).map(|(seed, i)| {
            let range = (high - low + 1) as u64;
            (low + (seed % range) as i32) as f32 * sizes[(i / k) % sizes.len()]
        });
        each.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_in_integers_are_those_of_the_numbers(
            m in 1usize..20,
            k in prop_oneof![4 => 1usize..70, 1 => 500usize..1300],
            n in prop_oneof![4 => 1usize..50, 1 => 505usize..530],
            bits in 0usize..4,
            per_row: bool,
            seed: u64,
        ) {
            let left = [[-128, 127], [-200, 55], [-32768, 32767], [0, 255]][bits];
            let right = [[-127, 127], [-128, 127], [-8, 7], [-15, 15]][bits];
            let noise = |n: usize, seed: u64| -> Vec<u64> {
                let next = |x: &mut u64| {
                    *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    Some(*x >> 33)
                };
                std::iter::repeat_n((), n).scan(seed, |x, ()| next(x)).collect()
            };
            let sizes: Vec<f32> = (0..if per_row { n } else { 1 }).map(|i| 0.01 + 0.003 * i as f32).collect();
            let a = on_grid(&noise(m * k, seed), k, &[0.37], left);
            let b = on_grid(&noise(n * k, !seed), k, &sizes, right);
            let steps = [Steps { sizes: &[0.37], limits: left }, Steps { sizes: &sizes, limits: right }];
            let whole = Whole::from_nt(&b, [n, k], steps).unwrap();
            let (mut out, mut again) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            for (out, par) in [(&mut out, Par::Seq), (&mut again, Par::All)] {
                whole.multiply(out, &Integers::of(&a, k, steps, par).unwrap(), par.into());
            }
            prop_assert_eq!(&out, &again);
            for (i, out) in out.iter().enumerate() {
                let terms = (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(b[i % n * k + p]));
                let (exact, size) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
                prop_assert!((f64::from(*out) - exact).abs() <= 1e-6 * size, "{} {}", out, exact);
            }
        }
    }

    #[test]
    fn numbers_off_their_grid_are_noticed() {
        let steps = Steps { sizes: &[0.5], limits: [-8, 7] };
        for wrong in [0.25, 4.0, -4.5, f32::NAN, f32::INFINITY, 3e9] {
            for at in 0..3 {
                let mut numbers = [0.5, 1.0, -4.0];
                assert!(words(&numbers, 3, steps, Par::Seq).is_some());
                numbers[at] = wrong;
                assert!(words(&numbers, 3, steps, Par::Seq).is_none(), "{wrong} at {at}");
            }
        }
    }

    #[test]
    fn sums_that_32_bits_cannot_hold_are_left_to_f32() {
        let steps = |low, high| Steps { sizes: &[1.0], limits: [low, high] };
        let (bytes, wide, past) = (steps(-128, 127), steps(-32768, 32767), steps(0, 65535));
        for (left, right, fits) in [
            (wide, bytes, true),
            (bytes, bytes, true),
            (wide, wide, false),
            (past, bytes, false),
            (bytes, past, false),
        ] {
            let both = [left, right];
            assert_eq!(Integers::of(&[1.0; 4], 4, both, Par::Seq).is_some(), fits, "{both:?}");
            assert_eq!(Whole::from_nt(&[1.0; 4], [1, 4], both).is_some(), fits, "{both:?}");
        }
        // The extremes of both, summed up over a block and further.
        let k = 2000;
        let (a, b) = (vec![-32768.0; k], vec![-128.0; k]);
        let whole = Whole::from_nt(&b, [1, k], [wide, bytes]).unwrap();
        let mut out = [0.0];
        let a = Integers::of(&a, k, [wide, bytes], Par::Seq).unwrap();
        whole.multiply(&mut out, &a, Par::Seq.into());
        assert_eq!(out, [32768.0 * 128.0 * k as f32]);
    }
}
