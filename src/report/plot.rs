//! A scatter plot of two outputs in text: agreement is the diagonal.

const WIDTH: usize = 50;
const HEIGHT: usize = 22;
/// Marks for growing numbers of points in a cell; distinguishable without colour.
const MARKS: [char; 4] = ['·', ':', 'o', '#'];

/// Float (x) against quantized (y) on equal axes; at most 72 columns wide.
pub fn scatter(float: &[f32], quantized: &[f32]) -> String {
    let finite = |x: &&f32| x.is_finite();
    let all = || float.iter().chain(quantized).filter(finite).copied();
    let (min, max) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
    if min > max {
        return String::from("(nothing to plot)\n");
    }
    let margin = if max > min { 0.05 * (max - min) } else { 0.5 };
    let (low, span) = (min - margin, max - min + 2.0 * margin);
    let cell = |x: f32, cells: usize| (((x - low) / span * cells as f32) as usize).min(cells - 1);
    let mut counts = vec![[0u32; WIDTH]; HEIGHT];
    for (&f, &q) in float.iter().zip(quantized).filter(|(f, q)| f.is_finite() && q.is_finite()) {
        counts[HEIGHT - 1 - cell(q, HEIGHT)][cell(f, WIDTH)] += 1;
    }
    let most = counts.iter().flatten().copied().max().unwrap_or(1).max(1) as f32;
    let mark = |count: u32| match count {
        0 => ' ',
        // Logarithmic: a few stray points must not vanish beside thousands.
        n => MARKS[(((n as f32).ln_1p() / most.ln_1p() * 4.0) as usize).min(3)],
    };
    let mut out = String::from("  quantized\n");
    for (i, row) in counts.iter().enumerate() {
        let label = match i {
            0 => format!("{:>9}", tick(low + span)),
            i if i == HEIGHT - 1 => format!("{:>9}", tick(low)),
            _ => " ".repeat(9),
        };
        let line: String = row.iter().map(|&count| mark(count)).collect();
        out += &format!("{label} ┤{}\n", line.trim_end());
    }
    out += &format!("{:9} └{}\n", "", "─".repeat(WIDTH));
    out += &format!("{:10} {:<25}{:>25}  float\n", "", tick(low), tick(low + span));
    out
}

/// At most nine characters, whatever the number.
fn tick(x: f32) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) { format!("{x:.3}") } else { format!("{x:.1e}") }
}

#[cfg(test)]
mod tests;
