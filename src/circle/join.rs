//! Several graphs in one file that hold their constants once, and files of dynamic extent at a
//! chosen one.

use super::buffer::Buffer;
use super::model::{Model, SignatureDef};
use std::collections::HashMap;

/// One file of several: the first graph of each part, under a name of its own that is also the key
/// of a signature. Equal payloads are one.
pub fn join(parts: Vec<(&str, Model)>) -> Model {
    let description = parts.first().map_or(String::new(), |(_, part)| part.description.clone());
    let mut whole = Model::new(description);
    let mut known: HashMap<Content, u32> = HashMap::new();
    for (name, mut part) in parts {
        if part.subgraphs.is_empty() {
            continue;
        }
        let mut graph = part.subgraphs.swap_remove(0);
        let codes: Vec<u32> = part
            .operator_codes
            .iter()
            .map(|code| whole.opcode_version(code.builtin, code.version))
            .collect();
        for operator in &mut graph.operators {
            let at = usize::try_from(operator.opcode_index).unwrap_or(usize::MAX);
            operator.opcode_index = codes.get(at).copied().unwrap_or(u32::MAX);
        }
        let mut place: Vec<Option<u32>> = vec![None; part.buffers.len()];
        for tensor in &mut graph.tensors {
            let at = usize::try_from(tensor.buffer).unwrap_or(usize::MAX);
            let Some(buffer) = part.buffers.get_mut(at).filter(|_| at != 0) else { continue };
            let moved = place[at].unwrap_or_else(|| put(&mut whole, &mut known, buffer));
            place[at] = Some(moved);
            tensor.buffer = moved;
        }
        graph.name = name.into();
        let port = |&index: &i32| {
            let tensor = graph.tensor(index)?;
            Some((tensor.name.clone(), u32::try_from(index).ok()?))
        };
        let inputs: Vec<_> = graph.inputs.iter().filter_map(port).collect();
        let outputs: Vec<_> = graph.outputs.iter().filter_map(port).collect();
        let subgraph_index = u32::try_from(whole.subgraphs.len()).unwrap_or(u32::MAX);
        let signature = SignatureDef::new(name, inputs, outputs);
        whole.signature_defs.push(SignatureDef { subgraph_index, ..signature });
        whole.subgraphs.push(graph);
    }
    whole
}

/// What tells payloads apart.
#[derive(PartialEq, Eq, Hash)]
enum Content {
    Bytes(Vec<u8>),
    Digest(u128),
}

/// The place of a payload in `whole`, where it may be already.
fn put(whole: &mut Model, known: &mut HashMap<Content, u32>, buffer: &mut Buffer) -> u32 {
    let buffer = std::mem::take(buffer);
    let content = match &buffer {
        Buffer::Lazy(source) => source.digest().map(Content::Digest),
        other => other.bytes().map(|bytes| Content::Bytes(bytes.to_vec())),
    };
    match content {
        Some(content) => *known.entry(content).or_insert_with(|| whole.add_buffer(buffer)),
        None => whole.add_buffer(buffer),
    }
}

/// The model with `extent` in place of every dynamic dimension, and none left.
pub fn resized(mut model: Model, extent: i32) -> Model {
    for tensor in model.subgraphs.iter_mut().flat_map(|graph| &mut graph.tensors) {
        let Some(signature) = tensor.shape_signature.take() else { continue };
        for (n, wanted) in tensor.shape.iter_mut().zip(signature) {
            *n = if wanted < 0 { extent } else { wanted };
        }
    }
    model
}
