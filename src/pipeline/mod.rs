//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! `legs.rs` how far they walk with one load of weights. They walk twice: in float while
//! `calibration.rs` observes, then quantized while `rounding.rs` rounds and `evaluation.rs` compares.
//! `write.rs` puts files down.

mod budget;
mod calibration;
mod codes;
mod error;
mod evaluation;
mod floats;
mod generate;
mod legs;
mod prompt;
mod recipe;
mod rounding;
mod sampling;
mod save;
mod stages;
mod walk;
mod write;

pub use budget::{Bought, Budget, Candidate, Choice, fit};
pub use error::Error;
pub use generate::{Chain, Reading};
pub use prompt::{Fixed, Prompt};
pub use recipe::{Numerics, RECIPES};
pub use sampling::Sampling;
pub use save::save;
pub use stages::{FileEntry, Manifest, PortEntry, SpanEntry, StageForm, write_stages};
pub use write::{Written, check_folder, write_io, write_model, write_recipe};

use crate::algo::{AlgoSpec, Streams};
use crate::calibrate::{self, Plan, Unquantized};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::{Room, Spool, Weights};
use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::models::{self, Head, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::Tensor;
use calibration::Observation;
use codes::Codes;
use evaluation::Travellers;
use floats::{Floats, Trouble};
use legs::{Legs, Load};
use rounding::{Conversion, Converted};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use walk::Walk;

/// What the user wants, apart from data.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Grids and observers.
    pub policy: Policy,
    /// Rewrites and rounding.
    pub algo: AlgoSpec,
    /// Sequence length of the static graph; by default that of the longest sample.
    pub seq_len: Option<usize>,
    /// What the layout must be, where the user fixed it.
    pub fixed: Fixed,
    /// What the graph computes.
    pub head: Head,
    /// What the job may use.
    pub means: Means,
}

/// What the job may use of the machine. Results do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Bytes of memory; by default three quarters of what is free.
    pub memory: Option<u64>,
    /// Folder for what does not fit; by default the system's for temporary files.
    pub folder: Option<PathBuf>,
}

impl Recipe {
    /// The legs of the job on `graph`, given the calibration and evaluation samples.
    fn legs(&self, graph: &Graph, samples: [&[Sample]; 2]) -> Legs {
        let of = |id: &ValueId| graph.value(*id).shape.iter().product::<usize>();
        let output = graph.outputs.iter().map(of).sum::<usize>() * size_of::<f32>();
        let pixels = |sample: &Sample| sample.pixel_values.as_ref().map_or(0, Tensor::len);
        let held = samples.iter().flat_map(|samples| samples.iter()).map(pixels).sum::<usize>();
        let load = Load {
            outputs: (samples[0].len() * output) as u64,
            samples: (held * size_of::<f32>()) as u64,
            threads: rayon::current_num_threads() as u64,
        };
        Legs::of(graph, self.means.memory.unwrap_or_else(legs::available), load)
    }

    fn request(&self, layout: Layout, batch: usize) -> Request {
        Request { head: self.head, batch, ..Request::new(layout) }
    }
}

/// Told what is going on; long work draws a bar of it.
pub trait Progress: Sync {
    /// A phase begins; it has `total` steps.
    fn begin(&self, phase: &'static str, total: usize);
    /// One step of the phase is done.
    fn step(&self);
}

/// Nobody is told.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &'static str, _: usize) {}
    fn step(&self) {}
}

/// The result of the job.
pub struct Outcome {
    /// The static graph with its annotations; constants are still float.
    pub graph: Graph,
    /// Checkpoint tensors in float, by value, after the rewrites.
    pub weights: Weights,
    /// The same on their grids.
    pub rounded: Weights,
    /// The layout that the graph is for.
    pub prompt: Prompt,
    /// Distance of the quantized outputs from the float ones over the calibration samples.
    pub error: ErrorFigures,
    /// Float and quantized outputs of the first calibration sample, of very many the first rows.
    pub example: [Tensor; 2],
    /// Answers of the evaluation set by the float and by the quantized model.
    pub answers: Option<[AnswerScore; 2]>,
    /// Experts that no calibration token reached, in graph order.
    pub unseen_experts: Vec<String>,
    /// QuantCheck: real tensors without a grid.
    pub unquantized: Vec<Unquantized>,
    /// Sites that had statistics of their own.
    pub sites: usize,
    /// Seconds of each phase, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// What went wrong while weights were read again for somebody.
    trouble: Trouble,
}

