//! What measuring the losses of a budget takes, before anything is measured.

use super::super::estimate::{Job, Load, Machine, measuring, pass};
use super::super::{Error, Means, Prompt, build, planned, walk};
use super::{Budget, SAMPLES, TOKENS, limit, linear_weights, offered, plans, setting, values};
use crate::calibrate::Plan;
use crate::dataset::Sample;
use crate::exec::Gait;
use crate::graph::Graph;
use serde::Serialize;

/// How much there is to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// Linear weights, or kinds of activations, that bits are chosen for.
    pub scopes: usize,
    /// Losses: one for each of them and each dtype; of activations also some of all at once, at most
    /// so many.
    pub losses: usize,
    /// Calibration samples that losses are measured on.
    pub samples: usize,
    /// Bytes of memory without which it cannot run.
    pub memory: u64,
    /// Seconds, if there is a machine to say so for.
    pub seconds: Option<f64>,
}

/// Counts what [`fit`](super::fit) takes for `job` under `budget`; how long, if there is a machine to
/// say so for.
///
/// # Errors
/// Those of [`fit`](super::fit) that need no weights, apart from too little memory.
pub fn outlook(job: &Job<'_>, budget: Budget, machine: Option<&Machine>) -> Result<Outlook, Error> {
    let (graph, plan) = planned_graph(job)?;
    let (scopes, plans) = (linear_weights(&graph, &plan), plans(&graph, job.recipe)?);
    let (choices, fixed) = offered((&graph, &plan), &scopes, &plans);
    limit(&choices, budget, fixed)?;
    let dtypes = plans.len();
    let end = graph.nodes.len();
    let seconds = machine.map(|machine| {
        let behind = scopes.iter().map(|&(first, _)| pass(&graph, first..end, machine));
        dtypes as f64 * behind.sum::<f64>()
    });
    let counts = [scopes.len(), scopes.len() * dtypes];
    Ok(counted(job, &graph, few(job.calib), counts, seconds))
}

/// The same of [`widen`](super::widen).
///
/// # Errors
/// Those of [`widen`](super::widen) that need no weights, apart from too little memory.
pub fn outlook_values(job: &Job<'_>, machine: Option<&Machine>) -> Result<Outlook, Error> {
    let (graph, plan) = planned_graph(job)?;
    let [kinds, losses] = values::counts(&graph, &plan);
    let whole = |machine| losses as f64 * pass(&graph, 0..graph.nodes.len(), machine);
    let seconds = machine.map(whole);
    Ok(counted(job, &graph, few_tokens(job.calib), [kinds, losses], seconds))
}

pub(super) fn planned_graph(job: &Job<'_>) -> Result<(Graph, Plan), Error> {
    let Job { checkpoint, calib, recipe, .. } = *job;
    setting::unprefixed(recipe)?;
    let prompt = Prompt::of(checkpoint.config(), calib, &[], recipe.seq_len, &recipe.fixed)?;
    let graph = build(checkpoint, recipe, prompt.layout.clone(), 1)?;
    let plan = planned(&graph, &recipe.policy, &prompt.layout, calib)?;
    Ok((graph, plan))
}

fn counted(
    job: &Job<'_>,
    graph: &Graph,
    few: &[Sample],
    [scopes, losses]: [usize; 2],
    seconds: Option<f64>,
) -> Outlook {
    let memory = memory(graph, (few, job.checkpoint.config().text.hidden_size), 1);
    let seconds = seconds.map(|each| each * few.len() as f64);
    Outlook { scopes, losses, samples: few.len(), memory, seconds }
}

impl Outlook {
    /// # Errors
    /// Less memory than that.
    pub fn afford(&self, means: &Means) -> Result<(), Error> {
        afford(self.memory, means)
    }
}

fn afford(least: u64, means: &Means) -> Result<(), Error> {
    let (given, what) = means.allowed();
    if least > given { Err(Error::BudgetMemory { given, what, least }) } else { Ok(()) }
}

/// The samples that losses are measured on.
pub(super) fn few(calib: &[Sample]) -> &[Sample] {
    &calib[..calib.len().min(SAMPLES)]
}

/// Fewer of them, where they are long: losses of activations are many, and each runs the whole network.
pub(super) fn few_tokens(calib: &[Sample]) -> &[Sample] {
    let few = few(calib);
    let mut tokens = 0;
    let more = few.iter().take_while(|sample| {
        let fits = tokens < TOKENS;
        tokens += sample.input_ids.len();
        fits
    });
    &few[..more.count()]
}

/// Bytes with so many lanes under way of samples of this hidden size.
fn memory(graph: &Graph, (few, width): (&[Sample], usize), under_way: usize) -> u64 {
    measuring(graph, Load::of([few, &[]], walk::batch(few, width)), under_way as u64)
}

/// How so many lanes of the samples walk within the memory that the job may use: one by one if it does
/// not hold a lane for each thread.
///
/// # Errors
/// Less than one takes.
pub(super) fn gait(
    graph: &Graph,
    samples: (&[Sample], usize),
    lanes: usize,
    means: &Means,
) -> Result<Gait, Error> {
    let threads = rayon::current_num_threads();
    if lanes >= threads && memory(graph, samples, threads) <= means.allowed().0 {
        return Ok(Gait::SideBySide);
    }
    afford(memory(graph, samples, 1), means).map(|()| Gait::OneByOne)
}
