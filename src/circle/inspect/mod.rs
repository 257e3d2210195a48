//! A model for people's eyes (text) and for scripts (JSON).

mod json;
mod listing;
mod summary;

use super::model::Quantization;

pub use json::to_json;
pub use listing::{list_operators, list_tensors};
pub use summary::summarize;

/// Columns that printed lines aim to stay within.
const WIDTH: usize = 100;

/// A name that is safe to print: control characters escaped, cut in the middle where it is too long.
fn printable(name: &str, width: usize) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\'' | '\\' => escaped.push(c),
            other => escaped.extend(other.escape_debug()),
        }
    }
    let count = escaped.chars().count();
    if count <= width {
        return escaped;
    }
    // The end of a name tells more than its beginning: "model.layers.…q_proj::linear".
    let head = width.saturating_sub(1) / 3;
    let tail = width.saturating_sub(1) - head;
    let start: String = escaped.chars().take(head).collect();
    let end: String = escaped.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let power = (bytes.ilog2() / 10).min(4);
    let whole = 1u64 << (10 * power);
    let tenths = (u128::from(bytes) * 10 + u128::from(whole) / 2) / u128::from(whole);
    let unit = UNITS[usize::try_from(power - 1).unwrap_or(0).min(3)];
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Scale and zero point in a few words; empty where there are none.
fn quantization(q: Option<&Quantization>) -> String {
    let Some(q) = q else { return String::new() };
    let one = |scale: f32, zero: i64| format!("scale {}, zero point {zero}", short(scale));
    match (q.scale.as_slice(), q.zero_point.as_slice()) {
        ([], _) => String::new(),
        ([scale], [zero]) => one(*scale, *zero),
        (scales, zeros) => {
            let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
            let most = scales.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let zero = match zeros.iter().min().zip(zeros.iter().max()) {
                Some((a, b)) if a == b => format!("{a}"),
                Some((a, b)) => format!("{a}..{b}"),
                None => "none".into(),
            };
            format!(
                "{} scales {}..{} along {}, zero point {zero}",
                scales.len(),
                short(least),
                short(most),
                q.quantized_dimension
            )
        }
    }
}

/// A number in four significant digits.
fn short(value: f32) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e5).contains(&magnitude) {
        let digits = if magnitude >= 1000.0 {
            0
        } else if magnitude >= 1.0 {
            3
        } else {
            5
        };
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').into(),
            false => text,
        }
    } else {
        format!("{value:.3e}")
    }
}
