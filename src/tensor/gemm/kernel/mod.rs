//! The register tile: `MR` rows by two vectors of columns, for each instruction set and for f32, bf16
//! and integer factors. A tile sees 32-bit words: one f32 each, two bf16 or 16-bit integers, or four of 8 bits.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::Par;
use super::isa::{FUSED, Isa};
use rayon::prelude::*;

/// The tiles of a panel, one below the other: `out [rows, columns] (+)= a [rows, depth] · b [depth, width]`.
pub(super) struct Panel<'a> {
    pub(super) out: *mut f32,
    /// Row stride of `out`.
    pub(super) n: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) a: &'a [f32],
    pub(super) left: Left<'a>,
    pub(super) b: &'a [f32],
    pub(super) depth: usize,
    /// Words of it that are summed up by themselves.
    pub(super) block: usize,
    /// Of products of integers.
    pub(super) scale: Option<Scale<'a>>,
    /// Whether to add to `out` instead of replacing it.
    pub(super) add: bool,
}

/// From sums of integers to numbers.
#[derive(Clone, Copy)]
pub(super) struct Scale<'a> {
    /// What sums are multiplied by: a step for each column of the panel.
    pub(super) steps: &'a [f32],
    /// And one for all.
    pub(super) by: f32,
    /// What was taken from the left operand's numbers, to make them unsigned.
    pub(super) low: i32,
    /// Sums of the right operand's columns over each block, where it is bytes.
    pub(super) columns: &'a [i32],
    /// What was taken from the numbers of each column; none: nothing.
    pub(super) shifts: &'a [i32],
    /// Sums of the left operand's rows over each block, before anything was taken, where there are shifts.
    pub(super) rows: &'a [i32],
    /// From one row of those to the next.
    pub(super) blocks: usize,
}

impl Scale<'_> {
    /// Whether it has all that a panel of bytes asks for.
    fn covers(&self, panel: &Panel<'_>) -> bool {
        let (width, blocks) = (self.steps.len(), panel.depth.div_ceil(panel.block));
        let rows = (panel.rows.max(1) - 1) * self.blocks + blocks;
        self.columns.len() >= blocks * width
            && (self.shifts.is_empty() || self.shifts.len() == width && self.rows.len() >= rows)
    }
}

/// How a panel's `a` lies.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// In rows of this stride.
    Rows {
        /// From one row to the next.
        stride: usize,
    },
    /// Gathered, `[depth, count]` for each tile: the product is too large for the cache, so a tile
    /// fetches what it will write and its share of the panel after this one.
    Strips {
        /// That panel; nothing where the processor finds it by itself.
        after: &'a [f32],
        /// How much of it is fetched by each tile.
        share: usize,
    },
}

/// Numbers of a line of the cache.
pub(super) const LINE: usize = 16;

/// Asks for the line of `at`.
#[inline(always)]
fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

