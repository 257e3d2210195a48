//! `cargo xtask bench`: our speed as ratios, each against a figure of the same run. Rounds alternate
//! between the peer and us, so that a busy machine slows both.

use crate::plain;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Args)]
pub(crate) struct Bench {
    /// Python of an environment made by tools/peers/setup.sh: runs the peer beside us
    #[arg(long, value_name = "FILE")]
    peer: Option<PathBuf>,
    /// Rounds; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Tokens of the decoder layer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    tokens: usize,
    /// Also GPTQ of a 2048×6144 layer: the peer takes minutes
    #[arg(long)]
    gptq: bool,
    /// Also `quantize --weights-only` of a checkpoint of the 2B shape with so many decoder layers,
    /// beside reading and writing files of those sizes; needs disk for three times the checkpoint
    #[arg(long, value_name = "LAYERS")]
    weights: Option<usize>,
    /// Also the time of a float layer against tokens, layers and samples
    #[arg(long)]
    curve: bool,
}

/// Every figure of every round, by name.
type Seen = BTreeMap<String, Vec<f64>>;

/// Runs the benches and prints one table.
pub(crate) fn run(task: &Bench, root: &Path) -> Result<(), Box<dyn Error>> {
    let mut seen = Seen::new();
    // Before we load it ourselves.
    let load = load();
    let quiet = load.is_none_or(|load| load <= LOAD_MAX);
    for _ in 0..task.runs.max(1) {
        task.layer(root, &mut seen)?;
        task.products(root, &mut seen)?;
        task.toy(root, &mut seen)?;
    }
    if task.gptq {
        task.gptq(root, &mut seen)?;
    }
    if let Some(layers) = task.weights {
        task.weights(root, layers, &mut seen)?;
    }
    println!("{:<46} {:>10} {:>10} {:>7}  goal", "seconds unless said", "ours", "other", "ratio");
    let table = Table { seen: &seen, quiet };
    table.faster("calibrating, beside TICO calibrating", ["calibrating"; 2], Some(1.3));
    table.faster("quantized, beside TICO quantized", ["quantized"; 2], Some(2.3));
    let bf16 = ["calibrating bf16", "calibrating"];
    table.faster("calibrating in bf16, beside TICO calibrating", bf16, Some(2.2));
    table.faster("float, beside torch", ["float"; 2], None);
    table.within("quantized, beside our float", "quantized", "float", 1.1);
    table.rates();
    table.faster("toy, end to end, beside TICO", ["toy"; 2], Some(200.0));
    table.faster("GPTQ 2048x6144, beside TICO", ["gptq"; 2], Some(3.0));
    let title = "weights only, beside reading and writing";
    table.faster(title, ["weights"; 2], Some(0.7));
    if let Some(load) = load.filter(|_| !quiet) {
        println!(
            "\nno verdicts: the load was {load:.2} before the first round, at most {LOAD_MAX} lets figures count"
        );
    }
    if task.curve { task.curve(root) } else { Ok(()) }
}

impl Bench {
    fn layer(&self, root: &Path, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
        let tokens = self.tokens.to_string();
        let size = ["--tokens", &tokens, "--repeat", "3"];
        if let Some(python) = &self.peer {
            note(seen, "peer", &peer(python, root, "tico_layer.py", &size)?["seconds"]);
        }
        note(seen, "ours", &bench(root, "layer", &size)?["seconds"]);
        Ok(())
    }

    /// GFLOP/s summed up as seconds: each shape weighs as much as it takes.
    fn products(&self, root: &Path, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
        let mut add = |names: [&str; 3], facts: &Value| {
            for (i, name) in names.into_iter().enumerate() {
                seen.entry(name.into()).or_default().push(combined(facts, i));
            }
        };
        if let Some(python) = &self.peer {
            let facts = peer(python, root, "torch_gemm.py", &[])?;
            add(["rate torch", "rate oneDNN", "rate torch bf16"], &facts);
        }
        let facts = bench(root, "gemm", &["--json"])?;
        add(["rate ours", "rate ours bf16", "rate faer"], &facts);
        Ok(())
    }

