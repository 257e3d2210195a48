//! Rotation: orthogonal changes of basis folded into the weights, so that the float network computes
//! the same and no coordinate stands out (QuaRot, Ashkboos et al., 2024; SpinQuant, Liu et al., 2024).
//!
//! A vector of a rotated space becomes x R. Writers become W' = Rᵀ W, b' = Rᵀ b, readers
//! W' = W R, tables T' = T R; norms without a gain commute with R, so gains are folded first
//! (`fold.rs`). Which spaces there are is read off the graph (`spaces.rs`): residual streams (R1),
//! values between their projection and the output projection (R2). Nothing is added to the graph;
//! weights that share a checkpoint tensor are separate values here and simply become different.
//!
//! Where a norm takes a mean first, R must keep the vector of ones: B diag(1, Q) Bᵀ.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | R | [`orthogonal`] | randomized Hadamard (times a random rotation for the odd part) |
//! | n | `Space::n` | dimensions; a value may hold several copies side by side |

mod fold;
mod orthogonal;
mod spaces;

use crate::exec::Weights;
use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;
use orthogonal::Orthogonal;
use serde::{Deserialize, Serialize};
use spaces::{Side, Space};

/// Between the seeds of one space's attempts, so that spaces do not share them.
const SEEDS_APART: u64 = 1 << 20;

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Seed of signs and random rotations.
    pub seed: u64,
    /// Rotates residual streams (R1).
    pub residual: bool,
    /// Rotates the other spaces, such as values per head (R2).
    pub values: bool,
    /// Rotations drawn for each space; the one that leaves its weights the narrowest rows is taken.
    pub tries: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, residual: true, values: true, tries: 1 }
    }
}

/// A space that was rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The first value in it.
    pub name: String,
    /// Its dimensions.
    pub size: usize,
    /// Checkpoint tensors that turned.
    pub tensors: usize,
}

/// Rotates what the options ask for, in place.
pub fn rotate(graph: &Graph, weights: &mut Weights, options: &Options) -> Vec<Rotated> {
    if options.residual {
        fold::fold_norms(graph, weights);
    }
    let mut rotated = Vec::new();
    for (i, space) in spaces::rotatable(graph, weights).iter().enumerate() {
        let wanted = if space.residual { options.residual } else { options.values };
        if !wanted {
            continue;
        }
        for (id, tensor) in best(weights, space, options, i as u64) {
            weights.set(id, tensor);
        }
        let (name, tensors) = (space.name.clone(), space.tensors.len());
        rotated.push(Rotated { name, size: space.n, tensors });
    }
    rotated
}

/// The tensors of a space under the best of the rotations drawn, the first of equals.
fn best(weights: &Weights, space: &Space, options: &Options, i: u64) -> Vec<(ValueId, Tensor)> {
    let draw = |attempt: u64| {
        let seed = options.seed + i + attempt * SEEDS_APART;
        turned(weights, space, &Orthogonal::new(space.n, space.fix_ones, seed))
    };
    let mut best = draw(0);
    let mut least = if options.tries > 1 { width(&best) } else { 0.0 };
    for attempt in 1..options.tries {
        let next = draw(attempt);
        let found = width(&next);
        if found < least {
            (best, least) = (next, found);
        }
    }
    best
}

/// Squared ranges of rows over their energy, summed over tensors: what rounding each row to a grid
/// over its range costs, relative to the tensor, but for a factor that only depends on the bits.
fn width(tensors: &[(ValueId, Tensor)]) -> f64 {
    let share = |tensor: &Tensor| {
        let columns = tensor.shape().last().copied().unwrap_or(1).max(1);
        let rows = tensor.data().chunks_exact(columns);
        let squared = |row: &[f32]| {
            let range = row.iter().fold((0f32, 0f32), |(l, h), &x| (l.min(x), h.max(x)));
            f64::from(range.1 - range.0).powi(2) * columns as f64
        };
        let energy: f64 = tensor.data().iter().map(|&x| f64::from(x).powi(2)).sum();
        rows.map(squared).sum::<f64>() / energy.max(f64::MIN_POSITIVE)
    };
    tensors.iter().map(|(_, tensor)| share(tensor)).sum()
}

fn turned(weights: &Weights, space: &Space, r: &Orthogonal) -> Vec<(ValueId, Tensor)> {
    let turn = |&(id, side): &(ValueId, Side)| {
        let mut tensor = read(weights, id);
        match side {
            Side::Rows => r.apply(tensor.data_mut()),
            Side::Outputs => {
                let rows = tensor.shape()[0];
                let columns = tensor.data().len() / rows.max(1);
                let mut turned = transposed(tensor.data(), rows, columns);
                r.apply(&mut turned);
                tensor.data_mut().copy_from_slice(&transposed(&turned, columns, rows));
            }
        }
        (id, tensor)
    };
    space.tensors.iter().map(turn).collect()
}

fn read(weights: &Weights, id: ValueId) -> Tensor {
    weights.get(id).cloned().expect("invariant: every weight of the graph was loaded")
}

fn transposed(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| data[i % rows * columns + i / rows]).collect()
}

#[cfg(test)]
mod tests;
