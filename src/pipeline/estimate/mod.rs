//! What a job will take, before it starts: memory, disk, output and, on a measured machine, time.
//! Read off the graph, the plan of grids and the samples' lengths; no weight is read.
//!
//! One count serves three: `walk/legs.rs` cuts the job by `memory.rs`, [`afford`] refuses what cannot
//! end well, and the command `plan` prints all of it.

mod available;
mod memory;
mod sizes;
mod time;

pub(super) use available::available;
pub(super) use memory::{Hold, Load, Needs, SMALL, measuring, params, peak};
pub use sizes::FileSize;
pub(super) use sizes::Sizes;
pub use time::Machine;
pub(super) use time::pass;

use super::files::{FLOAT, QUANTIZED, RECIPE, check_files};
use super::stages::{self, StageForm};
use super::unfinished::resume::worthwhile;
use super::walk::Legs;
use super::walk::suits;
use super::{Error, Means, Prompt, Recipe, build, planned, unseeing, verify, walk};
use crate::algo::Streams;
use crate::calibrate::{Plan, Site};
use crate::checkpoint::Checkpoint;
use crate::circle::Payloads;
use crate::dataset::Sample;
use crate::graph::{Graph, ValueId};
use crate::lower;
use crate::quant::{Policy, Role};
use serde::Serialize;
use std::path::Path;
use time::Work;

/// A job that is to be estimated.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Calibration samples: only lengths and pictures count.
    pub calib: &'a [Sample],
    /// Samples with answers.
    pub eval: &'a [Sample],
    /// What the user wants.
    pub recipe: &'a Recipe,
    /// Where payloads of the files go.
    pub payloads: Payloads,
    /// The staged set, if it is written.
    pub stages: Option<StageForm>,
}

/// A stage of the network, and what it takes alone.
#[derive(Clone, Debug, Serialize)]
pub struct StageEstimate {
    /// Scope path.
    pub name: String,
    /// Elements of its weights.
    pub weights: u64,
    /// Bytes of memory while it is worked on.
    pub memory: u64,
    /// Bytes of its weights in the quantized file.
    pub output: u64,
    /// Bytes of live values after it, in both networks, over all samples.
    pub resting: u64,
    /// About how long it takes.
    pub seconds: Option<f64>,
}

/// What a job takes.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// Positions of the static graph.
    pub seq_len: usize,
    /// Calibration samples.
    pub samples: usize,
    /// Tensors of the checkpoint that only pictures need, where there are none.
    pub unread_tensors: usize,
    /// The stages, in order.
    pub stages: Vec<StageEstimate>,
    /// How many loads of weights the samples walk with; 1 if all fits into memory.
    pub legs: usize,
    /// Bytes of memory that the job may use.
    pub allowed: u64,
    /// Whether somebody said so.
    pub asked: bool,
    /// Bytes of memory that it will use at most at any time.
    pub memory: u64,
    /// Bytes of memory without which it cannot run.
    pub least: u64,
    /// Bytes on disk while it runs: live values that spill, the same as put down for a rerun, and
    /// rounded weights.
    pub spill: u64,
    /// The files.
    pub files: Vec<FileSize>,
    /// About how long it takes.
    pub seconds: Option<f64>,
    /// Whether the whole model is left out, since only the staged set fits its format.
    pub staged_only: bool,
    #[serde(skip)]
    payloads: Payloads,
}

