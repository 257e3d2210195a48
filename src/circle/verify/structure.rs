//! Indices, producers, names, and what nobody uses.

use super::super::model::{Details, Model, SubGraph};
use super::{Report, given, in_range, repeated};

pub(super) fn check(model: &Model, report: &mut Report) {
    if model.subgraphs.is_empty() {
        report.error("subgraphs", "the model has none");
    }
    match model.buffers.first() {
        None => report.error("buffers", "the model has none, not even the empty first one"),
        Some(first) if !first.is_empty() => {
            report.error("buffers[0]", format!("holds {} bytes, must be empty", first.len()));
        }
        Some(_) => {}
    }
    for (i, m) in model.metadata.iter().enumerate() {
        buffer(model, m.buffer, &format!("metadata[{i}]"), report);
    }
    for (i, &index) in model.metadata_buffer.iter().enumerate() {
        if !in_range(index, model.buffers.len()) {
            let message = format!("buffer {index} of {}", model.buffers.len());
            report.error(format_args!("metadata_buffer[{i}]"), message);
        }
    }
    for (g, graph) in model.subgraphs.iter().enumerate() {
        let place = format!("subgraphs[{g}]");
        tensors(model, graph, &place, report);
        operators(model, graph, &place, report);
        ports(graph, &place, report);
        producers(model, graph, &place, report);
        unused_tensors(graph, &place, report);
    }
    signatures(model, report);
    unused(model, report);
}

fn buffer(model: &Model, index: u32, place: &str, report: &mut Report) {
    if usize::try_from(index).is_ok_and(|i| i >= model.buffers.len()) {
        report.error(place, format!("buffer {index} of {}", model.buffers.len()));
    }
}

fn tensors(model: &Model, graph: &SubGraph, place: &str, report: &mut Report) {
    for (i, tensor) in graph.tensors.iter().enumerate() {
        let place = format!("{place}.tensors[{i}]");
        buffer(model, tensor.buffer, &place, report);
        if tensor.name.is_empty() {
            report.error(&place, "has no name, on which onert crashes");
        }
        match &tensor.shape_signature {
            Some(s) if s.is_empty() => {
                report.warn(&place, "has an empty shape_signature, which onert refuses");
            }
            Some(s) if s.len() != tensor.shape.len() => {
                let message = format!("shape_signature of rank {}, shape of rank", s.len());
                report.error(&place, format!("{message} {}", tensor.shape.len()));
            }
            _ => {}
        }
        let Some(quantization) = &tensor.quantization else { continue };
        if let Details::Blockwise { scales, zero_points, .. } = quantization.details {
            // Without zero points the field is absent, 0, or -1 depending on the writer.
            let named = [("scales", scales), ("zero_points", zero_points.max(0))];
            for (name, index) in named.into_iter().filter(|n| !in_range(n.1, graph.tensors.len())) {
                let message = format!("{name} in tensor {index} of {}", graph.tensors.len());
                report.error(&place, message);
            }
        }
    }
    for (name, count) in repeated(graph.tensors.iter().map(|t| t.name.as_str())) {
        if !name.is_empty() {
            report.warn(place, format!("{count} tensors are named \"{}\"", name.escape_debug()));
        }
    }
}

fn operators(model: &Model, graph: &SubGraph, place: &str, report: &mut Report) {
    let count = graph.tensors.len();
    for (i, op) in graph.operators.iter().enumerate() {
        let place = format!("{place}.operators[{i}]");
        if model.builtin(op).is_none() {
            let codes = model.operator_codes.len();
            report.error(&place, format!("operator code {} of {codes}", op.opcode_index));
        }
        let lists = [
            ("inputs", &op.inputs, true),
            ("outputs", &op.outputs, false),
            ("intermediates", &op.intermediates, true),
        ];
        for (name, list, optional) in lists {
            for (k, &index) in list.iter().enumerate() {
                if !(in_range(index, count) || optional && index == -1) {
                    let message = format!("tensor {index} of {count}");
                    report.error(format_args!("{place}.{name}[{k}]"), message);
                }
            }
        }
    }
}

fn ports(graph: &SubGraph, place: &str, report: &mut Report) {
    for (name, list) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        for (k, &index) in list.iter().enumerate() {
            if !in_range(index, graph.tensors.len()) {
                let message = format!("tensor {index} of {}", graph.tensors.len());
                report.error(format_args!("{place}.{name}[{k}]"), message);
            }
        }
        for (index, count) in repeated(list.iter()) {
            let message = format!("tensor {index} stands there {count} times");
            report.warn(format_args!("{place}.{name}"), message);
        }
    }
}

