//! Integer types of quantized values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An integer type: a width in bits and a sign.
///
/// Grids use up to 16 bits; `int32` and `int64` hold biases. Text form: `uint4`, `int16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DType {
    bits: u8,
    signed: bool,
}

/// Text that names no dtype.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no dtype: expected uint2 to uint16, int2 to int16, int32 or int64")]
pub struct ParseDTypeError {
    /// The text.
    pub found: String,
}

impl DType {
    /// 4 bits, 0..=15.
    pub const UINT4: DType = DType { bits: 4, signed: false };
    /// 4 bits, -8..=7.
    pub const INT4: DType = DType { bits: 4, signed: true };
    /// 8 bits, 0..=255.
    pub const UINT8: DType = DType { bits: 8, signed: false };
    /// 8 bits, -128..=127.
    pub const INT8: DType = DType { bits: 8, signed: true };
    /// 16 bits, 0..=65535.
    pub const UINT16: DType = DType { bits: 16, signed: false };
    /// 16 bits, -32768..=32767.
    pub const INT16: DType = DType { bits: 16, signed: true };
    /// 32 bits signed: the bias of 8-bit kernels.
    pub const INT32: DType = DType { bits: 32, signed: true };
    /// 64 bits signed: the bias of 16-bit kernels.
    pub const INT64: DType = DType { bits: 64, signed: true };

    /// The type of `bits` bits, if there is one: 1 to 16 unsigned, 2 to 16, 32 or 64 signed. One
    /// signed bit has no positive value, so no symmetric grid.
    pub fn new(bits: u8, signed: bool) -> Option<DType> {
        let legal = matches!((bits, signed), (1..=16, false) | (2..=16 | 32 | 64, true));
        legal.then_some(DType { bits, signed })
    }

    /// Width in bits.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Bits of an integer in a file: the next of 4, 8, 16, 32 and 64.
    pub const fn stored_bits(self) -> usize {
        match self.bits {
            0..=4 => 4,
            5..=8 => 8,
            9..=16 => 16,
            17..=32 => 32,
            _ => 64,
        }
    }

    /// Whether negative values exist.
    pub const fn signed(self) -> bool {
        self.signed
    }

    /// Smallest value: `-2^(bits-1)`, or 0 if unsigned. For `int64` that of `int32`: use [`limits`].
    ///
    /// [`limits`]: DType::limits
    pub const fn qmin(self) -> i32 {
        let (low, _) = self.limits();
        if low < i32::MIN as i64 { i32::MIN } else { low as i32 }
    }

    /// Largest value: `2^(bits-1)-1`, or `2^bits-1` if unsigned. For `int64` that of `int32`: use
    /// [`limits`].
    ///
    /// [`limits`]: DType::limits
    pub const fn qmax(self) -> i32 {
        let (_, high) = self.limits();
        if high > i32::MAX as i64 { i32::MAX } else { high as i32 }
    }

    /// Smallest and largest value, exact for every width.
    pub const fn limits(self) -> (i64, i64) {
        if self.signed {
            let high = (1_u64 << (self.bits - 1)).wrapping_sub(1) as i64;
            (-high - 1, high)
        } else {
            (0, (1_i64 << self.bits) - 1)
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}int{}", if self.signed { "" } else { "u" }, self.bits)
    }
}

impl FromStr for DType {
    type Err = ParseDTypeError;

    fn from_str(text: &str) -> Result<DType, ParseDTypeError> {
        let (signed, bits) = match text.strip_prefix('u') {
            Some(rest) => (false, rest.strip_prefix("int")),
            None => (true, text.strip_prefix("int")),
        };
        // `u8::from_str` would take `+8` and `08`; a dtype has one spelling
        bits.filter(|bits| bits.starts_with(|c: char| ('1'..='9').contains(&c)))
            .and_then(|bits| bits.parse().ok())
            .and_then(|bits| DType::new(bits, signed))
            .ok_or_else(|| ParseDTypeError { found: text.to_owned() })
    }
}

impl TryFrom<String> for DType {
    type Error = ParseDTypeError;

    fn try_from(text: String) -> Result<DType, ParseDTypeError> {
        text.parse()
    }
}

impl From<DType> for String {
    fn from(dtype: DType) -> String {
        dtype.to_string()
    }
}
