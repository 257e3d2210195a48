//! AWQ (Lin et al., "Activation-aware Weight Quantization", MLSys 2024): weights that meet large
//! inputs are scaled up before rounding, so that they lose less.
//!
//! s = mean|X|^α, over √(max s · min s), with the α of a grid over [0, 1] that makes least what the
//! layers of the group lose together: Σ tr(ΔW H ΔWᵀ) with ΔW = Q(W s) / s − W, Q rounding to nearest
//! on the grid the policy gives each weight. α = 0 scales nothing and is always among them, so the
//! search is never worse than no scaling on its own objective.
//!
//! Where the paper replays a block, second moments say the same of each layer. Of many outputs some
//! are judged: rows do not depend on each other.

use super::channels::{Group, Inputs, Reader};
use super::{Moments, SessionError};
use crate::calibrate::Plan;
use crate::graph::{Graph, Read};
use crate::quant::{self, Decision};
use crate::tensor::{Tensor, each};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

/// Outputs of a layer that are judged, evenly spread.
const JUDGED: usize = 256;
/// Means below this share of the greatest count as this: a channel that is never used must not be
/// blown up.
const LEAST: f64 = 1e-4;

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Steps of α between 0 and 1.
    pub grid: usize,
    /// Also channels that a layer writes, such as values and gated products.
    pub layers: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { grid: 20, layers: true }
    }
}

/// What the choice for one group works with.
pub(super) struct Choice<'a> {
    pub(super) group: &'a Group,
    pub(super) inputs: &'a [Inputs],
    /// By what the channels were divided after `inputs` were seen.
    pub(super) divided: &'a [f64],
    pub(super) plan: &'a Plan,
}

/// A layer that is judged, with its weight.
pub(super) struct Judged<'a> {
    reader: &'a Reader,
    name: &'a str,
    weight: Tensor,
    moments: &'a Moments,
}

impl Choice<'_> {
    /// The scale of every channel.
    ///
    /// # Errors
    /// Those of reading; a grid that cannot be.
    pub(super) fn scales<E: From<SessionError>>(
        &self,
        graph: &Graph,
        read: Read<'_, E>,
        options: &Options,
    ) -> Result<Vec<f64>, E> {
        let none = vec![1.0; self.group.free.len()];
        let judged = self.judged(graph, read)?;
        if judged.is_empty() || (!self.group.norm && !options.layers) {
            return Ok(none);
        }
        let scales = |i: usize| self.group.allowed(&self.powers(i as f64 / options.grid as f64));
        let losses: Vec<f64> = each(0..=options.grid, |i| {
            let scales = scales(i);
            judged.iter().map(|layer| self.loss(layer, &scales)).sum::<Result<f64, SessionError>>()
        })?;
        let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        Ok(best.map_or(none, scales))
    }

    /// The layers whose weights have a coarse grid.
    pub(super) fn judged<'a, E>(
        &'a self,
        graph: &'a Graph,
        read: Read<'_, E>,
    ) -> Result<Vec<Judged<'a>>, E> {
        let mut judged = Vec::new();
        for reader in &self.group.readers {
            let coarse = matches!(self.plan.weight_decision(reader.weight),
                Some(Decision::Affine { dtype, .. }) if dtype.bits() <= 8);
            let inputs = self.inputs.iter().find(|inputs| inputs.of == reader.input);
            if let Some(moments) = inputs.and_then(|inputs| inputs.moments.as_ref())
                && coarse
            {
                let weight = graph.load(reader.weight, read)?;
                let name = &graph.value(reader.weight).name;
                judged.push(Judged { reader, name, weight, moments });
            }
        }
        Ok(judged)
    }

    /// mean|X|^α, its extremes balanced around one.
    fn powers(&self, alpha: f64) -> Vec<f64> {
        let mean = |c: usize| {
            let seen = self.inputs.iter().fold(0.0f64, |most, inputs| most.max(inputs.mean[c]));
            seen / self.divided[c]
        };
        let means: Vec<f64> = (0..self.group.free.len()).map(mean).collect();
        let most = means.iter().fold(0.0f64, |m, &x| m.max(x));
        let powers: Vec<f64> =
            means.iter().map(|&x| x.max(LEAST * most).max(f64::MIN_POSITIVE).powf(alpha)).collect();
        let free = || powers.iter().zip(&self.group.free).filter(|(_, free)| **free);
        let most = free().fold(0.0f64, |m, (&x, _)| m.max(x));
        let least = free().fold(f64::INFINITY, |m, (&x, _)| m.min(x));
        powers.iter().map(|x| x / (most * least).sqrt()).collect()
    }

    /// tr(ΔW H ΔWᵀ) of one layer, over the outputs that are judged.
    pub(super) fn loss(&self, layer: &Judged<'_>, scales: &[f64]) -> Result<f64, SessionError> {
        let channels = &layer.reader.channels;
        let k = channels.len();
        let mut scaled = layer.weight.clone();
        let factors: Vec<f32> = channels.iter().map(|&c| scales[c] as f32).collect();
        for row in scaled.data_mut().chunks_exact_mut(k) {
            row.iter_mut().zip(&factors).for_each(|(w, s)| *w *= s);
        }
        let Some(grid) = self.plan.weight_grid(layer.reader.weight, layer.name, &scaled)? else {
            return Ok(0.0);
        };
        quant::round(&grid, &mut scaled);
        let n = scaled.shape()[0];
        let step = n.div_ceil(JUDGED).max(1);
        let mut misses = Vec::with_capacity(n.div_ceil(step) * k);
        for i in (0..n).step_by(step) {
            let at = i * k..(i + 1) * k;
            let pairs = scaled.data()[at.clone()].iter().zip(&layer.weight.data()[at]);
            misses.extend(pairs.zip(&factors).zip(channels).map(|(((q, w), s), &c)| {
                (f64::from(*q) / f64::from(*s) - f64::from(*w)) / self.divided[c]
            }));
        }
        let rows = misses.len() / k.max(1);
        let mut product = vec![0.0; misses.len()];
        let h = MatRef::from_row_major_slice(layer.moments.hessian(), k, k);
        let e = MatRef::from_row_major_slice(&misses, rows, k);
        let out = MatMut::from_row_major_slice_mut(&mut product, rows, k);
        matmul(out, Accum::Replace, e, h, 1.0, Par::Seq);
        Ok(misses.iter().zip(&product).map(|(e, p)| e * p).sum::<f64>() * step as f64)
    }
}
