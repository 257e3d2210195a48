//! Checkpoint, samples and recipe in; an annotated graph and what it costs out. The only room that
//! knows all the others.
//!
//! Read [`quantize`] first: it is the whole job. `prompt.rs` finds the static layout of the samples,
//! which `walk` twice: in float while sites are observed, or in several processes (`sharing.rs`), then
//! quantized while weights are rounded and outputs compared. `unfinished` keeps what is done if the job
//! is interrupted, `files` puts down the result. Before all that, `budget` may change the policy, and
//! `estimate` counts what the job will take.

mod baked;
mod budget;
mod clock;
mod error;
mod estimate;
mod files;
mod generate;
mod prompt;
mod recipe;
mod sharing;
mod stages;
mod unfinished;
mod walk;
mod weights;

pub use baked::bake;
pub use budget::{
    Bought, Budget, Candidate, Choice, Outlook, ValueCandidate, ValueChoice, Widened, fit, likely,
    outlook, outlook_values, widen,
};
pub use error::Error;
pub use estimate::{Estimate, FileSize, Job, Machine, StageEstimate, check, estimate, free};
pub use files::{
    Claim, Pending, QUANTIZED, RECIPE, STAGES, Written, check_files, check_folder, give_up,
    io_files, nearest, save, save_all, stale, write_io, write_model, write_recipe,
};
pub use generate::{Answer, Chain, Reading, Sampling};
pub use prompt::{Fixed, Prompt, announced, unseeing};
pub use recipe::{Numerics, RECIPES, explained, with_nearest};
pub use sharing::{Known, Shared, observe, read_statistics, write_statistics};
pub use stages::{FileEntry, Manifest, PortEntry, SpanEntry, StageForm, write_stages};
pub use unfinished::{Durable, is_unfinished};
pub use weights::{Rounded, WeightsOutlook, outlook_weights, quantize_weights};

use crate::algo::{AlgoSpec, Note, Rounding, Streams};
use crate::calibrate::{self, Emphasis, Plan, Statistics, Unquantized};
use crate::checkpoint::Checkpoint;
use crate::cluster::{Alone, Crew};
use crate::dataset::Sample;
use crate::exec::{Room, Spool, Weights};
use crate::graph::{Graph, ValueId};
use crate::layout::Layout;
use crate::models::{self, Head, Request};
use crate::quant::Policy;
use crate::report::{AnswerScore, ErrorFigures};
use crate::tensor::{self, Products, Tensor};
use clock::Clock;
use error::Trouble;
use estimate::{Load, Needs};
use std::path::PathBuf;
use std::sync::Arc;
use unfinished::{Fits, Memo, Remains, SCALES, Unfinished, resume};
use walk::{
    Codes, Conversion, Converted, Floats, Legs, Observation, Travellers, Walk, rewrite, unmasked,
};

/// Of the memory, what is kept for tensors to come, as one part in so many.
const KEPT: u64 = 32;

/// What the user wants, apart from data.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Grids and observers.
    pub policy: Policy,
    /// Rewrites and rounding.
    pub algo: AlgoSpec,
    /// What the linear layers of the float run multiply while statistics are taken; the quantized
    /// outputs are compared with its outputs, unless the rounding follows a float run of its own.
    /// Answers are judged against f32 in any case.
    pub products: Products,
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
    /// Whether finished work is put down in that folder, to go on from after an interruption.
    pub durable: Option<Durable>,
}

impl Means {
    /// Bytes of memory, and who says so.
    fn allowed(&self) -> (u64, &'static str) {
        (self.memory.unwrap_or_else(estimate::available), Means::source(self.memory.is_some()))
    }

    /// Where the number of bytes comes from.
    fn source(asked: bool) -> &'static str {
        if asked { "--memory" } else { "three quarters of what is free" }
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(std::env::temp_dir)
    }
}

