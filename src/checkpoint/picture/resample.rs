//! Bicubic resampling with antialias, bit for bit as PIL does it on 8-bit pictures: two passes, the
//! weights in fixed point, the result of the first rounded to 8 bits before the second.

use super::decode::RgbPicture;
use rayon::prelude::*;

/// Fraction bits of a weight: 32 less 8 for the pixel and 2 for overshoot of the sum.
const PRECISION: u32 = 32 - 8 - 2;
/// Reach of the cubic kernel to either side, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;
const CHANNELS: usize = 3;

/// The picture at `width` by `height` pixels, neither of them zero.
pub(super) fn resize(picture: &RgbPicture, width: usize, height: usize) -> RgbPicture {
    let mut pixels = picture.pixels().to_vec();
    if width != picture.width() {
        pixels = across(&pixels, picture.width(), width);
    }
    if height != picture.height() {
        pixels = down(&pixels, width, picture.height(), height);
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

/// One window for each target pixel of a row of `source` pixels.
fn windows(source: usize, target: usize) -> Vec<Window> {
    let scale = source as f64 / target as f64;
    // shrinking widens the kernel: that is the antialias
    let stretch = scale.max(1.0);
    let support = SUPPORT * stretch;
    let window = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        // truncation towards zero and saturation at it are what C's casts and PIL's clamps do
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(source);
        let weight = |pixel: usize| cubic((pixel as f64 - center + 0.5) * (1.0 / stretch));
        let mut weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let fixed = |weight: &f64| {
            let scaled = weight * f64::from(1u32 << PRECISION);
            (if *weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..target).map(window).collect()
}

/// A fixed-point sum, begun at one half, as a pixel.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn across(pixels: &[u8], source: usize, target: usize) -> Vec<u8> {
    let windows = windows(source, target);
    let rows = pixels.len() / (source * CHANNELS);
    let mut out = vec![0; rows * target * CHANNELS];
    let lines = out.par_chunks_mut(target * CHANNELS).zip(pixels.par_chunks(source * CHANNELS));
    lines.for_each(|(out, line)| {
        let (line, _) = line.as_chunks::<CHANNELS>();
        let (out, _) = out.as_chunks_mut::<CHANNELS>();
        for (out, window) in out.iter_mut().zip(&windows) {
            let mut sums = [HALF; CHANNELS];
            for (pixel, weight) in line[window.first..].iter().zip(&window.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(sample) * weight);
                }
            }
            *out = sums.map(clip);
        }
    });
    out
}

fn down(pixels: &[u8], width: usize, source: usize, target: usize) -> Vec<u8> {
    let stride = width * CHANNELS;
    let windows = windows(source, target);
    let mut out = vec![0; target * stride];
    out.par_chunks_mut(stride).zip(&windows).for_each(|(out, window)| {
        let mut sums = vec![HALF; stride];
        let lines = pixels.chunks_exact(stride).skip(window.first);
        for (line, weight) in lines.zip(&window.weights) {
            for (sum, &sample) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(i32::from(sample) * weight);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = clip(sum);
        }
    });
    out
}
