//! Rows become columns: how right operands get into panels and left ones into strips.

/// Side of the blocks that stay in registers.
const SIDE: usize = 8;

/// Writes `rows`, of this `stride`, as columns of `panel` `[depth, width]`. Of the last row nothing
/// need lie behind `depth`; columns without a row are left as they are.
///
/// # Panics
/// If a row is shorter than `depth`: a mistake of ours.
pub(super) fn transpose(panel: &mut [f32], width: usize, rows: &[f32], stride: usize) {
    let depth = panel.len() / width.max(1);
    if depth == 0 || rows.is_empty() {
        return;
    }
    let count = rows.len().div_ceil(stride).min(width);
    assert!(panel.len() == depth * width && rows.len() >= (count - 1) * stride + depth);
    let matrix = Matrix { width, stride, depth, count };
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the instructions were detected, the sizes checked above.
        return unsafe { x86::blocks(panel, rows, matrix) };
    }
    matrix.elements(panel, rows, 0..count, 0..depth);
}

/// `count` rows of `depth` numbers.
#[derive(Clone, Copy)]
struct Matrix {
    width: usize,
    stride: usize,
    depth: usize,
    count: usize,
}

impl Matrix {
    fn elements(
        self,
        panel: &mut [f32],
        rows: &[f32],
        which: std::ops::Range<usize>,
        depth: std::ops::Range<usize>,
    ) {
        for row in which {
            for p in depth.clone() {
                panel[p * self.width + row] = rows[row * self.stride + p];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Matrix, SIDE};
    use std::arch::x86_64::*;

    /// # Safety
    /// AVX; `rows` hold `m.count` rows and `panel` is `[m.depth, m.width]`.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn blocks(panel: &mut [f32], rows: &[f32], m: Matrix) {
        // A narrow panel is written by vectors too: what sticks out of a line is overwritten by the
        // next one, which the last ones have not.
        let narrow = m.width < SIDE && m.count == m.width;
        let room =
            if narrow { m.depth.saturating_sub(SIDE.div_ceil(m.width) - 1) } else { m.depth };
        let (deep, whole) = (room / SIDE * SIDE, m.count / SIDE * SIDE);
        let wide = if narrow { m.count } else { whole };
        for p in (0..deep).step_by(SIDE) {
            for row in (0..wide).step_by(SIDE) {
                // SAFETY: rows up to `count` have `depth` numbers; a line of the panel at `p + 7` has
                // a vector behind its beginning, or so have the lines after it.
                unsafe {
                    let last = SIDE.min(m.count - row) - 1;
                    let from = |i: usize| rows.as_ptr().add((row + i.min(last)) * m.stride + p);
                    block(panel.as_mut_ptr().add(p * m.width + row), m.width, from);
                }
            }
        }
        m.elements(panel, rows, wide..m.count, 0..deep);
        m.elements(panel, rows, 0..m.count, deep..m.depth);
    }

    /// Eight rows of eight numbers.
    ///
    /// # Safety
    /// AVX; eight numbers behind every `from`, and behind `to` and seven more steps of `stride`.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn block(to: *mut f32, stride: usize, from: impl Fn(usize) -> *const f32) {
        // SAFETY: the caller vouches for both sides.
        unsafe {
            let mut pairs = [_mm256_setzero_ps(); SIDE];
            for i in (0..SIDE).step_by(2) {
                let (a, b) = (_mm256_loadu_ps(from(i)), _mm256_loadu_ps(from(i + 1)));
                (pairs[i], pairs[i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            let mut fours = [_mm256_setzero_ps(); SIDE];
            for half in [0, 4] {
                for i in 0..2 {
                    let (a, b) = (pairs[half + i], pairs[half + i + 2]);
                    fours[half + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                _mm256_storeu_ps(to.add(i * stride), _mm256_permute2f128_ps::<0x20>(a, b));
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                _mm256_storeu_ps(to.add((i + 4) * stride), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
}

#[cfg(test)]
mod tests;
