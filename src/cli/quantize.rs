//! `encircle quantize`.

use super::args::{DeviceArg, QuantizeArgs};
use super::budget::Spent;
use super::eval::check_answers;
use super::recipe::recipe;
use super::terminal::{Bars, boxed, left_out, seconds, stdout, wrapped};
use super::{Outcome, Verdict, budget, demo, plan, shard};
use crate::algo::Note;
use crate::checkpoint::{Checkpoint, Files};
use crate::circle::WriteOptions;
use crate::cluster::{Alone, Crew};
use crate::dataset::{Processor, Sample, read_jsonl, read_jsonl_from};
use crate::layout::{Layout, VisualKind, VisualSpan};
use crate::pipeline::{
    self, Claim, Pending, Recipe, Shared, SpanEntry, StageForm, Written, write_model, write_stages,
};
use crate::quant::{Head, PolicySpec, Prefix};
use crate::report::{AnswerScore, bytes, counted, scatter};
use crate::tensor::Products;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Questions that the demo answers where nobody says which: as many as two slow cores do in less
/// than a second, everything else included.
const DEMO_ROWS: usize = 100;

pub(super) fn run(args: &QuantizeArgs) -> Outcome {
    #[cfg(feature = "mpi")]
    if let Some(crew) = shard::launched().then(crate::cluster::Mpi::start).flatten() {
        let outcome = run_in(args, &crew);
        if let Err(error) = &outcome {
            super::report(error.as_ref());
        }
        if matches!(outcome, Err(_) | Ok(Verdict::Stopped)) {
            crew.abort();
        }
        return outcome;
    }
    run_in(args, &Alone)
}

/// The job, alone or with others: then the first of them writes and speaks.
fn run_in(args: &QuantizeArgs, crew: &dyn Crew) -> Outcome {
    job(args, crew).or_else(|error| match error.downcast_ref() {
        Some(stopped @ pipeline::Error::Stopped { .. }) => {
            // What is there may be another job's.
            let ours = shard::is_durable(args, crew) && pipeline::is_unfinished(&args.out);
            let rest = match ours {
                true => "the same command goes on from there",
                false => "nothing was finished that a rerun could go on from",
            };
            eprintln!("{stopped}: {rest}");
            Ok(Verdict::Stopped)
        }
        _ => Err(error),
    })
}

/// Device and folders of the job, and what is to be done.
pub(super) fn made_ready(args: &QuantizeArgs, crew: &dyn Crew) -> Result<Recipe, Box<dyn Error>> {
    args.device.open()?;
    let mut recipe = recipe(args)?;
    recipe.means.durable = recipe.means.durable.filter(|_| shard::is_durable(args, crew));
    if (args.device, recipe.products) == (DeviceArg::Cuda, Products::Bf16) {
        return Err("--device cuda multiplies in f32: found products bf16, expected f32".into());
    }
    for folder in std::iter::once(&args.out).chain(&args.io) {
        pipeline::check_folder(folder)?;
    }
    Ok(recipe)
}

