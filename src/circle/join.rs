//! Several graphs in one file that hold their constants once.

use super::buffer::Buffer;
use super::model::{Model, SignatureDef};
use std::collections::HashMap;

/// One file of several: the first graph of each part, under a name of its own that is also the key
/// of a signature where the part has none. Equal payloads are one.
pub fn join(parts: Vec<(&str, Model)>) -> Model {
    let description = parts.first().map_or(String::new(), |(_, part)| part.description.clone());
    let mut whole = Model::new(description);
    let mut known: HashMap<Content, u32> = HashMap::new();
    for (name, mut part) in parts {
        if part.subgraphs.is_empty() {
            continue;
        }
        let mut graph = part.subgraphs.swap_remove(0);
        let codes: Vec<u32> =
            part.operator_codes.drain(..).map(|code| whole.add_code(code)).collect();
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
        if part.signature_defs.is_empty() {
            part.signature_defs = vec![SignatureDef::new(name, inputs, outputs)];
        }
        let signatures = part.signature_defs.into_iter();
        let placed = signatures.map(|signature| SignatureDef { subgraph_index, ..signature });
        whole.signature_defs.extend(placed);
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
