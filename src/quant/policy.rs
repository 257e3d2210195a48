//! Who gets which grid: defaults by role, then overrides by name.
//!
//! Rules are tried in order and the last that matches wins, field by field. Two fields hang
//! together: a layer that names a dtype without a symmetry also resets the symmetry to the one
//! that suits the dtype, so `dtype = "uint8"` over an int16 default is never an illegal
//! symmetric uint8; granularity stays, so an int16 override of a weight keeps its channels.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::decision::{Folded, served};
use super::{DType, Decision, Grain, Granularity, Modality, ObserverSpec, Prefix, Scheme};

/// What a tensor is to its network; chooses the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A value that changes with the input: one grid by default.
    Activation,
    /// A matrix, table or kernel of weights: one grid per index of axis 0 by default.
    Weight,
    /// A rank-one parameter that works element by element, such as the weight or bias of a norm: one
    /// grid, whatever axis the weights have.
    NormWeight,
}

/// A tensor that a policy decides of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its names: of an activation those of all values on its grid. A rule that matches any of them
    /// speaks of it.
    pub names: &'a [&'a str],
    /// What it is to its network.
    pub role: Role,
    /// Extent of every axis.
    pub shape: &'a [usize],
    /// Whether linear layers multiply by it and nothing else reads it: then it may have groups.
    pub linear: bool,
    /// Whether a softmax reads it.
    pub logits: bool,
}

/// What one layer of a policy says; absent fields are left to the layers below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Type of the integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DType>,
    /// Zero point fixed at 0. By default exactly for signed dtypes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric: Option<bool>,
    /// One grid per index of an axis, or one in all. By default by role. Weights have axis 0 or none,
    /// activations and norms none; MX weights have blocks along any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<Granularity>,
    /// One grid for so many neighbouring inputs of each output; of weights of linear layers, whose
    /// width it must divide. Takes the place of a lower layer's `axis`, and an `axis` takes its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Where ranges come from; `minmax` by default. `mx:<format>` and `identity` need no dtype.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<ObserverSpec>,
}

/// An override.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Glob over tensor names; `*` also crosses dots.
    pub pattern: String,
    /// Which roles it speaks of; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether it may match nothing: rules that serve many networks, as those of presets do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What it says.
    pub set: Spec,
}

/// A policy as a recipe writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Of activations; uint8 by default.
    #[serde(default)]
    pub activation: Spec,
    /// Of weights; uint8 by default. Its `group` speaks of linear layers alone: tables keep a grid a
    /// row.
    #[serde(default)]
    pub weight: Spec,
    /// Of norm weights; whatever `weight` says, without its granularity, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Spec>,
    /// Gives attention logits their whole range, with the mask, as TICO does. By default what has
    /// no weight after the softmax may saturate (see [`SoftmaxLogits`](super::SoftmaxLogits)), unless
    /// a rule names their observer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact_logits: bool,
    /// What is added to the attention scores of later tokens, to hide them: below 0, -120 by default as
    /// in TICO. Scores that are further apart than that need more, in float too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_fill: Option<f32>,
    /// What to do with experts that no calibration token reached; refused by default.
    #[serde(default, skip_serializing_if = "UnseenExperts::is_default")]
    pub unseen_experts: UnseenExperts,
    /// How much rows of visual and of text tokens count; all alike by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<Modality>,
    /// Tokens at the beginning that no range makes room for; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
    /// Overrides, the last that matches winning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What becomes of an expert that calibration never reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnseenExperts {
    /// An error that names it.
    #[default]
    Refuse,
    /// Its weights are rounded to nearest on grids of their own, which need no data; each of its
    /// activations gets the union of the ranges that the other experts of its layer have there.
    WeightOnly,
}

impl UnseenExperts {
    fn is_default(&self) -> bool {
        *self == UnseenExperts::default()
    }
}

/// A validated policy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "PolicySpec", into = "PolicySpec")]
pub struct Policy {
    spec: PolicySpec,
    matchers: Vec<GlobMatcher>,
}

