//! Who gets which grid: defaults by role, then overrides by name.
//!
//! Rules are tried in order and the last that matches wins, field by field. Two fields hang
//! together: a layer that names a dtype without a symmetry also resets the symmetry to the one
//! that suits the dtype, so `dtype = "uint8"` over an int16 default is never an illegal
//! symmetric uint8; granularity stays, so an int16 override of a weight keeps its channels.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::{
    AnyObserver, DType, Modality, MxFormat, ObserverSpec, ParamsError, Prefix, QuantParams, Range,
    Scheme, Share,
};

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

/// Granularity, as recipes write it: `axis = 0` or `axis = "tensor"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Granularity {
    /// One grid per index of an axis; for MX the axis that is cut into blocks.
    Axis(usize),
    /// One grid in all; for MX blocks along the last axis.
    Whole(Whole),
}

/// The word for one grid in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whole {
    /// One grid in all.
    #[serde(rename = "tensor")]
    Tensor,
}

impl Granularity {
    /// One grid in all.
    pub const TENSOR: Granularity = Granularity::Whole(Whole::Tensor);

    fn axis(self) -> Option<usize> {
        match self {
            Granularity::Axis(axis) => Some(axis),
            Granularity::Whole(_) => None,
        }
    }
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
    /// One grid per index of an axis, or one in all. By default by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<Granularity>,
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
    /// Of weights; uint8 by default.
    #[serde(default)]
    pub weight: Spec,
    /// Of norm weights; whatever `weight` says, without its axis, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Spec>,
    /// Gives attention logits their whole range, with the mask, as TICO does. By default what has
    /// no weight after the softmax may saturate (see [`SoftmaxLogits`](super::SoftmaxLogits)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact_logits: bool,
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

/// What one tensor gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// An affine grid fitted to what `observer` sees.
    Affine {
        /// Type of the integers.
        dtype: DType,
        /// Shape of the grid.
        scheme: Scheme,
        /// Where its ranges come from.
        observer: ObserverSpec,
    },
    /// MX blocks: nothing to observe.
    Mx {
        /// Format of the elements.
        format: MxFormat,
        /// The axis that is cut into blocks.
        axis: usize,
    },
    /// Stays float.
    Float,
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

/// The layers below, folded.
#[derive(Clone, Debug)]
struct Folded {
    dtype: DType,
    symmetric: Option<bool>,
    axis: Granularity,
    observer: ObserverSpec,
    /// Layers that said something, for errors.
    places: Vec<String>,
}

impl Folded {
    fn add(&mut self, place: impl Into<String>, layer: &Spec) {
        if let Some(dtype) = layer.dtype {
            self.dtype = dtype;
            self.symmetric = None;
            // a dtype asks for integers, so it takes back what a lower layer excused
            if matches!(self.observer, ObserverSpec::Identity | ObserverSpec::Mx { .. }) {
                self.observer = ObserverSpec::MinMax;
            }
        }
        self.symmetric = layer.symmetric.or(self.symmetric);
        self.axis = layer.axis.unwrap_or(self.axis);
        self.observer = layer.observer.unwrap_or(self.observer);
        self.places.push(place.into());
    }

    fn decide(&self, rank: usize) -> Result<Decision, String> {
        let axis = self.axis.axis();
        if let Some(axis) = axis.filter(|axis| *axis >= rank) {
            return Err(format!("axis {axis} is outside its {rank} axes"));
        }
        match self.observer {
            ObserverSpec::Identity => Ok(Decision::Float),
            ObserverSpec::Mx { format } => match axis.or(rank.checked_sub(1)) {
                Some(axis) => Ok(Decision::Mx { format, axis }),
                None => Err("a scalar has no axis to cut into MX blocks".into()),
            },
            observer => {
                let symmetric = self.symmetric.unwrap_or(self.dtype.signed());
                let scheme = Scheme { symmetric, axis };
                scheme.check(self.dtype).map_err(|error| error.to_string())?;
                if symmetric
                    && matches!(observer, ObserverSpec::Percentile { share: Share::Between(..) })
                {
                    return Err(format!(
                        "observer {observer} has two ends, but the grid is symmetric"
                    ));
                }
                Ok(Decision::Affine { dtype: self.dtype, scheme, observer })
            }
        }
    }
}

impl Decision {
    /// A fresh observer for this tensor; none if there is nothing to observe.
    pub fn observer(&self) -> Option<AnyObserver> {
        match self {
            Decision::Affine { dtype, scheme, observer } => observer.build(*dtype, *scheme),
            Decision::Mx { .. } | Decision::Float => None,
        }
    }

