//! W (x + β) + b = W x + (b + W β): the bias of a norm becomes part of the linear layers' biases.

use super::super::{Edit, Graph, Param, Source, ValueId};
use super::Draft;
use crate::ops::{BinaryKind, Op};

/// A linear layer that reads a sum, directly or through a reshape of whole rows.
struct Reader {
    node: usize,
    /// How often the vector is repeated along the layer's input.
    repeat: usize,
}

/// Moves β where everything that reads x + β is a linear layer with a bias of its own.
pub(super) fn fold(graph: Graph) -> Graph {
    let users = graph.users();
    let mut draft = Draft::new(graph);
    for n in 0..draft.graph.nodes.len() {
        let node = &draft.graph.nodes[n];
        let (Op::Binary(op), &[x, beta], sum) = (&node.op, &node.inputs[..], node.output) else {
            continue;
        };
        if op.kind != BinaryKind::Add || draft.graph.value(x).shape != draft.graph.value(sum).shape
        {
            continue;
        }
        let Some(vector) = vector(&draft.graph, beta).cloned() else { continue };
        let Some(readers) = readers(&draft.graph, &users, sum) else { continue };
        for Reader { node, repeat } in readers {
            let operands = &draft.graph.nodes[node].inputs;
            let (weight, bias) = (operands[1], operands[2]);
            let Source::Param(weight) = draft.graph.value(weight).source.clone() else { continue };
            let (weight, vector) = (Box::new(weight), Box::new(vector.clone()));
            if let Source::Param(bias) = &mut draft.graph.values[bias.index()].source {
                bias.edits.push(Edit::AddProduct { weight, vector, repeat });
            }
        }
        draft.replace(sum, x);
    }
    draft.sweep()
}

/// The parameter, if the value is a vector of them.
fn vector(graph: &Graph, id: ValueId) -> Option<&Param> {
    let value = graph.value(id);
    match &value.source {
        Source::Param(param) if value.shape.len() == 1 => Some(param),
        _ => None,
    }
}

/// All readers of a sum, if each is a linear layer whose bias is read by it alone.
fn readers(graph: &Graph, users: &[Vec<(usize, usize)>], sum: ValueId) -> Option<Vec<Reader>> {
    if graph.outputs.contains(&sum) {
        return None;
    }
    let width = *graph.value(sum).shape.last()?;
    let mut readers = Vec::new();
    for &(n, position) in &users[sum.index()] {
        let node = &graph.nodes[n];
        match &node.op {
            Op::Linear(_) if position == 0 => readers.push(Reader { node: n, repeat: 1 }),
            Op::Reshape(op) => {
                let wide = *op.shape.last()?;
                let direct = !graph.outputs.contains(&node.output) && wide % width == 0;
                for &(m, position) in users[node.output.index()].iter().filter(|_| direct) {
                    let linear = matches!(graph.nodes[m].op, Op::Linear(_)) && position == 0;
                    readers.push(linear.then_some(Reader { node: m, repeat: wide / width })?);
                }
                if !direct {
                    return None;
                }
            }
            _ => return None,
        }
    }
    let own_bias = |reader: &Reader| {
        let bias = graph.nodes[reader.node].inputs.get(2)?;
        let alone = users[bias.index()].len() == 1;
        let weight = graph.value(graph.nodes[reader.node].inputs[1]);
        let known = matches!(weight.source, Source::Param(_)) && vector(graph, *bias).is_some();
        (alone && known).then_some(())
    };
    readers.iter().all(|reader| own_bias(reader).is_some()).then_some(readers)
}
