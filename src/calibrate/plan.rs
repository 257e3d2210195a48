//! Which grid and observer every site gets: the graph's sites under a policy.

use super::{CalibrateError, Site, Sites};
use crate::graph::{Graph, ValueId};
use crate::quant::{ObserverSpec, Policy, Resolved, Role};

/// A policy resolved against one graph.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The graph's sites.
    pub sites: Sites,
    /// By class.
    pub(super) classes: Vec<Resolved>,
    /// By value; only weights and gains have one.
    pub(super) weights: Vec<Option<Resolved>>,
}

impl Plan {
    /// Resolves `policy` for every site of `graph`.
    ///
    /// A rule that names any member of a class holds for the class, since its values share one
    /// grid; of several, the last rule wins.
    ///
    /// # Errors
    /// Illegal pairs of dtype and scheme; rules that match no tensor.
    pub fn new(graph: &Graph, policy: &Policy) -> Result<Plan, CalibrateError> {
        let sites = Sites::of(graph);
        let name = |id: &ValueId| graph.value(*id).name.as_str();
        policy.check_matches(graph.values.iter().map(|value| value.name.as_str()))?;
        let mut classes = Vec::with_capacity(sites.classes.len());
        for class in &sites.classes {
            let mut best: Option<Resolved> = None;
            for member in &class.members {
                let resolved = policy.resolve(name(member), Role::Activation)?;
                if best.as_ref().is_none_or(|b| resolved.rule > b.rule) {
                    best = Some(resolved);
                }
            }
            let mut resolved = best.expect("invariant: a class has members");
            if class.softmax_logits
                && resolved.observer == ObserverSpec::MinMax
                && let Some(margin) = policy.softmax_margin
            {
                resolved.observer = ObserverSpec::SoftmaxLogits { margin };
            }
            classes.push(resolved);
        }
        let mut weights = vec![None; graph.values.len()];
        for id in graph.ids() {
            weights[id.index()] = match sites.site(id) {
                Site::Weight => Some(policy.resolve(name(&id), Role::Weight)?),
                Site::Gain => Some(policy.resolve(name(&id), Role::Gain)?),
                _ => None,
            };
        }
        Ok(Plan { sites, classes, weights })
    }

    /// Whether calibration may be split over threads: no observer depends on the order of samples.
    pub fn mergeable(&self) -> bool {
        self.classes.iter().all(|resolved| resolved.observer.mergeable())
    }

    /// Sites with statistics of their own: classes, weights and gains.
    pub fn site_count(&self) -> usize {
        self.classes.len() + self.weights.iter().flatten().count()
    }
}