impl Recipe {
    /// Its part that is a recipe file.
    pub fn numerics(&self) -> Numerics {
        let Recipe { policy, algo, products, .. } = self;
        Numerics { policy: policy.clone(), algo: algo.clone(), products: *products }
    }

    fn request(&self, layout: Layout, batch: usize) -> Request {
        let usual = Request::new(layout);
        let mask_fill = self.policy.spec().mask_fill.unwrap_or(usual.mask_fill);
        Request { head: self.head, batch, mask_fill, ..usual }
    }
}

/// Told what is going on; long work draws a bar of it.
pub trait Progress: Sync {
    /// A phase begins; it has `total` steps.
    fn begin(&self, phase: &'static str, total: usize);
    /// One step of the phase is done.
    fn step(&self);
    /// Whether the job shall end before it is done.
    fn stopped(&self) -> bool {
        false
    }
}

/// Ends the job at `place` if somebody wants that.
fn go_on(progress: &dyn Progress, place: impl FnOnce() -> String) -> Result<(), Error> {
    if progress.stopped() { Err(Error::Stopped { place: place() }) } else { Ok(()) }
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
    /// Float and quantized outputs of the first calibration sample, of very many the first rows.
    pub example: [Tensor; 2],
    /// Answers of the evaluation set by the float and by the quantized model.
    pub answers: Option<[AnswerScore; 2]>,
    /// Experts that no calibration token reached, in graph order.
    pub unseen_experts: Vec<String>,
    /// What was odd about the calibration of layers, in graph order.
    pub notes: Vec<Note>,
    /// QuantCheck: real tensors without a grid.
    pub unquantized: Vec<Unquantized>,
    /// Sites that had statistics of their own.
    pub sites: usize,
    /// Seconds of each phase, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// What hides later tokens.
    mask_fill: f32,
    /// What went wrong while weights were read again for somebody.
    trouble: Trouble,
    /// What was put down while the job was under way.
    remains: Option<Remains>,
}

impl Outcome {
    /// Throws away what was put down to go on from, once all that is wanted of the job is written.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn done(&self) -> Result<(), Error> {
        self.remains.as_ref().map_or(Ok(()), Remains::clear)
    }
}

/// The job up to its first run: all that depends on no statistics.
struct Prepared<'a> {
    checkpoint: &'a Checkpoint,
    recipe: &'a Recipe,
    prompt: Prompt,
    graph: Graph,
    plan: Plan,
    rounding: Box<dyn Rounding>,
    legs: Legs,
    floats: Floats<'a>,
    /// Where values rest that memory does not hold.
    room: Arc<Room>,
    folder: PathBuf,
    unfinished: Option<Arc<Unfinished<'a>>>,
    trouble: Trouble,
    /// What the prefix leaves behind, where it is baked.
    known: baked::Known,
    /// Who works with us, each on rows of their own.
    crew: &'a dyn Crew,
    clock: Clock,
}

