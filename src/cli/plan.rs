//! `encircle plan`: what a job takes, before anything starts; and the early refusal of `quantize`.

use super::args::{PlanArgs, QuantizeArgs};
use super::quantize::{Inputs, check_io, inputs, made_ready, refuse, stage_form};
use super::terminal::{left_out, seconds, stdout};
use super::{Outcome, Verdict, weights};
use crate::checkpoint::Checkpoint;
use crate::cluster::{Alone, Share};
use crate::dataset::Sample;
use crate::pipeline::{self, Budget, Estimate, FileSize, Job, Machine, Outlook, Recipe, estimate};
use crate::report::{bytes, counted, enough};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;

/// Files of a set that are listed one by one; of more only their sum.
const LISTED: usize = 8;

pub(super) fn run(args: &PlanArgs) -> Outcome {
    let mut recipe = made_ready(&args.job, &Alone)?;
    if args.job.weights_only {
        return weights::plan(&args.job, &recipe);
    }
    if let Some(share) = &args.job.shard {
        let why = "a plan is of the whole job, whose memory no share exceeds";
        return Err(format!("--shard: found {share}, expected none: {why}").into());
    }
    refuse(&args.job, &Alone, recipe.policy.spec())?;
    args.job.statistics.as_deref().map(pipeline::read_statistics).transpose()?;
    let (name, checkpoint, mut calib, mut eval) = data(args, &recipe)?;
    pipeline::bake(&checkpoint, &mut recipe, &mut calib, &mut eval)?;
    let job = job(&args.job, &recipe, [&calib, &eval], &checkpoint);
    let spent = likely(args.job.budget(), &job)?;
    let after = Job { recipe: &spent, ..job };
    // Whatever needs no machine is refused before it is measured.
    check_places(&args.job, None, &estimate(&after, None)?, &calib)?;
    budgets(&args.job, &job, None)?;
    let machine = measured(&args.job, &recipe)?;
    let estimate = estimate(&after, Some(&machine))?;
    let budgets = budgets(&args.job, &job, Some(&machine))?;
    let affordable = afford_first(&budgets, &estimate, &recipe);
    let refusal = affordable.and_then(|()| estimate.afford(&args.job.out)).err();
    let refusal = refusal.map(|refusal| refusal.to_string());
    let estimate = &estimate;
    let facts = Facts { args: &args.job, name: &name, estimate, budgets, machine, refusal };
    let mut stdout = stdout();
    match args.job.json {
        true => writeln!(stdout, "{}", facts.json())?,
        false => stdout.write_all(facts.text().as_bytes())?,
    }
    Ok(if facts.refusal.is_some() { Verdict::Wanting } else { Verdict::Fine })
}

/// What the machine can do where the result will be.
pub(super) fn measured(args: &QuantizeArgs, recipe: &Recipe) -> Result<Machine, Box<dyn Error>> {
    pipeline::check_folder(&args.out)?;
    let folder = pipeline::nearest(&args.out).unwrap_or_else(std::env::temp_dir);
    let cannot = |e| format!("{}: cannot write: {e}", folder.display());
    Ok(Machine::measure(recipe.products, &folder).map_err(cannot)?)
}

/// What a budget for weights will have made of the job's recipe.
fn likely(budget: Option<Budget>, job: &Job<'_>) -> Result<Recipe, pipeline::Error> {
    budget.map_or_else(|| Ok(job.recipe.clone()), |budget| pipeline::likely(job, budget))
}

/// What is measured before the job, where there is a budget for weights or activations.
fn budgets(
    args: &QuantizeArgs,
    job: &Job<'_>,
    machine: Option<&Machine>,
) -> Result<[Option<Outlook>; 2], pipeline::Error> {
    let weights = args.budget().map(|budget| pipeline::outlook(job, budget, machine));
    let values = args.budget_kl.map(|_| pipeline::outlook_values(job, machine));
    Ok([weights.transpose()?, values.transpose()?])
}

/// Refuses what a budget needs more memory for than the job: one refusal names what is enough for both.
fn afford_first(
    budgets: &[Option<Outlook>],
    estimate: &Estimate,
    recipe: &Recipe,
) -> Result<(), pipeline::Error> {
    let greatest = budgets.iter().flatten().max_by_key(|budget| budget.memory);
    let greatest = greatest.filter(|budget| budget.memory > estimate.least);
    greatest.map_or(Ok(()), |budget| budget.afford(&recipe.means))
}

/// Refuses a job that cannot end well, before anything is computed; budgets may be `spent` already.
/// Whether only the staged set is written.
pub(super) fn afford(
    (args, share, spent): (&QuantizeArgs, Option<Share>, bool),
    recipe: &Recipe,
    samples: [&[Sample]; 2],
    checkpoint: &Checkpoint,
) -> Result<bool, Box<dyn Error>> {
    let job = job(args, recipe, samples, checkpoint);
    let budget = args.budget().filter(|_| !spent);
    let estimate = estimate(&Job { recipe: &likely(budget, &job)?, ..job }, None)?;
    check_places(args, share, &estimate, samples[0])?;
    if !spent {
        afford_first(&budgets(args, &job, None)?, &estimate, recipe)?;
    }
    match share {
        Some(_) => estimate.afford_observing(&args.out)?,
        None => estimate.afford(&args.out)?,
    }
    Ok(estimate.staged_only)
}

