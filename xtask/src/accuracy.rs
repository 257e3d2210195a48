//! `cargo xtask accuracy`: what each step of the ladder costs in accuracy, seconds and memory, in one
//! table. Every cell is a run of the released program of its own, so that peak memory is that of
//! one method alone; a run that fails is a line that says why. Seconds are those from opening the
//! checkpoint to rounded weights, as the peer counts: judging is left out.

use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[derive(Args)]
pub struct Accuracy {
    /// Checkpoint of a text model; none: only the demo model and its questions
    #[arg(long, value_name = "DIR", requires = "texts")]
    model: Option<PathBuf>,
    /// Folder with calib.txt and the text to judge on, made by tools/accuracy/text.py
    #[arg(long, value_name = "DIR")]
    texts: Option<PathBuf>,
    /// The text to judge on; settings are chosen on held_out.txt
    #[arg(long, value_name = "FILE", default_value = "test.txt")]
    judged: String,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 256)]
    context: usize,
    /// Windows to judge
    #[arg(long, value_name = "N", default_value_t = 40)]
    windows: usize,
    /// Windows to calibrate on
    #[arg(long, value_name = "N", default_value_t = 32)]
    calib_windows: usize,
    /// Only methods whose name contains this; repeat for several
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Leaves the demo model out
    #[arg(long)]
    no_demo: bool,
    /// Python of an environment made by tools/peers/setup.sh: runs the peer beside us
    #[arg(long, value_name = "FILE", requires = "model")]
    peer: Option<PathBuf>,
}

