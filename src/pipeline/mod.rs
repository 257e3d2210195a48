//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! `walk.rs` runs stages over all samples, `write.rs` puts files down.

mod error;
mod prompt;
mod recipe;
mod rounding;
mod save;
mod walk;
mod write;

pub use error::Error;
pub use prompt::{Fixed, Prompt};
pub use recipe::{Numerics, RECIPES};
pub use save::save;
pub use write::{Written, write_io, write_model, write_recipe};

use crate::algo::AlgoSpec;
use crate::calibrate::{
    self, Observing, Plan, Quantizing, Statistics, Unquantized, quantize_constants,
};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::{Float, Weights};
use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::models::{self, Head, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, Answers, ErrorFigures, ErrorSummary};
use crate::tensor::Tensor;
use rayon::prelude::*;
use rounding::Round;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use walk::{Lane, Variants};

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
    /// The caller's inputs for the first calibration sample, at the full sequence length.
    pub example_inputs: Vec<Tensor>,
    /// Answers of the evaluation set by the float and by the quantized model.
    pub answers: Option<[AnswerScore; 2]>,
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
    let mut graph = models::build(config, &recipe.request(prompt.layout.clone(), 1))?;
    checkpoint.verify(&models::tensors(config)?)?;
    let plan = Plan::new(&graph, &recipe.policy)?;
    // Calibration samples run at their own length: padding must not widen any range.
    let width = config.text.hidden_size;
    let lanes = match plan.mergeable() {
        true => walk::lanes(calib, |sample| sample.input_ids.len(), width),
        false => walk::one_by_one(calib),
    };
    let build = |layout, batch| Ok(models::build(config, &recipe.request(layout, batch))?);
    let variants = variants(&lanes, build, &prompt)?;
    clock.lap("build");

    let mut weights = load(checkpoint, &graph)?;
    clock.lap("load");
    recipe.algo.rewrite(&graph, &mut weights);
    clock.lap("rewrite");

    progress.begin("calibrate", calib.len());
    let (float, statistics) = observe(&plan, &lanes, &variants, calib, &weights, progress)?;
    clock.lap("calibrate");

    let param = |id: ValueId| weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    plan.annotate_activations(&mut graph, &statistics, &param)?;
    let singles = self::variants(&walk::one_by_one(calib), build, &prompt)?;
    let (samples, algo) = (calib, &recipe.algo);
    let round = Round { plan: &plan, samples, variants: &singles, weights: &weights, algo };
    let rounded = round.run(&mut graph, progress)?;
    let unquantized = calibrate::check(&graph);
    clock.lap("convert");

    progress.begin("compare", calib.len());
    let (error, example) = compare(&graph, &lanes, variants, calib, &float, &rounded, progress)?;
    clock.lap("compare");

    progress.begin("evaluate", eval.len());
    let seq = prompt.layout.seq_len();
    let lanes = walk::lanes(eval, |_| seq, width);
    let variants = self::variants(&lanes, build, &prompt)?;
    let answers = evaluate(&graph, &lanes, &variants, eval, [&weights, &rounded], progress)?;
    if answers.is_some() {
        clock.lap("evaluate");
    }
    let example_inputs = prompt::inputs(&graph, &[&calib[0]], seq)?;
    Ok(Outcome {
        sites: plan.site_count(),
        graph,
        weights,
        rounded,
        prompt,
        error,
        example,
        example_inputs,
        answers,
        unquantized,
        seconds: clock.laps,
    })
}

/// The graph of each (length, batch); they differ in shapes and constants only.
fn variants(
    lanes: &[Lane],
    build: impl Fn(Layout, usize) -> Result<Graph, Error>,
    prompt: &Prompt,
) -> Result<Variants, Error> {
    let mut variants = Variants::new();
    for lane in lanes {
        if let Entry::Vacant(slot) = variants.entry(lane.shape()) {
            let layout = prompt.layout.clone().with_seq_len(lane.len)?;
            slot.insert(build(layout, lane.samples.len())?);
        }
    }
    Ok(variants)
}

fn load(checkpoint: &Checkpoint, graph: &Graph) -> Result<Weights, Error> {
    let params: Vec<_> = graph.params().collect();
    let tensors: Vec<Tensor> = params
        .par_iter()
        .map(|(id, param)| {
            let stored = checkpoint.read(&param.key, &param.stored_shape)?;
            Ok(param.apply(stored, &graph.value(*id).shape))
        })
        .collect::<Result<_, Error>>()?;
    let mut weights = Weights::none(graph);
    for ((id, _), tensor) in params.iter().zip(tensors) {
        weights.set(*id, tensor);
    }
    Ok(weights)
}

