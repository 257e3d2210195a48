//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! `calibration.rs` and `evaluation.rs` are its two halves, `sharing.rs` does the first of them in
//! several processes, `write.rs` puts files down.

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
mod sharing;
mod stages;
mod walk;
mod write;

pub use budget::{Bought, Budget, Candidate, Choice, fit};
pub use error::Error;
pub use generate::{Chain, Reading};
pub use prompt::{Fixed, Prompt};
pub use recipe::{Numerics, RECIPES, with_nearest};
pub use sampling::Sampling;
pub use save::save;
pub use sharing::{Known, Shared, observe, read_statistics, write_statistics};
pub use stages::{FileEntry, Manifest, PortEntry, SpanEntry, StageForm, write_stages};
pub use write::{Written, check_folder, write_io, write_model, write_recipe};

use crate::algo::AlgoSpec;
use crate::calibrate::{self, Plan, Statistics, Unquantized};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::Weights;
use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::models::{self, Head, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::{Products, Tensor};
use calibration::Calibration;
use evaluation::evaluate;
use rayon::prelude::*;
use rounding::{Round, rewrite};
use std::time::Instant;

/// What the user wants, apart from data.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Grids and observers.
    pub policy: Policy,
    /// Rewrites and rounding.
    pub algo: AlgoSpec,
    /// What the linear layers of the float run multiply while statistics are taken; its outputs
    /// are what the quantized ones are compared with. Answers are judged against f32 in any case.
    pub products: Products,
    /// Sequence length of the static graph; by default that of the longest sample.
    pub seq_len: Option<usize>,
    /// What the layout must be, where the user fixed it.
    pub fixed: Fixed,
    /// What the graph computes.
    pub head: Head,
}

impl Recipe {
    /// Its part that is a recipe file.
    pub fn numerics(&self) -> Numerics {
        let Recipe { policy, algo, products, .. } = self;
        Numerics { policy: policy.clone(), algo: algo.clone(), products: *products }
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
    /// How many calibration samples were compared: all of them, unless others observed them.
    pub compared: usize,
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

#[derive(Clone)]
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

/// The job up to its first run: all that depends on no statistics.
struct Prepared<'a> {
    checkpoint: &'a Checkpoint,
    recipe: &'a Recipe,
    prompt: Prompt,
    graph: Graph,
    plan: Plan,
    weights: Weights,
    clock: Clock,
}

impl<'a> Prepared<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        calib: &[Sample],
        eval: &[Sample],
        recipe: &'a Recipe,
    ) -> Result<Prepared<'a>, Error> {
        let mut clock = Clock { last: Instant::now(), laps: Vec::new() };
        let config = checkpoint.config();
        let prompt = Prompt::of(config, calib, eval, recipe.seq_len, &recipe.fixed)?;
        let verify = || {
            let needed = models::tensors(config).map_err(|source| blamed(checkpoint, source))?;
            Ok::<_, Error>(checkpoint.verify(&needed)?)
        };
        let whole = || build(checkpoint, recipe, prompt.layout.clone(), 1);
        let (graph, verified) = rayon::join(whole, verify);
        let mut graph = graph?;
        verified?;
        let plan = Plan::new(&graph, &recipe.policy)?;
        clock.lap("build");
        let singles = || {
            let build = |layout, batch| build(checkpoint, recipe, layout, batch);
            walk::variants(&walk::one_by_one(calib), build, &prompt)
        };
        rewrite(&recipe.algo, &mut graph, &plan, calib, (checkpoint, singles))?;
        let weights = load(checkpoint, &graph)?;
        clock.lap("load");
        Ok(Prepared { checkpoint, recipe, prompt, graph, plan, weights, clock })
    }

    /// The weights as the observed run multiplies them.
    fn observed_weights(&self) -> Weights {
        self.weights.with_products(self.recipe.products)
    }

    /// The graphs that `lanes` run on.
    fn variants(&self, lanes: &[walk::Lane]) -> Result<walk::Variants, Error> {
        let build = |layout, batch| build(self.checkpoint, self.recipe, layout, batch);
        walk::variants(lanes, build, &self.prompt)
    }

    /// `samples` and the graphs of their lengths.
    fn calibration<'s>(&self, samples: &'s [Sample]) -> Result<Calibration<'s>, Error> {
        let width = self.checkpoint.config().text.hidden_size;
        let lanes = walk::calibration_lanes(samples, self.plan.mergeable(), width);
        let variants = self.variants(&lanes)?;
        Ok(Calibration { samples, lanes, variants })
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
    let job = Prepared::new(checkpoint, calib, eval, recipe)?;
    let samples = job.calibration(calib)?;
    progress.begin("calibrate", calib.len());
    let (float, statistics) = samples.observe(&job.plan, &job.observed_weights(), progress)?;
    finish(job, &samples, (float, statistics), [calib, eval], progress)
}

/// From statistics to the outcome; `samples` are those to compare on, with their float outputs.
fn finish(
    job: Prepared<'_>,
    samples: &Calibration<'_>,
    (float, statistics): (Vec<Tensor>, Statistics),
    [calib, eval]: [&[Sample]; 2],
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let mut clock = job.clock.clone();
    let mut graph = job.graph.clone();
    let (plan, weights) = (&job.plan, &job.weights);
    clock.lap("calibrate");

    let param = |id: ValueId| weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    let unseen_experts = plan.unseen_experts(&graph, &statistics)?;
    plan.annotate_activations(&mut graph, &statistics, &param)?;
    let annotated = walk::annotated(samples.variants.clone(), &graph);
    let singles = || job.variants(&walk::one_by_one(calib));
    let round = Round { plan, samples: calib, weights, algo: &job.recipe.algo };
    let rounded = round.run(&mut graph, singles, progress)?;
    let unquantized = calibrate::check(&graph);
    clock.lap("convert");

    progress.begin("compare", samples.samples.len());
    let (error, example) = samples.compare(&annotated, &float, &rounded, progress)?;
    clock.lap("compare");

    progress.begin("evaluate", eval.len());
    let seq = job.prompt.layout.seq_len();
    let lanes = walk::lanes(eval, |_| seq, job.checkpoint.config().text.hidden_size);
    let variants = job.variants(&lanes)?;
    let answers = evaluate(&graph, &lanes, &variants, eval, [weights, &rounded], progress)?;
    if answers.is_some() {
        clock.lap("evaluate");
    }
    Ok(Outcome {
        sites: plan.site_count(),
        graph,
        weights: job.weights,
        rounded,
        prompt: job.prompt,
        error,
        compared: samples.samples.len(),
        example,
        answers,
        unseen_experts,
        unquantized,
        seconds: clock.laps,
    })
}

fn blamed(checkpoint: &Checkpoint, source: models::ModelError) -> Error {
    Error::Model { config: checkpoint.files().describe("config.json"), source }
}

fn build(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    layout: Layout,
    batch: usize,
) -> Result<Graph, Error> {
    let request = recipe.request(layout, batch);
    let graph = models::build(checkpoint.config(), &request);
    Ok(graph.map_err(|source| blamed(checkpoint, source))?.rewritten())
}

/// The weights of `graph` with their edits.
fn load(checkpoint: &Checkpoint, graph: &Graph) -> Result<Weights, Error> {
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
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
