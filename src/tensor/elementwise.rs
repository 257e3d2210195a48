//! Elementwise functions and row reductions, vectorized, with a fixed reduction order.

use super::simd::{ROUNDER, dispatch, joined};

/// Width of the partial accumulators of a reduction: part of the numeric contract, not a tuning
/// knob, since it fixes the order in which elements are added.
const LANES: usize = 16;

/// Elements that stay in the first-level cache.
const NEAR: usize = 1 << 11;

/// e^x to about 2 ulp; arguments are clamped to the range in which the result is a normal number.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.0;
    // n is in [-126, 127] and the low bits of `shifted`: those of ROUNDER itself fall off the end. A
    // cast would check for NaN and overflow.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// erf x to 5e-7 absolute, of which rounding to f32 makes two thirds (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / a.mul_add(0.327_591_1, 1.0);
    let p = 1.061_405_4_f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    (-p * t).mul_add(exp(-a * a), 1.0).copysign(x)
}

/// Sum of a row: sixteen partial sums over strided elements, then added pairwise.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    fold(row, 0.0, |acc, x| acc + x, |a, b| a + b)
}

/// The greatest element of a row that is a number.
#[inline(always)]
pub(super) fn greatest(row: &[f32]) -> f32 {
    // f32::max would check both sides for NaN.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(row, f32::NEG_INFINITY, larger, larger)
}

#[inline(always)]
fn fold(
    row: &[f32],
    init: f32,
    f: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut acc = [init; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (a, &x) in acc.iter_mut().zip(chunk) {
            *a = f(*a, x);
        }
    }
    for (a, &x) in acc.iter_mut().zip(tail) {
        *a = f(*a, x);
    }
    joined(acc, join)
}

dispatch! {
    /// `out = a + b` over equally long slices.
    pub fn add(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = a + b;
        }
    }
}

dispatch! {
    /// `out = a - b` over equally long slices.
    pub fn sub(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = a - b;
        }
    }
}

dispatch! {
    /// `out = a * b` over equally long slices.
    pub fn mul(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = a * b;
        }
    }
}

dispatch! {
    /// `row += bias` for every row of `data`, rows as long as `bias`.
    pub fn add_bias(data: &mut [f32], bias: &[f32]) {
        for row in data.chunks_exact_mut(bias.len().max(1)) {
            for (x, &b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }
}

dispatch! {
    /// Logistic function 1 / (1 + e^-x).
    pub fn logistic(out: &mut [f32], x: &[f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = 1.0 / (1.0 + exp(-x));
        }
    }
}

dispatch! {
    /// -x
    pub fn neg(out: &mut [f32], x: &[f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = -x;
        }
    }
}

dispatch! {
    /// 1 / √x
    pub fn rsqrt(out: &mut [f32], x: &[f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = 1.0 / x.sqrt();
        }
    }
}

dispatch! {
    /// GELU with the tanh approximation: x/2 (1 + tanh u) = x / (1 + e^-2u), u = √(2/π)(x + 0.044715 x³).
    pub fn gelu_tanh(out: &mut [f32], x: &[f32]) {
        const FIRST: f32 = -2.0 * 0.797_884_6;
        const THIRD: f32 = FIRST * 0.044_715;
        for (o, &x) in out.iter_mut().zip(x) {
            *o = x / (1.0 + exp(x * (x * x).mul_add(THIRD, FIRST)));
        }
    }
}

dispatch! {
    /// GELU with the error function: x/2 (1 + erf(x/√2)).
    pub fn gelu_erf(out: &mut [f32], x: &[f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

dispatch! {
    /// Whether no value is NaN or infinite.
    pub fn all_finite(x: &[f32]) -> bool {
        x.iter().fold(0, |seen: u32, x| seen.max(x.to_bits() & 0x7fff_ffff)) < 0x7f80_0000
    }
}

dispatch! {
    /// Softmax of every row of width `width`: exp(x - max) / Σ exp(x - max).
    pub fn softmax(out: &mut [f32], x: &[f32], width: usize) {
        // Some rows at a time, so that the exponentials, which take longest, run over their ends.
        let some = NEAR.next_multiple_of(width.max(1));
        for (out, x) in out.chunks_mut(some).zip(x.chunks(some)) {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let max = greatest(x);
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = x - max;
                }
            }
            for o in out.iter_mut() {
                *o = exp(*o);
            }
            for out in out.chunks_exact_mut(width) {
                let scale = 1.0 / sum(out);
                for o in out.iter_mut() {
                    *o *= scale;
                }
            }
        }
    }
}

dispatch! {
    /// RMSNorm of every row: γ x / √(mean x² + ε), rows as long as `gamma`.
    pub fn rms_norm(out: &mut [f32], x: &[f32], gamma: &[f32], epsilon: f32) {
        let width = gamma.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let square = fold(x, 0.0, |acc, x| acc + x * x, |a, b| a + b);
            let scale = 1.0 / (square / width as f32 + epsilon).sqrt();
            for ((o, &x), &g) in out.iter_mut().zip(x).zip(gamma) {
                *o = g * (x * scale);
            }
        }
    }
}

dispatch! {
    /// Mean of every row of width `width`: one element a row.
    pub fn mean(out: &mut [f32], x: &[f32], width: usize) {
        for (o, x) in out.iter_mut().zip(x.chunks_exact(width)) {
            *o = sum(x) / width as f32;
        }
    }
}

#[cfg(test)]
mod tests;