fn job(args: &QuantizeArgs, crew: &dyn Crew) -> Outcome {
    let start = Instant::now();
    let mut recipe = made_ready(args, crew)?;
    let share = args.shard.as_deref().map(shard::share).transpose()?;
    refuse(args, crew, recipe.policy.spec())?;
    // before hours are spent on the rest
    let known = args.statistics.as_deref().map(pipeline::read_statistics).transpose()?;
    let Inputs { name, checkpoint, mut calib, mut eval } = inputs(args)?;
    pipeline::bake(&checkpoint, &mut recipe, &mut calib, &mut eval)?;
    let read = start.elapsed().as_secs_f64();
    let first = crew.rank() == 0;
    let bars =
        Bars::new(first && !args.json && std::io::stderr().is_terminal()).stop_on_interrupt()?;
    // Shares of others are written there meanwhile.
    let _claim = (first && share.is_none()).then(|| Claim::of(&args.out)).transpose()?;
    let samples = [&calib[..], &eval];
    let afford =
        |recipe: &Recipe, spent| plan::afford((args, share, spent), recipe, samples, &checkpoint);
    let mut staged_only = afford(&recipe, false)?;
    let spent = Spent::of(args, (&checkpoint, &calib), &mut recipe, &bars)?;
    if spent.any() {
        staged_only = afford(&recipe, true)?;
    }
    if staged_only && first {
        eprintln!("warning: the whole model would pass 2 GiB: only the staged set is written");
    }
    let effective = recipe.numerics().text();
    let (checkpoint, calib, eval) = (&checkpoint, &calib[..], &eval[..]);
    let job = Shared { checkpoint, calib, eval, recipe: &recipe, effective: &effective };
    if let Some(share) = share {
        return shard::observe(args, share, &job, &bars);
    }
    let mut outcome = match known {
        Some(known) => job.quantize(known, &bars)?,
        None if crew.size() > 1 => job.together(crew, &bars)?,
        None => pipeline::quantize(checkpoint, calib, eval, &recipe, &bars)?,
    };
    bars.finish();
    if !first {
        return Ok(Verdict::Fine);
    }
    if args.strict && !is_strict(&outcome) {
        outcome.done()?;
        return Ok(Verdict::Wanting);
    }
    let writing = Instant::now();
    let (written, io) = files(&job, &outcome, (args, staged_only))?;
    outcome.done()?;
    budget::warn(&recipe, &outcome);
    outcome.seconds.splice(..0, spent.any().then_some(("budget", spent.seconds)));
    outcome.seconds.insert(0, ("read", read));
    outcome.seconds.push(("write", writing.elapsed().as_secs_f64()));
    let total = start.elapsed().as_secs_f64();
    let summary = Summary {
        args,
        name: &name,
        outcome: &outcome,
        written: &written,
        io: &io,
        spent: &spent,
        unread: pipeline::unseeing(checkpoint, &outcome.prompt.layout),
        calib: calib.len(),
        total,
    };
    summary.print()?;
    DeviceArg::warn();
    list_unseen(&outcome);
    list_unquantized(&outcome, args.verbose);
    Ok(Verdict::Fine)
}

/// What does not go together.
pub(super) fn refuse(
    args: &QuantizeArgs,
    crew: &dyn Crew,
    policy: &PolicySpec,
) -> Result<(), Box<dyn Error>> {
    if crew.size() > 1 && (args.shard.is_some() || args.statistics.is_some()) {
        let why = "are for processes that do not meet, but MPI started this one";
        return Err(format!("--shard and --statistics {why}").into());
    }
    if args.stages && policy.prefix == Some(Prefix::Named(Head::Bake)) {
        return Err("--stages: whole prompts are needed, but policy.prefix is \"bake\"".into());
    }
    Ok(())
}

/// A file of --io, and its bytes.
type Array = (PathBuf, u64);

/// Writes all files of the job, and tells those of --io apart.
fn files(
    job: &Shared<'_>,
    outcome: &pipeline::Outcome,
    (args, staged_only): (&QuantizeArgs, bool),
) -> Result<(Vec<Written>, Vec<Array>), Box<dyn Error>> {
    let samples = &job.calib[..args.io_samples.get()];
    let mut pending = Pending::default();
    let payloads = args.buffers.into();
    let how = WriteOptions { payloads, ..WriteOptions::default() };
    let mut written = Vec::new();
    if !staged_only {
        written.extend(write_model(outcome, &args.out, &how, &mut pending)?);
    }
    if let Some(form) = stage_form(args) {
        let folder = args.out.join(pipeline::STAGES);
        written.extend(write_stages(job.checkpoint, outcome, &folder, form, &mut pending)?);
    }
    let io = args.io.as_ref();
    let io = io.map(|folder| pipeline::write_io(outcome, samples, folder, &mut pending));
    let io = io.transpose()?.unwrap_or_default();
    pipeline::write_recipe(job.effective, &args.out, pending)?;
    warn_stale(args, &written);
    Ok((written, io))
}

