//! Which grid and observer every site gets: the graph's sites under a policy.

use super::{CalibrateError, Emphasis, Site, Sites};
use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::quant::{Decision, Policy, Role, Subject, UnseenExperts};

/// A policy resolved against one graph.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The graph's sites.
    pub sites: Sites,
    /// By class.
    pub(super) classes: Vec<Decision>,
    /// By value; only weights and gains have one.
    pub(super) weights: Vec<Option<Decision>>,
    /// What the policy says of experts that calibration does not reach.
    pub(super) unseen: UnseenExperts,
    /// How much each token counts.
    pub(super) emphasis: Emphasis,
}

impl Plan {
    /// Resolves `policy` for every site of `graph`.
    ///
    /// A rule that names any member of a class holds for the class, since its values share one
    /// grid; of several the last wins, field by field.
    ///
    /// # Errors
    /// Illegal pairs of dtype and scheme; rules that match no tensor.
    pub fn new(graph: &Graph, policy: &Policy) -> Result<Plan, CalibrateError> {
        let sites = Sites::of(graph);
        let role = |id: ValueId| match sites.site(id) {
            Site::Weight => Some(Role::Weight),
            Site::Gain => Some(Role::NormWeight),
            Site::Activation { .. } => Some(Role::Activation),
            Site::Bias { .. } | Site::Index => None,
        };
        let named = graph.ids().filter_map(|id| Some((graph.value(id).name.as_str(), role(id)?)));
        if let Some(rule) = policy.unmatched(named).first() {
            return Err(CalibrateError::SilentRule { pattern: rule.pattern.clone() });
        }
        let linear = linear(graph);
        let name = |id: &ValueId| graph.value(*id).name.as_str();
        let mut classes = Vec::with_capacity(sites.classes.len());
        for class in &sites.classes {
            let names: Vec<&str> = class.members.iter().map(name).collect();
            // MX cuts every member into blocks, so none may be a scalar.
            let shapes = class.members.iter().map(|id| &graph.value(*id).shape[..]);
            let shape = shapes.min_by_key(|shape| shape.len()).unwrap_or_default();
            let (names, role, logits) = (&names[..], Role::Activation, class.softmax_logits);
            classes.push(policy.resolve(&Subject { names, role, shape, linear: false, logits })?);
        }
        let weight = |id| match role(id) {
            Some(role @ (Role::Weight | Role::NormWeight)) => {
                let (shape, linear) = (&graph.value(id).shape[..], linear[id.index()]);
                let names = &[name(&id)];
                policy.resolve(&Subject { names, role, shape, linear, logits: false }).map(Some)
            }
            _ => Ok(None),
        };
        let weights = graph.ids().map(weight).collect::<Result<_, _>>()?;
        Ok(Plan {
            sites,
            classes,
            weights,
            unseen: policy.spec().unseen_experts,
            emphasis: Emphasis::default(),
        })
    }

    /// The same, with tokens that count as `emphasis` says.
    pub fn with_emphasis(self, emphasis: Emphasis) -> Plan {
        Plan { emphasis, ..self }
    }

    /// How much each token counts.
    pub fn emphasis(&self) -> &Emphasis {
        &self.emphasis
    }

    /// Whether calibration may be split over threads: no observer depends on the order of samples.
    pub fn mergeable(&self) -> bool {
        self.classes.iter().all(mergeable)
    }

    /// The first class with an observer that depends on the order of samples.
    pub fn ordered<'g>(&self, graph: &'g Graph) -> Option<&'g str> {
        let class = self.classes.iter().position(|decision| !mergeable(decision))?;
        Some(&graph.value(self.sites.classes[class].members[0]).name)
    }

    /// What the policy wants of a value; none for biases and indices.
    pub fn decision(&self, id: ValueId) -> Option<&Decision> {
        match self.sites.site(id) {
            Site::Activation { class } => self.class_decision(class),
            _ => self.weight_decision(id),
        }
    }

    /// What the policy wants of a weight or gain; none for other values.
    pub fn weight_decision(&self, id: ValueId) -> Option<&Decision> {
        self.weights[id.index()].as_ref()
    }

    /// What the policy wants of an activation class.
    pub fn class_decision(&self, class: usize) -> Option<&Decision> {
        self.classes.get(class)
    }

    /// Sites with statistics of their own: classes, weights and gains.
    pub fn site_count(&self) -> usize {
        self.classes.len() + self.weights.iter().flatten().count()
    }
}

/// By value, whether linear layers multiply by it and nothing else reads it.
fn linear(graph: &Graph) -> Vec<bool> {
    let (mut multiplied, mut elsewhere) = (vec![false; graph.values.len()], Vec::new());
    for node in &graph.nodes {
        for (position, id) in node.inputs.iter().enumerate() {
            match (&node.op, position) {
                (Op::Linear(_), 1) => multiplied[id.index()] = true,
                _ => elsewhere.push(id.index()),
            }
        }
    }
    elsewhere.into_iter().for_each(|id| multiplied[id] = false);
    multiplied
}

fn mergeable(decision: &Decision) -> bool {
    match decision {
        Decision::Affine { observer, .. } => observer.mergeable(),
        Decision::Mx { .. } | Decision::Float => true,
    }
}
