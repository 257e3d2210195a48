//! Moves the gain of a norm, and the shift after it, into the linear layers that read the result.
//!
//! (γ ⊙ n + β) Wᵀ + b = n (W diag γ)ᵀ + (b + W β): exact, and what remains of the norm commutes with
//! rotations.

use crate::graph::{Edit, Graph, Param, Read, ValueId};
use crate::ops::{BinaryKind, Op};

/// A norm whose readers are all linear layers.
struct Foldable {
    gamma: ValueId,
    beta: Option<ValueId>,
    /// Weight and bias of each reader.
    readers: Vec<(ValueId, Option<ValueId>)>,
}

/// Folds every norm that allows it; returns how many.
pub(super) fn fold_norms<E>(graph: &mut Graph, read: Read<'_, E>) -> Result<usize, E> {
    let users = graph.users();
    let mut folded = 0;
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        if !matches!(node.op, Op::RmsNorm(_)) {
            continue;
        }
        let found = foldable(graph, &users, node.inputs[1], node.output);
        if let Some(found) = found
            && carries(graph, &found, read)?
        {
            fold(graph, &found);
            folded += 1;
        }
    }
    Ok(folded)
}

fn foldable(
    graph: &Graph,
    users: &[Vec<(usize, usize)>],
    gamma: ValueId,
    out: ValueId,
) -> Option<Foldable> {
    let single = |id: ValueId| graph.param(id).is_some() && users[id.index()].len() == 1;
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
    (!found.readers.is_empty()).then_some(found)
}

/// Whether the shift, if there is one that shifts, finds a bias in every reader.
fn carries<E>(graph: &Graph, found: &Foldable, read: Read<'_, E>) -> Result<bool, E> {
    let Some(beta) = found.beta else { return Ok(true) };
    if found.readers.iter().all(|(_, bias)| bias.is_some()) {
        return Ok(true);
    }
    Ok(graph.load(beta, read)?.data().iter().all(|&x| x == 0.0))
}

fn fold(graph: &mut Graph, found: &Foldable) {
    let own = |graph: &Graph, id: ValueId| -> Option<Box<Param>> {
        graph.param(id).cloned().map(Box::new)
    };
    let width = graph.value(found.gamma).shape[0];
    let Some(gain) = own(graph, found.gamma) else { return };
    let beta = found.beta.and_then(|beta| own(graph, beta));
    for &(weight, bias) in &found.readers {
        // The shift meets the weight as it is before the gain joins it.
        if let (Some(vector), Some(bias), Some(before)) = (&beta, bias, own(graph, weight)) {
            let repeat = graph.value(weight).shape[1] / width.max(1);
            graph.edit(bias, Edit::AddProduct { weight: before, vector: vector.clone(), repeat });
        }
        graph.edit(weight, Edit::FoldGain { gain: gain.clone() });
    }
    graph.edit(found.gamma, Edit::Fill { value: 1.0 });
    if let Some(beta) = found.beta {
        graph.edit(beta, Edit::Fill { value: 0.0 });
    }
}
