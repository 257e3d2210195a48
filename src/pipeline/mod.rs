//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! `calibration.rs` and `evaluation.rs` are its two halves, `write.rs` puts files down.

mod budget;
mod calibration;
mod error;
mod evaluation;
mod generate;
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

use crate::algo::AlgoSpec;
use crate::calibrate::{self, Plan, Unquantized};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::Weights;
use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::models::{self, Head, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::Tensor;
use calibration::Calibration;
use evaluation::evaluate;
use rayon::prelude::*;
use rounding::Round;
use std::time::Instant;

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
}

impl Recipe {
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
    /// Float and quantized outputs of the first calibration sample.
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
}

struct Clock {
    last: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Clock {
    fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.laps.push((name, (now - self.last).as_secs_f64()));
        self.last = now;
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
    let width = config.text.hidden_size;
    let lanes = walk::calibration_lanes(calib, plan.mergeable(), width);
    let variants = walk::variants(&lanes, build, &prompt)?;
    let samples = Calibration { samples: calib, lanes, variants };
    clock.lap("build");

    let weights = load(checkpoint, &mut graph, &recipe.algo)?;
    clock.lap("load");

    progress.begin("calibrate", calib.len());
    let (float, statistics) = samples.observe(&plan, &weights, progress)?;
    clock.lap("calibrate");

    let param = |id: ValueId| weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    let unseen_experts = plan.unseen_experts(&graph, &statistics)?;
    plan.annotate_activations(&mut graph, &statistics, &param)?;
    let annotated = walk::annotated(samples.variants.clone(), &graph);
    let singles = || walk::variants(&walk::one_by_one(calib), build, &prompt);
    let round = Round { plan: &plan, samples: calib, weights: &weights, algo: &recipe.algo };
    let rounded = round.run(&mut graph, singles, progress)?;
    let unquantized = calibrate::check(&graph);
    clock.lap("convert");

    progress.begin("compare", calib.len());
    let (error, example) = samples.compare(&annotated, &float, &rounded, progress)?;
    clock.lap("compare");

    progress.begin("evaluate", eval.len());
    let seq = prompt.layout.seq_len();
    let lanes = walk::lanes(eval, |_| seq, width);
    let variants = walk::variants(&lanes, build, &prompt)?;
    let answers = evaluate(&graph, &lanes, &variants, eval, [&weights, &rounded], progress)?;
    if answers.is_some() {
        clock.lap("evaluate");
    }
    Ok(Outcome {
        sites: plan.site_count(),
        graph,
        weights,
        rounded,
        prompt,
        error,
        example,
        answers,
        unseen_experts,
        unquantized,
        seconds: clock.laps,
    })
}

/// The weights of `graph` after the rewrites that `algo` asks for.
fn load(checkpoint: &Checkpoint, graph: &mut Graph, algo: &AlgoSpec) -> Result<Weights, Error> {
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    algo.rewrite(graph, &read)?;
    let params: Vec<_> = graph.params().collect();
    let tensors: Vec<Tensor> = params
        .par_iter()
        .map(|(id, param)| Ok(param.load(&graph.value(*id).shape, &read)?))
        .collect::<Result<_, Error>>()?;
    let mut weights = Weights::none(graph);
    for ((id, _), tensor) in params.iter().zip(tensors) {
        weights.set(*id, tensor);
    }
    Ok(weights)
}