/// Names the results beside those of this job that are none of it.
pub(super) fn warn_stale(args: &QuantizeArgs, written: &[Written]) {
    let stale = pipeline::stale(&args.out, written);
    if !stale.is_empty() {
        let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
        eprintln!("warning: of an earlier job, not of this one: {}", names.join(", "));
    }
}

/// The staged set, if it is asked for.
pub(super) fn stage_form(args: &QuantizeArgs) -> Option<StageForm> {
    let (bake_tables, share_weights) = (args.bake_tables, args.share_weights);
    let payloads = args.buffers.into();
    args.stages.then_some(StageForm { bake_tables, share_weights, payloads })
}

pub(super) struct Inputs {
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
    pub(super) calib: Vec<Sample>,
    pub(super) eval: Vec<Sample>,
}

/// The checkpoint, and what people call it.
pub(super) fn checkpoint(args: &QuantizeArgs) -> Result<(String, Checkpoint), Box<dyn Error>> {
    Ok(match &args.checkpoint {
        Some(dir) => (dir.display().to_string(), Checkpoint::open(dir)?),
        None => ("pixie (embedded demo)".into(), Checkpoint::embedded(demo::checkpoint())?),
    })
}

/// Refuses to write more samples than there are `rows`.
pub(super) fn check_io(args: &QuantizeArgs, rows: usize) -> Result<(), String> {
    match args.io_samples.get() {
        found if found > rows => {
            Err(format!("--io-samples: found {found}, expected at most {rows}, the rows"))
        }
        _ => Ok(()),
    }
}

pub(super) fn inputs(args: &QuantizeArgs) -> Result<Inputs, Box<dyn Error>> {
    let (name, checkpoint) = checkpoint(args)?;
    let embedded = Files::embedded(demo::rows());
    let (calib, eval) = match (&args.checkpoint, &args.calib) {
        (_, Some(calib)) => (
            read_jsonl(calib)?,
            args.eval.as_deref().map(read_jsonl).transpose()?.unwrap_or_default(),
        ),
        (None, None) => (
            read_jsonl_from(&embedded, "train.jsonl")?,
            match &args.eval {
                Some(eval) => read_jsonl(eval)?,
                None => {
                    let mut rows = read_jsonl_from(&embedded, "test.jsonl")?;
                    rows.truncate(DEMO_ROWS);
                    rows
                }
            },
        ),
        (Some(_), None) => {
            return Err("--calib FILE.jsonl is needed with a checkpoint directory".into());
        }
    };
    let processor = Processor::new(&checkpoint)?;
    let calib = processor.encode_all(&calib)?;
    let eval = processor.encode_all(&eval)?;
    check_answers(&eval)?;
    check_io(args, calib.len())?;
    Ok(Inputs { name, checkpoint, calib, eval })
}

/// Whether all is as --strict asks for; else says what is not.
fn is_strict(outcome: &pipeline::Outcome) -> bool {
    let (tensors, notes) = (outcome.unquantized.len(), outcome.notes.len());
    if tensors + notes == 0 {
        return true;
    }
    list_unquantized(outcome, true);
    outcome.notes.iter().for_each(|note| eprintln!("warning: {note}"));
    eprintln!(
        "error: --strict: {} without qparams and {} whose calibration was odd: nothing is written",
        counted(tensors, "real tensor"),
        counted(notes, "layer")
    );
    false
}

fn list_unseen(outcome: &pipeline::Outcome) {
    let names = &outcome.unseen_experts;
    if !names.is_empty() {
        let experts = counted(names.len(), "expert");
        eprintln!("warning: no calibration token reached {experts}:");
        eprintln!("  weights rounded to nearest, activations on the ranges of their siblings");
    }
    for name in names {
        eprintln!("  {name}");
    }
}