impl Isa {
    /// Computes the tiles of a panel.
    ///
    /// # Safety
    /// `panel.out` must be valid for `rows` rows of stride `n` and `columns` elements each, and
    /// nobody else may use them.
    pub(super) unsafe fn panel(self, panel: &Panel<'_>) {
        let reach = match panel.left {
            _ if panel.rows == 0 || panel.depth == 0 => 0,
            Left::Rows { stride } => (panel.rows - 1) * stride + panel.depth,
            Left::Strips { .. } => panel.rows * panel.depth,
        };
        assert!(panel.a.len() >= reach);
        assert_eq!(panel.b.len(), panel.depth * self.panel_width());
        assert!(panel.scale.is_none_or(|scale| scale.steps.len() == self.panel_width()));
        assert!(!self.takes_bytes() || panel.scale.is_some_and(|scale| scale.covers(panel)));
        // SAFETY: detection made sure of the instructions; bounds were checked above.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => x86::avx512(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::avx2(panel),
                Isa::Portable => portable::<false>(panel),
                Isa::PortableWhole => portable::<true>(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Bf16 => x86::avx512_bf16(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Bytes => x86::avx512_bytes(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Vnni => x86::avx512_vnni(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Whole => x86::avx512_whole(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2Whole => x86::avx2_whole(panel),
            }
        }
    }

    /// Sums of the bytes in rows of `width` words, over blocks of so many words each.
    ///
    /// # Panics
    /// If its words are of something else: a mistake of ours.
    pub(super) fn sums<const SIGNED: bool>(
        self,
        words: &[f32],
        width: usize,
        block: usize,
        par: Par,
    ) -> Vec<i32> {
        assert!(self.takes_bytes());
        let (blocks, width) = (width.div_ceil(block).max(1), width.max(1));
        let mut sums = vec![0; words.len() / width * blocks];
        let row = |(row, sums): (&[f32], &mut [i32])| {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this instruction set was detected, or nobody would have made such words.
            unsafe {
                x86::byte_sums::<SIGNED>(row, block, sums);
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (row, sums);
        };
        match par {
            Par::Seq => words.chunks_exact(width).zip(sums.chunks_exact_mut(blocks)).for_each(row),
            Par::All => {
                let rows = words.par_chunks_exact(width).zip(sums.par_chunks_exact_mut(blocks));
                rows.for_each(row);
            }
        }
        sums
    }
}

/// A vector register.
trait Vector: Copy {
    const LANES: usize;
    /// Whether something was taken from its integers.
    const BYTES: bool = false;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a · b, of pairs the sum of both products.
    unsafe fn mul_add(self, a: f32, b: Self) -> Self;
    unsafe fn plus(self, other: Self) -> Self;
    /// Integers, each plus a multiple of another.
    unsafe fn plus_times(self, others: *const i32, times: i32) -> Self {
        let _ = (others, times);
        self
    }
    /// Sums of integers as f32, each times its step and the common one.
    unsafe fn scaled(self, steps: *const f32, by: f32) -> Self {
        let _ = (steps, by);
        self
    }
}

/// The sums of a tile over one `block` of the reduction, which starts at `a` and `b`, as `t.left` says.
#[inline(always)]
unsafe fn sums<V: Vector, const R: usize>(
    t: &Panel<'_>,
    [row, block]: [usize; 2],
    [a, mut b]: [*const f32; 2],
    words: usize,
) -> [[V; 2]; R] {
    // SAFETY: passed on from `rows`.
    unsafe {
        let mut acc = [[V::zero(); 2]; R];
        if let (true, Some(scale)) = (V::BYTES, &t.scale) {
            acc = [both(acc[0], scale.columns.as_ptr().add(block * 2 * V::LANES), scale.low); R];
            if !scale.shifts.is_empty() {
                for (r, acc) in acc.iter_mut().enumerate() {
                    let sum = *scale.rows.as_ptr().add((row + r) * scale.blocks + block);
                    *acc = both(*acc, scale.shifts.as_ptr(), sum);
                }
            }
        }
        // A macro, not a closure: a closure would be compiled without the tile's instructions.
        macro_rules! step {
            ($first:expr, $stride:expr) => {
                let (b0, b1) = (V::load(b), V::load(b.add(V::LANES)));
                b = b.add(2 * V::LANES);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = *a.add($first + r * $stride);
                    acc[0] = acc[0].mul_add(x, b0);
                    acc[1] = acc[1].mul_add(x, b1);
                }
            };
        }
        match t.left {
            Left::Rows { stride } => {
                for p in 0..words {
                    step!(p, stride);
                }
            }
            Left::Strips { .. } => {
                for p in 0..words {
                    step!(p * R, 1);
                }
            }
        }
        if let Some(Scale { steps, by, .. }) = t.scale {
            for acc in acc.iter_mut() {
                acc[0] = acc[0].scaled(steps.as_ptr(), by);
                acc[1] = acc[1].scaled(steps.as_ptr().add(V::LANES), by);
            }
        }
        acc
    }
}

/// [`Vector::plus_times`] of a row of a tile.
#[inline(always)]
unsafe fn both<V: Vector>(acc: [V; 2], others: *const i32, times: i32) -> [V; 2] {
    // SAFETY: passed on from `sums`.
    unsafe { [acc[0].plus_times(others, times), acc[1].plus_times(others.add(V::LANES), times)] }
}

/// The tile of the `R` rows from `row` on; all accumulators stay in registers. `tile` counts them.
#[inline(always)]
unsafe fn rows<V: Vector, const R: usize>(t: &Panel<'_>, row: usize, tile: usize) {
    // SAFETY: the caller of `Isa::panel` vouches for `out`; `a` and `b` were checked there.
    unsafe {
        let out = t.out.add(row * t.n);
        // Where its first row starts, and how far the words of a row lie apart.
        let (start, along) = match t.left {
            Left::Rows { stride } => (row * stride, 1),
            Left::Strips { after, share } => {
                for r in 0..R {
                    for line in (0..2 * V::LANES).step_by(LINE) {
                        prefetch(out.wrapping_add(r * t.n + line));
                    }
                }
                for line in after.chunks(share).nth(tile).unwrap_or_default().chunks(LINE) {
                    prefetch(line.as_ptr());
                }
                (row * t.depth, R)
            }
        };
        let (a, b) = (t.a.as_ptr().add(start), t.b.as_ptr());
        let mut done = t.block.min(t.depth);
        let mut acc = sums::<V, R>(t, [row, 0], [a, b], done);
        let whole = t.columns == 2 * V::LANES;
        let mut edge = [0.0f32; 32];
        if t.add {
            for (r, acc) in acc.iter_mut().enumerate() {
                let mut out = out.add(r * t.n).cast_const();
                if !whole {
                    std::ptr::copy_nonoverlapping(out, edge.as_mut_ptr(), t.columns);
                    out = edge.as_ptr();
                }
                *acc = [acc[0].plus(V::load(out)), acc[1].plus(V::load(out.add(V::LANES)))];
            }
        }
        while done < t.depth {
            let words = t.block.min(t.depth - done);
            let from = [a.add(done * along), b.add(done * 2 * V::LANES)];
            let next = sums::<V, R>(t, [row, done / t.block], from, words);
            for (acc, next) in acc.iter_mut().zip(next) {
                *acc = [next[0].plus(acc[0]), next[1].plus(acc[1])];
            }
            done += words;
        }
        for (r, [first, second]) in acc.into_iter().enumerate() {
            let row = out.add(r * t.n);
            let to = if whole { row } else { edge.as_mut_ptr() };
            first.store(to);
            second.store(to.add(V::LANES));
            if !whole {
                std::ptr::copy_nonoverlapping(to, row, t.columns);
            }
        }
    }
}

/// All tiles of a panel: as many of the most rows as there are, then one of the rest.
macro_rules! tiles {
    ($v:ty, $panel:expr, $most:literal; $($rest:literal)*) => {{
        let (panel, mut row) = ($panel, 0);
        while row + $most <= panel.rows {
            rows::<$v, $most>(panel, row, row / $most);
            row += $most;
        }
        match panel.rows - row {
            $($rest => rows::<$v, $rest>(panel, row, row / $most),)*
            _ => {}
        }
    }};
}
#[cfg(target_arch = "x86_64")]
use tiles;

/// Four numbers, or as many pairs of integers.
#[derive(Clone, Copy)]
struct Four<const WHOLE: bool>([f32; 4]);

impl<const WHOLE: bool> Vector for Four<WHOLE> {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Four([0.0; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller passes a pointer to at least four floats.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller passes a pointer to at least four floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: f32, b: Self) -> Self {
        Four(std::array::from_fn(|i| match (WHOLE, FUSED) {
            (true, _) => pairs_added(self.0[i], a, b.0[i]),
            (false, true) => a.mul_add(b.0[i], self.0[i]),
            (false, false) => self.0[i] + a * b.0[i],
        }))
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn scaled(self, steps: *const f32, by: f32) -> Self {
        // SAFETY: the caller passes a pointer to a whole vector.
        let steps = unsafe { Self::load(steps) };
        let sum = |i: usize| self.0[i].to_bits().cast_signed() as f32;
        Four(std::array::from_fn(|i| if WHOLE { sum(i) * (steps.0[i] * by) } else { self.0[i] }))
    }
}

/// The bits of a sum of 32 bits, and both products of two pairs of 16.
#[inline(always)]
fn pairs_added(sum: f32, a: f32, b: f32) -> f32 {
    let [a, b] = [a, b].map(|word| {
        let word = word.to_bits().cast_signed();
        [word << 16 >> 16, word >> 16]
    });
    let two = (a[0] * b[0]).wrapping_add(a[1] * b[1]);
    f32::from_bits(sum.to_bits().wrapping_add(two.cast_unsigned()))
}

unsafe fn portable<const WHOLE: bool>(panel: &Panel<'_>) {
    // SAFETY: passed on from `Isa::panel`.
    unsafe { tiles!(Four<WHOLE>, panel, 4; 1 2 3) }
}

#[cfg(test)]
mod tests;
