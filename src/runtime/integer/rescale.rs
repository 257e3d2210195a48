//! Fixed-point multipliers: how an accumulator reaches the grid of a result without floats.

/// A positive real as `mantissa · 2^-shift`, the mantissa of 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) mantissa: i64,
    pub(super) shift: u32,
}

/// Ratios beyond this saturate every grid of 16 bits and fewer, so more is not told apart.
const RATIO_MAX: f64 = (1_u64 << 40) as f64;
/// Ratios below 2^-SHIFT_MAX round any accumulator of 64 bits to zero.
const SHIFT_MAX: u32 = 94;

impl Rescale {
    /// The nearest multiplier of `ratio`, which is positive and finite.
    pub(super) fn of(ratio: f64) -> Rescale {
        let ratio = ratio.clamp(0.0, RATIO_MAX);
        // 2^e ≤ ratio < 2^(e+1), read off the representation
        let exponent = ((ratio.to_bits() >> 52 & 0x7ff) as i32) - 1023;
        let shift = (30 - exponent).clamp(0, SHIFT_MAX as i32);
        let mantissa = (ratio * 2_f64.powi(shift)).round() as i64;
        Rescale { mantissa, shift: shift as u32 }
    }

    /// The multiplier's shift in two: of what is divided by, which must stay inside 128 bits, and of
    /// the quotient, which is zero then.
    pub(super) fn shifts(self) -> [u32; 2] {
        let first = self.shift.min(60);
        [first, self.shift - first]
    }

    /// `acc · ratio`, rounded to nearest, halves up.
    pub(super) fn apply(self, acc: i64) -> i64 {
        round_shift(i128::from(acc) * i128::from(self.mantissa), self.shift)
    }
}

/// Two ratios over one shift, so that their products can be added before rounding once.
pub(super) fn pair(a: f64, b: f64) -> ([i64; 2], u32) {
    let larger = Rescale::of(a.max(b));
    let scale = 2_f64.powi(larger.shift as i32);
    ([a, b].map(|ratio| (ratio.min(RATIO_MAX) * scale).round() as i64), larger.shift)
}

/// `value / 2^shift`, rounded to nearest, halves up.
pub(super) fn round_shift(value: i128, shift: u32) -> i64 {
    let half = if shift == 0 { 0 } else { 1_i128 << (shift - 1) };
    ((value + half) >> shift).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// `a / b` for positive b, rounded to nearest, halves up.
pub(super) fn round_div(a: i128, b: i128) -> i64 {
    (2 * a + b).div_euclid(2 * b).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests;
