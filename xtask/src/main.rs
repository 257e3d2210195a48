//! `cargo xtask accuracy`: what each step of the ladder costs in accuracy, seconds and memory, in one
//! table. Every cell is a run of the released program of its own, so that peak memory is that of
//! one method alone.

mod bench;

use bench::Bench;
use clap::{Args, Parser};
use serde_json::Value;
use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Long measurements of encircle")]
enum Task {
    /// Perplexity, divergence, exact match, seconds and peak memory of every method
    Accuracy(Accuracy),
    /// Speed as ratios to the peer, to other products and to ourselves
    Bench(Bench),
}

#[derive(Args)]
struct Accuracy {
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

/// Name, recipe and overrides of each method, from cheap to dear: each rung adds one thing.
const LADDER: &[(&str, &str, &[&str])] = &[
    ("rtn", "w4a16-fast", &["algo.rounding=rtn"]),
    ("equalization, rtn", "w4a16-fast", &["algo.rounding=rtn", "algo.equalize.rounds=2"]),
    ("smoothing, rtn", "w4a16-fast", &["algo.rounding=rtn", "algo.smoothquant.alpha=0.5"]),
    ("awq, rtn", "w4a16-fast", &["algo.rounding=rtn", "algo.awq.grid=20"]),
    ("rotation, rtn", "w4a16-fast", &["algo.rounding=rtn", "algo.rotate.tries=8"]),
    (
        "learned rotation, rtn",
        "w4a16-fast",
        &["algo.rounding=rtn", "algo.rotate.tries=8", "algo.rotate.learn=50"],
    ),
    ("mse", "w4a16-fast", &["algo.rounding=mse"]),
    (
        "gptq",
        "w4a16-fast",
        &[
            "algo.rounding=gptq",
            "algo.options.search=none",
            "algo.options.sweeps=0",
            "algo.options.refits=0",
        ],
    ),
    ("gptq, searched", "w4a16-fast", &["algo.rounding=gptq"]),
    ("two-stream", "w4a16-fast", &["algo.rounding=qronos", "algo.options.alpha=0.5"]),
    ("rotation, gptq", "w4a16-fast", &["algo.rounding=gptq", "algo.rotate.seed=0"]),
    (
        "rotation, two-stream",
        "w4a16-fast",
        &["algo.rounding=qronos", "algo.options.alpha=0.5", "algo.rotate.seed=0"],
    ),
    (
        "awq, two-stream",
        "w4a16-fast",
        &["algo.rounding=qronos", "algo.options.alpha=0.5", "algo.awq.grid=20"],
    ),
    (
        "rotation, two-stream, drift",
        "w4a16-fast",
        &[
            "algo.rounding=qronos",
            "algo.options.alpha=0.5",
            "algo.options.beta=0.5",
            "algo.rotate.seed=0",
        ],
    ),
    (
        "learned from nearest",
        "w4a16-fast",
        &["algo.rounding=autoround", "algo.options.start=nearest", "algo.rotate.seed=0"],
    ),
    (
        "learned from two-stream",
        "w4a16-fast",
        &[
            "algo.rounding=autoround",
            "algo.options.alpha=0.5",
            "algo.options.beta=0.5",
            "algo.rotate.seed=0",
        ],
    ),
    ("recipe w4a16-fast", "w4a16-fast", &[]),
    ("recipe w4a16-best", "w4a16-best", &[]),
    ("recipe w8a8", "w8a8", &[]),
    ("recipe w4a8", "w4a8", &[]),
    ("recipe w8a16", "w8a16", &[]),
    ("recipe npu", "npu", &[]),
];

/// A model with what it is calibrated and judged on.
struct Subject {
    name: String,
    arguments: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no repository above xtask")?;
    let built = Command::new("cargo").args(["build", "--release"]).current_dir(root).status()?;
    if !built.success() {
        return Err("the program does not build".into());
    }
    match task {
        Task::Accuracy(task) => accuracy(&task, root),
        Task::Bench(task) => bench::run(&task, root),
    }
}

fn accuracy(task: &Accuracy, root: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<28} {:<24} {:>9} {:>11} {:>10} {:>7} {:>8} {:>9}",
        "model", "method", "PPL", "KLD", "KLD 99.9%", "VQA", "seconds", "peak MiB"
    );
    for subject in task.subjects(root) {
        let mut float_shown = false;
        for (method, recipe, overrides) in LADDER {
            if !task.only.is_empty() && !task.only.iter().any(|part| method.contains(&part[..])) {
                continue;
            }
            let mut command = Command::new(root.join("target/release/encircle"));
            command.arg("eval").args(&subject.arguments).args(["--json", "--recipe", recipe]);
            command.args(overrides.iter().flat_map(|text| ["--set", text]));
            let (facts, peak) = measure(command)?;
            if !float_shown {
                println!("{}", row(&subject.name, "float", &facts["float"], &Value::Null, None));
                float_shown = true;
            }
            println!(
                "{}",
                row(&subject.name, method, &facts["quantized"], &facts["seconds"], Some(peak))
            );
        }
    }
    task.peer(root)
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
            let numbers = [
                ("--context", self.context),
                ("--windows", self.windows),
                ("--calib-windows", self.calib_windows),
            ];
            arguments.extend(numbers.map(|(flag, n)| [flag.to_owned(), n.to_string()]).concat());
            let name = model.file_name().map_or(String::new(), |name| name.display().to_string());
            subjects.push(Subject { name, arguments });
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
            subjects.push(Subject { name: "pixie".into(), arguments: arguments.into() });
        }
        subjects
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
        for (flag, n) in [
            ("--context", self.context),
            ("--windows", self.windows),
            ("--calib-windows", self.calib_windows),
        ] {
            command.args([flag, &n.to_string()]);
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("the peer failed".into());
        }
        for line in String::from_utf8(output.stdout)?.lines().filter(|line| line.starts_with('{')) {
            let facts: Value = serde_json::from_str(line)?;
            let method = facts["method"].as_str().unwrap_or("?");
            println!(
                "{}",
                row("peer", method, &facts, &facts["seconds"], facts["peak_rss_mib"].as_u64())
            );
        }
        Ok(())
    }
}

/// The JSON line of a run, and its peak memory in MiB.
fn measure(mut command: Command) -> Result<(Value, u64), Box<dyn Error>> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let peak = watch(&mut child)?;
    let mut text = String::new();
    child.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    if !child.wait()?.success() {
        return Err(format!("{command:?} failed").into());
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

fn row(model: &str, method: &str, facts: &Value, seconds: &Value, peak: Option<u64>) -> String {
    let number = |keys: &[&str], digits: usize| {
        let found = keys.iter().find_map(|key| facts[*key].as_f64());
        found.map_or("-".into(), |x| format!("{x:.digits$}"))
    };
    let seconds = seconds.as_f64().map_or("-".into(), |s| format!("{s:.1}"));
    let peak = peak.map_or("-".into(), |peak| peak.to_string());
    format!(
        "{model:<28} {method:<24} {:>9} {:>11} {:>10} {:>7} {seconds:>8} {peak:>9}",
        number(&["answer_ppl", "ppl"], 4),
        number(&["kl"], 7),
        number(&["kl_999"], 5),
        number(&["exact"], 3),
    )
}
