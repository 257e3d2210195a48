//! One page about a model.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::model::{Model, SubGraph};
use super::{WIDTH, printable, quantization, size};

/// What is in a model, on a page: counts, histograms, inputs and outputs. `title` names the file.
pub fn summarize(model: &Model, title: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, model, title);
    text
}

fn write(out: &mut String, model: &Model, title: &str) -> std::fmt::Result {
    let payload: u64 = model.buffers.iter().fold(0, |sum, b| sum.saturating_add(b.len()));
    writeln!(out, "{}", printable(title, WIDTH))?;
    writeln!(out, "  version      {}", model.version)?;
    if !model.description.is_empty() {
        writeln!(out, "  description  {}", printable(&model.description, WIDTH - 15))?;
    }
    writeln!(out, "  graphs       {}", model.subgraphs.len())?;
    writeln!(out, "  buffers      {}, {} of payload", model.buffers.len(), size(payload))?;
    for m in &model.metadata {
        writeln!(out, "  metadata     {}", printable(&m.name, WIDTH - 15))?;
    }
    for s in &model.signature_defs {
        writeln!(out, "  signature    {}", printable(&s.key, WIDTH - 15))?;
    }
    for (g, graph) in model.subgraphs.iter().enumerate() {
        let constants = graph.tensors.iter().filter(|t| is_constant(model, t)).count();
        writeln!(out, "\ngraph {g} \"{}\"", printable(&graph.name, WIDTH - 12))?;
        writeln!(
            out,
            "  tensors {}, of them constant {constants}; operators {}",
            graph.tensors.len(),
            graph.operators.len()
        )?;
        histograms(out, model, graph)?;
        ports(out, "inputs", graph, &graph.inputs)?;
        ports(out, "outputs", graph, &graph.outputs)?;
    }
    Ok(())
}

fn is_constant(model: &Model, tensor: &super::super::model::Tensor) -> bool {
    model.payload(tensor).is_some_and(|b| !b.is_empty())
}

/// Counts by name, the most frequent first.
fn ranked(names: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_insert(0) += 1);
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ranked
}

fn histograms(out: &mut String, model: &Model, graph: &SubGraph) -> std::fmt::Result {
    let operators = ranked(graph.operators.iter().map(|op| {
        model.builtin(op).map_or_else(|| "(no code)".into(), |builtin| builtin.to_string())
    }));
    let kinds = ranked(graph.tensors.iter().map(|t| t.dtype.to_string()));
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in &graph.tensors {
        let len = model.payload(tensor).map_or(0, |b| b.len());
        let sum = bytes.entry(tensor.dtype.to_string()).or_default();
        *sum = sum.saturating_add(len);
    }
    writeln!(out, "\n  {:<36}  element types", "operators")?;
    for row in 0..operators.len().max(kinds.len()) {
        let left = operators.get(row).map_or(String::new(), |(n, c)| format!("{n:<28} {c:>7}"));
        let right = kinds.get(row).map_or(String::new(), |(name, count)| {
            let held = bytes.get(name).copied().filter(|b| *b > 0);
            let held = held.map_or(String::new(), |b| format!("  {}", size(b)));
            format!("{name:<12} {count:>7}{held}")
        });
        writeln!(out, "{}", format!("  {left:<36}  {right}").trim_end())?;
    }
    Ok(())
}

fn ports(out: &mut String, title: &str, graph: &SubGraph, list: &[i32]) -> std::fmt::Result {
    writeln!(out, "\n  {title}")?;
    for &index in list {
        let Some(tensor) = graph.tensor(index) else {
            writeln!(out, "  {index:>5}  (no such tensor)")?;
            continue;
        };
        let kind = format!("{} {:?}", tensor.dtype, tensor.shape);
        let line = format!(
            "  {index:>5}  {:<34}  {kind:<24}  {}",
            printable(&tensor.name, 34),
            quantization(tensor.quantization.as_ref())
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