/// A policy that cannot be meant; says where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A layer contradicts itself.
    #[error("{place}: {why}")]
    Illegal {
        /// `activation`, `weight`, `norm` or the rule.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A tensor ends up with a grid that does not exist.
    #[error("tensor `{name}` ({shape}), decided by {place}: {why}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Its rank.
        shape: String,
        /// The layers that decided.
        place: String,
        /// What is wrong.
        why: String,
    },
}

impl Policy {
    /// Checks every layer by itself: illegal pairs, impossible globs and observers are refused here,
    /// with their place.
    pub fn new(spec: PolicySpec) -> Result<Policy, PolicyError> {
        let layers = [("activation", &spec.activation), ("weight", &spec.weight)];
        for (place, layer) in layers.into_iter().chain(spec.norm.as_ref().map(|n| ("norm", n))) {
            check(place, layer, place == "weight")?;
        }
        if let Some(fill) = spec.mask_fill.filter(|fill| !(f32::MIN..0.0).contains(fill)) {
            let why = format!("found {fill}, expected a finite number below 0");
            return Err(PolicyError::Illegal { place: "mask_fill".into(), why });
        }
        let mut matchers = Vec::with_capacity(spec.rules.len());
        for rule in &spec.rules {
            let place = place(rule);
            if rule.set == Spec::default() {
                return Err(PolicyError::Illegal { place, why: "it sets nothing".into() });
            }
            let weights = rule.role.is_none_or(|role| role == Role::Weight);
            check(&place, &rule.set, weights)?;
            let glob = Glob::new(&rule.pattern);
            let glob = glob.map_err(|e| PolicyError::Illegal { place, why: e.to_string() })?;
            matchers.push(glob.compile_matcher());
        }
        Ok(Policy { spec, matchers })
    }

    /// The policy with more rules after its own.
    pub fn with_rules(self, rules: impl IntoIterator<Item = Rule>) -> Result<Policy, PolicyError> {
        let mut spec = self.spec;
        spec.rules.extend(rules);
        Policy::new(spec)
    }

    /// The policy with another word on experts that calibration does not reach.
    pub fn with_unseen_experts(mut self, unseen_experts: UnseenExperts) -> Policy {
        self.spec.unseen_experts = unseen_experts;
        self
    }

    /// What was written.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// What a tensor gets.
    ///
    /// # Errors
    /// A grid that does not exist, with the layers that decided.
    pub fn resolve(&self, subject: &Subject<'_>) -> Result<Decision, PolicyError> {
        let Subject { names, role, shape, linear, logits } = *subject;
        let mut folded = Folded::of(role);
        match role {
            Role::Activation => folded.add("activation", &self.spec.activation),
            Role::Weight if linear => folded.add("weight", &self.spec.weight),
            Role::Weight => folded.add("weight", &Spec { group: None, ..self.spec.weight }),
            Role::NormWeight => {
                folded.add("weight", &Spec { axis: None, group: None, ..self.spec.weight });
                if let Some(norm) = &self.spec.norm {
                    folded.add("norm", norm);
                }
            }
        }
        // The squared error of masked logits is mostly that of the mask, which does not matter.
        folded.softmax = logits && !self.spec.exact_logits;
        for (_, rule) in self.matching(names, role) {
            folded.add(place(rule), &rule.set);
        }
        let decided = folded.decide(subject).and_then(|decision| served(decision, subject));
        decided.map_err(|why| PolicyError::Tensor {
            name: names.first().copied().unwrap_or_default().to_owned(),
            shape: format!("{} axes", shape.len()),
            place: folded.places.join(", then "),
            why,
        })
    }

