//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! `walk.rs` runs stages over all samples, `write.rs` puts files down.

mod error;
mod prompt;
mod walk;
mod write;

pub use error::Error;
pub use prompt::{Fixed, Prompt};
pub use walk::{Lane, walk};
pub use write::{Written, write_io, write_model};

use crate::algo::{self, AlgoSpec, Session};
use crate::calibrate::{
    self, Observing, Plan, Quantizing, Statistics, Unquantized, quantize_constants,
};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::{Float, Weights};
use crate::graph::{Graph, ValueId};
use crate::models::{self, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, Answers, ErrorFigures, ErrorSummary};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::collections::BTreeMap;
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
    let graphs = graphs_by_length(checkpoint, &prompt, calib)?;
    let mut graph = models::build(config, &Request::new(prompt.layout.clone()))?;
    verify(checkpoint, &graph)?;
    let plan = Plan::new(&graph, &recipe.policy)?;
    clock.lap("build");

    let weights = load(checkpoint, &graph)?;
    clock.lap("load");

    // Calibration samples run at their own length: padding must not widen any range.
    progress.begin("calibrate", calib.len());
    let lanes = lanes(&graphs, calib)?;
    let (float, statistics) = observe(&plan, &lanes, &weights, progress)?;
    clock.lap("calibrate");

    let param = |id: ValueId| weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    plan.annotate_activations(&mut graph, &statistics, &param)?;
    let annotated = annotated_like(&graph, &graphs);
    let rounded =
        round(&mut graph, &plan, [&graphs, &annotated], calib, &weights, recipe, progress)?;
    let unquantized = calibrate::check(&graph);
    clock.lap("convert");

    progress.begin("compare", calib.len());
    let (error, example) = compare(&annotated, calib, &float, &rounded, progress)?;
    clock.lap("compare");

    progress.begin("evaluate", eval.len());
    let answers = evaluate(&graph, &prompt, eval, [&weights, &rounded], progress)?;
    if answers.is_some() {
        clock.lap("evaluate");
    }
    let example_inputs = match calib.first() {
        Some(sample) => prompt.inputs(&graph, sample)?,
        None => Vec::new(),
    };
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

/// One graph for each length among the samples; they differ in shapes and constants only.
fn graphs_by_length(
    checkpoint: &Checkpoint,
    prompt: &Prompt,
    samples: &[Sample],
) -> Result<BTreeMap<usize, Graph>, Error> {
    let mut graphs = BTreeMap::new();
    for sample in samples {
        let len = sample.input_ids.len();
        if !graphs.contains_key(&len) {
            let layout = prompt.layout.clone().with_seq_len(len)?;
            graphs.insert(len, models::build(checkpoint.config(), &Request::new(layout))?);
        }
    }
    Ok(graphs)
}

/// Every tensor the graph reads must be in the checkpoint, and nothing else.
fn verify(checkpoint: &Checkpoint, graph: &Graph) -> Result<(), Error> {
    let expected: BTreeMap<String, Vec<usize>> =
        graph.params().map(|(_, p)| (p.key.clone(), p.stored_shape.clone())).collect();
    Ok(checkpoint.verify(&expected.into_iter().collect::<Vec<_>>())?)
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

/// The graphs of all lengths with the activation grids of `graph`, and constants on theirs.
fn annotated_like(graph: &Graph, graphs: &BTreeMap<usize, Graph>) -> BTreeMap<usize, Graph> {
    let annotate = |(&len, variant): (&usize, &Graph)| {
        let mut variant = variant.clone();
        variant.annotate_like(graph);
        quantize_constants(&mut variant);
        (len, variant)
    };
    graphs.iter().map(annotate).collect()
}

/// Rounds all weights: tables, gains and what meets data elementwise to nearest, linear layers by
/// the recipe's rounding.
fn round(
    graph: &mut Graph,
    plan: &Plan,
    [graphs, annotated]: [&BTreeMap<usize, Graph>; 2],
    calib: &[Sample],
    weights: &Weights,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> Result<Weights, Error> {
    let rounding = recipe.algo.rounding()?;
    let lane = |lane: Lane<'_>| {
        let (float, quantized) = (&graphs[&lane.len], &annotated[&lane.len]);
        algo::Lane { float, quantized, inputs: lane.inputs }
    };
    let lanes: Vec<algo::Lane<'_>> = lanes(graphs, calib)?.into_iter().map(lane).collect();
    let session = Session { plan, lanes: &lanes, float: weights, rounding: rounding.as_ref() };
    let mut rounded = Weights::none(graph);
    let mut direct = session.others(graph);
    plan.quantize_weights(graph, &mut direct)?;
    for (id, tensor) in direct {
        rounded.set(id, tensor);
    }
    progress.begin("round", session.layers(graph));
    session.run(graph, &mut rounded, &|| progress.step())?;
    Ok(rounded)
}

fn lanes<'a>(
    graphs: &'a BTreeMap<usize, Graph>,
    samples: &[Sample],
) -> Result<Vec<Lane<'a>>, Error> {
    samples
        .iter()
        .map(|sample| {
            let graph = &graphs[&sample.input_ids.len()];
            let len = sample.input_ids.len();
            Ok(Lane { graph, len, inputs: prompt::inputs(graph, sample, len)? })
        })
        .collect()
}