    fn toy(&self, root: &Path, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
        let Some(python) = &self.peer else { return Ok(()) };
        let folder = root.join("target").join("bench-toy");
        let text = folder.display().to_string();
        let theirs = peer(python, root, "tico_toy.py", &[&text])?;
        let mut ours = Command::new(root.join("target/release/encircle"));
        ours.arg("bench-toy").args([folder.join("checkpoint"), folder.join("inputs.safetensors")]);
        let ours = json(ours.args(["--json", "--repeat", "40"]))?;
        for (who, facts) in [("peer", &theirs), ("ours", &ours)] {
            let total = facts["total"].as_f64().ok_or("a toy without a total")?;
            seen.entry(format!("{who} toy")).or_default().push(total);
        }
        Ok(())
    }

    fn gptq(&self, root: &Path, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
        if let Some(python) = &self.peer {
            let facts = peer(python, root, "tico_gptq.py", &[])?;
            let seconds = facts["gptq_s"].as_f64().ok_or("no gptq_s")?;
            seen.entry("peer gptq".into()).or_default().push(seconds);
        }
        let text = output(cargo_bench(root, "rounding"))?;
        let line = text.lines().find(|line| line.contains("sweeps = 0")).ok_or("no plain GPTQ")?;
        let number = line.trim_end_matches(" s").rsplit(' ').next().ok_or("no seconds")?;
        seen.entry("ours gptq".into()).or_default().push(number.parse()?);
        Ok(())
    }

    /// Seconds of the whole process, beside those of reading every byte of the checkpoint and writing
    /// and syncing as many as it writes. The files lie in the system's cache for both.
    fn weights(&self, root: &Path, layers: usize, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
        let folder = root.join("target").join("bench-weights");
        let (checkpoint, out) = (folder.join("checkpoint"), folder.join("out"));
        let binary = root.join("target/release/encircle");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let mut synth = Command::new(&binary);
        synth.args(["synth", "--like", "qwen3-vl-2b", "--layers", &layers.to_string(), "--json"]);
        json(synth.arg("-o").arg(&checkpoint))?;
        for _ in 0..self.runs.max(1) {
            let read = plain::read(&checkpoint)?;
            let mut ours = Command::new(&binary);
            ours.arg("quantize").arg(&checkpoint).arg("-o").arg(&out).args([
                "--weights-only",
                "--json",
                "--buffers",
                "external",
                "--seq-len",
                "256",
                "--grid",
                "1,16,16",
                "--visual-start",
                "4",
            ]);
            let start = Instant::now();
            let facts = json(&mut ours)?;
            let seconds = start.elapsed().as_secs_f64();
            let size = facts["files"][0]["size"].as_u64().ok_or("no size")?;
            let write = plain::write(&folder.join("plain"), size)?;
            seen.entry("ours weights".into()).or_default().push(seconds);
            seen.entry("peer weights".into()).or_default().push(read + write);
        }
        Ok(std::fs::remove_dir_all(&folder)?)
    }

    /// Time against tokens, layers and samples: linear, up to attention's square in tokens.
    fn curve(&self, root: &Path) -> Result<(), Box<dyn Error>> {
        println!(
            "\n{:>8} {:>8} {:>8} {:>12} {:>16}",
            "tokens", "layers", "samples", "calibrating", "ms/token/layer"
        );
        let tokens = [(256, 1, 1), (512, 1, 1), (1024, 1, 1), (2048, 1, 1)];
        let others = [(512, 2, 1), (512, 4, 1), (512, 1, 2), (512, 1, 4), (512, 1, 8)];
        for (tokens, layers, samples) in tokens.into_iter().chain(others) {
            let [t, l, s] = [tokens, layers, samples].map(|n: u32| n.to_string());
            let size = ["--tokens", &t, "--layers", &l, "--samples", &s, "--repeat", "3"];
            let facts = bench(root, "layer", &size)?;
            let seconds = facts["seconds"]["calibrating"].as_f64().ok_or("no seconds")?;
            let each = 1e3 * seconds / f64::from(tokens * layers * samples);
            println!("{tokens:>8} {layers:>8} {samples:>8} {seconds:>10.4} s {each:>16.4}");
        }
        Ok(())
    }
}

/// The rate over all shapes, from the rates of each.
fn combined(facts: &Value, which: usize) -> f64 {
    let (mut work, mut seconds) = (0.0, 0.0);
    for (shape, rates) in facts.as_object().into_iter().flatten() {
        let gflop = 2e-9 * shape.split('x').flat_map(str::parse::<f64>).product::<f64>();
        work += gflop;
        seconds += gflop / rates[which].as_f64().unwrap_or(f64::NAN);
    }
    work / seconds
}

