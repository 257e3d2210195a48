//! Numbers as people say them.

/// Bytes, with three digits that count.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", digits(n as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", digits(n as f64 / 1e6)),
        _ => format!("{} GB", digits(n as f64 / 1e9)),
    }
}

/// So many bytes as are enough: [`bytes`], rounded up.
pub(crate) fn enough(n: u64) -> String {
    let unit = 10_u64.pow(n.max(1).ilog10().saturating_sub(2));
    bytes(n.div_ceil(unit).saturating_mul(unit))
}

/// `1 row`, `2 rows`: what is counted is named in the singular.
pub(crate) fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Three digits that count, or all before the point: tables of such numbers fit a terminal.
pub(crate) fn digits(x: f64) -> String {
    match x {
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests;
