//! What the values of options may be, in words that say what is expected.

use crate::tensor::Products;
use std::num::{IntErrorKind, NonZeroUsize, ParseIntError};
use std::str::FromStr;

/// `4GiB`, `512 MiB`, `1.5GB` or plain bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !"-.".contains(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024f64.powi(2),
        "g" | "gib" => 1024f64.powi(3),
        "t" | "tib" => 1024f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(format!("{unit:?} is no unit: expected KiB, MiB, GiB, KB, MB or GB")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit, as in 4GiB")?;
    match number * unit {
        bytes if bytes < 1.0 => Err("expected at least one byte".into()),
        bytes if bytes < 2f64.powi(63) => Ok(bytes as u64),
        _ => Err("expected less than 8 EiB".into()),
    }
}

/// Bits or MiB.
pub(super) fn parse_budget(text: &str) -> Result<f64, String> {
    real(text, |budget| 0.0 < budget && budget < 1e9, "a number above 0 and below 1e9")
}

/// A time.
pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    real(text, |seconds| (0.0..=1e9).contains(&seconds), "seconds, 0 or more")
}

/// A divergence.
pub(super) fn parse_nats(text: &str) -> Result<f64, String> {
    real(text, |nats| 0.0 < nats && nats < 1e9, "a divergence above 0")
}

fn real(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number| fits(number));
    number.ok_or_else(|| format!("expected {expected}"))
}

/// The numbers that are multiplied.
pub(super) fn parse_products(text: &str) -> Result<Products, String> {
    match text {
        "f32" => Ok(Products::F32),
        "bf16" => Ok(Products::Bf16),
        _ => Err("expected f32 or bf16".into()),
    }
}

/// Frames, height and width in patches, none of them 0.
pub(super) fn parse_grid(text: &str) -> Result<[usize; 3], String> {
    let numbers: Vec<usize> = text
        .split([',', 'x'])
        .map(|part| parse_length(part.trim()))
        .collect::<Result<_, _>>()
        .map_err(|expected| format!("expected T,H,W, each of them: {expected}"))?;
    numbers
        .try_into()
        .map_err(|found: Vec<usize>| format!("expected T,H,W, found {} numbers", found.len()))
}

/// A whole number.
pub(super) fn parse_count<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| wrong(&error, 0))
}

/// A whole number that is not 0.
pub(super) fn parse_some(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|error| wrong(&error, 1))
}

/// The same as a plain number.
pub(super) fn parse_length(text: &str) -> Result<usize, String> {
    parse_some(text).map(NonZeroUsize::get)
}

fn wrong(error: &ParseIntError, least: usize) -> String {
    match error.kind() {
        IntErrorKind::PosOverflow => "expected a number below 2^64".into(),
        _ => format!("expected a whole number, {least} or more"),
    }
}

#[cfg(test)]
mod tests;