fn note(seen: &mut Seen, who: &str, seconds: &Value) {
    for (what, seconds) in seconds.as_object().into_iter().flatten() {
        let all = seen.entry(format!("{who} {what}")).or_default();
        all.extend(seconds.as_f64());
    }
}

/// The most that others may load the machine while we measure, in threads that run or wait to.
const LOAD_MAX: f64 = 0.5;

/// How many threads ran or waited in the last minute, where the system tells.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// What was seen, as rows.
struct Table<'a> {
    seen: &'a Seen,
    /// Whether others left the machine to us, so that figures count.
    quiet: bool,
}

impl Table<'_> {
    fn median(&self, name: &str) -> Option<f64> {
        let mut all = self.seen.get(name)?.clone();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// How many times faster ours is than the peer's.
    fn faster(&self, title: &str, [ours, peer]: [&str; 2], goal: Option<f64>) {
        let (ours, peer) =
            (self.median(&format!("ours {ours}")), self.median(&format!("peer {peer}")));
        let ratio = ours.zip(peer).map(|(ours, peer)| peer / ours);
        self.row(title, [ours, peer], ratio, goal.map(|goal| (goal, ">=")));
    }

    /// How much longer one of ours takes than another.
    fn within(&self, title: &str, what: &str, base: &str, goal: f64) {
        let (what, base) =
            (self.median(&format!("ours {what}")), self.median(&format!("ours {base}")));
        let ratio = what.zip(base).map(|(what, base)| what / base);
        self.row(title, [what, base], ratio, Some((goal, "<=")));
    }

    fn rates(&self) {
        let ours = self.median("rate ours");
        let others = ["rate torch", "rate oneDNN", "rate faer"].map(|name| self.median(name));
        let best = others.into_iter().flatten().reduce(f64::max);
        let share = ours.zip(best).map(|(ours, best)| ours / best);
        let title = "GFLOP/s f32, beside the best of torch, oneDNN, faer";
        self.row(title, [ours, best], share, Some((0.9, ">=")));
        let (ours, torch) = (self.median("rate ours bf16"), self.median("rate torch bf16"));
        let share = ours.zip(torch).map(|(ours, torch)| ours / torch);
        self.row("GFLOP/s bf16, beside torch", [ours, torch], share, None);
    }

    /// One row, unless nothing of ours was measured; whether a goal is met only on a quiet machine.
    fn row(
        &self,
        title: &str,
        figures: [Option<f64>; 2],
        ratio: Option<f64>,
        goal: Option<(f64, &str)>,
    ) {
        if figures[0].is_none() {
            return;
        }
        let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.4}"));
        let verdict = goal.map_or(String::new(), |(goal, sense)| {
            let met = ratio
                .filter(|_| self.quiet)
                .map(|r| if sense == ">=" { r >= goal } else { r <= goal });
            let word = met.map_or("", |met| if met { "met" } else { "missed" });
            format!("{sense} {goal} {word}")
        });
        let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let [ours, other] = figures.map(number);
        println!("{title:<46} {ours:>10} {other:>10} {ratio:>7}  {}", verdict.trim_end());
    }
}

fn cargo_bench(root: &Path, name: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(["bench", "-q", "--bench", name, "--"]).current_dir(root);
    command
}

fn bench(root: &Path, name: &str, arguments: &[&str]) -> Result<Value, Box<dyn Error>> {
    json(cargo_bench(root, name).args(arguments))
}

fn peer(
    python: &Path,
    root: &Path,
    script: &str,
    arguments: &[&str],
) -> Result<Value, Box<dyn Error>> {
    let mut command = Command::new(python);
    json(command.arg(root.join("tools/peers").join(script)).args(arguments))
}

/// The JSON object that a program prints last.
fn json(command: &mut Command) -> Result<Value, Box<dyn Error>> {
    let shown = format!("{command:?}");
    let done = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(done.stdout)?;
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    match done.status.success() {
        true => Ok(serde_json::from_str(last).map_err(|e| format!("{shown}: {e}"))?),
        false => Err(format!("{shown} failed").into()),
    }
}

fn output(mut command: Command) -> Result<String, Box<dyn Error>> {
    let done = command.stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    Ok(String::from_utf8(done.stdout)?)
}
