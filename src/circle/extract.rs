//! Cuts a part out of a model: some operators with the constants they need, as a model of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::buffer::Buffer;
use super::error::{Error, ErrorKind, Result};
use super::model::{Details, Model, Operator, SubGraph};
use super::operator::BuiltinOperator;
use super::verify::verify;

/// A model of the operators `operators` of the first graph. What they read and do not compute
/// becomes an input, what others or the caller read becomes an output; those of the caller come
/// first, in its order. Constants come along; signatures and metadata, which speak of the whole, do
/// not.
pub fn extract(model: &Model, operators: RangeInclusive<usize>) -> Result<Model> {
    let graph = entry(model)?;
    let (first, last) = (*operators.start(), *operators.end());
    if first > last || last >= graph.operators.len() {
        let count = graph.operators.len();
        return Err(selection(format!("operators {first}-{last} of {count}, counted from 0")));
    }
    let chosen = operators.collect();
    let outputs = leaving(graph, &chosen);
    cut(model, graph, &chosen, &BTreeSet::new(), outputs)
}

/// A model that computes the tensors `to` of the first graph, taking the tensors `from` as given.
/// Whatever else is needed is included down to the graph's own inputs.
pub fn extract_between(model: &Model, from: &[&str], to: &[&str]) -> Result<Model> {
    let graph = entry(model)?;
    let index = |name: &&str| {
        let quoted = name.escape_debug();
        match graph.tensors.iter().filter(|t| t.name == *name).count() {
            0 => Err(selection(format!(
                "no tensor is named \"{quoted}\": inspect --json lists them"
            ))),
            1 => graph.find(name).ok_or_else(|| selection("no such tensor")),
            many => Err(selection(format!("{many} tensors are named \"{quoted}\""))),
        }
    };
    let from: BTreeSet<i32> = from.iter().map(index).collect::<Result<_>>()?;
    let outputs: Vec<i32> = to.iter().map(index).collect::<Result<_>>()?;
    let producer = producers(graph);
    let mut chosen = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut open = outputs.clone();
    while let Some(tensor) = open.pop() {
        if from.contains(&tensor) {
            reached.insert(tensor);
            continue;
        }
        if let Some(&op) = producer.get(&tensor)
            && chosen.insert(op)
        {
            open.extend(&graph.operators[op].inputs);
        }
    }
    if let Some(idle) = from.difference(&reached).next() {
        let name = graph.tensor(*idle).map_or("", |t| &t.name).escape_debug();
        return Err(selection(format!("the result does not depend on \"{name}\"")));
    }
    if chosen.is_empty() {
        return Err(selection("no operator lies between these tensors"));
    }
    // An operator with several results may be needed for another one.
    let made = chosen.iter().flat_map(|&op| &graph.operators[op].outputs);
    if let Some(given) = made.copied().find(|output| from.contains(output)) {
        let name = graph.tensor(given).map_or("", |t| &t.name).escape_debug();
        return Err(selection(format!(
            "\"{name}\" comes of an operator whose other results are needed: take all as given or none"
        )));
    }
    cut(model, graph, &chosen, &from, outputs)
}

/// Position of the graph of this name, or of the first.
pub fn find_graph(model: &Model, name: Option<&str>) -> Result<usize> {
    let named = |graph: &SubGraph| name.is_none_or(|name| graph.name == name);
    model.subgraphs.iter().position(named).ok_or_else(|| {
        let names: Vec<&str> = model.subgraphs.iter().map(|graph| graph.name.as_str()).collect();
        let known = names.join(", ").escape_debug().to_string();
        let wanted = name.unwrap_or_default().escape_debug();
        selection(format!("no graph \"{wanted}\", the file has {known}"))
    })
}

/// A model of one graph of several; signatures and metadata, which speak of the whole, stay behind.
pub fn alone(model: &Model, graph: usize) -> Model {
    let subgraphs = model.subgraphs.get(graph).cloned().into_iter().collect();
    let mut model = model.clone();
    model.subgraphs = subgraphs;
    model.signature_defs.clear();
    model.metadata.clear();
    model.metadata_buffer.clear();
    model
}

fn selection(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Selection(what.into()))
}

fn entry(model: &Model) -> Result<&SubGraph> {
    let report = verify(model);
    if let Some(error) = report.errors.first() {
        let count = report.errors.len();
        return Err(selection(format!("the model is invalid (first of {count}: {error})")));
    }
    model.subgraphs.first().ok_or_else(|| selection("the model has no graph"))
}

fn producers(graph: &SubGraph) -> BTreeMap<i32, usize> {
    let ops = graph.operators.iter().enumerate();
    ops.flat_map(|(i, op)| op.outputs.iter().map(move |&t| (t, i))).collect()
}

/// The tensors that the chosen operators compute and others or the caller read; if there are none, those
/// that nobody reads.
fn leaving(graph: &SubGraph, chosen: &BTreeSet<usize>) -> Vec<i32> {
    let mut inside = BTreeSet::new();
    let mut outside: BTreeSet<i32> = graph.outputs.iter().copied().collect();
    for (i, op) in graph.operators.iter().enumerate() {
        let readers = if chosen.contains(&i) { &mut inside } else { &mut outside };
        readers.extend(op.inputs.iter().copied());
    }
    let made = || chosen.iter().flat_map(|&i| graph.operators[i].outputs.iter().copied());
    let mut read: Vec<i32> = made().filter(|t| outside.contains(t)).collect();
    if read.is_empty() {
        return made().filter(|t| !inside.contains(t)).collect();
    }
    as_in(&graph.outputs, &mut read);
    read
}

