//! Mixed precision under a budget: which linear weights get 4, 8 or 16 bits, by what each costs.
//!
//! A scope is the weight of one linear layer. Its loss at some bits is measured: the mean KL
//! divergence, over all tokens of a few calibration samples, of the float network from itself with
//! that weight alone rounded to nearest on the policy's grid of these bits. Losses are taken to
//! add up, which is what makes the choice a knapsack; `knapsack.rs` solves it exactly. Tables and
//! kernels (what no linear layer reads) keep the policy's dtype. The choice is appended to the
//! policy as rules by name, so the recipe says all of it.
//!
//! `values.rs` does the same to activations.

mod knapsack;
mod losses;
mod outlook;
mod setting;
mod values;

pub use outlook::{Outlook, outlook, outlook_values};
pub use values::{ValueCandidate, ValueChoice, Widened, widen};

use super::{Error, Job, Progress, Recipe};
use crate::calibrate::{CalibrateError, Plan, Site, rounded};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::Weights;
use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::quant::{DType, Decision, QuantParams, Role, Rule, Spec};
use knapsack::{Item, choose};
use losses::Losses;
use serde::Serialize;
use setting::Setting;

/// Calibration samples that losses are measured on, at most.
const SAMPLES: usize = 8;

/// Tokens after which no more samples are added to those that losses of activations are measured on.
const TOKENS: usize = 1024;

/// Bytes of a grid in a file: an f32 scale and an i64 zero point.
const GRID_BYTES: u64 = 12;

/// How large weights may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Mean bits of an element of the linear weights, their grids not counted.
    Bits(f64),
    /// All weights with their grids, in MiB.
    Mib(f64),
}

/// What one linear weight may get.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Type of the integers.
    pub dtype: DType,
    /// Bytes with grids.
    pub bytes: u64,
    /// Mean KL divergence with this weight alone rounded, in nats a token.
    pub loss: f64,
    /// Bits of all elements.
    #[serde(skip)]
    bits: u64,
}

/// What one linear weight got, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// The weight.
    pub name: String,
    /// Its elements.
    pub elements: u64,
    /// What it could get.
    pub candidates: Vec<Candidate>,
    /// Which it got.
    pub chosen: usize,
}

/// What the budget bought.
#[derive(Clone, Debug, Serialize)]
pub struct Bought {
    /// Every linear weight, in graph order.
    pub choices: Vec<Choice>,
    /// Mean bits of an element of the linear weights.
    pub mean_bits: f64,
    /// Bytes of all weights with their grids.
    pub bytes: u64,
    /// Sum of the losses of what was chosen: the proxy that was made least.
    pub loss: f64,
    /// Calibration samples that losses were measured on.
    pub samples: usize,
}

/// Chooses the dtype of every linear weight for `budget` and appends the choice to the rules of
/// `recipe`.
///
/// # Errors
/// A budget below what is possible, with the least; whatever [`quantize`](super::quantize) refuses.
pub fn fit(
    checkpoint: &Checkpoint,
    calib: &[Sample],
    recipe: &mut Recipe,
    budget: Budget,
    progress: &dyn Progress,
) -> Result<Bought, Error> {
    let asked = recipe.clone();
    let few = outlook::few(calib);
    let Setting { graph, plan, walk, gait, floats, memo } =
        Setting::of(checkpoint, (calib, few), &asked, ("weights", progress))?;
    let (plans, mut weights) = (plans(&graph, recipe)?, floats.all);
    let scopes = linear_weights(&graph, &plan);
    let (mut choices, fixed) = offered((&graph, &plan), &scopes, &plans);
    // Measuring may take hours: an impossible budget is refused before.
    limit(&choices, budget, fixed)?;
    let grids = all_grids(&graph, &scopes, &plans, &weights)?;
    progress.begin("measure", scopes.len() * plans.len());
    let mut losses = Losses::start(&walk, &weights, gait, (&recipe.means, progress))?;
    for ((&(first, id), choice), grids) in scopes.iter().zip(&mut choices).zip(grids) {
        losses.advance(first, &weights)?;
        let kept = weights.get(id).cloned().expect("invariant: every weight was loaded");
        for (candidate, grid) in choice.candidates.iter_mut().zip(grids) {
            candidate.loss = memo.loss(format!("{} {}", choice.name, candidate.dtype), || {
                let on_grid = |grid| rounded(kept.clone(), grid);
                weights.set(id, grid.as_ref().map_or_else(|| kept.clone(), on_grid));
                losses.of(&weights)
            })?;
            progress.step();
        }
        weights.set(id, kept);
    }
    decide(&mut choices, budget, fixed)?;
    give(&choices, recipe)?;
    Ok(bought(choices, fixed, few.len()))
}

