//! Elementwise operators and those that work on a row: norms and softmax.

use super::grid::{Grid, Steps};
use super::rescale::{Rescale, pair, round_div, round_shift};
use crate::ops::{OpDef, Unary};
use crate::tensor::{Par, Tensor};

/// Fraction bits of the exponential in softmax.
const EXP_BITS: u32 = 30;
/// Fraction bits of the mean square in RMSNorm; its root has half of them.
const SQUARE_BITS: u32 = 64;
/// Bound of ε in steps², so that sums stay inside 128 bits.
const EPSILON_MAX: f64 = (1_u128 << 120) as f64;

/// a · b
pub(super) fn product(a: &Steps<'_>, b: &Steps<'_>, shape: &[usize], out: &Grid<'_>) -> Tensor {
    let ratio = f64::from(a.grid.scale(0)) * f64::from(b.grid.scale(0)) / f64::from(out.scale(0));
    let rescale = Rescale::of(ratio);
    let code = |(&a, &b): (&i32, &i32)| out.code(rescale.apply(i64::from(a) * i64::from(b)));
    Tensor::new(shape, a.steps.iter().zip(&b.steps).map(code).collect())
}

/// a + sign · b: both brought to one fixed point, rounded once.
pub(super) fn sum(
    a: &Steps<'_>,
    b: &Steps<'_>,
    sign: i64,
    shape: &[usize],
    out: &Grid<'_>,
) -> Tensor {
    let ratio = |x: &Steps<'_>| f64::from(x.grid.scale(0)) / f64::from(out.scale(0));
    let ([ma, mb], shift) = pair(ratio(a), ratio(b));
    let code = |(&a, &b): (&i32, &i32)| {
        let sum = i128::from(a) * i128::from(ma) + i128::from(sign * i64::from(b)) * i128::from(mb);
        out.code(round_shift(sum, shift))
    };
    Tensor::new(shape, a.steps.iter().zip(&b.steps).map(code).collect())
}

/// Mean of every row.
pub(super) fn mean(x: &Steps<'_>, out: &Grid<'_>) -> Tensor {
    let width = x.width();
    let rescale =
        Rescale::of(f64::from(x.grid.scale(0)) / (f64::from(out.scale(0)) * width as f64));
    let sum = |row: &[i32]| row.iter().map(|&q| i64::from(q)).sum();
    let mut shape = x.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = 1;
    }
    Tensor::new(shape, x.steps.chunks(width).map(|r| out.code(rescale.apply(sum(r)))).collect())
}

/// A function of one element: a table over the input's grid.
pub(super) fn table(op: &Unary, grid: &Grid<'_>, codes: &Tensor, out: &Grid<'_>) -> Tensor {
    let zero = f64::from(grid.zero());
    let real = |q: i64| ((q as f64 - zero) * f64::from(grid.scale(0))) as f32;
    let all: Vec<f32> = (grid.low..=grid.high).map(real).collect();
    let image = op.eval(&[&Tensor::new([all.len()], all)], Par::All.into());
    let scale = f64::from(out.scale(0));
    // The root of a negative number is NaN, which goes to the least code as in the float reading.
    let entry = |&y: &f32| match y.is_nan() {
        true => out.low as f32,
        false => out.code((f64::from(y) / scale).round_ties_even() as i64),
    };
    let table: Vec<f32> = image.data().iter().map(entry).collect();
    let code = |&q: &f32| table[(q as i64).clamp(grid.low, grid.high).abs_diff(grid.low) as usize];
    Tensor::new(codes.shape(), codes.data().iter().map(code).collect())
}

/// Softmax of every row: exponentials from a table over the distance to the row's maximum.
pub(super) fn softmax(x: &Steps<'_>, out: &Grid<'_>) -> Tensor {
    let span = (x.grid.high - x.grid.low) as usize;
    let (scale, one) = (f64::from(x.grid.scale(0)), (1_u64 << EXP_BITS) as f64);
    let exp = |d: usize| ((-(d as f64) * scale).exp() * one).round() as i64;
    let table: Vec<i64> = (0..=span).map(exp).collect();
    let per_one = Rescale::of(1.0 / f64::from(out.scale(0)));
    let [shift, excess] = per_one.shifts();
    let mut codes = Vec::with_capacity(x.steps.len());
    for row in x.steps.chunks(x.width()) {
        let max = row.iter().copied().max().unwrap_or(0);
        let e: Vec<i64> = row.iter().map(|&q| table[max.abs_diff(q) as usize]).collect();
        let sum = i128::from(e.iter().sum::<i64>()) << shift;
        codes.extend(e.iter().map(|&e| {
            let scaled = i128::from(e) * i128::from(per_one.mantissa);
            out.code(round_div(scaled, sum) >> excess)
        }));
    }
    Tensor::new(x.shape.clone(), codes)
}

/// γ x / √(mean x² + ε): in steps of x the scale cancels, up to ε.
pub(super) fn rms_norm(x: &Steps<'_>, gamma: &Steps<'_>, epsilon: f32, out: &Grid<'_>) -> Tensor {
    let width = x.width();
    let rescale = Rescale::of(f64::from(gamma.grid.scale(0)) / f64::from(out.scale(0)));
    let step = f64::from(x.grid.scale(0));
    let epsilon = f64::from(epsilon) / (step * step) * 2_f64.powi(SQUARE_BITS as i32);
    let epsilon = epsilon.min(EPSILON_MAX) as u128;
    let [shift, excess] = rescale.shifts();
    let mut codes = Vec::with_capacity(x.steps.len());
    for row in x.steps.chunks(width) {
        let square: u64 = row.iter().map(|&q| u64::from(q.unsigned_abs()).pow(2)).sum();
        let mean = (u128::from(square) << SQUARE_BITS) / width as u128;
        let root = (mean + epsilon).isqrt();
        let root = (root.max(1) as i128) << shift;
        codes.extend(row.iter().zip(&gamma.steps).map(|(&q, &g)| {
            let product = i128::from(i64::from(q) * i64::from(g));
            let scaled = (product * i128::from(rescale.mantissa)) << (SQUARE_BITS / 2);
            out.code(round_div(scaled, root) >> excess)
        }));
    }
    Tensor::new(x.shape.clone(), codes)
}
