//! What people see: progress bars on stderr, boxes and tables on stdout.

use crate::pipeline::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Exit code of a program that Ctrl-C ended, or whoever asked it to end.
pub(super) const INTERRUPTED: u8 = 130;

/// A bar for each phase, drawn only on a terminal and only if the phase takes a while.
pub(super) struct Bars {
    bar: Mutex<ProgressBar>,
    shown: bool,
    stop: Arc<AtomicBool>,
}

impl Bars {
    pub(super) fn new(shown: bool) -> Bars {
        let stop = Arc::new(AtomicBool::new(false));
        Bars { bar: Mutex::new(ProgressBar::hidden()), shown, stop }
    }

    /// From now on Ctrl-C, or a scheduler, asks the job to stop; the second time it ends the program.
    pub(super) fn stop_on_interrupt(self) -> io::Result<Bars> {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first time the second of them sets what the first looks at.
            let stop = || Arc::clone(&self.stop);
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), stop())?;
            flag::register(signal, stop())?;
        }
        Ok(self)
    }

    pub(super) fn finish(&self) {
        if let Ok(bar) = self.bar.lock() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn begin(&self, phase: &'static str, total: usize) {
        let style =
            ProgressStyle::with_template("  {msg:<10} {bar:32} {pos}/{len} {elapsed} (left {eta})");
        if let (Ok(mut bar), Ok(style), true) = (self.bar.lock(), style, self.shown) {
            bar.finish_and_clear();
            *bar = ProgressBar::new(total as u64).with_style(style).with_message(phase);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn step(&self) {
        if let Ok(bar) = self.bar.lock() {
            bar.inc(1);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Lines in a box with a title, at least as wide as both.
pub(super) fn boxed(title: &str, lines: &[String]) -> String {
    let width = lines
        .iter()
        .map(|l| l.chars().count())
        .chain([title.chars().count() + 2])
        .max()
        .unwrap_or(0);
    let mut out =
        format!("┌─ {title} {}┐\n", "─".repeat(width.saturating_sub(title.chars().count() + 1)));
    for line in lines {
        out += &format!("│ {line}{} │\n", " ".repeat(width - line.chars().count()));
    }
    out + &format!("└{}┘\n", "─".repeat(width + 2))
}

/// Items in indented lines of at most 80 columns, with commas between them.
pub(super) fn wrapped(items: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + item.chars().count() + 3 <= 80 => {
                *line += &format!(", {item}");
            }
            last => {
                last.into_iter().for_each(|line| line.push(','));
                lines.push(format!("  {item}"));
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Bytes as people say them.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", digits(n as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", digits(n as f64 / 1e6)),
        _ => format!("{} GB", digits(n as f64 / 1e9)),
    }
}

/// `1 row`, `2 rows`: what is counted is named in the singular.
pub(super) fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Seconds as people say them.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} s", digits(s)),
    }
}

/// Three digits that count, or all before the point: tables of such numbers fit a terminal.
fn digits(x: f64) -> String {
    match x {
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_rectangles() {
        let text = boxed("a title", &["short".into(), "ein längerer Inhalt".into()]);
        let widths: Vec<usize> = text.lines().map(|l| l.chars().count()).collect();
        assert!(widths.windows(2).all(|w| w[0] == w[1]), "{text}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((bytes(999), bytes(2_102_608)), ("999 B".into(), "2.10 MB".into()));
        assert_eq!((bytes(10_000), bytes(614_800)), ("10.0 kB".into(), "615 kB".into()));
        assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".into(), "0 rows".into()));
        assert_eq!((seconds(0.0123), seconds(2.5)), ("12.3 ms".into(), "2.50 s".into()));
    }
}