/// The float run over the calibration samples: their outputs, and statistics of every site.
fn observe(
    plan: &Plan,
    lanes: &[Lane],
    variants: &Variants,
    samples: &[Sample],
    weights: &Weights,
    progress: &dyn Progress,
) -> Result<(Vec<Tensor>, Statistics), Error> {
    let fresh = || Mutex::new(Statistics::new(plan));
    // One set of statistics a thread: their merge does not depend on which thread saw what.
    let shards: Vec<Mutex<Statistics>> =
        (0..rayon::current_num_threads()).map(|_| fresh()).collect();
    let outputs = walk::each_lane(lanes, plan.mergeable(), |lane, par| {
        let shard = rayon::current_thread_index().unwrap_or(0) % shards.len();
        let mut statistics = shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let mut tap = Observing { plan, statistics: &mut statistics };
        let outputs = lane.walk(&variants[&lane.shape()], samples, weights, &mut tap, par)?;
        lane.samples.iter().for_each(|_| progress.step());
        Ok(outputs)
    })?;
    let mut shards =
        shards.into_iter().map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut statistics = shards.next().expect("invariant: a pool has a thread");
    if plan.mergeable() {
        for other in shards {
            statistics.merge(&other)?;
        }
    }
    Ok((outputs, statistics))
}

/// Runs the quantized graph on the calibration samples beside the float outputs.
fn compare(
    graph: &Graph,
    lanes: &[Lane],
    variants: Variants,
    samples: &[Sample],
    float: &[Tensor],
    rounded: &Weights,
    progress: &dyn Progress,
) -> Result<(ErrorFigures, [Tensor; 2]), Error> {
    let variants = quantized(variants, graph);
    let outputs = walk::each_lane(lanes, true, |lane, par| {
        let variant = &variants[&lane.shape()];
        let tap = Quantizing::of(variant);
        let outputs = lane.walk(variant, samples, rounded, &mut &tap, par)?;
        let pairs = lane.samples.iter().zip(outputs).map(|(&i, output)| {
            progress.step();
            let mut summary = ErrorSummary::default();
            summary.add(float[i].data(), output.data());
            (summary, output)
        });
        Ok(pairs.collect())
    })?;
    let mut total = ErrorSummary::default();
    for (summary, _) in &outputs {
        total.merge(summary);
    }
    let error = total.figures().ok_or(Error::NoSamples)?;
    Ok((error, [float[0].clone(), outputs[0].1.clone()]))
}

/// The variants with the annotations of `graph`, constants rounded.
fn quantized(mut variants: Variants, graph: &Graph) -> Variants {
    for variant in variants.values_mut() {
        variant.annotate_like(graph);
        quantize_constants(variant);
    }
    variants
}

/// Runs float and quantized models on rows with answers, at the static length that is exported.
fn evaluate(
    graph: &Graph,
    lanes: &[Lane],
    variants: &Variants,
    samples: &[Sample],
    weights: [&Weights; 2],
    progress: &dyn Progress,
) -> Result<Option<[AnswerScore; 2]>, Error> {
    let rounded = quantized(variants.clone(), graph);
    let rows = walk::each_lane(lanes, true, |lane, par| {
        let shape = lane.shape();
        let tap = Quantizing::of(&rounded[&shape]);
        let float = lane.walk(&variants[&shape], samples, weights[0], &mut Float, par)?;
        let judged = lane.walk(&rounded[&shape], samples, weights[1], &mut &tap, par)?;
        let rows = lane.samples.iter().zip(float.iter().zip(&judged));
        Ok(rows
            .map(|(&i, (float, judged))| {
                progress.step();
                answers(&samples[i], float, judged)
            })
            .collect())
    })?;
    let mut total = [Answers::default(), Answers::default()];
    for [float, judged] in &rows {
        total[0].merge(float);
        total[1].merge(judged);
    }
    let [float, judged] = total.map(|answers| answers.score());
    Ok(float.zip(judged).map(<[AnswerScore; 2]>::from))
}

/// The answer of one sample by the float and the judged model; logits are `[seq, vocab]`.
fn answers(sample: &Sample, float: &Tensor, judged: &Tensor) -> [Answers; 2] {
    let mut scores = [Answers::default(), Answers::default()];
    let (start, end) = (sample.prompt_len, sample.input_ids.len());
    if start > 0 && start < end {
        let vocab = float.shape()[1];
        // Position p predicts the token at p + 1.
        let predicting = (start - 1) * vocab..(end - 1) * vocab;
        let (float, judged) = (&float.data()[predicting.clone()], &judged.data()[predicting]);
        scores[0].add(&sample.input_ids[start..], float, float);
        scores[1].add(&sample.input_ids[start..], float, judged);
    }
    scores
}