struct Clock {
    last: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Clock {
    fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        match self.laps.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name, seconds)),
        }
        self.last = now;
    }

    /// There was nothing to do in this phase.
    fn forget(&mut self, name: &str) {
        self.laps.retain(|(known, _)| *known != name);
    }
}

/// Builds the static graph of the samples' layout, calibrates it on `calib`, annotates it, and
/// measures what quantization costs on `calib` and, if there are answers, on `eval`.
///
/// # Errors
/// Samples that do not share one layout, tensors missing from the checkpoint, statistics that
/// allow no grid.
pub fn quantize(
    checkpoint: &Checkpoint,
    calib: &[Sample],
    eval: &[Sample],
    recipe: &Recipe,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let mut clock = Clock { last: Instant::now(), laps: Vec::new() };
    let config = checkpoint.config();
    let prompt = Prompt::of(config, calib, eval, recipe.seq_len, &recipe.fixed)?;
    let blamed =
        |source| Error::Model { config: checkpoint.files().describe("config.json"), source };
    let build = |layout: Layout, batch: usize| -> Result<Graph, Error> {
        Ok(models::build(config, &recipe.request(layout, batch)).map_err(blamed)?.rewritten())
    };
    let verify = || Ok::<_, Error>(checkpoint.verify(&models::tensors(config).map_err(blamed)?)?);
    let (built, verified) = rayon::join(|| build(prompt.layout.clone(), 1), verify);
    let mut graph = built?;
    verified?;
    let plan = Plan::new(&graph, &recipe.policy)?;
    let rounding = recipe.algo.rounding()?;
    let legs = recipe.legs(&graph, [calib, eval]);
    let free = plan.mergeable() && (legs.whole() && rounding.streams() != Streams::Seen);
    let lanes = walk::calibration_lanes(calib, free, config.text.hidden_size);
    let walk = Walk::new(calib, lanes, &build, &prompt)?;
    clock.lap("build");

    let trouble = Trouble::default();
    let floats = Floats::of(checkpoint, &mut graph, &recipe.algo, legs.large, &trouble)?;
    clock.lap("load");

    let folder = recipe.means.folder.clone().unwrap_or_else(std::env::temp_dir);
    let room = Room::new(legs.room, &folder);
    let mut spool = Spool::new(walk.lanes.len(), Arc::clone(&room));
    let observation = Observation { plan: &plan, legs: &legs, floats: &floats, progress };
    let statistics = observation.run(&graph, &walk, &mut spool)?;
    trouble.check()?;
    clock.lap("calibrate");

    let param = |id: ValueId| floats.all.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    let unseen_experts = plan.unseen_experts(&graph, &statistics)?;
    plan.annotate_activations(&mut graph, &statistics, &param)?;

    // A rounding that follows both networks takes its samples, one by one, from the start.
    let both = rounding.streams() >= Streams::Both;
    let singles = match both && legs.whole() {
        true => Some(Walk::new(calib, walk::one_by_one(calib), &build, &prompt)?),
        false => None,
    };
    let at = (!both).then(|| if legs.whole() { graph.nodes.len() } else { legs.last_start() });
    let calib = singles.as_ref().unwrap_or(&walk);
    if both {
        spool = Spool::new(calib.lanes.len(), Arc::clone(&room));
    }
    let quantized = walk::annotated(calib.float.clone(), &graph);
    let calib = Travellers { walk: calib, pairs: calib.pairs(&quantized, spool, at) };
    let (seq, width) = (prompt.layout.seq_len(), config.text.hidden_size);
    let rows = Walk::new(eval, walk::lanes(eval, |_| seq, width), &build, &prompt)?;
    let judged = walk::annotated(rows.float.clone(), &graph);
    let spool = Spool::new(rows.lanes.len(), room);
    let eval = Travellers { walk: &rows, pairs: rows.pairs(&judged, spool, None) };
    let conversion = Conversion {
        plan: &plan,
        rounding: rounding.as_ref(),
        legs: &legs,
        floats: &floats,
        codes: Codes::new(&folder, &trouble),
        trouble: &trouble,
        progress,
        done: Weights::none(&graph),
    };
    let Converted { rounded, error, example, answers } =
        conversion.run(&mut graph, calib, eval, &mut clock)?;
    if answers.is_none() {
        clock.forget("evaluate");
    }
    Ok(Outcome {
        sites: plan.site_count(),
        unquantized: calibrate::check(&graph),
        graph,
        weights: floats.all,
        rounded,
        prompt,
        error,
        example,
        answers,
        unseen_experts,
        seconds: clock.laps,
        trouble,
    })
}