/// The first note of each kind, and how many there are; a line each, and an empty one.
pub(super) fn noted(notes: &[Note]) -> String {
    let mut left: Vec<&Note> = notes.iter().collect();
    let mut out = String::new();
    while let Some(first) = left.first().copied() {
        let kind = std::mem::discriminant(first);
        let count = left.len();
        left.retain(|note| std::mem::discriminant(*note) != kind);
        let more = match count - left.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more: --json lists them)"),
        };
        out += &format!("note: {first}{more}\n");
        if left.is_empty() {
            out += "\n";
        }
    }
    out
}

fn list_unquantized(outcome: &pipeline::Outcome, verbose: bool) {
    let missing = &outcome.unquantized;
    if missing.is_empty() {
        return;
    }
    let hint = if verbose { "" } else { " (-v lists them)" };
    let tensors = counted(missing.len(), "real tensor");
    eprintln!("warning: QuantCheck: {tensors} without qparams{hint}");
    for tensor in missing.iter().filter(|_| verbose) {
        let consumers = match &tensor.consumers[..] {
            [] => "an output".into(),
            consumers => format!("read by {}", consumers.join(", ")),
        };
        eprintln!("  {} ({consumers})", tensor.name);
    }
}

/// One set of facts, in two forms.
struct Summary<'a> {
    args: &'a QuantizeArgs,
    name: &'a str,
    outcome: &'a pipeline::Outcome,
    written: &'a [Written],
    io: &'a [Array],
    spent: &'a Spent,
    /// Tensors of the checkpoint that only pictures need, where there are none.
    unread: usize,
    calib: usize,
    total: f64,
}

impl Summary<'_> {
    fn print(&self) -> std::io::Result<()> {
        let mut stdout = stdout();
        match self.args.json {
            true => writeln!(stdout, "{}", self.json()),
            false => stdout.write_all(self.text().as_bytes()),
        }
    }

    fn text(&self) -> String {
        let Summary { outcome, .. } = self;
        let layout = &outcome.prompt.layout;
        let mut out = headline(self.name, self.args.recipe_name());
        out += &shape(layout);
        out += &format!(
            "  graph       {}, {} calibrated on {}\n",
            counted(outcome.graph.nodes.len(), "operator"),
            counted(outcome.sites, "site"),
            counted(self.calib, "sample")
        );
        out += &format!(
            "  QuantCheck  {} without qparams\n",
            counted(outcome.unquantized.len(), "real tensor")
        );
        out += &left_out(self.unread, "rows with pictures need them");
        out += "\n";
        out += &noted(&outcome.notes);
        out += &self.spent.text();
        let e = &outcome.error;
        let sqnr = e.sqnr_db.map_or("no noise".into(), |db| format!("{db:.2} dB"));
        let title = match outcome.compared == self.calib {
            true => "error, quantized against float".into(),
            false => {
                format!("error, quantized against float, {}", counted(outcome.compared, "sample"))
            }
        };
        out += &boxed(
            &title,
            &[
                format!("mean |diff|  {:<12.6} PEIR    {:.4} %", e.mean_abs_diff, 100.0 * e.peir),
                format!("max |diff|   {:<12.6} SQNR    {sqnr}", e.max_abs_diff),
                format!("MSE          {:<12.3e} cosine  {:.8}", e.mse, e.cosine),
            ],
        );
        if let Some([float, quantized]) = &outcome.answers {
            out += "\n";
            out += &answers(float, quantized);
        }
        out += "\n";
        out += &scatter(outcome.example[0].data(), outcome.example[1].data());
        out += "\n";
        for file in self.written {
            out += &wrote(file);
        }
        if let (Some(folder), false) = (&self.args.io, self.io.is_empty()) {
            let (files, size) = (counted(self.io.len(), "file"), self.io.iter().map(|(_, n)| n));
            out += &format!("  wrote {}  {files}, {}\n", folder.display(), bytes(size.sum()));
        }
        let phases = outcome.seconds.iter().map(|(name, s)| format!("{name} {}", seconds(*s)));
        out + &format!("\n  {} in all\n", seconds(self.total)) + &wrapped(phases)
    }

    fn json(&self) -> Value {
        let Summary { outcome, .. } = self;
        let layout = &outcome.prompt.layout;
        let spans = SpanEntry::all(layout);
        let io = |(path, size): &Array| json!({"path": path.display().to_string(), "size": size});
        let models = self.written.iter().map(written_json);
        let files: Vec<Value> = models.chain(self.io.iter().map(io)).collect();
        let answers = outcome
            .answers
            .as_ref()
            .map(|[float, quantized]| json!({"float": float, "quantized": quantized}));
        let seconds: serde_json::Map<String, Value> =
            outcome.seconds.iter().map(|(name, s)| ((*name).into(), json!(s))).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checkpoint": self.name,
            "preset": self.args.recipe_name(),
            "layout": {"seq_len": layout.seq_len(), "prefix": layout.known(), "visual_start_idx": layout.spans().first().map(|s| s.start), "spans": spans},
            "calibration_samples": self.calib,
            "compared_samples": outcome.compared,
            "sites": outcome.sites,
            "error": outcome.error,
            "eval": answers,
            "budget": self.spent.weights,
            "budget_kl": self.spent.values,
            "quantcheck": {"unquantized": outcome.unquantized.len(), "tensors": outcome.unquantized},
            "unread_tensors": self.unread,
            "unseen_experts": outcome.unseen_experts,
            "notes": outcome.notes,
            "files": files,
            "seconds": seconds,
            "total_seconds": self.total,
        })
    }
}