impl<'a> Prepared<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        calib: &'a [Sample],
        eval: &[Sample],
        recipe: &'a Recipe,
        progress: &dyn Progress,
    ) -> Result<Prepared<'a>, Error> {
        let mut clock = Clock::start();
        let config = checkpoint.config();
        let prompt = Prompt::of(config, calib, eval, recipe.seq_len, &recipe.fixed)?;
        let build = |layout, batch| build(checkpoint, recipe, layout, batch);
        let (graph, verified) =
            rayon::join(|| build(prompt.layout.clone(), 1), || verify(checkpoint));
        let mut graph = graph?;
        verified?;
        let plan = planned(&graph, &recipe.policy, &prompt.layout, calib)?;
        let rounding = recipe.algo.rounding()?;
        walk::suits(&graph, &plan, rounding.as_ref(), recipe.algo.rounding.as_deref())?;
        let load = Load::of([calib, eval], walk::batch(calib, config.text.hidden_size));
        let needs = Needs::of(&graph, &plan, rounding.as_ref(), recipe, load);
        let (allowed, _) = recipe.means.allowed();
        let legs = Legs::of(&needs, allowed);
        tensor::keep_memory(allowed / KEPT);
        let trouble = Trouble::default();
        let unfinished = resume::unfinished(checkpoint, calib, recipe, (&prompt, &trouble))?;
        clock.lap("build");
        let singles = || Walk::new(calib, walk::one_by_one(calib), &build, &prompt);
        let memo = match recipe.algo.fits() {
            true => Memo::open((checkpoint, calib), (recipe, &prompt), SCALES)?,
            false => Memo::none(),
        };
        let fits = Fits { memo: &memo, progress };
        let rewritten = rewrite(&recipe.algo, &mut graph, (&plan, &fits), (checkpoint, singles));
        resume::settled((unfinished.as_deref(), recipe.algo.fits()), rewritten)?;
        let floats = Floats::of(checkpoint, &graph, legs.hold, &trouble)?;
        let known = baked::known(checkpoint, recipe, (&graph, &floats.all), calib)?;
        baked::fill(&mut graph, &known);
        clock.lap("load");
        let folder = recipe.means.folder();
        let room = Room::new(legs.room, &folder);
        Ok(Prepared {
            checkpoint,
            recipe,
            prompt,
            graph,
            plan,
            rounding,
            legs,
            floats,
            room,
            folder,
            unfinished,
            trouble,
            known,
            crew: &Alone,
            clock,
        })
    }

    /// `samples` and the graphs that `lanes` of them run on.
    fn walk<'s>(&self, samples: &'s [Sample], lanes: Vec<walk::Lane>) -> Result<Walk<'s>, Error> {
        // Until it is annotated, the graph of a sample alone is there.
        let plain = self.graph.values.iter().all(|value| value.qparams.is_none());
        let build = |layout: Layout, batch| {
            if plain && batch == 1 && layout == self.prompt.layout {
                return Ok(self.graph.clone());
            }
            let mut graph = build(self.checkpoint, self.recipe, layout, batch)?;
            baked::fill(&mut graph, &self.known);
            Ok(graph)
        };
        Walk::new(samples, lanes, &build, &self.prompt)
    }

    /// Calibration samples that walk at their own lengths: padding must not widen any range.
    fn calibration<'s>(&self, samples: &'s [Sample]) -> Result<Walk<'s>, Error> {
        let free = self.plan.mergeable() && self.legs.whole();
        let free = free && self.rounding.streams() != Streams::Seen;
        let width = self.checkpoint.config().text.hidden_size;
        self.walk(samples, walk::calibration_lanes(samples, free, width))
    }

    fn spool(&self, walk: &Walk<'_>) -> Spool {
        Spool::new(walk.lanes.len(), Arc::clone(&self.room))
    }

    /// Statistics of every site, and how far the samples of `walk` are then.
    fn observe(
        &self,
        walk: &Walk<'_>,
        progress: &dyn Progress,
    ) -> Result<(Statistics, Reached), Error> {
        let (plan, legs, floats) = (&self.plan, &self.legs, &self.floats);
        let products = self.recipe.products;
        let (unfinished, room) = (self.durable_walk(), &self.room);
        let observation = Observation { plan, legs, floats, products, progress, unfinished, room };
        let mut spool = self.spool(walk);
        let statistics = observation.run(&self.graph, walk, &mut spool)?;
        self.trouble.check()?;
        let node = if legs.whole() { self.graph.nodes.len() } else { legs.last_start() };
        Ok((statistics, Reached { spool, node: Some(node), products }))
    }
}

/// Float streams of samples.
struct Reached {
    spool: Spool,
    /// The node before which they stand; none if they have not started.
    node: Option<usize>,
    /// What their linear layers multiply.
    products: Products,
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
    Prepared::new(checkpoint, calib, eval, recipe, progress)?.ended(|job| {
        let walk = job.calibration(calib)?;
        let (statistics, reached) = job.observed(&walk, progress)?;
        finish(job, (walk, reached), statistics, [calib, eval], progress)
    })
}

