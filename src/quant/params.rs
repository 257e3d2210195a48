//! The grid of one tensor, and how a range becomes one.

use serde::{Deserialize, Serialize};

use crate::tensor::Steps;

use super::{DType, Grain, MxFormat, NoRange, Range, Scheme, SchemeError};

/// Floor of every range before division by the number of steps, as in TICO's recorded results. Its
/// release 0.3.0 floors the scale itself, at 1e-8; the two differ on grids finer than that only.
const EPS: f32 = 1e-12;

/// How one tensor's reals map to integers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum QuantParams {
    /// `real = (q - zero_point) * scale`.
    Affine {
        /// Type of `q`.
        dtype: DType,
        /// Positive and finite, one for each part that `grain` makes.
        scale: Vec<f32>,
        /// Within the dtype's limits; as long as `scale`.
        zero_point: Vec<i32>,
        /// What has a scale of its own.
        grain: Grain,
    },
    /// Blocks of 32 along `axis` share a power of two found from the data itself.
    Mx {
        /// Format of the elements.
        format: MxFormat,
        /// The axis that is cut into blocks.
        axis: usize,
    },
}

/// Why no grid could be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// The statistics allow none.
    #[error(transparent)]
    NoRange(#[from] NoRange),
    /// The statistics of one channel or group allow none.
    #[error("channel {channel}: {why}")]
    Channel {
        /// Number of the channel or group.
        channel: usize,
        /// What is wrong with it.
        why: NoRange,
    },
    /// The dtype cannot carry the scheme.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// A per-tensor scheme and several ranges, or none.
    #[error("a per-tensor grid needs 1 range, found {found}")]
    RangeCount {
        /// Ranges given.
        found: usize,
    },
    /// Scales and zero points do not pair up or are no grid.
    #[error("{0}")]
    Invalid(String),
}

impl QuantParams {
    /// The grid of the rows `rows` (indices of the first axis) of a tensor on this one, whose rows have
    /// `width` elements.
    ///
    /// # Panics
    /// If rows have grids of their own and `rows` reaches past them: a mistake of ours.
    pub fn of_rows(&self, rows: std::ops::Range<usize>, width: usize) -> QuantParams {
        match self {
            QuantParams::Affine { dtype, scale, zero_point, grain }
                if let Some([grids, _]) = grain.of_row(width) =>
            {
                let grids = rows.start * grids..rows.end * grids;
                QuantParams::Affine {
                    dtype: *dtype,
                    scale: scale[grids.clone()].to_vec(),
                    zero_point: zero_point[grids].to_vec(),
                    grain: *grain,
                }
            }
            other => other.clone(),
        }
    }

    /// The grid of `dtype` that keeps `range`; `scheme` must be per tensor.
    pub fn from_range(
        dtype: DType,
        scheme: Scheme,
        range: Range,
    ) -> Result<QuantParams, ParamsError> {
        QuantParams::from_ranges(dtype, scheme, &[range])
    }

    /// The grid of `dtype` that keeps `ranges`: one for every part that the scheme makes.
    ///
    /// TICO's formulas to the bit, in f32: symmetric grids divide by `qmax`, asymmetric ones
    /// always hold zero, and a per-tensor constant is represented exactly.
    pub fn from_ranges(
        dtype: DType,
        scheme: Scheme,
        ranges: &[Range],
    ) -> Result<QuantParams, ParamsError> {
        scheme.check(dtype)?;
        let whole = scheme.grain == Grain::Tensor;
        if whole && ranges.len() != 1 {
            return Err(ParamsError::RangeCount { found: ranges.len() });
        }
        let mut scale = Vec::with_capacity(ranges.len());
        let mut zero_point = Vec::with_capacity(ranges.len());
        for (channel, range) in ranges.iter().enumerate() {
            let range = range.check().map_err(|why| match whole {
                true => ParamsError::NoRange(why),
                false => ParamsError::Channel { channel, why },
            })?;
            let (s, z) = if scheme.symmetric {
                (range.max.abs().max(range.min.abs()).max(EPS) / dtype.qmax() as f32, 0)
            } else if whole && (range.max - range.min).abs() < 1e-8 {
                constant(dtype, range.min)
            } else {
                asymmetric(dtype, range)
            };
            scale.push(s);
            zero_point.push(z);
        }
        Ok(QuantParams::Affine { dtype, scale, zero_point, grain: scheme.grain })
    }

    /// The per-tensor grid of `scale` and `zero_point`, as given.
    pub fn per_tensor(dtype: DType, scale: f32, zero_point: i32) -> QuantParams {
        let (scale, zero_point) = (vec![scale], vec![zero_point]);
        QuantParams::Affine { dtype, scale, zero_point, grain: Grain::Tensor }
    }

