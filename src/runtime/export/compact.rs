//! Drops what a rewrite left behind: tensors, payloads and operator codes nobody refers to.

use crate::circle::{Buffer, Details, Model};
use std::collections::BTreeSet;

pub(super) fn compact(model: &mut Model) {
    let Some(graph) = model.subgraphs.first_mut() else { return };
    let operands = graph.operators.iter().flat_map(|op| op.inputs.iter().chain(&op.outputs));
    let ports = graph.inputs.iter().chain(&graph.outputs);
    let mut used: BTreeSet<i32> = operands.chain(ports).copied().filter(|&i| i >= 0).collect();
    for tensor in &graph.tensors {
        // Scales of blocks are tensors of their own.
        if let Some(Details::Blockwise { scales, zero_points, .. }) =
            tensor.quantization.as_ref().map(|q| &q.details)
        {
            used.extend([*scales, *zero_points]);
        }
    }
    let mut place = vec![-1; graph.tensors.len()];
    let mut kept = Vec::with_capacity(used.len());
    for (i, tensor) in std::mem::take(&mut graph.tensors).into_iter().enumerate() {
        let index = i32::try_from(i).unwrap_or(-1);
        if used.contains(&index) {
            place[i] = i32::try_from(kept.len()).unwrap_or(-1);
            kept.push(tensor);
        }
    }
    let moved = |index: &mut i32| {
        let at = usize::try_from(*index).ok().and_then(|i| place.get(i));
        *index = at.copied().unwrap_or(-1);
    };
    for op in &mut graph.operators {
        op.inputs.iter_mut().chain(&mut op.outputs).for_each(moved);
        op.intermediates.clear();
    }
    graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(moved);
    for tensor in &mut kept {
        if let Some(Details::Blockwise { scales, zero_points, .. }) =
            tensor.quantization.as_mut().map(|q| &mut q.details)
        {
            moved(scales);
            moved(zero_points);
        }
    }
    graph.tensors = kept;
    buffers(model);
    codes(model);
    // They speak of tensors by number, which the caller knows, and of the whole file by hash.
    model.signature_defs.clear();
    model.metadata.clear();
    model.metadata_buffer.clear();
}

fn buffers(model: &mut Model) {
    let old = std::mem::replace(&mut model.buffers, vec![Buffer::Empty]);
    let mut place = vec![0_u32; old.len()];
    for tensor in model.subgraphs.iter_mut().flat_map(|graph| &mut graph.tensors) {
        let at = usize::try_from(tensor.buffer).unwrap_or(usize::MAX);
        let Some(buffer) = old.get(at).filter(|buffer| !buffer.is_empty()) else {
            tensor.buffer = 0;
            continue;
        };
        if place[at] == 0 {
            model.buffers.push(buffer.clone());
            place[at] = u32::try_from(model.buffers.len() - 1).unwrap_or(0);
        }
        tensor.buffer = place[at];
    }
}

fn codes(model: &mut Model) {
    let old = std::mem::take(&mut model.operator_codes);
    let mut place = vec![None; old.len()];
    for op in model.subgraphs.iter_mut().flat_map(|graph| &mut graph.operators) {
        let at = usize::try_from(op.opcode_index).unwrap_or(usize::MAX);
        let Some(code) = old.get(at) else { continue };
        op.opcode_index = *place[at].get_or_insert_with(|| {
            model.operator_codes.push(code.clone());
            u32::try_from(model.operator_codes.len() - 1).unwrap_or(0)
        });
    }
}
