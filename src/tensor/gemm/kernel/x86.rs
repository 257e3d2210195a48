//! The tiles of x86-64: what a vector does is the only difference between them.

use super::{Panel, Vector, rows, tiles};
use std::arch::x86_64::*;
use std::mem::transmute;

macro_rules! vector {
    ($name:ident, $inner:ident, $lanes:literal, $zero:ident, $load:ident, $store:ident, $add:ident, |$a:ident, $b:ident, $sum:ident| $fma:expr
        $(, |$steps:ident, $by:ident| $scaled:expr $(, |$others:ident, $times:ident| $plus:expr)?)?) => {
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
            }
            $(const BYTES: bool = true;
            #[inline(always)]
            unsafe fn plus_times(self, others: *const i32, times: i32) -> Self {
                let ($others, $times, $sum) = (others, times, self.0);
                // SAFETY: as above.
                Self(unsafe { $plus })
            })?)?
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
/// A vector of AVX-512 for integers, by how their products are added up.
macro_rules! sixteen_whole {
    ($name:ident, |$a:ident, $b:ident, $sum:ident| $added:expr $(, |$others:ident, $times:ident| $more:expr)?) => {
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
            $(, |others, times| {
                let ($others, $times) = (_mm512_loadu_epi32(others), times);
                _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(sum), $more))
            })?
        );
    };
}

sixteen_whole!(SixteenBytes, |a, b, sum| _mm512_dpbusd_epi32(sum, a, b), |others, times| {
    _mm512_mullo_epi32(others, _mm512_set1_epi32(times))
});
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

/// Functions that compute all tiles of a panel: the vector, the instructions that it needs, and the rows of
/// tiles, the most and those of a rest.
macro_rules! panels {
    ($($name:ident: $vector:ident, $features:literal, [$($rows:tt)*];)*) => {
        $(#[target_feature(enable = $features)]
        pub(super) unsafe fn $name(panel: &Panel<'_>) {
            // SAFETY: passed on from `Isa::panel`.
            unsafe { tiles!($vector, panel, $($rows)*) }
        })*
    };
}

panels! {
    avx512: Sixteen, "avx512f", [12; 1 2 3 4 5 6 7 8 9 10 11];
    avx512_bf16: SixteenPairs, "avx512f,avx512bf16", [12; 1 2 3 4 5 6 7 8 9 10 11];
    avx512_bytes: SixteenBytes, "avx512f,avx512vnni", [12; 1 2 3 4 5 6 7 8 9 10 11];
    avx512_vnni: SixteenVnni, "avx512f,avx512vnni", [12; 1 2 3 4 5 6 7 8 9 10 11];
    avx512_whole: SixteenWhole, "avx512f,avx512bw", [12; 1 2 3 4 5 6 7 8 9 10 11];
    avx2: Eight, "avx2,fma", [6; 1 2 3 4 5];
    avx2_whole: EightWhole, "avx2", [6; 1 2 3 4 5];
}

/// Sums of the bytes of a row over blocks of so many words.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn byte_sums<const SIGNED: bool>(row: &[f32], block: usize, sums: &mut [i32]) {
    let ones = _mm512_set1_epi8(1);
    for (words, sum) in row.chunks(block).zip(sums) {
        let mut all = _mm512_setzero_si512();
        for words in words.chunks(16) {
            let there = u16::MAX >> (16 - words.len());
            // SAFETY: only what is there is loaded.
            let words = unsafe { _mm512_maskz_loadu_ps(there, words.as_ptr()) };
            let words = _mm512_castps_si512(words);
            // Unsigned ones by signed ones.
            let (a, b) = if SIGNED { (ones, words) } else { (words, ones) };
            all = _mm512_dpbusd_epi32(all, a, b);
        }
        *sum = _mm512_reduce_add_epi32(all);
    }
}
