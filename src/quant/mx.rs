//! Microscaling (OCP MX v1.0): blocks of 32 elements that share one power of two.
//!
//! With `E = floor(log2(max |x|)) - emax` clamped to at least -127, every element of a block is
//! `x / 2^E`, rounded half away from zero to the element format and clamped to its largest value.
//! The same steps, in f32, as the reference library of the format's authors, which TICO ports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Grain;
use super::affine::Channels;

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// Element format of an MX tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MxFormat {
    /// Sign and 7 bits of fraction, largest 127/64.
    Int8,
    /// Sign and 3 bits, largest 7/4.
    Int4,
    /// Sign and 1 bit, largest 1.
    Int2,
    /// 5 exponent and 2 mantissa bits, largest 57344.
    Fp8E5M2,
    /// 4 exponent and 3 mantissa bits, largest 448.
    Fp8E4M3,
    /// 3 exponent and 2 mantissa bits, largest 28.
    Fp6E3M2,
    /// 2 exponent and 3 mantissa bits, largest 7.5.
    Fp6E2M3,
    /// 2 exponent and 1 mantissa bit, largest 6.
    Fp4,
}

/// Text that names no MX format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no MX format: expected one of {}", names())]
pub struct ParseMxError {
    /// The text.
    pub found: String,
}

/// What an element can express.
struct Element {
    exponent_bits: i32,
    /// Mantissa bits including the sign and the implicit one.
    mantissa_bits: i32,
    emax: i32,
    max: f32,
}

const NAMES: [(&str, MxFormat); 9] = [
    ("int8", MxFormat::Int8),
    ("int4", MxFormat::Int4),
    ("int2", MxFormat::Int2),
    ("fp8_e5m2", MxFormat::Fp8E5M2),
    ("fp8_e4m3", MxFormat::Fp8E4M3),
    ("fp6_e3m2", MxFormat::Fp6E3M2),
    ("fp6_e2m3", MxFormat::Fp6E2M3),
    ("fp4", MxFormat::Fp4),
    ("fp4_e2m1", MxFormat::Fp4),
];

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

impl MxFormat {
    /// Name, as in recipes: `int8`, `fp4`, `fp8_e4m3`, …
    pub fn name(self) -> &'static str {
        match self {
            MxFormat::Int8 => "int8",
            MxFormat::Int4 => "int4",
            MxFormat::Int2 => "int2",
            MxFormat::Fp8E5M2 => "fp8_e5m2",
            MxFormat::Fp8E4M3 => "fp8_e4m3",
            MxFormat::Fp6E3M2 => "fp6_e3m2",
            MxFormat::Fp6E2M3 => "fp6_e2m3",
            MxFormat::Fp4 => "fp4",
        }
    }

    fn element(self) -> Element {
        let (exponent_bits, mantissa_bits, emax, max) = match self {
            MxFormat::Int8 => (0, 8, 0, 127.0 / 64.0),
            MxFormat::Int4 => (0, 4, 0, 7.0 / 4.0),
            MxFormat::Int2 => (0, 2, 0, 1.0),
            MxFormat::Fp8E5M2 => (5, 4, 15, 57344.0),
            MxFormat::Fp8E4M3 => (4, 5, 8, 448.0),
            MxFormat::Fp6E3M2 => (3, 4, 4, 28.0),
            MxFormat::Fp6E2M3 => (2, 5, 2, 7.5),
            MxFormat::Fp4 => (2, 3, 2, 6.0),
        };
        Element { exponent_bits, mantissa_bits, emax, max }
    }
}

impl fmt::Display for MxFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MxFormat {
    type Err = ParseMxError;

    fn from_str(text: &str) -> Result<MxFormat, ParseMxError> {
        NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, format)| *format)
            .ok_or_else(|| ParseMxError { found: text.to_owned() })
    }
}

impl TryFrom<String> for MxFormat {
    type Error = ParseMxError;

    fn try_from(text: String) -> Result<MxFormat, ParseMxError> {
        text.parse()
    }
}

impl From<MxFormat> for String {
    fn from(format: MxFormat) -> String {
        format.name().to_owned()
    }
}

/// `2^exponent` for exponents of finite f64, exactly.
fn exp2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `floor(log2(|x|))` of a finite, nonzero f32, the logarithm rounded to f32 as in the reference.
fn exponent_of(x: f32) -> i32 {
    // every f32 is a normal f64, so the field is the exponent; but the f32 logarithm of a value a
    // few units below a power of two is the integer above
    let wide = f64::from(x.abs());
    let exponent = ((wide.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let nearly_two = x.to_bits() & 0x007f_ff00 == 0x007f_ff00;
    if nearly_two { (wide.log2() as f32).floor() as i32 } else { exponent }
}

/// Snaps `data`, a row-major tensor of `shape`, to blocks of 32 along `axis`.
///
/// A last block that is short counts as padded by zeros, which changes nothing. A block that holds
/// NaN or an infinity has no shared exponent and becomes NaN, as in the reference.
///
/// # Panics
/// If `axis` is outside `shape`, or `data` does not fill it: a mistake of ours.
pub fn fake_quant(format: MxFormat, axis: usize, shape: &[usize], data: &mut [f32]) {
    let Channels { outer, count, run } = Channels::around(shape, Grain::Axis(axis));
    assert_eq!(outer * count * run, data.len(), "data fills {shape:?}");
    let element = format.element();
    for outer in 0..outer {
        for first in (0..count).step_by(BLOCK) {
            let length = BLOCK.min(count - first);
            for inner in 0..run {
                let at = |i: usize| (outer * count + first + i) * run + inner;
                let mut block = [0.0; BLOCK];
                for (i, x) in block[..length].iter_mut().enumerate() {
                    *x = data[at(i)];
                }
                snap_block(&element, &mut block);
                for (i, x) in block[..length].iter().enumerate() {
                    data[at(i)] = *x;
                }
            }
        }
    }
}

fn snap_block(element: &Element, block: &mut [f32; BLOCK]) {
    if block.iter().any(|x| !x.is_finite()) {
        return block.fill(f32::NAN);
    }
    let largest = block.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    // a zero block counts as the smallest normal number; no finite block exceeds the limit of 127
    let top = if largest == 0.0 { -126 } else { exponent_of(largest) };
    let shared = (top - element.emax).max(-127);
    for x in block.iter_mut() {
        *x = snap(element, *x, shared);
    }
}

/// One element. Scaling by powers of two in f64 is exact; the half is added in f32, as in the
/// reference, where a value one unit below a tie is carried over it.
fn snap(element: &Element, x: f32, shared: i32) -> f32 {
    let scaled = f64::from(x) / exp2(shared);
    let unit = if element.exponent_bits == 0 {
        -(element.mantissa_bits - 2)
    } else {
        let least = 2 - (1 << (element.exponent_bits - 1));
        let own = if x == 0.0 { 0 } else { exponent_of(x) - shared };
        own.max(least) - (element.mantissa_bits - 2)
    };
    let steps = ((scaled.abs() / exp2(unit)) as f32 + 0.5).floor();
    let rounded = (f64::from(steps) * exp2(unit)).min(f64::from(element.max));
    (rounded * exp2(shared)).copysign(f64::from(x)) as f32
}