/// A method: one step more than the one it stands on.
struct Rung {
    name: &'static str,
    /// What it must beat in divergence to be worth its time.
    on: Option<&'static str>,
    recipe: &'static str,
    /// Keys in groups, in order.
    overrides: &'static [&'static [&'static str]],
}

const fn rung(
    name: &'static str,
    on: &'static str,
    recipe: &'static str,
    overrides: &'static [&'static [&'static str]],
) -> Rung {
    let on = if on.is_empty() { None } else { Some(on) };
    Rung { name, on, recipe, overrides }
}

/// The grids of the w4a16 recipes, and nothing done for them.
const BARE: &str = "npu";
const RTN: &[&str] = &["algo.rounding=rtn"];
const GPTQ: &[&str] = &["algo.rounding=gptq"];
const TWO_STREAM: &[&str] = &["algo.rounding=qronos", "algo.options.alpha=0.5"];
const AUTOROUND: &[&str] = &["algo.rounding=autoround"];
const WEIGHTED: &[&str] = &["algo.options.search=weighted"];
const NO_DESCENT: &[&str] = &["algo.options.sweeps=0", "algo.options.refits=0"];
const DESCENT: &[&str] = &["algo.options.sweeps=4", "algo.options.refits=1"];
const ROTATED: &[&str] = &["algo.rotate.tries=8"];
const AWQ: &[&str] = &["algo.awq.grid=20"];

/// From cheap to dear; what a rung stands on comes before it.
const LADDER: &[Rung] = &[
    rung("rtn", "", BARE, &[RTN]),
    rung("equalization, rtn", "rtn", BARE, &[RTN, &["algo.equalize.rounds=2"]]),
    rung("smoothing, rtn", "rtn", BARE, &[RTN, &["algo.smoothquant.alpha=0.5"]]),
    rung("awq, rtn", "rtn", BARE, &[RTN, AWQ]),
    rung("rotation, rtn", "rtn", BARE, &[RTN, ROTATED]),
    rung(
        "learned rotation, rtn",
        "rotation, rtn",
        BARE,
        &[RTN, ROTATED, &["algo.rotate.learn=50"]],
    ),
    rung("mse", "rtn", BARE, &[&["algo.rounding=mse"]]),
    rung("gptq", "mse", BARE, &[GPTQ, WEIGHTED, NO_DESCENT]),
    rung("gptq, descent", "gptq", BARE, &[GPTQ, WEIGHTED, DESCENT]),
    rung("gptq, searched after", "gptq, descent", BARE, &[GPTQ]),
    rung("rotation, gptq", "gptq", BARE, &[GPTQ, WEIGHTED, NO_DESCENT, ROTATED]),
    rung("two-stream", "gptq, descent", BARE, &[TWO_STREAM, WEIGHTED, DESCENT]),
    rung("awq, two-stream", "two-stream", BARE, &[TWO_STREAM, WEIGHTED, DESCENT, AWQ]),
    rung("rotation, two-stream", "two-stream", BARE, &[TWO_STREAM, WEIGHTED, DESCENT, ROTATED]),
    rung(
        "drift, rotation, two-stream",
        "rotation, two-stream",
        BARE,
        &[TWO_STREAM, WEIGHTED, DESCENT, &["algo.options.beta=0.5"], ROTATED],
    ),
    rung(
        "learned from nearest",
        "rotation, rtn",
        BARE,
        &[AUTOROUND, &["algo.options.start=nearest"], ROTATED],
    ),
    rung(
        "learned from two-stream",
        "rotation, two-stream",
        BARE,
        &[AUTOROUND, WEIGHTED, &["algo.options.alpha=0.5"], ROTATED],
    ),
    rung("recipe w4a16-fast", "rtn", "w4a16-fast", &[]),
    rung("recipe w4a16-best", "recipe w4a16-fast", "w4a16-best", &[]),
    rung("recipe w8a8", "", "w8a8", &[]),
    rung("recipe w4a8", "", "w4a8", &[]),
    rung("recipe w8a16", "", "w8a16", &[]),
    rung("recipe npu", "", "npu", &[]),
];

/// A model with what it is calibrated and judged on.
struct Subject {
    name: String,
    arguments: Vec<String>,
    /// Whether it is asked questions: running text has no answers to match.
    asked: bool,
}

/// Runs the ladder on every subject, then the peer.
pub fn run(task: &Accuracy, root: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<12} {:<30} {:>9} {:>11} {:>10} {:>7} {:>8} {:>9}",
        "model", "method", "PPL", "KLD", "KLD 99.9%", "VQA", "seconds", "peak MiB"
    );
    for subject in task.subjects(root) {
        let mut float_shown = false;
        let mut divergences = BTreeMap::new();
        for rung in LADDER {
            if !task.only.is_empty() && !task.only.iter().any(|part| rung.name.contains(&part[..]))
            {
                continue;
            }
            let mut command = Command::new(root.join("target/release/encircle"));
            command.arg("eval").args(&subject.arguments).args(["--json", "--recipe", rung.recipe]);
            command.args(rung.overrides.concat().into_iter().flat_map(|text| ["--set", text]));
            let (mut facts, peak) = match measure(command) {
                Ok(found) => found,
                Err(error) => {
                    println!("{:<12} {:<30} failed: {error}", subject.name, rung.name);
                    continue;
                }
            };
            if !subject.asked {
                for who in ["float", "quantized"] {
                    facts[who]["exact"] = Value::Null;
                }
            }
            if !float_shown {
                println!("{}", row(&subject.name, "float", &facts["float"], None, None));
                float_shown = true;
            }
            let line = row(
                &subject.name,
                rung.name,
                &facts["quantized"],
                seconds(&facts["phases"]),
                Some(peak),
            );
            println!("{line}{}", rung.verdict(&facts["quantized"]["kl"], &mut divergences));
        }
    }
    task.peer(root)
}

impl Rung {
    /// Whether the step helps, as far as what it stands on was measured.
    fn verdict(&self, kl: &Value, known: &mut BTreeMap<&'static str, f64>) -> String {
        let Some(kl) = kl.as_f64() else { return String::new() };
        known.insert(self.name, kl);
        match self.on.and_then(|on| Some((on, *known.get(on)?))) {
            Some((on, before)) => {
                let change = 100.0 * (kl / before - 1.0);
                let word = if kl < before { "helps" } else { "does not help" };
                format!("  {word}: KLD {change:+.1} % of {on}")
            }
            None => String::new(),
        }
    }
}

/// Seconds to rounded weights: all phases but those that judge.
fn seconds(phases: &Value) -> Option<f64> {
    let judging = ["compare", "evaluate"];
    let phases = phases.as_object()?.iter().filter(|(name, _)| !judging.contains(&&name[..]));
    Some(phases.filter_map(|(_, seconds)| seconds.as_f64()).sum())
}

