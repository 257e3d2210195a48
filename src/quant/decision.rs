//! What a policy decides of one tensor: the layers that speak of it, folded.

use serde::{Deserialize, Serialize};

use super::policy::{Role, Spec, Subject};
use super::{
    AnyObserver, DType, Grain, MxFormat, ObserverSpec, ParamsError, QuantParams, Range, Scheme,
    Share,
};

/// Granularity, as recipes write it: `axis = 0` or `axis = "tensor"`; groups have a key of their own.
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
    fn grain(self) -> Grain {
        match self {
            Granularity::Axis(axis) => Grain::Axis(axis),
            Granularity::Whole(_) => Grain::Tensor,
        }
    }
}

impl Spec {
    /// What the layer says of granularity, if it does.
    pub(super) fn grain(&self) -> Option<Grain> {
        self.group.map(Grain::Groups).or(self.axis.map(Granularity::grain))
    }
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

/// The layers below, folded.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    dtype: DType,
    symmetric: Option<bool>,
    grain: Grain,
    observer: ObserverSpec,
    /// Whether a softmax tells what is worth a step: until a layer names an observer.
    pub(super) softmax: bool,
    /// Layers that said something, for errors.
    pub(super) places: Vec<String>,
}

impl Folded {
    /// What nobody has asked for: the default of the role.
    pub(super) fn of(role: Role) -> Folded {
        let grain = if role == Role::Weight { Grain::Axis(0) } else { Grain::Tensor };
        Folded {
            dtype: DType::UINT8,
            symmetric: None,
            grain,
            observer: ObserverSpec::MinMax,
            softmax: false,
            places: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, place: impl Into<String>, layer: &Spec) {
        if let Some(dtype) = layer.dtype {
            self.dtype = dtype;
            self.symmetric = None;
            // a dtype asks for integers, so it takes back what a lower layer excused
            if matches!(self.observer, ObserverSpec::Identity | ObserverSpec::Mx { .. }) {
                self.observer = ObserverSpec::MinMax;
            }
        }
        self.symmetric = layer.symmetric.or(self.symmetric);
        self.grain = layer.grain().unwrap_or(self.grain);
        if let Some(observer) = layer.observer {
            self.observer = observer;
            // what is excused from integers is not yet told where their ranges come from
            self.softmax &= matches!(observer, ObserverSpec::Identity | ObserverSpec::Mx { .. });
        }
        self.places.push(place.into());
    }

    pub(super) fn decide(&self, subject: &Subject<'_>) -> Result<Decision, String> {
        self.cut(subject)?;
        match self.observer {
            ObserverSpec::Identity => Ok(Decision::Float),
            ObserverSpec::Mx { format } => match (self.grain, subject.shape.len().checked_sub(1)) {
                (Grain::Axis(axis), _) | (_, Some(axis)) => Ok(Decision::Mx { format, axis }),
                (_, None) => Err("a scalar has no axis to cut into MX blocks".into()),
            },
            observer => {
                let symmetric = self.symmetric.unwrap_or(self.dtype.signed());
                let scheme = Scheme { symmetric, grain: self.grain };
                scheme.check(self.dtype).map_err(|error| error.to_string())?;
                if symmetric
                    && matches!(observer, ObserverSpec::Percentile { share: Share::Between(..) })
                {
                    return Err(format!(
                        "observer {observer} has two ends, but the grid is symmetric"
                    ));
                }
                let observer = match observer {
                    ObserverSpec::SoftmaxLogits { .. } => observer,
                    _ if self.softmax => ObserverSpec::of_logits(self.dtype),
                    _ => observer,
                };
                Ok(Decision::Affine { dtype: self.dtype, scheme, observer })
            }
        }
    }

    /// Refuses cuts that the tensor does not have room for, or its role no kernel.
    fn cut(&self, &Subject { role, shape, linear, .. }: &Subject<'_>) -> Result<(), String> {
        let float = self.observer == ObserverSpec::Identity;
        match self.grain {
            // Its views have other axes, or the same ones elsewhere.
            Grain::Axis(axis) if role == Role::Activation && !float => Err(format!(
                "axis = {axis}, but an activation has one grid, and MX blocks along its last axis: \
                 expected axis = \"tensor\", or a rule for weights alone"
            )),
            Grain::Axis(axis) if axis >= shape.len() => {
                Err(format!("axis {axis} is outside its {} axes", shape.len()))
            }
            // What stays float, or has blocks of its own, has no grids to count.
            _ if float || matches!(self.observer, ObserverSpec::Mx { .. }) => Ok(()),
            Grain::Axis(axis) if role == Role::NormWeight => Err(format!(
                "axis = {axis}, but kernels take one grid for a norm's weight: expected axis = \"tensor\""
            )),
            Grain::Axis(axis @ 1..) => Err(format!(
                "axis = {axis}, but kernels take a grid for each row of a weight or one for all: \
                 expected axis = 0 or \"tensor\""
            )),
            Grain::Groups(_) if !linear => {
                Err("only weights that linear layers read, and nothing else, have groups".into())
            }
            Grain::Groups(size) => match shape {
                [.., width] if !width.is_multiple_of(size) => {
                    Err(format!("group = {size} does not divide its {width} inputs"))
                }
                _ => Ok(()),
            },
            Grain::Tensor | Grain::Axis(0) => Ok(()),
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

    /// Neighbours on the last axis that share a grid, if it is cut into groups.
    pub fn group(&self) -> Option<usize> {
        match self {
            Decision::Affine { scheme: Scheme { grain: Grain::Groups(size), .. }, .. } => {
                Some(*size)
            }
            _ => None,
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

/// Refuses observers of data for what is no data, and those of logits for what no softmax reads.
pub(super) fn served(decision: Decision, subject: &Subject<'_>) -> Result<Decision, String> {
    let Decision::Affine { observer, .. } = decision else { return Ok(decision) };
    match (observer, subject.role) {
        (ObserverSpec::Ema { .. }, Role::Weight | Role::NormWeight) => {
            Err(format!("observer {observer} averages over samples, but this is a weight"))
        }
        (ObserverSpec::SoftmaxLogits { .. }, _) if !subject.logits => Err(format!(
            "observer {observer} is for attention logits, but {}",
            match subject.role {
                Role::Activation => "no softmax reads this",
                Role::Weight | Role::NormWeight => "this is a weight",
            }
        )),
        _ => Ok(decision),
    }
}