/// The float run over the calibration samples: their outputs, and statistics of every site.
fn observe(
    plan: &Plan,
    lanes: &[Lane<'_>],
    weights: &Weights,
    progress: &dyn Progress,
) -> Result<(Vec<Tensor>, Statistics), Error> {
    let fold = |mut statistics: Statistics, lane: &Lane<'_>, parallel: bool| {
        let mut tap = Observing { plan, statistics: &mut statistics };
        let output = walk(lane, weights, &mut tap, parallel);
        progress.step();
        (output, statistics)
    };
    if !plan.mergeable() || lanes.len() < rayon::current_num_threads() {
        let mut statistics = Statistics::new(plan);
        let mut outputs = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (output, next) = fold(statistics, lane, true);
            statistics = next;
            outputs.push(output);
        }
        return Ok((outputs, statistics));
    }
    let piece = lanes.len().div_ceil(rayon::current_num_threads());
    let parts: Vec<(Vec<Tensor>, Statistics)> = lanes
        .par_chunks(piece)
        .map(|lanes| {
            let mut statistics = Statistics::new(plan);
            let mut outputs = Vec::with_capacity(lanes.len());
            for lane in lanes {
                let (output, next) = fold(statistics, lane, false);
                statistics = next;
                outputs.push(output);
            }
            (outputs, statistics)
        })
        .collect();
    let mut parts = parts.into_iter();
    let (mut outputs, mut statistics) = parts.next().unwrap_or((Vec::new(), Statistics::new(plan)));
    for (more, other) in parts {
        statistics.merge(&other)?;
        outputs.extend(more);
    }
    Ok((outputs, statistics))
}

/// Runs the quantized graphs on the calibration samples beside the float outputs.
fn compare(
    graphs: &BTreeMap<usize, Graph>,
    samples: &[Sample],
    float: &[Tensor],
    rounded: &Weights,
    progress: &dyn Progress,
) -> Result<(ErrorFigures, [Tensor; 2]), Error> {
    let taps: BTreeMap<usize, Quantizing<'_>> =
        graphs.iter().map(|(&len, graph)| (len, Quantizing::of(graph))).collect();
    let lanes = lanes(graphs, samples)?;
    let parallel = lanes.len() < rayon::current_num_threads();
    let run = |lane: &Lane<'_>| {
        let mut tap = &taps[&lane.len];
        let output = walk(lane, rounded, &mut tap, parallel);
        progress.step();
        output
    };
    let outputs: Vec<Tensor> = match parallel {
        true => lanes.iter().map(run).collect(),
        false => lanes.par_iter().map(run).collect(),
    };
    let mut summary = ErrorSummary::default();
    for (float, quantized) in float.iter().zip(&outputs) {
        summary.add(float.data(), quantized.data());
    }
    let error = summary.figures().ok_or(Error::NoSamples)?;
    Ok((error, [float[0].clone(), outputs[0].clone()]))
}

/// Runs float and quantized models on rows with answers, on the static graph that is exported.
fn evaluate(
    graph: &Graph,
    prompt: &Prompt,
    samples: &[Sample],
    weights: [&Weights; 2],
    progress: &dyn Progress,
) -> Result<Option<[AnswerScore; 2]>, Error> {
    let mut quantized = graph.clone();
    quantize_constants(&mut quantized);
    let tap = Quantizing::of(&quantized);
    let parallel = samples.len() < rayon::current_num_threads();
    let row = |sample: &Sample| -> Result<[Answers; 2], Error> {
        let mut scores = [Answers::default(), Answers::default()];
        let (start, end) = (sample.prompt_len, sample.input_ids.len());
        if start == 0 || start >= end {
            return Ok(scores);
        }
        let (len, inputs) = (prompt.layout.seq_len(), prompt.inputs(graph, sample)?);
        let float =
            walk(&Lane { graph, len, inputs: inputs.clone() }, weights[0], &mut Float, parallel);
        let lane = Lane { graph: &quantized, len, inputs };
        let judged = walk(&lane, weights[1], &mut &tap, parallel);
        let vocab = float.shape()[float.shape().len() - 1];
        let predicting =
            |logits: &Tensor| logits.data()[(start - 1) * vocab..(end - 1) * vocab].to_vec();
        let (float, judged) = (predicting(&float), predicting(&judged));
        scores[0].add(&sample.input_ids[start..], &float, &float);
        scores[1].add(&sample.input_ids[start..], &float, &judged);
        progress.step();
        Ok(scores)
    };
    let rows: Vec<[Answers; 2]> = match parallel {
        true => samples.iter().map(row).collect::<Result<_, _>>()?,
        false => samples.par_iter().map(row).collect::<Result<_, _>>()?,
    };
    let mut total = [Answers::default(), Answers::default()];
    for [float, judged] in &rows {
        total[0].merge(float);
        total[1].merge(judged);
    }
    let [float, judged] = total.map(|answers| answers.score());
    Ok(float.zip(judged).map(<[AnswerScore; 2]>::from))
}
