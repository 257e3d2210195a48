//! Rotation: orthogonal changes of basis folded into the weights, so that the float network computes
//! the same and no coordinate stands out (QuaRot, Ashkboos et al., 2024; SpinQuant, Liu et al., 2024).
//!
//! A vector of a rotated space becomes x R. Writers become W' = Rᵀ W, b' = Rᵀ b, readers
//! W' = W R, tables T' = T R; norms without a gain commute with R, so gains are folded first
//! (`fold.rs`). Which spaces there are is read off the graph (`spaces.rs`): residual streams (R1),
//! values between their projection and the output projection (R2). Nothing is added to the graph;
//! weights that share a checkpoint tensor are separate values here and simply become different.
//!
//! Where a norm takes a mean first, R must keep the vector of ones: B diag(1, Q) Bᵀ. So the stream of
//! a tower with LayerNorms turns as that of a decoder does.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | R | [`Orthogonal`] | randomized Hadamard (times a random rotation for the odd part) |
//! | n | `Space::n` | dimensions; a value may hold several copies side by side |

mod fold;
mod learn;
mod spaces;

use crate::graph::{Edit, Graph, Read};
use crate::tensor::{Orthogonal, Tensor};
use serde::{Deserialize, Serialize};
use spaces::Space;
use std::sync::Arc;

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
    /// Steps of descent from the best draw on what rounding the space's weights costs; the draw is
    /// kept where the descent leaves wider rows.
    pub learn: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, residual: true, values: true, tries: 1, learn: 0 }
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

/// Appends to the graph's parameters the edits that rotate what the options ask for. Spaces are
/// edited one after the other; a weight that lies in two of them turns in both.
///
/// # Errors
/// Those of `read`, which is asked for gains and, with several tries, for one weight at a time.
pub fn rotate<E>(
    graph: &mut Graph,
    read: Read<'_, E>,
    options: &Options,
) -> Result<Vec<Rotated>, E> {
    if options.residual {
        fold::fold_norms(graph, read)?;
    }
    let mut rotated = Vec::new();
    for (i, space) in spaces::rotatable(graph, read)?.into_iter().enumerate() {
        let wanted = if space.residual { options.residual } else { options.values };
        if !wanted {
            continue;
        }
        let rotation = Arc::new(best(graph, read, &space, options, i as u64)?);
        for &(id, side) in &space.tensors {
            graph.edit(id, Edit::Rotate { side, rotation: rotation.clone() });
        }
        rotated.push(Rotated { name: space.name, size: space.n, tensors: space.tensors.len() });
    }
    Ok(rotated)
}

/// The best of the rotations drawn for a space, or what is learned from it.
fn best<E>(
    graph: &Graph,
    read: Read<'_, E>,
    space: &Space,
    options: &Options,
    i: u64,
) -> Result<Orthogonal, E> {
    let draw = |attempt: u64| {
        let seed = options.seed + i + attempt * SEEDS_APART;
        Orthogonal::random(space.n, space.fix_ones, seed)
    };
    let drawn = (0..options.tries.max(1)).map(draw).collect();
    let drawn = narrowest(graph, read, space, drawn)?;
    if options.learn == 0 {
        return Ok(drawn);
    }
    let learned = learn::learned(graph, read, space, &drawn, options.learn)?;
    narrowest(graph, read, space, vec![drawn, learned])
}

/// The rotation that leaves a space the narrowest rows, the first of equals.
fn narrowest<E>(
    graph: &Graph,
    read: Read<'_, E>,
    space: &Space,
    mut rotations: Vec<Orthogonal>,
) -> Result<Orthogonal, E> {
    if rotations.len() == 1 {
        return Ok(rotations.remove(0));
    }
    let costs = widths(graph, read, space, &rotations)?;
    let best = (0..rotations.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b]));
    Ok(rotations.swap_remove(best.unwrap_or(0)))
}

/// The [`width`]s of a space's tensors under each rotation, summed, a bias being one row; one tensor is
/// held at a time.
fn widths<E>(
    graph: &Graph,
    read: Read<'_, E>,
    space: &Space,
    rotations: &[Orthogonal],
) -> Result<Vec<f64>, E> {
    let mut costs = vec![0.0; rotations.len()];
    for &(id, side) in &space.tensors {
        let tensor = graph.load(id, read)?;
        for (cost, rotation) in costs.iter_mut().zip(rotations) {
            let mut turned = tensor.clone();
            rotation.apply(&mut turned, side);
            *cost += width(&turned);
        }
    }
    Ok(costs)
}

/// Squared ranges of rows over their energy: what rounding each row to a grid over its range costs,
/// relative to the tensor, but for a factor that only depends on the bits.
fn width(tensor: &Tensor) -> f64 {
    let columns = tensor.shape().last().copied().unwrap_or(1).max(1);
    let rows = tensor.data().chunks_exact(columns);
    let squared = |row: &[f32]| {
        let range = row.iter().fold((0f32, 0f32), |(l, h), &x| (l.min(x), h.max(x)));
        f64::from(range.1 - range.0).powi(2) * columns as f64
    };
    let energy: f64 = tensor.data().iter().map(|&x| f64::from(x).powi(2)).sum();
    rows.map(squared).sum::<f64>() / energy.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests;
