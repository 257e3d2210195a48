//! SmoothQuant (Xiao et al., ICML 2023): moves what makes activations hard to quantize into weights.
//!
//! sⱼ = max|Xⱼ|^α / max|Wⱼ|^(1−α); inputs become X / s, weights W s. Channels are those of
//! [`super::channels`]: norm → layers as in the paper, and layer → layer on request.
//!
//! It is for activations of 8 bits: at 16 there is nothing to gain, and weights of 4 bits pay for it.

use super::channels::{self, Group, Inputs};
use crate::graph::{Graph, Read};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// α, between 0 (all difficulty stays with the activations) and 1 (all goes to the weights).
    pub alpha: f64,
    /// Also channels that a layer writes, such as values and gated products.
    pub layers: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { alpha: 0.5, layers: false }
    }
}

/// s of every channel; one where nothing was seen or nothing is read.
pub(super) fn scales<E>(
    graph: &Graph,
    group: &Group,
    inputs: &[Inputs],
    read: Read<'_, E>,
    options: &Options,
) -> Result<Vec<f64>, E> {
    let count = group.free.len();
    if !group.norm && !options.layers {
        return Ok(vec![1.0; count]);
    }
    let mut weights = vec![0.0; count];
    for reader in &group.readers {
        let weight = graph.load(reader.weight, read)?;
        channels::raise_to_columns(&mut weights, weight.data(), &reader.channels);
    }
    let seen = |c: usize| inputs.iter().fold(0.0f64, |most, inputs| most.max(inputs.greatest[c]));
    let scale = |(c, &w): (usize, &f64)| {
        let x = seen(c);
        if x * w > 0.0 { x.powf(options.alpha) / w.powf(1.0 - options.alpha) } else { 1.0 }
    };
    Ok(weights.iter().enumerate().map(scale).collect())
}