    /// Refuses what [`fake_quant`](super::fake_quant) must not meet: scales that are not positive
    /// and finite, zero points outside the dtype, lengths that do not agree with each other or
    /// with `shape`. For grids that come from outside.
    pub fn check(&self, shape: &[usize]) -> Result<(), ParamsError> {
        let invalid = |text: String| Err(ParamsError::Invalid(text));
        match self {
            QuantParams::Affine { dtype, scale, zero_point, grain } => {
                let Some(expected) = grain.grids(shape) else {
                    return invalid(format!("shape {shape:?} cannot be cut {grain}"));
                };
                if scale.len() != expected || zero_point.len() != expected {
                    return invalid(format!(
                        "expected {expected} scales and zero points, found {} and {}",
                        scale.len(),
                        zero_point.len()
                    ));
                }
                if let Some(at) = scale.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
                    return invalid(format!("scale {at} is {}", scale[at]));
                }
                let legal = dtype.qmin()..=dtype.qmax();
                if let Some(at) = zero_point.iter().position(|z| !legal.contains(z)) {
                    return invalid(format!("zero point {at} is {}: no {dtype}", zero_point[at]));
                }
                Ok(())
            }
            QuantParams::Mx { axis, .. } if *axis >= shape.len() => {
                invalid(format!("axis {axis} is outside shape {shape:?}"))
            }
            QuantParams::Mx { .. } => Ok(()),
        }
    }

    /// Type of the integers; none for MX, whose elements are small floats or scaled integers.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            QuantParams::Affine { dtype, .. } => Some(*dtype),
            QuantParams::Mx { .. } => None,
        }
    }

    /// What the grid says of its numbers, to multiply integers instead; none where grids are not of
    /// all or of rows.
    pub fn steps(&self) -> Option<Steps<'_>> {
        let QuantParams::Affine { dtype, scale, zero_point, grain } = self else { return None };
        if dtype.bits() > 16 || !matches!(grain, Grain::Tensor | Grain::Axis(0)) {
            return None;
        }
        let ends = zero_point
            .iter()
            .fold([0; 2], |[low, high], z| [low.min(dtype.qmin() - z), high.max(dtype.qmax() - z)]);
        Some(Steps { sizes: scale, limits: ends, span: dtype.qmax().abs_diff(dtype.qmin()) })
    }

    /// Whether all of a tensor is on one affine grid.
    pub fn is_per_tensor(&self) -> bool {
        matches!(self, QuantParams::Affine { grain: Grain::Tensor, .. })
    }

    /// Neighbours on the last axis that share a grid, if it is cut into groups.
    pub fn group(&self) -> Option<usize> {
        match self {
            QuantParams::Affine { grain: Grain::Groups(size), .. } => Some(*size),
            _ => None,
        }
    }

    /// For each of `rows` rows of a matrix the scale that its accumulator is counted in, or one for
    /// all; of several groups the coarsest, as a sum that holds the greatest must reach that far. None
    /// for MX.
    pub fn row_scales(&self, rows: usize) -> Option<Vec<f32>> {
        match self {
            QuantParams::Affine { scale, grain: Grain::Groups(_), .. } => {
                let groups = (scale.len() / rows.max(1)).max(1);
                let coarsest = |row: &[f32]| row.iter().fold(0.0f32, |most, &s| most.max(s));
                Some(scale.chunks(groups).map(coarsest).collect())
            }
            QuantParams::Affine { scale, .. } => Some(scale.clone()),
            QuantParams::Mx { .. } => None,
        }
    }

    /// Doubles the `least` scale of each row of a matrix and takes it where the row's own is smaller, so
    /// that an accumulator that `least` just fills has room for sums. Zero points stay, so whatever was
    /// within a grid's ends still is. Whether any scale was.
    pub fn coarsen(&mut self, least: &[f32]) -> bool {
        let QuantParams::Affine { scale, .. } = self else { return false };
        let (rows, grids, mut any) = (least.len(), scale.len(), false);
        for (row, &least) in least.iter().enumerate() {
            // one grid for all rows, or one or several for each
            let own = row * grids / rows..((row + 1) * grids).div_ceil(rows);
            if scale[own.clone()].iter().all(|&scale| scale < least) {
                scale[own].fill(2.0 * least);
                any = true;
            }
        }
        any
    }

    /// A grid of `dtype` with every value of this per-tensor one; none for grids of other kinds.
    /// 16-bit integers keep their zero point at 0, as their kernels want it.
    pub fn spread(&self, dtype: DType) -> Option<QuantParams> {
        let narrow = self.dtype()?;
        let (scale, zero) = self.as_per_tensor()?;
        let zero = i64::from(zero);
        let ((low, high), (first, last)) = (narrow.limits(), dtype.limits());
        // how many steps of the new grid make one of the old: as many as fit, rounded to a power of two
        let steps = |room: i64, needed: i64| (room as f32 / needed as f32).log2().floor().exp2();
        let (steps, zero_point) = if dtype.signed() && dtype.bits() > 8 {
            (steps(last, (zero - low).max(high - zero)), 0)
        } else {
            let steps = steps(last - first, high - low);
            (steps, first + ((zero - low) as f32 * steps) as i64)
        };
        Some(QuantParams::per_tensor(dtype, scale / steps, i32::try_from(zero_point).ok()?))
    }

    /// Scale and zero point of a per-tensor affine grid.
    pub fn as_per_tensor(&self) -> Option<(f32, i32)> {
        match self {
            QuantParams::Affine { scale, zero_point, grain: Grain::Tensor, .. } => {
                Some((*scale.first()?, *zero_point.first()?))
            }
            _ => None,
        }
    }
}

/// The grid of a tensor that is `value` everywhere: it maps to one step above or below zero.
fn constant(dtype: DType, value: f32) -> (f32, i32) {
    if value.abs() <= 1e-8 {
        (1.0, 0)
    } else if value > 0.0 {
        (value.max(EPS), 0)
    } else {
        (value.abs().max(EPS), dtype.qmax())
    }
}

fn asymmetric(dtype: DType, Range { min, max }: Range) -> (f32, i32) {
    let (qmin, qmax) = (dtype.qmin() as f32, dtype.qmax() as f32);
    // zero stays representable: padding, ReLU and masks are made of it
    let width = if min > 0.0 {
        max
    } else if max < 0.0 {
        -min
    } else {
        max - min
    };
    let scale = width.max(EPS) / (qmax - qmin);
    let zero = (qmin - min / scale).round_ties_even().clamp(qmin, qmax);
    (scale, zero as i32)
}