/// Refuses a job where something else stands in the place of one of its files.
fn check_places(
    args: &QuantizeArgs,
    share: Option<Share>,
    estimate: &Estimate,
    calib: &[Sample],
) -> Result<(), pipeline::Error> {
    if let Some(share) = share {
        share.rows(calib.len())?;
        return pipeline::check_files(&args.out, [share.file_name()]);
    }
    estimate.check_places(&args.out)?;
    let files = pipeline::io_files(&calib[..args.io_samples.get().min(calib.len())]);
    args.io.as_ref().map_or(Ok(()), |folder| pipeline::check_files(folder, files))
}

fn job<'a>(
    args: &QuantizeArgs,
    recipe: &'a Recipe,
    [calib, eval]: [&'a [Sample]; 2],
    checkpoint: &'a Checkpoint,
) -> Job<'a> {
    let (payloads, stages) = (args.buffers.into(), stage_form(args));
    Job { checkpoint, calib, eval, recipe, payloads, stages }
}

type Data = (String, Checkpoint, Vec<Sample>, Vec<Sample>);

/// The samples, or as many as were announced.
fn data(args: &PlanArgs, recipe: &Recipe) -> Result<Data, Box<dyn Error>> {
    let (Some(dir), Some(count)) = (&args.job.checkpoint, args.samples) else {
        if args.job.checkpoint.is_some() && args.job.calib.is_none() {
            return Err("--calib FILE.jsonl or --samples N --seq-len N is needed".into());
        }
        let Inputs { name, checkpoint, calib, eval } = inputs(&args.job)?;
        return Ok((name, checkpoint, calib, eval));
    };
    let checkpoint = Checkpoint::open(dir)?;
    check_io(&args.job, count as usize)?;
    let calib = pipeline::announced(&checkpoint, recipe, count)?;
    Ok((dir.display().to_string(), checkpoint, calib, Vec::new()))
}

/// One set of facts, in two forms.
struct Facts<'a> {
    args: &'a QuantizeArgs,
    name: &'a str,
    estimate: &'a Estimate,
    /// What is measured before, where there is a budget for weights or activations.
    budgets: [Option<Outlook>; 2],
    machine: Machine,
    refusal: Option<String>,
}

impl Facts<'_> {
    fn text(&self) -> String {
        let e = self.estimate;
        let mut out = format!(
            "encircle {} · plan for {} · {}\n\n",
            env!("CARGO_PKG_VERSION"),
            self.name,
            self.args.recipe_name()
        );
        let width = e.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
        let heads = ["weights", "memory", "live", "output", "time"];
        out += &format!("  {:<width$}", "stage");
        out += &heads.map(|head| format!(" {head:>7}")).concat();
        out += "\n";
        for stage in &e.stages {
            let time = stage.seconds.map_or_else(String::new, seconds);
            let numbers = [stage.weights * 4, stage.memory, stage.resting, stage.output].map(bytes);
            out += &format!("  {:<width$}", stage.name);
            out += &numbers.map(|number| format!(" {number:>7}")).concat();
            out += &format!(" {time:>7}\n");
        }
        let way = match e.legs {
            1 => "all weights at once".into(),
            legs => format!("{legs} loads of weights"),
        };
        let who = if self.args.memory.is_some() { "allowed" } else { "three quarters of the free" };
        let tokens = counted(e.seq_len, "token");
        out += &format!("\n  rows        {} of at most {tokens}, {way}\n", e.samples);
        out += &format!(
            "  memory      {} of {} ({who}); {} at least\n",
            bytes(e.memory),
            bytes(e.allowed),
            enough(e.least)
        );
        let free = pipeline::free(&self.args.out).map_or("?".into(), bytes);
        out += &format!(
            "  disk        {} of files, {} meanwhile; {free} free\n",
            bytes(e.output()),
            bytes(e.spill)
        );
        out += &self.files();
        if let Some(time) = e.seconds {
            out += &format!(
                "  time        about {}, at {:.0} GFLOP/s and {} a second to disk\n",
                duration(time),
                self.machine.gflops,
                bytes((self.machine.disk * 1e9) as u64)
            );
        }
        for budget in self.budgets.iter().flatten() {
            let time = budget.seconds.map_or_else(String::new, duration);
            out += &format!(
                "  budget      before that about {time} and {} of memory: {} losses on {}\n",
                bytes(budget.memory),
                budget.losses,
                counted(budget.samples, "row")
            );
        }
        let way = match self.args.calib {
            Some(_) => "rows with pictures need them",
            None => "--grid T,H,W and --visual-start N plan a picture",
        };
        out += &left_out(e.unread_tensors, way);
        if let Some(refusal) = &self.refusal {
            out += &format!("\n  refused     {refusal}\n");
        }
        out
    }

    fn files(&self) -> String {
        let files = &self.estimate.files;
        let line = |file: &FileSize| format!("  output      {}  {}\n", file.name, bytes(file.size));
        let whole = files.iter().filter(|file| !file.name.contains('/'));
        let mut out: String = whole.map(line).collect();
        let staged: Vec<&FileSize> = files.iter().filter(|file| file.name.contains('/')).collect();
        let sum = staged.iter().map(|file| file.size).sum::<u64>();
        match staged.len() {
            0 => {}
            1..=LISTED => out.extend(staged.into_iter().map(line)),
            count => out += &format!("  output      stages/, {count} files  {}\n", bytes(sum)),
        }
        out
    }

    fn json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checkpoint": self.name,
            "preset": self.args.recipe_name(),
            "estimate": self.estimate,
            "budget": self.budgets[0],
            "budget_kl": self.budgets[1],
            "output": self.estimate.output(),
            "free_disk": pipeline::free(&self.args.out),
            "machine": self.machine,
            "refused": self.refusal,
        })
    }
}

/// Seconds as people plan with them.
pub(super) fn duration(s: f64) -> String {
    match s {
        s if s < 120.0 => seconds(s),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
