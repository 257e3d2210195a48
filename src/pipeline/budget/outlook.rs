//! What measuring the losses of a budget takes, before anything is measured.

use super::super::estimate::{Job, Load, Machine, measuring, pass};
use super::super::{Error, Means, Prompt, build, planned, walk};
use super::{SAMPLES, linear_weights, plans};
use crate::dataset::Sample;
use crate::exec::Gait;
use crate::graph::Graph;
use serde::Serialize;

/// How much there is to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// Linear weights that bits are chosen for.
    pub weights: usize,
    /// Losses, one for each of them and each dtype.
    pub losses: usize,
    /// Calibration samples that losses are measured on.
    pub samples: usize,
    /// Bytes of memory without which it cannot run.
    pub memory: u64,
    /// Seconds, if there is a machine to say so for.
    pub seconds: Option<f64>,
}

/// Counts what [`fit`](super::fit) takes for `job`; how long, if there is a machine to say so for.
///
/// # Errors
/// Those of [`fit`](super::fit) that need no weights, apart from too little memory.
pub fn outlook(job: &Job<'_>, machine: Option<&Machine>) -> Result<Outlook, Error> {
    let Job { checkpoint, calib, recipe, .. } = *job;
    let config = checkpoint.config();
    let prompt = Prompt::of(config, calib, &[], recipe.seq_len, &recipe.fixed)?;
    let graph = build(checkpoint, recipe, prompt.layout.clone(), 1)?;
    let plan = planned(&graph, &recipe.policy, &prompt.layout, calib)?;
    let scopes = linear_weights(&graph, &plan);
    let dtypes = plans(&graph, recipe)?.len();
    let few = few(calib);
    let seconds = |machine| {
        let end = graph.nodes.len();
        let behind = scopes.iter().map(|&(first, _)| pass(&graph, first..end, machine));
        few.len() as f64 * dtypes as f64 * behind.sum::<f64>()
    };
    Ok(Outlook {
        weights: scopes.len(),
        losses: scopes.len() * dtypes,
        samples: few.len(),
        memory: memory(&graph, (few, config.text.hidden_size), 1),
        seconds: machine.map(seconds),
    })
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
