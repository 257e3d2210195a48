//! Moves the gain of a norm, and the shift after it, into the linear layers that read the result.
//!
//! (γ ⊙ n + β) Wᵀ + b = n (W diag γ)ᵀ + (b + W β): exact, and what remains of the norm commutes with
//! rotations.

use crate::exec::Weights;
use crate::graph::{Graph, Source, ValueId};
use crate::ops::{BinaryKind, Op};
use crate::tensor::Tensor;

/// A norm whose readers are all linear layers.
struct Foldable {
    gamma: ValueId,
    beta: Option<ValueId>,
    /// Weight and bias of each reader.
    readers: Vec<(ValueId, Option<ValueId>)>,
}

/// Folds every norm that allows it; returns how many.
pub(super) fn fold_norms(graph: &Graph, weights: &mut Weights) -> usize {
    let users = graph.users();
    let mut folded = 0;
    for node in &graph.nodes {
        if !matches!(node.op, Op::RmsNorm(_)) {
            continue;
        }
        if let Some(found) = foldable(graph, &users, weights, node.inputs[1], node.output) {
            fold(&found, weights);
            folded += 1;
        }
    }
    folded
}

fn is_param(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.value(id).source, Source::Param(_))
}

fn foldable(
    graph: &Graph,
    users: &[Vec<(usize, usize)>],
    weights: &Weights,
    gamma: ValueId,
    out: ValueId,
) -> Option<Foldable> {
    let single = |id: ValueId| is_param(graph, id) && users[id.index()].len() == 1;
    let mut found = Foldable { gamma, beta: None, readers: Vec::new() };
    if !single(gamma) {
        return None;
    }
    let width = graph.value(gamma).shape[0];
    let mut open = vec![out];
    while let Some(value) = open.pop() {
        if graph.outputs.contains(&value) {
            return None;
        }
        for &(n, position) in &users[value.index()] {
            let node = &graph.nodes[n];
            match &node.op {
                Op::Linear(_) if position == 0 && single(node.inputs[1]) => {
                    let bias = node.inputs.get(2).copied();
                    if bias.is_some_and(|bias| !single(bias)) {
                        return None;
                    }
                    found.readers.push((node.inputs[1], bias));
                }
                // The shift of a LayerNorm, straight after its gain.
                Op::Binary(op) if op.kind == BinaryKind::Add && value == out => {
                    let beta = node.inputs[1 - position];
                    let alone = users[out.index()].len() == 1 && found.beta.is_none();
                    if !alone || !single(beta) || graph.value(beta).shape != [width] {
                        return None;
                    }
                    found.beta = Some(beta);
                    open.push(node.output);
                }
                // Rows may be moved or merged, but not cut.
                Op::Reshape(_) => {
                    let last = graph.value(node.output).shape.last().copied().unwrap_or(0);
                    if last % width != 0 {
                        return None;
                    }
                    open.push(node.output);
                }
                _ => return None,
            }
        }
    }
    let shifted = found
        .beta
        .and_then(|beta| weights.get(beta))
        .is_some_and(|beta| beta.data().iter().any(|&x| x != 0.0));
    let carried = !shifted || found.readers.iter().all(|(_, bias)| bias.is_some());
    (carried && !found.readers.is_empty()).then_some(found)
}

fn fold(found: &Foldable, weights: &mut Weights) {
    let read = |weights: &Weights, id: ValueId| {
        weights.get(id).cloned().expect("invariant: every weight of the graph was loaded")
    };
    let gamma = read(weights, found.gamma);
    let beta = found.beta.map(|beta| read(weights, beta));
    for &(weight, bias) in &found.readers {
        let mut w = read(weights, weight);
        let k = w.shape()[1];
        if let (Some(beta), Some(bias)) = (&beta, bias) {
            let mut b = read(weights, bias);
            for (b, row) in b.data_mut().iter_mut().zip(w.data().chunks_exact(k)) {
                let shifts = row.iter().zip(beta.data().iter().cycle());
                let shift: f64 = shifts.map(|(w, s)| f64::from(*w) * f64::from(*s)).sum();
                *b = (f64::from(*b) + shift) as f32;
            }
            weights.set(bias, b);
        }
        for row in w.data_mut().chunks_exact_mut(k) {
            row.iter_mut().zip(gamma.data().iter().cycle()).for_each(|(w, g)| *w *= g);
        }
        weights.set(weight, w);
    }
    weights.set(found.gamma, Tensor::full(gamma.shape(), 1.0));
    if let (Some(id), Some(beta)) = (found.beta, beta) {
        weights.set(id, Tensor::full(beta.shape(), 0.0));
    }
}