    /// The grid that keeps `ranges`, which MX does not need; none if the tensor stays float.
    pub fn params(&self, ranges: &[Range]) -> Result<Option<QuantParams>, ParamsError> {
        match *self {
            Decision::Affine { dtype, scheme, .. } => {
                QuantParams::from_ranges(dtype, scheme, ranges).map(Some)
            }
            Decision::Mx { format, axis } => Ok(Some(QuantParams::Mx { format, axis })),
            Decision::Float => Ok(None),
        }
    }
}

impl Policy {
    /// Checks every layer by itself: illegal pairs, impossible globs and observers are refused here,
    /// with their place.
    pub fn new(spec: PolicySpec) -> Result<Policy, PolicyError> {
        let layers = [("activation", &spec.activation), ("weight", &spec.weight)];
        for (place, layer) in layers.into_iter().chain(spec.norm.as_ref().map(|n| ("norm", n))) {
            check(place, layer)?;
        }
        let mut matchers = Vec::with_capacity(spec.rules.len());
        for rule in &spec.rules {
            let place = place(rule);
            if rule.set == Spec::default() {
                return Err(PolicyError::Illegal { place, why: "it sets nothing".into() });
            }
            check(&place, &rule.set)?;
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

    /// What was written.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// What the tensor `name` of `rank` axes gets.
    pub fn resolve(&self, name: &str, role: Role, rank: usize) -> Result<Decision, PolicyError> {
        let axis = if role == Role::Weight { Granularity::Axis(0) } else { Granularity::TENSOR };
        let mut folded = Folded {
            dtype: DType::UINT8,
            symmetric: None,
            axis,
            observer: ObserverSpec::MinMax,
            places: Vec::new(),
        };
        match role {
            Role::Activation => folded.add("activation", &self.spec.activation),
            Role::Weight => folded.add("weight", &self.spec.weight),
            Role::NormWeight => {
                folded.add("weight", &Spec { axis: None, ..self.spec.weight });
                if let Some(norm) = &self.spec.norm {
                    folded.add("norm", norm);
                }
            }
        }
        for (_, rule) in self.matching(name, role) {
            folded.add(place(rule), &rule.set);
        }
        let decided = folded.decide(rank).and_then(|decision| served(decision, role));
        decided.map_err(|why| PolicyError::Tensor {
            name: name.to_owned(),
            shape: format!("{rank} axes"),
            place: folded.places.join(", then "),
            why,
        })
    }

    /// Index of the last rule that speaks of the tensor.
    pub fn last_rule(&self, name: &str, role: Role) -> Option<usize> {
        self.matching(name, role).map(|(index, _)| index).last()
    }

    fn matching(&self, name: &str, role: Role) -> impl Iterator<Item = (usize, &Rule)> {
        let rules = self.spec.rules.iter().zip(&self.matchers).enumerate();
        rules
            .filter(move |(_, (rule, glob))| {
                rule.role.is_none_or(|wanted| wanted == role) && glob.is_match(name)
            })
            .map(|(index, (rule, _))| (index, rule))
    }

    /// The rules that had to speak of one of `tensors` and do not: typos, to be reported.
    pub fn unmatched<'a>(&self, tensors: impl IntoIterator<Item = (&'a str, Role)>) -> Vec<&Rule> {
        let mut silent = vec![true; self.spec.rules.len()];
        for (name, role) in tensors {
            for (index, _) in self.matching(name, role) {
                silent[index] = false;
            }
        }
        let rules = self.spec.rules.iter().zip(silent);
        rules.filter(|(rule, silent)| *silent && !rule.optional).map(|(rule, _)| rule).collect()
    }
}

/// Refuses observers of data for what is no data.
fn served(decision: Decision, role: Role) -> Result<Decision, String> {
    match decision {
        Decision::Affine { observer, .. } if role != Role::Activation => match observer {
            ObserverSpec::Ema { .. } => {
                Err(format!("observer {observer} averages over samples, but this is a weight"))
            }
            ObserverSpec::SoftmaxLogits { .. } => {
                Err(format!("observer {observer} is for attention logits, but this is a weight"))
            }
            _ => Ok(decision),
        },
        other => Ok(other),
    }
}

/// By its pattern: a number would count rules of the recipe that the reader never wrote.
fn place(rule: &Rule) -> String {
    format!("rule `{}`", rule.pattern)
}

/// Contradictions within one layer.
fn check(place: &str, layer: &Spec) -> Result<(), PolicyError> {
    let illegal = |why: String| Err(PolicyError::Illegal { place: place.to_owned(), why });
    if let (Some(dtype), Some(symmetric)) = (layer.dtype, layer.symmetric)
        && let Err(error) = (Scheme { symmetric, axis: None }).check(dtype)
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
    Ok(())
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