/// From statistics to the outcome; `walk` has the samples to compare on.
fn finish(
    mut job: Prepared<'_>,
    (mut walk, mut reached): (Walk<'_>, Reached),
    statistics: Statistics,
    [calib, eval]: [&[Sample]; 2],
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    job.clock.lap("calibrate");
    let (plan, floats, legs) = (&job.plan, &job.floats, &job.legs);
    let param = |id: ValueId| floats.all.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0));
    let unseen_experts = plan.unseen_experts(&job.graph, &statistics)?;
    plan.annotate_activations(&mut job.graph, &statistics, &param)?;

    // A rounding that follows both networks takes its samples, one by one, from the start.
    if job.rounding.streams() >= Streams::Both {
        if legs.whole() {
            walk = job.walk(calib, walk::one_by_one(calib))?;
        }
        reached = Reached { spool: job.spool(&walk), node: None, products: Products::F32 };
    }
    let products = reached.products;
    let quantized = walk::annotated(walk.float.clone(), &job.graph);
    let compared = walk.samples.len();
    let (seq, width) = (job.prompt.layout.seq_len(), job.checkpoint.config().text.hidden_size);
    let rows = job.walk(eval, walk::lanes(eval, |_| seq, width))?;
    let judged = walk::annotated(rows.float.clone(), &job.graph);
    let start = || [([reached.node, None], reached.spool), ([None; 2], job.spool(&rows))];
    let [(at, spool), judged_at] = job.standing([&walk, &rows]).unwrap_or_else(start);
    let calib = Travellers { walk: &walk, pairs: walk.pairs(&quantized, spool, at) };
    let eval = Travellers { walk: &rows, pairs: rows.pairs(&judged, judged_at.1, judged_at.0) };
    let put_down = resume::worthwhile(legs, job.rounding.as_ref());
    let conversion = Conversion {
        plan,
        rounding: job.rounding.as_ref(),
        legs,
        floats,
        products,
        codes: Codes::new(&job.folder, &job.trouble),
        unfinished: job.unfinished.as_deref().filter(|_| put_down),
        trouble: &job.trouble,
        progress,
        crew: job.crew,
        done: Weights::none(&job.graph),
        notes: unmasked(plan, &job.graph, &statistics),
    };
    let Converted { rounded, notes, error, example, answers } =
        conversion.run(&mut job.graph, calib, eval, &mut job.clock)?;
    if answers.is_none() {
        job.clock.forget("evaluate");
    }
    let mask_fill = job.recipe.request(job.prompt.layout.clone(), 1).mask_fill;
    Ok(Outcome {
        sites: plan.site_count(),
        unquantized: calibrate::check(&job.graph),
        graph: job.graph,
        weights: job.floats.all,
        rounded,
        prompt: job.prompt,
        error,
        compared,
        example,
        answers,
        unseen_experts,
        notes,
        seconds: job.clock.laps,
        mask_fill,
        trouble: job.trouble,
        remains: job.unfinished.map(|unfinished| unfinished.remains()),
    })
}

/// What `policy` wants of `graph`, tokens counting as the calibration rows have them.
fn planned(
    graph: &Graph,
    policy: &Policy,
    layout: &Layout,
    calib: &[Sample],
) -> Result<Plan, Error> {
    let rows: Vec<&[u32]> = calib.iter().map(|sample| &sample.input_ids[..]).collect();
    let emphasis = Emphasis::of(policy.spec(), layout, &rows)?;
    Ok(Plan::new(graph, policy)?.with_emphasis(emphasis))
}

/// Whether the checkpoint has every tensor that its model needs.
fn verify(checkpoint: &Checkpoint) -> Result<(), Error> {
    let needed =
        models::tensors(checkpoint.config()).map_err(|source| blamed(checkpoint, source))?;
    Ok(checkpoint.verify(&needed)?)
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
