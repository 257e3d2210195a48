//! Grids as integer kernels see them, and values as steps from zero.

use super::rescale::Rescale;
use crate::ops::{Binary, BinaryKind, OpDef};
use crate::quant::{Grain, QuantParams};
use crate::tensor::{Par, Tensor};

/// An affine grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid<'a> {
    scale: &'a [f32],
    zero: &'a [i32],
    axis: usize,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl<'a> Grid<'a> {
    /// None for MX blocks, groups, and grids wider than 16 bits.
    pub(super) fn of(params: &'a QuantParams) -> Option<Grid<'a>> {
        let QuantParams::Affine { dtype, scale, zero_point, grain } = params else { return None };
        let (low, high) = dtype.limits();
        let axis = match grain {
            Grain::Tensor => 0,
            Grain::Axis(axis) => *axis,
            Grain::Groups(_) => return None,
        };
        (dtype.bits() <= 16).then_some(Grid { scale, zero: zero_point, axis, low, high })
    }

    /// Whether there is one scale for all elements, or, `by_rows`, at most one for each index of the
    /// first axis.
    pub(super) fn suits(&self, by_rows: bool) -> bool {
        self.scale.len() == 1 || (by_rows && self.axis == 0)
    }

    /// Scale of channel `c`.
    pub(super) fn scale(&self, c: usize) -> f32 {
        self.scale[if self.scale.len() == 1 { 0 } else { c }]
    }

    /// The code `steps` above zero, saturated.
    pub(super) fn code(&self, steps: i64) -> f32 {
        steps.saturating_add(self.zero[0].into()).clamp(self.low, self.high) as f32
    }

    /// Code zero of a per-tensor grid.
    pub(super) fn zero(&self) -> i32 {
        self.zero[0]
    }

    /// A value on this grid: codes of a constant where given, else the live codes.
    pub(super) fn steps(
        self,
        shape: &[usize],
        live: &Tensor,
        codes: Option<Vec<i64>>,
    ) -> Steps<'a> {
        let run: usize = shape.iter().skip(self.axis + 1).product();
        let channels = self.zero.len();
        let zero = |i: usize| self.zero[if channels == 1 { 0 } else { i / run % channels }];
        let steps = match codes {
            Some(codes) => codes.iter().enumerate().map(|(i, &q)| q as i32 - zero(i)).collect(),
            None => live.data().iter().enumerate().map(|(i, &q)| q as i32 - zero(i)).collect(),
        };
        Steps { shape: shape.to_vec(), steps, grid: self }
    }
}

/// A value as integers, zero at 0.
pub(super) struct Steps<'a> {
    pub(super) shape: Vec<usize>,
    /// Code minus zero point: at most 17 bits.
    pub(super) steps: Vec<i32>,
    pub(super) grid: Grid<'a>,
}

impl Steps<'_> {
    /// Extent of the last axis.
    pub(super) fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Broadcast to `shape`.
    pub(super) fn expand(mut self, shape: &[usize]) -> Self {
        if self.shape != shape {
            let steps = self.steps.iter().map(|&q| q as f32).collect();
            let (own, zeros) = (Tensor::new(self.shape, steps), Tensor::full(shape, 0.0));
            let wide = Binary { kind: BinaryKind::Add }.eval(&[&own, &zeros], Par::All.into());
            self.steps = wide.data().iter().map(|&q| q as i32).collect();
            self.shape = shape.to_vec();
        }
        self
    }

    /// The codes of this value on another grid.
    pub(super) fn on(&self, out: &Grid<'_>) -> Tensor {
        let same = self.grid.scale == out.scale;
        let rescale = Rescale::of(f64::from(self.grid.scale(0)) / f64::from(out.scale(0)));
        let code = |&q: &i32| out.code(if same { q.into() } else { rescale.apply(q.into()) });
        Tensor::new(self.shape.clone(), self.steps.iter().map(code).collect())
    }
}
