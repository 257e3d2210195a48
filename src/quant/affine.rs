//! What a grid does to data: fake quantization, quantization and back.
//!
//! `q = clamp(zero_point + rne(x * (1 / scale)), qmin, qmax)`, `y = (q - zero_point) * scale`, all in
//! f32: bit-equal to torch's `fake_quantize_per_tensor_affine` and `..._per_channel_affine`, which
//! multiply by the f32 reciprocal instead of dividing. NaN goes to `qmin`, infinities saturate.

use super::kernel::{self, Grid};
use super::{DType, Grain, QuantParams, mx};
use crate::tensor::{self, Par, Tensor};

/// Channels whose run of values is shorter than this are handled a row at a time.
const SHORT_RUN: usize = 16;

/// Snaps `data`, a row-major tensor of `shape`, to the grid.
///
/// # Panics
/// If `params` does not fit `shape` (see [`QuantParams::check`]): a mistake of ours.
pub fn fake_quant(params: &QuantParams, shape: &[usize], data: &mut [f32]) {
    filled(params, shape, data, |_, _| ());
}

/// Snaps a tensor to the grid: in its place, or, if others hold it, to memory of its own.
///
/// # Panics
/// As [`fake_quant`].
pub fn round(params: &QuantParams, tensor: &mut Tensor) {
    let shape = tensor.shape().to_vec();
    if !tensor.is_shared() {
        return fake_quant(params, &shape, tensor.data_mut());
    }
    let data = tensor.data();
    *tensor = Tensor::written(&shape[..], |out| {
        filled(params, &shape, out, |at, out| out.copy_from_slice(&data[at..at + out.len()]));
    });
}

/// Snaps what `fill` puts into each piece of `data`, given the index of its first element.
fn filled(
    params: &QuantParams,
    shape: &[usize],
    data: &mut [f32],
    fill: impl Fn(usize, &mut [f32]) + Sync,
) {
    match params {
        QuantParams::Mx { format, axis } => {
            fill(0, data);
            mx::fake_quant(*format, *axis, shape, data);
        }
        QuantParams::Affine { dtype, scale, zero_point, grain } => {
            let channels = Channels::of(shape, *grain, data.len(), scale.len());
            if dtype.bits() > 16 {
                return channels.for_each_run(|c, run| {
                    fill(run.start, &mut data[run.clone()]);
                    for x in &mut data[run] {
                        let q = wide_step(f64::from(*x), scale[c], zero_point[c], *dtype);
                        *x = ((q - i64::from(zero_point[c])) as f64 * f64::from(scale[c])) as f32;
                    }
                });
            }
            if let Some(snap) = snap(params) {
                let par = if data.len() < kernel::LARGE { Par::Seq } else { Par::free() };
                return tensor::in_pieces(data, 1, par, |at, data| {
                    fill(at, data);
                    snap(data);
                });
            }
            let grids: Vec<Grid> =
                scale.iter().zip(zero_point).map(|(&s, &z)| grid(*dtype, s, z)).collect();
            if channels.run >= SHORT_RUN || channels.outer == 1 {
                channels.for_each_run(|c, run| {
                    fill(run.start, &mut data[run.clone()]);
                    kernel::fake_quant(&mut data[run], grids[c]);
                });
            } else {
                let row: Vec<Grid> =
                    grids.iter().flat_map(|&g| std::iter::repeat_n(g, channels.run)).collect();
                fill(0, data);
                for data in data.chunks_exact_mut(row.len().max(1)) {
                    kernel::fake_quant_row(data, &row);
                }
            }
        }
    }
}

/// What snaps any piece of a tensor to its grid: there is one where one grid serves all.
pub fn snap(params: &QuantParams) -> Option<impl Fn(&mut [f32]) + Sync + use<>> {
    let QuantParams::Affine { dtype, scale, zero_point, .. } = params else { return None };
    let ([scale], [zero_point]) = (&scale[..], &zero_point[..]) else { return None };
    let grid = (dtype.bits() <= 16).then(|| grid(*dtype, *scale, *zero_point))?;
    Some(move |piece: &mut [f32]| kernel::fake_quant(piece, grid))
}

/// The integers of `data`, a row-major tensor of `shape`, on an affine grid of at most 32 bits.
///
/// # Panics
/// If `params` does not fit `shape`, or is no affine grid: a mistake of ours.
pub fn quantize(params: &QuantParams, shape: &[usize], data: &[f32]) -> Vec<i32> {
    let (dtype, scale, zero_point, grain) = affine(params);
    let channels = Channels::of(shape, grain, data.len(), scale.len());
    let mut out = vec![0; data.len()];
    channels.for_each_run(|c, run| {
        if dtype.bits() > 16 {
            for (q, x) in out[run.clone()].iter_mut().zip(&data[run]) {
                let wide = wide_step(f64::from(*x), scale[c], zero_point[c], dtype);
                *q = wide.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            }
        } else {
            let grid = grid(dtype, scale[c], zero_point[c]);
            kernel::quantize(&data[run.clone()], &mut out[run], grid, zero_point[c]);
        }
    });
    out
}

