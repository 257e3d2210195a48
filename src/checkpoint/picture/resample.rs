//! Bicubic resampling with antialias, bit for bit as torch does it on 8-bit pictures: first across, then
//! down, the weights in fixed point, the result of the first pass rounded to 8 bits before the second.

use super::decode::RgbPicture;
use rayon::prelude::*;

/// Most fraction bits of a weight: 32 less 8 for the pixel and 2 for overshoot of the sum.
const PRECISION: u32 = 32 - 8 - 2;
/// Reach of the cubic kernel to either side, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;
const CHANNELS: usize = 3;

/// The picture at `width` by `height` pixels, neither of them zero.
pub(super) fn resize(picture: &RgbPicture, width: usize, height: usize) -> RgbPicture {
    let mut pixels = picture.pixels().to_vec();
    let (from_width, from_height) = (picture.width(), picture.height());
    if width != from_width {
        pixels = across(&pixels, from_width, &Windows::of(from_width, width));
    }
    if height != from_height {
        pixels = down(&pixels, width, &Windows::of(from_height, height));
    }
    // a side of zero is excluded by the callers; the old picture is the least surprise
    RgbPicture::new(width, height, pixels).unwrap_or_else(|| picture.clone())
}

/// The source pixels that one target pixel sums, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Cubic convolution with a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A row of target pixels.
struct Windows {
    windows: Vec<Window>,
    /// Fraction bits of the weights.
    precision: u32,
}

impl Windows {
    /// One for each target pixel of a row of `source` pixels.
    fn of(source: usize, target: usize) -> Windows {
        let reals: Vec<(usize, Vec<f64>)> =
            (0..target).map(|at| reals(source, target, at)).collect();
        let largest = reals.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max);
        // as many as leave the largest weight in 16 bits
        let fits = |bits: &u32| ((0.5 + largest * f64::from(1u32 << bits)) as i32) < 1 << 15;
        let precision = (1..=PRECISION).take_while(fits).last().unwrap_or(0);
        let fixed = |weight: f64| {
            let scaled = weight * f64::from(1u32 << precision);
            (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        let window = |(first, weights): (usize, Vec<f64>)| Window {
            first,
            weights: weights.into_iter().map(fixed).collect(),
        };
        Windows { windows: reals.into_iter().map(window).collect(), precision }
    }

    /// Where sums begin.
    fn half(&self) -> i32 {
        (1 << self.precision) >> 1
    }

    /// A sum as a pixel.
    fn clip(&self, sum: i32) -> u8 {
        (sum >> self.precision).clamp(0, 255) as u8
    }
}

/// The source pixels of target pixel `index`, of which the first is named, and their weights.
fn reals(source: usize, target: usize, index: usize) -> (usize, Vec<f64>) {
    let scale = source as f64 / target as f64;
    // shrinking widens the kernel: that is the antialias
    let stretch = scale.max(1.0);
    let support = SUPPORT * stretch;
    let center = (index as f64 + 0.5) * scale;
    // truncation towards zero and saturation at it are what C's casts and torch's clamps do
    let first = (center - support + 0.5) as usize;
    let end = ((center + support + 0.5) as usize).min(source);
    let weight = |pixel: usize| cubic((pixel as f64 - center + 0.5) * (1.0 / stretch));
    let mut weights: Vec<f64> = (first..end).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    (first, weights)
}

fn across(pixels: &[u8], source: usize, windows: &Windows) -> Vec<u8> {
    let target = windows.windows.len();
    let rows = pixels.len() / (source * CHANNELS);
    let mut out = vec![0; rows * target * CHANNELS];
    let lines = out.par_chunks_mut(target * CHANNELS).zip(pixels.par_chunks(source * CHANNELS));
    lines.for_each(|(out, line)| {
        let (line, _) = line.as_chunks::<CHANNELS>();
        let (out, _) = out.as_chunks_mut::<CHANNELS>();
        for (out, window) in out.iter_mut().zip(&windows.windows) {
            let mut sums = [windows.half(); CHANNELS];
            for (pixel, weight) in line[window.first..].iter().zip(&window.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(sample) * weight);
                }
            }
            *out = sums.map(|sum| windows.clip(sum));
        }
    });
    out
}

fn down(pixels: &[u8], width: usize, windows: &Windows) -> Vec<u8> {
    let stride = width * CHANNELS;
    let mut out = vec![0; windows.windows.len() * stride];
    out.par_chunks_mut(stride).zip(&windows.windows).for_each(|(out, window)| {
        let mut sums = vec![windows.half(); stride];
        let lines = pixels.chunks_exact(stride).skip(window.first);
        for (line, weight) in lines.zip(&window.weights) {
            for (sum, &sample) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(i32::from(sample) * weight);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = windows.clip(sum);
        }
    });
    out
}