/// Counts what `job` takes; how long, if there is a machine to say so for.
///
/// # Errors
/// Those of [`quantize`](super::quantize) that need no weights; a grid that no file can hold.
pub fn estimate(job: &Job<'_>, machine: Option<&Machine>) -> Result<Estimate, Error> {
    let Job { checkpoint, calib, eval, recipe, payloads, stages } = *job;
    let config = checkpoint.config();
    let prompt = Prompt::of(config, calib, eval, recipe.seq_len, &recipe.fixed)?;
    let graph = build(checkpoint, recipe, prompt.layout.clone(), 1)?;
    verify(checkpoint)?;
    let plan = planned(&graph, &recipe.policy, &prompt.layout, calib)?;
    expressible(&graph, &plan, &recipe.policy)?;
    let rounding = recipe.algo.rounding()?;
    suits(&graph, &plan, rounding.as_ref(), recipe.algo.rounding.as_deref())?;
    let batch = walk::batch(calib, config.text.hidden_size);
    let needs = Needs::of(&graph, &plan, rounding.as_ref(), recipe, Load::of([calib, eval], batch));
    let (allowed, _) = recipe.means.allowed();
    let cut = Legs::of(&needs, allowed);
    let sizes = Sizes::of(&graph, &plan, rounding.streams());
    let same = |name: &str| name.to_owned();
    let whole = sizes.file(&graph, &same);
    let file = |name: &str, size| FileSize { name: name.into(), size };
    let mut files = vec![file(FLOAT, whole[0]), file(QUANTIZED, whole[1])];
    let staged_only = stages.is_some() && !files.iter().all(|file| file.fits(payloads));
    if staged_only {
        files.clear();
    }
    if let Some(form) = stages {
        files.extend(stages::sizes(checkpoint, (&graph, &prompt.layout), &sizes, form)?);
    }
    let put_down = recipe.means.durable.is_some() && worthwhile(&cut, rounding.as_ref());
    let codes = if put_down || !cut.whole() { whole[1] } else { 0 };
    let stages =
        each_stage(&needs, (&cut, allowed), &sizes, (work(job, rounding.streams(), &cut), machine));
    let seconds = stages.iter().map(|stage| stage.seconds).sum();
    Ok(Estimate {
        seq_len: prompt.layout.seq_len(),
        samples: calib.len(),
        unread_tensors: unseeing(checkpoint, &prompt.layout),
        stages,
        legs: cut.nodes.len(),
        allowed,
        asked: recipe.means.memory.is_some(),
        memory: cut.taken,
        // sought in steps, which what fits may lie between
        least: Legs::least(&needs).min(if cut.taken <= allowed { cut.taken } else { u64::MAX }),
        spill: codes + live_on_disk(&needs, &cut, &recipe.means),
        files,
        seconds,
        staged_only,
        payloads,
    })
}

/// Refuses a job before its first weight is read, whether or not a file could hold its result.
///
/// # Errors
/// Those of [`quantize`](super::quantize) that need no weights.
pub fn check(
    checkpoint: &Checkpoint,
    [calib, eval]: [&[Sample]; 2],
    recipe: &Recipe,
) -> Result<(), Error> {
    let prompt = Prompt::of(checkpoint.config(), calib, eval, recipe.seq_len, &recipe.fixed)?;
    let graph = build(checkpoint, recipe, prompt.layout.clone(), 1)?;
    let plan = planned(&graph, &recipe.policy, &prompt.layout, calib)?;
    suits(&graph, &plan, recipe.algo.rounding()?.as_ref(), recipe.algo.rounding.as_deref())
}

/// Refuses grids that the files could not express.
fn expressible(graph: &Graph, plan: &Plan, policy: &Policy) -> Result<(), Error> {
    let name = |id: &ValueId| &graph.value(*id).name[..];
    for id in graph.ids() {
        let (decision, role, sharing) = match plan.sites.site(id) {
            Site::Weight => (plan.weight_decision(id), Role::Weight, &[id][..]),
            Site::Gain => (plan.weight_decision(id), Role::NormWeight, &[id][..]),
            Site::Activation { class } => {
                let sharing = &plan.sites.classes[class].members[..];
                (plan.class_decision(class), Role::Activation, sharing)
            }
            Site::Bias { .. } | Site::Index => continue,
        };
        let constant = graph.value(id).is_constant();
        decision.map_or(Ok(()), |d| lower::check(name(&id), d, constant)).map_err(|source| {
            Error::Form { place: policy.asks(sharing.iter().map(name), role), source }
        })?;
    }
    Ok(())
}