/// Who did what to what.
pub(super) fn headline(checkpoint: &str, job: &str) -> String {
    format!("encircle {} · {checkpoint} · {job}\n\n", env!("CARGO_PKG_VERSION"))
}

/// A written file for machines; a name that is not UTF-8 is as people see it.
pub(super) fn written_json(file: &Written) -> Value {
    let Written { path, size, operators, tensors } = file;
    let path = path.display().to_string();
    json!({"path": path, "size": size, "operators": operators, "tensors": tensors})
}

/// A file in a line.
pub(super) fn wrote(file: &Written) -> String {
    let Written { path, size, operators, tensors } = file;
    let (path, size) = (path.display(), bytes(*size));
    let (operators, tensors) = (counted(*operators, "operator"), counted(*tensors, "tensor"));
    format!("  wrote {path}  {size}, {operators}, {tensors}\n")
}

/// The static layout in a line.
pub(super) fn shape(layout: &Layout) -> String {
    let one = |s: &VisualSpan| {
        format!("{}x{}x{} at {}", s.grid_thw[0], s.grid_thw[1], s.grid_thw[2], s.start)
    };
    let of = |kind, name: &str| {
        let spans: Vec<String> =
            layout.spans().iter().filter(|s| s.kind == kind).map(one).collect();
        (!spans.is_empty()).then(|| format!("{name} {}", spans.join(", ")))
    };
    let shown = [of(VisualKind::Image, "pictures"), of(VisualKind::VideoFrame, "video frames")];
    let shown = match layout.spans() {
        [] => "text only".into(),
        _ => shown.into_iter().flatten().collect::<Vec<_>>().join(", "),
    };
    let after = match layout.known() {
        0 => String::new(),
        known => format!(" after {known} that are constants"),
    };
    format!("  layout      {}{after}, {shown}\n", counted(layout.seq_len(), "token"))
}

fn answers(float: &AnswerScore, quantized: &AnswerScore) -> String {
    let row = |name: &str, s: &AnswerScore| {
        let exact = 100.0 * s.exact;
        format!(
            "{name:<10} {exact:>8.1} % {:>12.6} {:>12.6} {:>12.5}",
            s.kl, s.kl_all, s.answer_ppl
        )
    };
    let [rows, tokens] = [float.rows, float.tokens].map(|n| n as usize);
    let title = format!("answers, {}, {}", counted(rows, "row"), counted(tokens, "token"));
    let head =
        format!("{:<10} {:>10} {:>12} {:>12} {:>12}", "", "exact", "KL", "KL, all", "perplexity");
    boxed(&title, &[head, row("float", float), row("quantized", quantized)])
}
