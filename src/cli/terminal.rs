//! What people see: progress bars on stderr, boxes and tables on stdout.

use super::FAILED;
use crate::pipeline::{self, Progress};
use crate::report::{counted, digits};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Exit code of a program that Ctrl-C ended, or whoever asked it to end.
pub(super) const INTERRUPTED: u8 = 130;

/// Standard output. That somebody has stopped reading it is no failure and no reason not to judge.
pub(super) struct Stdout(StdoutLock<'static>);

pub(super) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        heard(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        heard(self.0.flush(), ())
    }
}

/// What came of writing, or `otherwise` where nobody reads.
pub(super) fn heard<T>(written: io::Result<T>, otherwise: T) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(otherwise),
        written => written,
    }
}

/// From now on a file past the limit that a shell sets is an error that names it, and a file that is cut
/// while it is mapped ends the program as failures do.
pub(super) fn outlive_limits() -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGBUS, SIGXFSZ};
        flag::register(SIGXFSZ, Arc::default())?;
        // SAFETY: the action makes two system calls that a handler may make, and never returns.
        unsafe { low_level::register(SIGBUS, end_cut) }?;
    }
    Ok(())
}

/// Ends the program, some bytes of whose files are gone.
#[cfg(unix)]
fn end_cut() {
    let said = b"error: a file was cut while it was read, or its disk is gone\n";
    let _ = rustix::io::write(io::stderr(), said);
    low_level::exit(FAILED.into())
}

/// How long Ctrl-C may take to end the program.
const WATCH: Duration = Duration::from_millis(20);

/// From now on Ctrl-C, or a scheduler, ends the program without what it has half-written.
pub(super) fn end_on_interrupt() -> Result<(), String> {
    end_after(0)
}

/// The same once it was asked to end so many times.
fn end_after(mut times: usize) -> Result<(), String> {
    let asked = Arc::new(AtomicBool::new(false));
    register(&asked)?;
    let watch = move || {
        loop {
            match (asked.swap(false, Ordering::Relaxed), times) {
                (false, _) => thread::sleep(WATCH),
                (true, 0) => break,
                (true, _) => times -= 1,
            }
        }
        pipeline::give_up();
        let _ = writeln!(io::stderr(), "stopped");
        low_level::exit(INTERRUPTED.into())
    };
    thread::Builder::new().spawn(watch).map(drop).map_err(deaf)
}

/// From now on Ctrl-C, or a scheduler, sets `asked`.
fn register(asked: &Arc<AtomicBool>) -> Result<(), String> {
    let register = |signal| flag::register(signal, Arc::clone(asked)).map(drop);
    [SIGINT, SIGTERM].into_iter().try_for_each(register).map_err(deaf)
}

fn deaf(source: io::Error) -> String {
    format!("cannot wait for Ctrl-C: {source}")
}

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
    pub(super) fn stop_on_interrupt(self) -> Result<Bars, String> {
        register(&self.stop)?;
        end_after(1)?;
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

/// `name` in at most `width` columns, its middle left out if need be: the end tells more than the
/// beginning.
pub(super) fn shortened(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let head = width.saturating_sub(1) / 3;
    let tail = width.saturating_sub(1 + head);
    let start: String = name.chars().take(head).collect();
    start + "…" + &name.chars().skip(count - tail).collect::<String>()
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

/// What of the checkpoint the layout leaves out, if anything, and what would need it.
pub(super) fn left_out(tensors: usize, way: &str) -> String {
    match tensors {
        0 => String::new(),
        _ => {
            let tensors = counted(tensors, "tensor");
            format!("  left out    {tensors} that this layout does not read:\n{:14}{way}\n", "")
        }
    }
}

/// Seconds as people say them.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} s", digits(s)),
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
    fn times_read_well() {
        assert_eq!((seconds(0.0123), seconds(2.5)), ("12.3 ms".into(), "2.50 s".into()));
    }
}