/// Bytes of live values on disk: what spills and, put down for a rerun, all; the old ones and, while
/// they are replaced, the new ones.
fn live_on_disk(needs: &Needs<'_>, cut: &Legs, means: &Means) -> u64 {
    let Some(room) = cut.room else { return 0 };
    let resting = cut.nodes.iter().map(|leg| needs.resting(leg)).max().unwrap_or(0);
    let stored = if cut.whole() || means.durable.is_none() { 0 } else { resting };
    2 * (resting.saturating_sub(room) + stored)
}

/// How often samples pass and weights are read.
fn work(job: &Job<'_>, streams: Streams, cut: &Legs) -> Work {
    let (calib, eval) = (job.calib.len() as f64, job.eval.len() as f64);
    let fit = if job.recipe.algo.fits() { calib } else { 0.0 };
    // A rounding that follows both networks takes the float one along once more.
    let again = if streams >= Streams::Both { calib } else { 0.0 };
    let passes = 2.0 * calib + fit + again + 2.0 * eval;
    let loads = if cut.whole() { 2.0 } else { 4.0 };
    Work { passes, samples: calib, streams, loads }
}

fn each_stage(
    needs: &Needs<'_>,
    (cut, allowed): (&Legs, u64),
    sizes: &Sizes<'_>,
    (work, machine): (Work, Option<&Machine>),
) -> Vec<StageEstimate> {
    let graph: &Graph = needs.graph;
    let hold = cut.hold.unwrap_or(Hold { large: u64::MAX, lean: false });
    let stage = |(stage, nodes): (&crate::graph::Stage, &std::ops::Range<usize>)| {
        let ids = params(graph, nodes.clone());
        let elements =
            |id: &crate::graph::ValueId| graph.value(*id).shape.iter().product::<usize>() as u64;
        let bits = |id: &crate::graph::ValueId| elements(id) * sizes.quantized(*id).0;
        StageEstimate {
            name: stage.name.clone(),
            weights: ids.iter().map(elements).sum(),
            memory: needs.leg(nodes.clone(), allowed, hold),
            output: ids.iter().filter(|id| sizes.first(**id)).map(bits).sum::<u64>() / 8,
            resting: needs.resting(nodes),
            seconds: machine.map(|m| work.seconds((graph, sizes), nodes.clone(), m)),
        }
    };
    graph.stages.iter().zip(&needs.stages).map(stage).collect()
}

impl Estimate {
    /// Refuses what cannot end well: a file that its format cannot hold, too little memory, too
    /// little disk at `out`, where files and what spills go.
    ///
    /// # Errors
    /// The first of these, with the way out.
    pub fn afford(&self, out: &Path) -> Result<(), Error> {
        for file in &self.files {
            file.check(self.payloads, self.staged_only)?;
        }
        self.has_room(out, self.output())
    }

    /// As [`Estimate::afford`], for a job that only observes and writes no model.
    ///
    /// # Errors
    /// Too little memory or disk.
    pub fn afford_observing(&self, out: &Path) -> Result<(), Error> {
        self.has_room(out, 0)
    }

    /// Refuses a job where something else stands in the place of one of its files in `out`.
    ///
    /// # Errors
    /// What stands there.
    pub fn check_places(&self, out: &Path) -> Result<(), Error> {
        let names = || self.files.iter().map(|file| &file.name[..]);
        let staged = names().any(|name| name.starts_with("stages/"));
        let manifest = staged.then(|| format!("stages/{}", stages::MANIFEST));
        check_files(out, names().chain(manifest.as_deref()).chain([RECIPE]))
    }

    /// Bytes of all files.
    pub fn output(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether there is memory for the job, and disk for `files` bytes and for what spills.
    fn has_room(&self, out: &Path, files: u64) -> Result<(), Error> {
        if self.least > self.allowed {
            let (given, what) = (self.allowed, Means::source(self.asked));
            return Err(Error::Memory { given, what, least: self.least });
        }
        let spill = self.spill;
        match free(out) {
            Some(free) if files.saturating_add(spill) > free => {
                Err(Error::Disk { folder: out.display().to_string(), free, files, spill })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that are free where `folder` is or will be; none where the system does not tell.
pub fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let there = super::files::nearest(folder)?;
        let disk = rustix::fs::statvfs(&there).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