    /// Which layer gives tensors that share a decision their kind of grid.
    pub fn asks<'a>(&self, names: impl IntoIterator<Item = &'a str>, role: Role) -> String {
        let mx = |rule: &Rule| matches!(rule.set.observer, Some(ObserverSpec::Mx { .. }));
        let names: Vec<&str> = names.into_iter().collect();
        let rules = self.matching(&names, role).map(|(_, rule)| rule);
        match (rules.filter(|rule| rule.set.dtype.is_some() || mx(rule)).last(), role) {
            (Some(rule), _) => place(rule),
            (None, Role::Activation) => "policy.activation".into(),
            (None, Role::NormWeight) if self.spec.norm.is_some() => "policy.norm".into(),
            (None, Role::Weight | Role::NormWeight) => "policy.weight".into(),
        }
    }

    fn matching(&self, names: &[&str], role: Role) -> impl Iterator<Item = (usize, &Rule)> {
        let rules = self.spec.rules.iter().zip(&self.matchers).enumerate();
        rules
            .filter(move |(_, (rule, glob))| {
                rule.role.is_none_or(|wanted| wanted == role)
                    && names.iter().any(|name| glob.is_match(name))
            })
            .map(|(index, (rule, _))| (index, rule))
    }

    /// The rules that had to speak of one of `tensors` and do not: typos, to be reported.
    pub fn unmatched<'a>(&self, tensors: impl IntoIterator<Item = (&'a str, Role)>) -> Vec<&Rule> {
        let mut silent = vec![true; self.spec.rules.len()];
        for (name, role) in tensors {
            for (index, _) in self.matching(&[name], role) {
                silent[index] = false;
            }
        }
        let rules = self.spec.rules.iter().zip(silent);
        rules.filter(|(rule, silent)| *silent && !rule.optional).map(|(rule, _)| rule).collect()
    }
}

/// By its pattern: a number would count rules of the recipe that the reader never wrote.
fn place(rule: &Rule) -> String {
    format!("rule `{}`", rule.pattern)
}

/// Contradictions within one layer, which may speak of `weights` or not.
fn check(place: &str, layer: &Spec, weights: bool) -> Result<(), PolicyError> {
    let illegal = |why: String| Err(PolicyError::Illegal { place: place.to_owned(), why });
    if let (Some(dtype), Some(symmetric)) = (layer.dtype, layer.symmetric)
        && let Err(error) = (Scheme { symmetric, grain: Grain::Tensor }).check(dtype)
    {
        return illegal(error.to_string());
    }
    if let Some(dtype) = layer.dtype.filter(|dtype| !(2..=16).contains(&dtype.bits())) {
        return illegal(format!("{dtype} is no grid for values: expected 2 to 16 bits"));
    }
    if let Some(observer @ (ObserverSpec::Mx { .. } | ObserverSpec::Identity)) = layer.observer
        && (layer.dtype.is_some() || layer.symmetric.is_some())
    {
        return illegal(format!(
            "observer {observer} has no integers, but a dtype or symmetry is set"
        ));
    }
    if let Some(observer @ ObserverSpec::SoftmaxLogits { .. }) = layer.observer
        && matches!(layer.axis, Some(Granularity::Axis(_)))
    {
        return illegal(format!("observer {observer} makes one range, but an axis is set"));
    }
    match layer.group {
        Some(0) => illegal("group = 0 holds no inputs".into()),
        Some(_) if layer.axis.is_some() => illegal(
            "axis and group are both set, but a grid serves either an index or a group".into(),
        ),
        Some(_) if !weights => illegal("only weights of linear layers are cut into groups".into()),
        Some(_) if matches!(layer.observer, Some(ObserverSpec::Mx { .. })) => {
            illegal("MX has blocks of 32 of its own, but a group is set".into())
        }
        _ => Ok(()),
    }
}

impl TryFrom<PolicySpec> for Policy {
    type Error = PolicyError;

    fn try_from(spec: PolicySpec) -> Result<Policy, PolicyError> {
        Policy::new(spec)
    }
}

impl From<Policy> for PolicySpec {
    fn from(policy: Policy) -> PolicySpec {
        policy.spec
    }
}