/// The integers of `data`, a row-major tensor of `shape`, as files hold them: two to a byte up to 4
/// bits, the first in the low half and an odd last one beside 0; a byte each up to 8; else two, in
/// little endian.
///
/// # Panics
/// If `params` does not fit `shape`, or is no affine grid of at most 16 bits: a mistake of ours.
pub fn packed(params: &QuantParams, shape: &[usize], data: &[f32]) -> Vec<u8> {
    let (dtype, scale, zero_point, grain) = affine(params);
    assert!(dtype.bits() <= 16, "{dtype} is no grid for values");
    let channels = Channels::of(shape, grain, data.len(), scale.len());
    let grid = |c: usize| grid(dtype, scale[c], zero_point[c]);
    if dtype.stored_bits() == 16 {
        let mut words = vec![[0; 2]; data.len()];
        channels.for_each_run(|c, run| {
            kernel::quantize_words(&data[run.clone()], &mut words[run], grid(c), zero_point[c]);
        });
        return words.into_flattened();
    }
    let mut bytes = vec![0; data.len()];
    channels.for_each_run(|c, run| {
        kernel::quantize_bytes(&data[run.clone()], &mut bytes[run], grid(c), zero_point[c]);
    });
    if dtype.stored_bits() == 8 {
        return bytes;
    }
    let mut joined = vec![0; bytes.len().div_ceil(2)];
    let (pairs, last) = bytes.as_chunks();
    kernel::join_nibbles(pairs, &mut joined);
    if let ([code], Some(byte)) = (last, joined.last_mut()) {
        *byte = code & 0xf;
    }
    joined
}

/// The reals of integers `q`, a row-major tensor of `shape`: `(q - zero_point) * scale` in f32.
///
/// # Panics
/// If `params` does not fit `shape`, or is no affine grid: a mistake of ours.
pub fn dequantize(params: &QuantParams, shape: &[usize], q: &[i32]) -> Vec<f32> {
    let (_, scale, zero_point, grain) = affine(params);
    let channels = Channels::of(shape, grain, q.len(), scale.len());
    let mut out = vec![0.0; q.len()];
    channels.for_each_run(|c, run| {
        let (scale, zero) = (scale[c], i64::from(zero_point[c]));
        for (y, &q) in out[run.clone()].iter_mut().zip(&q[run]) {
            // exact in f64 for every 32-bit difference, so rounded once
            *y = ((i64::from(q) - zero) as f64 * f64::from(scale)) as f32;
        }
    });
    out
}

fn affine(params: &QuantParams) -> (DType, &[f32], &[i32], Grain) {
    match params {
        QuantParams::Affine { dtype, scale, zero_point, grain } => {
            (*dtype, scale, zero_point, *grain)
        }
        QuantParams::Mx { format, .. } => unreachable!("mx {format} has no affine integers"),
    }
}

pub(super) fn grid(dtype: DType, scale: f32, zero_point: i32) -> Grid {
    Grid {
        inverse: 1.0 / scale,
        scale,
        low: (dtype.qmin() - zero_point) as f32,
        high: (dtype.qmax() - zero_point) as f32,
    }
}

/// Grids wider than 16 bits hold biases, whose integers do not fit f32.
fn wide_step(x: f64, scale: f32, zero_point: i32, dtype: DType) -> i64 {
    let (low, high) = dtype.limits();
    let q = (x / f64::from(scale)).round_ties_even() as i64;
    q.saturating_add(i64::from(zero_point)).clamp(low, high)
}

/// A tensor seen as `[outer, count, run]`: `count` parts with a grid each, `run` neighbours at a time.
/// The one place that knows which element is on which grid.
pub(super) struct Channels {
    pub(super) outer: usize,
    pub(super) count: usize,
    pub(super) run: usize,
}

impl Channels {
    fn of(shape: &[usize], grain: Grain, len: usize, scales: usize) -> Channels {
        let channels = Channels::around(shape, grain);
        assert_eq!(channels.outer * channels.count * channels.run, len, "data fills {shape:?}");
        assert_eq!(channels.count, scales, "one scale per part of {shape:?}, cut {grain}");
        channels
    }

    /// # Panics
    /// If `shape` cannot be cut so.
    pub(super) fn around(shape: &[usize], grain: Grain) -> Channels {
        let count = grain.grids(shape);
        let count = count.unwrap_or_else(|| panic!("{shape:?} cannot be cut {grain}"));
        match grain {
            Grain::Tensor => Channels { outer: 1, count, run: shape.iter().product() },
            Grain::Axis(axis) => Channels {
                outer: shape[..axis].iter().product(),
                count,
                run: shape[axis + 1..].iter().product(),
            },
            Grain::Groups(size) => Channels { outer: 1, count, run: size },
        }
    }

    /// Calls `f` with the channel and the place of every contiguous run of one channel.
    pub(super) fn for_each_run(&self, mut f: impl FnMut(usize, std::ops::Range<usize>)) {
        for outer in 0..self.outer {
            for channel in 0..self.count {
                let start = (outer * self.count + channel) * self.run;
                f(channel, start..start + self.run);
            }
        }
    }
}