impl Accuracy {
    fn subjects(&self, root: &Path) -> Vec<Subject> {
        let text = |path: &Path| path.display().to_string();
        let mut subjects = Vec::new();
        if let (Some(model), Some(texts)) = (&self.model, &self.texts) {
            let mut arguments = vec![text(model)];
            let files = [("--calib", "calib.txt"), ("--text", &self.judged[..])];
            arguments
                .extend(files.map(|(flag, file)| [flag.into(), text(&texts.join(file))]).concat());
            arguments.extend(self.sizes());
            let name = model.file_name().map_or(String::new(), |name| name.display().to_string());
            subjects.push(Subject { name, arguments, asked: false });
        }
        if !self.no_demo {
            let rows = |file: &str| text(&root.join("assets/vqa").join(file));
            let arguments = [
                text(&root.join("assets/pixie")),
                "--calib".into(),
                rows("train.jsonl"),
                "--text".into(),
                rows("test.jsonl"),
            ];
            let name = "pixie".into();
            subjects.push(Subject { name, arguments: arguments.into(), asked: true });
        }
        subjects
    }

    /// How much text, as the peer and our program take it.
    fn sizes(&self) -> Vec<String> {
        let sizes = [
            ("--context", self.context),
            ("--windows", self.windows),
            ("--calib-windows", self.calib_windows),
        ];
        sizes.map(|(flag, n)| [flag.to_owned(), n.to_string()]).concat()
    }

    /// The peer on the same weights, texts and windows.
    fn peer(&self, root: &Path) -> Result<(), Box<dyn Error>> {
        let (Some(python), Some(model), Some(texts)) = (&self.peer, &self.model, &self.texts)
        else {
            return Ok(());
        };
        let mut command = Command::new(python);
        command.arg(root.join("tools/peers/tico_text.py")).args([model, texts]);
        command.args(["--test", &self.judged]);
        command.args(self.sizes());
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("the peer failed".into());
        }
        for line in String::from_utf8(output.stdout)?.lines().filter(|line| line.starts_with('{')) {
            let facts: Value = serde_json::from_str(line)?;
            let method = facts["method"].as_str().unwrap_or("?");
            if let Some(error) = facts["error"].as_str() {
                println!("{:<12} {method:<30} failed: {error}", "peer");
                continue;
            }
            let (seconds, peak) = (facts["seconds"].as_f64(), facts["peak_rss_mib"].as_u64());
            println!("{}", row("peer", method, &facts, seconds, peak));
        }
        Ok(())
    }
}

/// The JSON line of a run, and its peak memory in MiB.
fn measure(mut command: Command) -> Result<(Value, u64), Box<dyn Error>> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let peak = watch(&mut child)?;
    let (mut text, mut said) = (String::new(), String::new());
    child.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    child.stderr.take().ok_or("no errors")?.read_to_string(&mut said)?;
    if !child.wait()?.success() {
        return Err(said.lines().last().unwrap_or("without a word").into());
    }
    Ok((serde_json::from_str(&text)?, peak))
}

/// Waits for the end; the greatest resident size on the way, in MiB, where the system tells it.
fn watch(child: &mut Child) -> Result<u64, Box<dyn Error>> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) / 1024);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(peak)
}

fn row(
    model: &str,
    method: &str,
    facts: &Value,
    seconds: Option<f64>,
    peak: Option<u64>,
) -> String {
    let number = |keys: &[&str], digits: usize| {
        let found = keys.iter().find_map(|key| facts[*key].as_f64());
        found.map_or("-".into(), |x| format!("{x:.digits$}"))
    };
    let seconds = seconds.map_or("-".into(), |s| format!("{s:.1}"));
    let peak = peak.map_or("-".into(), |peak| peak.to_string());
    format!(
        "{model:<12} {method:<30} {:>9} {:>11} {:>10} {:>7} {seconds:>8} {peak:>9}",
        number(&["answer_ppl", "ppl"], 4),
        number(&["kl"], 7),
        number(&["kl_999"], 5),
        number(&["exact"], 3),
    )
}
