//! The register tile: `MR` rows by two vectors of columns, for each instruction set and for f32, bf16
//! and 16-bit integer factors. A tile sees 32-bit words: one f32 each, or two of the others.

use super::isa::{FUSED, Isa};

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
    /// What sums of integers are multiplied by: a step for each column of the panel, and one for all.
    pub(super) scale: Option<(&'a [f32], f32)>,
    /// Whether to add to `out` instead of replacing it.
    pub(super) add: bool,
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
        /// The panel after this one.
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
        assert!(panel.scale.is_none_or(|(steps, _)| steps.len() == self.panel_width()));
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
                Isa::Avx512Vnni => x86::avx512_vnni(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Whole => x86::avx512_whole(panel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2Whole => x86::avx2_whole(panel),
            }
        }
    }
}

/// A vector register.
trait Vector: Copy {
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a · b, of pairs the sum of both products.
    unsafe fn mul_add(self, a: f32, b: Self) -> Self;
    unsafe fn plus(self, other: Self) -> Self;
    /// Sums of integers as f32, each times its step and the common one.
    unsafe fn scaled(self, steps: *const f32, by: f32) -> Self {
        let _ = (steps, by);
        self
    }
}

/// The sums of a tile over one block of the reduction, which starts at `a` and `b`, as `t.left` says.
#[inline(always)]
unsafe fn sums<V: Vector, const R: usize>(
    t: &Panel<'_>,
    a: *const f32,
    mut b: *const f32,
    words: usize,
) -> [[V; 2]; R] {
    // SAFETY: passed on from `rows`.
    unsafe {
        let mut acc = [[V::zero(); 2]; R];
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
        if let Some((steps, by)) = t.scale {
            for acc in acc.iter_mut() {
                acc[0] = acc[0].scaled(steps.as_ptr(), by);
                acc[1] = acc[1].scaled(steps.as_ptr().add(V::LANES), by);
            }
        }
        acc
    }
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
                        prefetch(out.add(r * t.n + line));
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
        let mut acc = sums::<V, R>(t, a, b, done);
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
            let next = sums::<V, R>(t, a.add(done * along), b.add(done * 2 * V::LANES), words);
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Panel, Vector, rows};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    macro_rules! vector {
        ($name:ident, $inner:ident, $lanes:literal, $zero:ident, $load:ident, $store:ident, $add:ident, |$a:ident, $b:ident, $sum:ident| $fma:expr
            $(, |$steps:ident, $by:ident| $scaled:expr)?) => {
            #[derive(Clone, Copy)]
            struct $name($inner);

            impl Vector for $name {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the tile function enables the instruction.
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above; the caller passes a pointer to a whole vector.
                    Self(unsafe { $load(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above; the caller passes a pointer to a whole vector.
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, a: f32, b: Self) -> Self {
                    let ($a, $b, $sum) = (a, b.0, self.0);
                    // SAFETY: the tile function enables the instructions; transmutations are
                    // between registers of one size.
                    Self(unsafe { $fma })
                }
                #[inline(always)]
                unsafe fn plus(self, other: Self) -> Self {
                    // SAFETY: the tile function enables the instruction.
                    Self(unsafe { $add(self.0, other.0) })
                }
                $(#[inline(always)]
                unsafe fn scaled(self, steps: *const f32, by: f32) -> Self {
                    let ($steps, $by, $sum) = (steps, by, self.0);
                    // SAFETY: as for `mul_add`; the caller passes a pointer to a whole vector.
                    Self(unsafe { $scaled })
                })?
            }
        };
    }

    /// A vector of AVX-512, by what it does with products.
    macro_rules! sixteen {
        ($name:ident, $($products:tt)*) => {
            vector!($name, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, $($products)*);
        };
    }

    /// A vector of AVX2, by what it does with products.
    macro_rules! eight {
        ($name:ident, $($products:tt)*) => {
            vector!($name, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, $($products)*);
        };
    }

    sixteen!(Sixteen, |a, b, sum| _mm512_fmadd_ps(_mm512_set1_ps(a), b, sum));
    eight!(Eight, |a, b, sum| _mm256_fmadd_ps(_mm256_set1_ps(a), b, sum));
    sixteen!(SixteenPairs, |a, b, sum| {
        let a: __m512bh = transmute(_mm512_set1_ps(a));
        _mm512_dpbf16_ps(sum, a, transmute::<__m512, __m512bh>(b))
    });
    /// A vector of AVX-512 for pairs of integers, by how their products are added up.
    macro_rules! sixteen_whole {
        ($name:ident, |$a:ident, $b:ident, $sum:ident| $added:expr) => {
            sixteen!(
                $name,
                |a, b, sum| {
                    let $a = _mm512_castps_si512(_mm512_set1_ps(a));
                    let ($b, $sum) = (_mm512_castps_si512(b), _mm512_castps_si512(sum));
                    _mm512_castsi512_ps($added)
                },
                |steps, by| {
                    let step = _mm512_mul_ps(_mm512_loadu_ps(steps), _mm512_set1_ps(by));
                    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(sum)), step)
                }
            );
        };
    }

    sixteen_whole!(SixteenVnni, |a, b, sum| _mm512_dpwssd_epi32(sum, a, b));
    sixteen_whole!(SixteenWhole, |a, b, sum| _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)));
    eight!(
        EightWhole,
        |a, b, sum| {
            let (a, b) = (_mm256_castps_si256(_mm256_set1_ps(a)), _mm256_castps_si256(b));
            let two = _mm256_madd_epi16(a, b);
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), two))
        },
        |steps, by| {
            let step = _mm256_mul_ps(_mm256_loadu_ps(steps), _mm256_set1_ps(by));
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_castps_si256(sum)), step)
        }
    );

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(Sixteen, panel, 12; 1 2 3 4 5 6 7 8 9 10 11) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn avx512_bf16(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(SixteenPairs, panel, 12; 1 2 3 4 5 6 7 8 9 10 11) }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn avx512_vnni(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(SixteenVnni, panel, 12; 1 2 3 4 5 6 7 8 9 10 11) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn avx512_whole(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(SixteenWhole, panel, 12; 1 2 3 4 5 6 7 8 9 10 11) }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2_whole(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(EightWhole, panel, 6; 1 2 3 4 5) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(panel: &Panel<'_>) {
        // SAFETY: passed on from `Isa::panel`.
        unsafe { tiles!(Eight, panel, 6; 1 2 3 4 5) }
    }
}