/// Every tensor has at most one producer, and all that is used has one or is given.
fn producers(model: &Model, graph: &SubGraph, place: &str, report: &mut Report) {
    let given = given(model, graph);
    let mut producer: Vec<Option<usize>> = vec![None; graph.tensors.len()];
    for (i, op) in graph.operators.iter().enumerate() {
        for output in op.outputs.iter().filter_map(|&t| usize::try_from(t).ok()) {
            match producer.get_mut(output) {
                Some(Some(first)) => {
                    let message =
                        format!("tensor {output} is already computed by operator {first}");
                    report.error(format_args!("{place}.operators[{i}]"), message);
                }
                Some(slot) => *slot = Some(i),
                None => {}
            }
        }
    }
    for &input in &graph.inputs {
        let made = usize::try_from(input).ok().and_then(|t| *producer.get(t)?);
        if let Some(op) = made {
            let message = format!("input tensor {input} is also computed by operator {op}");
            report.warn(format_args!("{place}.inputs"), message);
        }
    }
    let mut need = |index: i32, place: &dyn std::fmt::Display| {
        let Some(t) = usize::try_from(index).ok().filter(|&t| t < given.len()) else { return };
        if !given[t] && producer[t].is_none() {
            let name = graph.tensors[t].name.escape_debug();
            let message =
                format!("tensor {t} \"{name}\" is no input, no constant, and never computed");
            report.error(place, message);
        }
    };
    for (i, op) in graph.operators.iter().enumerate() {
        op.inputs.iter().for_each(|&t| need(t, &format_args!("{place}.operators[{i}]")));
    }
    graph.outputs.iter().for_each(|&t| need(t, &format_args!("{place}.outputs")));
}

fn unused_tensors(graph: &SubGraph, place: &str, report: &mut Report) {
    let mut used = vec![false; graph.tensors.len()];
    let mut mark = |index: i32| {
        if let Some(slot) = usize::try_from(index).ok().and_then(|i| used.get_mut(i)) {
            *slot = true;
        }
    };
    graph.inputs.iter().chain(&graph.outputs).for_each(|&t| mark(t));
    for op in &graph.operators {
        op.inputs.iter().chain(&op.outputs).chain(&op.intermediates).for_each(|&t| mark(t));
    }
    for tensor in &graph.tensors {
        if let Some(Details::Blockwise { scales, zero_points, .. }) =
            tensor.quantization.as_ref().map(|q| &q.details)
        {
            mark(*scales);
            mark(*zero_points);
        }
    }
    for (i, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        let name = graph.tensors[i].name.escape_debug();
        report.warn(format_args!("{place}.tensors[{i}]"), format!("\"{name}\" is not used"));
    }
}

fn signatures(model: &Model, report: &mut Report) {
    for (key, count) in repeated(model.signature_defs.iter().map(|s| s.key.as_str())) {
        let message = format!("{count} signatures are named \"{}\"", key.escape_debug());
        report.warn("signature_defs", message);
    }
    for (i, def) in model.signature_defs.iter().enumerate() {
        let place = format!("signature_defs[{i}]");
        let graph = usize::try_from(def.subgraph_index).ok().and_then(|g| model.subgraphs.get(g));
        let Some(graph) = graph else {
            let count = model.subgraphs.len();
            report.error(&place, format!("graph {} of {count}", def.subgraph_index));
            continue;
        };
        let lists =
            [("inputs", &def.inputs, &graph.inputs), ("outputs", &def.outputs, &graph.outputs)];
        for (name, maps, ports) in lists {
            let ports: std::collections::BTreeSet<i64> = ports.iter().map(|&p| p.into()).collect();
            for map in maps.iter().filter(|m| !ports.contains(&i64::from(m.tensor_index))) {
                let message =
                    format!("tensor {} is not among the graph's {name}", map.tensor_index);
                report.error(format_args!("{place}.{name}"), message);
            }
        }
    }
}

/// Codes and buffers that nothing refers to.
fn unused(model: &Model, report: &mut Report) {
    let mut codes = vec![false; model.operator_codes.len()];
    let mut buffers = vec![false; model.buffers.len()];
    let mark = |flags: &mut [bool], index: u32| {
        if let Some(slot) = usize::try_from(index).ok().and_then(|i| flags.get_mut(i)) {
            *slot = true;
        }
    };
    mark(&mut buffers, 0);
    for graph in &model.subgraphs {
        graph.operators.iter().for_each(|op| mark(&mut codes, op.opcode_index));
        graph.tensors.iter().for_each(|t| mark(&mut buffers, t.buffer));
    }
    model.metadata.iter().for_each(|m| mark(&mut buffers, m.buffer));
    let older = model.metadata_buffer.iter().filter_map(|&b| u32::try_from(b).ok());
    older.for_each(|b| mark(&mut buffers, b));
    for (name, flags) in [("operator_codes", codes), ("buffers", buffers)] {
        for (i, _) in flags.iter().enumerate().filter(|(_, used)| !**used) {
            report.warn(format_args!("{name}[{i}]"), "is not used");
        }
    }
}
