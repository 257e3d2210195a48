//! Payloads of constants: bytes to integers or reals.

use super::Misfit;
use crate::circle::TensorType;
use crate::quant::{self, QuantParams};

/// A constant as the file holds it.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Codes {
    /// FLOAT32
    Reals(Vec<f32>),
    /// Up to 32 bits.
    Narrow(Vec<i32>),
    /// INT64: biases of 16-bit kernels.
    Wide(Vec<i64>),
}

impl Codes {
    /// What the constant means.
    pub(super) fn reals(
        &self,
        params: Option<&QuantParams>,
        shape: &[usize],
    ) -> Result<Vec<f32>, Misfit> {
        let exact = |x: i64| {
            // Integers that are not on a grid travel as f32, exact below 2^24.
            if x.unsigned_abs() < 1 << 24 { Ok(x as f32) } else { Err(format!("holds {x}")) }
        };
        match (self, params) {
            (Codes::Reals(reals), None) => Ok(reals.clone()),
            (Codes::Reals(_), Some(_)) => Err("is FLOAT32 on a grid".into()),
            (Codes::Narrow(codes), None) => codes.iter().map(|&x| exact(x.into())).collect(),
            (Codes::Wide(codes), None) => codes.iter().map(|&x| exact(x)).collect(),
            (_, Some(QuantParams::Mx { .. })) => Err("is a constant in MX blocks".into()),
            (Codes::Narrow(codes), Some(params)) => Ok(quant::dequantize(params, shape, codes)),
            (Codes::Wide(codes), Some(QuantParams::Affine { scale, zero_point, .. })) => {
                let channel = |i: usize| if scale.len() == 1 { 0 } else { i };
                if scale.len() != 1 && scale.len() != codes.len() {
                    return Err("is INT64 with a scale for each channel, but no vector".into());
                }
                let real = |(i, &q): (usize, &i64)| {
                    let c = channel(i);
                    let steps = i128::from(q) - i128::from(zero_point[c]);
                    (steps as f64 * f64::from(scale[c])) as f32
                };
                Ok(codes.iter().enumerate().map(real).collect())
            }
        }
    }

    /// The integers as i64; none for reals.
    pub(in super::super) fn integers(&self) -> Option<Vec<i64>> {
        match self {
            Codes::Reals(_) => None,
            Codes::Narrow(codes) => Some(codes.iter().map(|&x| x.into()).collect()),
            Codes::Wide(codes) => Some(codes.clone()),
        }
    }
}

/// The elements of a payload of `count` elements.
pub(super) fn decode(dtype: TensorType, bytes: &[u8], count: usize) -> Result<Codes, Misfit> {
    let codes = match dtype {
        TensorType::Float32 => Codes::Reals(chunks(bytes, f32::from_le_bytes)),
        TensorType::Int32 => Codes::Narrow(chunks(bytes, i32::from_le_bytes)),
        TensorType::Int64 => Codes::Wide(chunks(bytes, i64::from_le_bytes)),
        TensorType::Int16 => Codes::Narrow(chunks(bytes, |b| i16::from_le_bytes(b).into())),
        TensorType::Uint16 => Codes::Narrow(chunks(bytes, |b| u16::from_le_bytes(b).into())),
        TensorType::Uint8 => Codes::Narrow(bytes.iter().map(|&b| b.into()).collect()),
        TensorType::Int8 => Codes::Narrow(chunks(bytes, |b| i8::from_le_bytes(b).into())),
        TensorType::Uint4 | TensorType::Int4 => {
            let signed = dtype == TensorType::Int4;
            let codes = quant::unpack4(bytes, count, signed);
            Codes::Narrow(codes.ok_or_else(|| format!("holds {} bytes", bytes.len()))?)
        }
        other => return Err(format!("is a constant of {other}, which is not executed")),
    };
    let found = match &codes {
        Codes::Reals(x) => x.len(),
        Codes::Narrow(x) => x.len(),
        Codes::Wide(x) => x.len(),
    };
    match found == count {
        true => Ok(codes),
        false => Err(format!("holds {found} elements, its shape has {count}")),
    }
}

fn chunks<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
}
