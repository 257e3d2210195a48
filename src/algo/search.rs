//! Candidate grids of one row of a weight, or of a group of its inputs, and the choice among them.

use crate::quant::{DType, Grain, Observer, ObserverSpec, ParamsError, QuantParams, Range, Scheme};
use crate::tensor::simd::dispatch;

/// The grid of a row or of a group of it in f64, with the exact f32 scale that the file will carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowGrid {
    pub(super) scale: f64,
    pub(super) zero: i32,
    /// qmin − zero and qmax − zero.
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What the policy says of the grids of rows.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) dtype: DType,
    pub(super) scheme: Scheme,
    pub(super) observer: ObserverSpec,
    /// The one that all rows must keep.
    pub(super) fixed: Option<RowGrid>,
}

impl Asked {
    /// The grid that the policy's observer gives a row, or a group of it, as it stands.
    ///
    /// # Errors
    /// A row that is not finite.
    pub(super) fn observed(&self, row: &[f64]) -> Result<RowGrid, ParamsError> {
        let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
        let observer = self.observer.build(self.dtype, self.scheme);
        let observer = observer.expect("invariant: what has an affine grid is observed");
        let ranges = observer.once(&row, &[1, row.len()])?;
        let grid = QuantParams::from_ranges(self.dtype, self.scheme, &ranges)?;
        let QuantParams::Affine { scale, zero_point, .. } = grid else {
            unreachable!("invariant: ranges give an affine grid")
        };
        Ok(RowGrid::new(self.dtype, scale[0], zero_point[0]))
    }
}

/// Adding and subtracting it rounds |x| < 2⁵¹ to an integer, ties to even.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

impl RowGrid {
    pub(super) fn new(dtype: DType, scale: f32, zero: i32) -> RowGrid {
        let (low, high) = (f64::from(dtype.qmin() - zero), f64::from(dtype.qmax() - zero));
        RowGrid { scale: f64::from(scale), zero, low, high }
    }

    /// The same zero point under another scale; none if it is no positive f32.
    pub(super) fn rescaled(self, scale: f64) -> Option<RowGrid> {
        let scale = scale as f32;
        let legal = scale.is_finite() && scale > f32::MIN_POSITIVE;
        legal.then_some(RowGrid { scale: f64::from(scale), ..self })
    }

    /// The code (integer minus zero point) nearest to `x`.
    #[inline(always)]
    pub(super) fn code(&self, x: f64) -> f64 {
        let x = x / self.scale;
        let x = if x > self.low { x } else { self.low };
        let x = if x < self.high { x } else { self.high };
        (x + ROUNDER) - ROUNDER
    }
}

/// Grids of one row: its full range, shrunk step by step, and with few bits also shifted.
///
/// # Errors
/// A row that is not finite.
pub(super) fn candidates(
    row: &[f64],
    &Asked { dtype, scheme: Scheme { symmetric, .. }, .. }: &Asked,
    count: usize,
) -> Result<Vec<RowGrid>, ParamsError> {
    let range =
        row.iter().fold(Range::new(0.0, 0.0), |r, &x| r.union(Range::new(x as f32, x as f32)));
    let scheme = Scheme { symmetric, grain: Grain::Axis(0) };
    // Fewer steps to lose by clipping at many bits, so there is less to gain.
    let least = if dtype.bits() >= 8 { 0.7 } else { 0.3 };
    let shifts: &[i32] = if symmetric || dtype.bits() > 4 { &[0] } else { &[0, -1, 1] };
    let mut grids = Vec::with_capacity(count * shifts.len());
    for i in 0..count {
        let share = 1.0 - (1.0 - least) * i as f32 / count as f32;
        let cut = Range::new(range.min * share, range.max * share);
        let params = QuantParams::from_ranges(dtype, scheme, &[cut])?;
        let QuantParams::Affine { scale, zero_point, .. } = params else { continue };
        for shift in shifts {
            let zero = zero_point[0] + shift;
            if (dtype.qmin()..=dtype.qmax()).contains(&zero) {
                grids.push(RowGrid::new(dtype, scale[0], zero));
            }
        }
    }
    Ok(grids)
}

/// The `count` grids of least Σ hⱼ (wⱼ − ŵⱼ)², best first, the first of equals.
pub(super) fn weighted(
    row: &[f64],
    importance: &[f64],
    grids: &[RowGrid],
    count: usize,
) -> Vec<RowGrid> {
    let error = |grid: &RowGrid| miss(row, importance, grid);
    let mut ranked: Vec<(f64, RowGrid)> = grids.iter().map(|grid| (error(grid), *grid)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.into_iter().take(count).map(|(_, grid)| grid).collect()
}

/// Terms that are summed side by side; fixed, so that every instruction set gives the same sum.
const LANES: usize = 16;

dispatch! {
    /// Σ hⱼ (wⱼ − ŵⱼ)²
    fn miss(row: &[f64], importance: &[f64], grid: &RowGrid) -> f64 {
        let term = |w: f64, h: f64| {
            let miss = w - grid.code(w) * grid.scale;
            h * miss * miss
        };
        let mut sums = [0.0; LANES];
        let (rows, rest) = row.as_chunks::<LANES>();
        let (weights, last) = importance.as_chunks::<LANES>();
        for (row, weight) in rows.iter().zip(weights) {
            for ((sum, w), h) in sums.iter_mut().zip(row).zip(weight) {
                *sum += term(*w, *h);
            }
        }
        let rest: f64 = rest.iter().zip(last).map(|(w, h)| term(*w, *h)).sum();
        sums.iter().sum::<f64>() + rest
    }
}