/// The recipe of `job` after `budget` is spent, as far as that can be told before any loss is measured:
/// with losses of what rounding to nearest loses of equal weights, a fourth with every bit.
///
/// # Errors
/// Those of [`fit`] that need no weights.
pub fn likely(job: &Job<'_>, budget: Budget) -> Result<Recipe, Error> {
    let (graph, plan) = outlook::planned_graph(job)?;
    let (scopes, plans) = (linear_weights(&graph, &plan), plans(&graph, job.recipe)?);
    let (mut choices, fixed) = offered((&graph, &plan), &scopes, &plans);
    for choice in &mut choices {
        for candidate in &mut choice.candidates {
            let bits = i32::from(candidate.dtype.bits());
            candidate.loss = choice.elements as f64 * 0.25f64.powi(bits);
        }
    }
    decide(&mut choices, budget, fixed)?;
    let mut recipe = job.recipe.clone();
    give(&choices, &mut recipe)?;
    Ok(recipe)
}

/// The grid of each candidate; none for a weight that stays as it is.
type Grids = Vec<Option<QuantParams>>;

/// What every scope may get, losses not yet known, and the bytes of the weights that are not chosen.
fn offered(
    (graph, plan): (&Graph, &Plan),
    scopes: &[(usize, ValueId)],
    plans: &[(DType, Plan)],
) -> (Vec<Choice>, u64) {
    let choice = |&(_, id): &(usize, ValueId)| {
        let candidate = |(dtype, plan): &(DType, Plan)| {
            let [bits, bytes] = size(graph, plan, id);
            Candidate { dtype: *dtype, bytes, loss: 0.0, bits }
        };
        let value = graph.value(id);
        let elements = value.shape.iter().product::<usize>() as u64;
        let candidates = plans.iter().map(candidate).collect();
        Choice { name: value.name.clone(), elements, candidates, chosen: 0 }
    };
    let chosen = |id: ValueId| scopes.iter().any(|(_, scope)| *scope == id);
    let others = graph.params().filter(|(id, _)| !chosen(*id));
    let fixed = others.map(|(id, _)| size(graph, plan, id)[1]).sum();
    (scopes.iter().map(choice).collect(), fixed)
}

/// Bits of all elements of a weight, and bytes with its grids.
fn size(graph: &Graph, plan: &Plan, id: ValueId) -> [u64; 2] {
    let shape = &graph.value(id).shape;
    // Biases are int32 or int64 on the grid of their accumulator; 32 bits like what stays float.
    let (bits, grids) = match plan.weight_decision(id) {
        Some(Decision::Affine { dtype, scheme, .. }) => {
            (u64::from(dtype.bits()), scheme.grain.grids(shape).unwrap_or(1))
        }
        _ => (32, 0),
    };
    let bits = shape.iter().product::<usize>() as u64 * bits;
    [bits, bits.div_ceil(8) + grids as u64 * GRID_BYTES]
}

/// The grids of every scope's candidates.
fn all_grids(
    graph: &Graph,
    scopes: &[(usize, ValueId)],
    plans: &[(DType, Plan)],
    weights: &Weights,
) -> Result<Vec<Grids>, Error> {
    let of = |&(_, id): &(usize, ValueId)| {
        let weight = weights.get(id).expect("invariant: every weight was loaded");
        let grid =
            |(_, plan): &(DType, Plan)| Ok(plan.weight_grid(id, &graph.value(id).name, weight)?);
        plans.iter().map(grid).collect()
    };
    scopes.iter().map(of).collect()
}

/// The plan of each dtype that a linear weight may get beside the recipe's activations.
fn plans(graph: &Graph, recipe: &Recipe) -> Result<Vec<(DType, Plan)>, Error> {
    let mut dtypes = vec![DType::UINT4, DType::UINT8];
    // No kernel multiplies 8-bit activations by 16-bit weights.
    if recipe.policy.spec().activation.dtype == Some(DType::INT16) {
        dtypes.push(DType::INT16);
    }
    let plan = |dtype| {
        let set = Spec { dtype: Some(dtype), ..Spec::default() };
        let rule = Rule { pattern: "*".into(), role: Some(Role::Weight), optional: false, set };
        let policy = recipe.policy.clone().with_rules([rule]).map_err(CalibrateError::from)?;
        Ok((dtype, Plan::new(graph, &policy)?))
    };
    dtypes.into_iter().map(plan).collect()
}

