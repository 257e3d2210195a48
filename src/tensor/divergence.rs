//! Two rows of logits as distributions, in f64.

use super::elementwise::greatest;
use super::simd::{dispatch, joined};

/// Width of the partial sums: part of the numeric contract, since it fixes the order of addition.
const LANES: usize = 8;

/// e^x to about 2 ulp, for x that is not above 0; below -700 as at -700.
#[inline(always)]
fn exp(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52: adding it rounds to an integer
    let x = if x < -700.0 { -700.0 } else { x }; // `max` would hide NaN
    let shifted = x.mul_add(std::f64::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 in two parts: the first has so few bits that its product with n is exact.
    let r = n.mul_add(-1.908_214_929_270_587_7e-10, n.mul_add(-0.693_147_180_369_123_8, x));
    // |r| ≤ ln 2 / 2, where the series is exact after the thirteenth power.
    let mut p: f64 = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        p = p.mul_add(r, 1.0 / factorial);
    }
    // n stands in the low bits of `shifted`: those of MAGIC itself fall off the end.
    p * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// Of two rows Σ e^x and Σ e^y, each shifted by its `max`, and Σ e^x (x - y), shifted like the first.
#[inline(always)]
fn sums(x: [&[f32]; 2], max: [f32; 2]) -> [f64; 3] {
    let mut sums = [[0.0f64; LANES]; 3];
    let mut add = |lane: usize, x: f32, y: f32| {
        let p = exp(f64::from(x) - f64::from(max[0]));
        sums[0][lane] += p;
        sums[1][lane] += exp(f64::from(y) - f64::from(max[1]));
        sums[2][lane] += p * (f64::from(x) - f64::from(y));
    };
    let (x, y) = (x[0].as_chunks::<LANES>(), x[1].as_chunks::<LANES>());
    for (x, y) in x.0.iter().zip(y.0) {
        for lane in 0..LANES {
            add(lane, x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in x.1.iter().zip(y.1).enumerate() {
        add(lane, x, y);
    }
    sums.map(|lanes| joined(lanes, |a, b| a + b))
}

dispatch! {
    /// Of two equally long rows of logits `[vocab]`: KL(softmax x ‖ softmax y) in nats, and ln Σ e^y,
    /// which takes a logit of y to the logarithm of its probability.
    pub fn divergence(x: &[f32], y: &[f32]) -> (f64, f64) {
        let max = [greatest(x), greatest(y)];
        let [p, q, apart] = sums([x, y], max);
        let [p_log, q_log] = [f64::from(max[0]) + p.ln(), f64::from(max[1]) + q.ln()];
        (apart / p + (q_log - p_log), q_log)
    }
}

#[cfg(test)]
mod tests;