/// Puts tensors into the order of `list`, those that it lacks behind.
fn as_in(list: &[i32], tensors: &mut [i32]) {
    tensors.sort_by_key(|t| list.iter().position(|listed| listed == t).unwrap_or(list.len()));
}

fn cut(
    model: &Model,
    graph: &SubGraph,
    chosen: &BTreeSet<usize>,
    given: &BTreeSet<i32>,
    outputs: Vec<i32>,
) -> Result<Model> {
    let constant = |index: i32| {
        let tensor = graph.tensor(index);
        !given.contains(&index) && tensor.is_some_and(|t| t.is_variable || model.holds(t))
    };
    let ops: Vec<&Operator> = chosen.iter().map(|&i| &graph.operators[i]).collect();
    let made: BTreeSet<i32> = ops.iter().flat_map(|op| &op.outputs).copied().collect();
    let mut inputs = Vec::new();
    let mut kept: BTreeSet<i32> = outputs.iter().copied().collect();
    for op in &ops {
        if let Some(builtin) = model.builtin(op).filter(|&b| calls_a_graph(b)) {
            return Err(selection(format!(
                "{builtin} refers to another graph, which is not cut out"
            )));
        }
        for &t in op.inputs.iter().filter(|&&t| t >= 0) {
            if !made.contains(&t) && !constant(t) && !inputs.contains(&t) {
                inputs.push(t);
            }
        }
        let all = op.inputs.iter().chain(&op.outputs).chain(&op.intermediates);
        kept.extend(all.copied().filter(|&t| t >= 0));
    }
    as_in(&graph.inputs, &mut inputs);
    let scales = kept.iter().filter_map(|&t| graph.tensor(t)?.quantization.as_ref());
    let scales: Vec<i32> = scales.flat_map(|q| tensors_of(&q.details)).collect();
    kept.extend(scales);
    let mut part = Model { version: model.version, ..Model::new(model.description.clone()) };
    let renumbered = carry_tensors(model, graph, &kept, given, &mut part);
    let tensor = |t: &i32| renumbered.get(t).copied().unwrap_or(-1);
    let map = |list: &[i32]| list.iter().map(tensor).collect::<Vec<i32>>();
    let operators = ops.iter().map(|op| Operator {
        inputs: map(&op.inputs),
        outputs: map(&op.outputs),
        intermediates: map(&op.intermediates),
        opcode_index: carry_code(model, op, &mut part),
        debug_metadata_index: -1,
        ..(*op).clone()
    });
    let operators = operators.collect();
    let (inputs, outputs) = (map(&inputs), map(&outputs));
    if let Some(new) = part.subgraphs.first_mut() {
        (new.operators, new.inputs, new.outputs) = (operators, inputs, outputs);
    }
    match verify(&part).errors.first() {
        None => Ok(part),
        Some(error) => Err(selection(format!("the part would be invalid: {error}"))),
    }
}

fn calls_a_graph(op: BuiltinOperator) -> bool {
    use BuiltinOperator::*;
    let plain = matches!(op, If | While | Call | CallOnce);
    let stablehlo = matches!(
        op,
        StablehloReduce
            | StablehloScatter
            | StablehloReduceWindow
            | StablehloSort
            | StablehloWhile
            | StablehloComposite
            | StablehloCase
    );
    plain || stablehlo
}

fn tensors_of(details: &Details) -> Vec<i32> {
    match *details {
        Details::Blockwise { scales, zero_points, .. } => vec![scales, zero_points.max(0)],
        _ => Vec::new(),
    }
}

/// Puts the kept tensors into `part`, with their payloads but for those that the caller gives; says
/// which index became which.
fn carry_tensors(
    model: &Model,
    graph: &SubGraph,
    kept: &BTreeSet<i32>,
    given: &BTreeSet<i32>,
    part: &mut Model,
) -> BTreeMap<i32, i32> {
    let mut new = SubGraph::new(graph.name.clone());
    let mut renumbered = BTreeMap::new();
    let mut buffers: BTreeMap<u32, u32> = BTreeMap::new();
    for &t in kept {
        let Some(tensor) = graph.tensor(t) else { continue };
        let mut tensor = tensor.clone();
        let constant = |b: &&Buffer| !b.is_empty() && !given.contains(&t);
        let payload = model.payload(&tensor).filter(constant);
        tensor.is_variable &= !given.contains(&t);
        tensor.buffer = payload.map_or(0, |payload: &Buffer| {
            let add = || part.add_buffer(payload.clone());
            *buffers.entry(tensor.buffer).or_insert_with(add)
        });
        renumbered.insert(t, new.add_tensor(tensor));
    }
    for tensor in &mut new.tensors {
        if let Some(Details::Blockwise { scales, zero_points, .. }) =
            tensor.quantization.as_mut().map(|q| &mut q.details)
        {
            for index in [scales, zero_points] {
                *index = renumbered.get(index).copied().unwrap_or(*index);
            }
        }
    }
    part.subgraphs.push(new);
    renumbered
}

/// The index in `part` of the operator's code, carried over whole.
fn carry_code(model: &Model, op: &Operator, part: &mut Model) -> u32 {
    let code = usize::try_from(op.opcode_index).ok().and_then(|i| model.operator_codes.get(i));
    code.map_or(u32::MAX, |code| part.add_code(code.clone()))
}