/// Weights that linear layers read and nobody looks rows up in, and that the policy does not leave
/// float; each with the node that is the first to read it, in the order of these.
fn linear_weights(graph: &Graph, plan: &Plan) -> Vec<(usize, ValueId)> {
    let mut found: Vec<(usize, ValueId)> = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        if let (Op::Linear(_), Some(&weight)) = (&node.op, node.inputs.get(1))
            && plan.sites.site(weight) == Site::Weight
            && matches!(plan.weight_decision(weight), Some(Decision::Affine { .. }))
            && found.iter().all(|(_, id)| *id != weight)
        {
            found.push((n, weight));
        }
    }
    let elsewhere = |id: ValueId| {
        let reads = |node: &&crate::graph::Node| node.inputs.contains(&id);
        graph.nodes.iter().filter(reads).any(|node| !matches!(node.op, Op::Linear(_)))
    };
    found.retain(|&(_, id)| !elsewhere(id));
    found
}

/// What a candidate takes of a budget.
fn cost(candidate: &Candidate, budget: Budget) -> u64 {
    match budget {
        Budget::Bits(_) => candidate.bits,
        Budget::Mib(_) => candidate.bytes,
    }
}

/// What the choices may take of a budget in all; what is `fixed` counts against one in MiB.
fn limit(choices: &[Choice], budget: Budget, fixed: u64) -> Result<u64, Error> {
    let elements: u64 = choices.iter().map(|choice| choice.elements).sum();
    // Units of the budget in one of what is asked for, and what is spent before any choice.
    let (asked, unit, spent, name) = match budget {
        Budget::Bits(bits) => (bits, elements as f64, 0, "bits a weight"),
        Budget::Mib(mib) => (mib, f64::from(1 << 20), fixed, "MiB"),
    };
    let costs = |choice: &Choice| choice.candidates.iter().map(|c| cost(c, budget)).min();
    let least = spent + choices.iter().filter_map(costs).sum::<u64>();
    let limit = (asked * unit).floor();
    match limit.is_finite() && limit >= least as f64 {
        true => Ok(limit as u64 - spent),
        false => Err(Error::Budget { asked, unit: name, least: least as f64 / unit }),
    }
}

/// The best choice that fits.
fn decide(choices: &mut [Choice], budget: Budget, fixed: u64) -> Result<(), Error> {
    let limit = limit(choices, budget, fixed)?;
    let item = |c: &Candidate| Item { cost: cost(c, budget), loss: c.loss };
    let scopes: Vec<Vec<Item>> =
        choices.iter().map(|choice| choice.candidates.iter().map(item).collect()).collect();
    let chosen = choose(&scopes, limit).expect("invariant: the cheapest choice fits");
    choices.iter_mut().zip(chosen).for_each(|(choice, chosen)| choice.chosen = chosen);
    Ok(())
}

/// Makes the policy give the weights what was chosen.
fn give(choices: &[Choice], recipe: &mut Recipe) -> Result<(), Error> {
    let policy = recipe.policy.clone().with_rules(choices.iter().map(rule));
    recipe.policy = policy.map_err(CalibrateError::from)?;
    Ok(())
}

/// What makes the policy give the weight what was chosen.
fn rule(choice: &Choice) -> Rule {
    let set = Spec { dtype: Some(choice.candidates[choice.chosen].dtype), ..Spec::default() };
    let pattern = globset::escape(&choice.name);
    Rule { pattern, role: Some(Role::Weight), optional: false, set }
}

fn bought(choices: Vec<Choice>, fixed: u64, samples: usize) -> Bought {
    let chosen = || choices.iter().map(|choice| &choice.candidates[choice.chosen]);
    let elements: u64 = choices.iter().map(|choice| choice.elements).sum();
    let bits: u64 = chosen().map(|candidate| candidate.bits).sum();
    Bought {
        mean_bits: bits as f64 / elements.max(1) as f64,
        bytes: fixed + chosen().map(|candidate| candidate.bytes).sum::<u64>(),
        loss: chosen().map(|candidate| candidate.loss).sum(),
        samples,
        choices,
    }
}

#[cfg(test)]
mod tests;
