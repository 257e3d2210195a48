//! Every tensor or every operator, one line or two each.

use std::fmt::Write;

use super::super::model::{Model, Operator, SubGraph};
use super::super::options::Options;
use super::super::options2::Options2;
use super::{WIDTH, printable, quantization, size};

/// Columns that the left part of a line may take.
const COLUMN_MAX: usize = 40;
/// Where the options of an operator start.
const OPTIONS_COLUMN: usize = 34;

/// Every tensor: index, name, type and shape, payload; its quantization on a line of its own.
pub fn list_tensors(model: &Model) -> String {
    let mut out = String::new();
    for (g, graph) in model.subgraphs.iter().enumerate() {
        title(&mut out, g, graph);
        let name = |t: &super::super::model::Tensor| printable(&t.name, COLUMN_MAX);
        let wide = graph.tensors.iter().map(|t| name(t).chars().count()).max().unwrap_or(0);
        for (i, tensor) in graph.tensors.iter().enumerate() {
            let kind = format!("{} {:?}", tensor.dtype, tensor.shape);
            let held = match model.payload(tensor) {
                Some(buffer) if !buffer.is_empty() => {
                    format!("{} in buffer {}", size(buffer.len()), tensor.buffer)
                }
                _ => String::new(),
            };
            let line = format!("{i:>6}  {:<wide$}  {kind:<24}  {held}", name(tensor));
            let _ = writeln!(out, "{}", line.trim_end());
            let grid = quantization(tensor.quantization.as_ref());
            if !grid.is_empty() {
                let _ = writeln!(out, "{:>8}{grid}", "");
            }
        }
    }
    out
}

/// Every operator: index, kind, options, and below them what it reads and computes.
pub fn list_operators(model: &Model) -> String {
    let mut out = String::new();
    for (g, graph) in model.subgraphs.iter().enumerate() {
        title(&mut out, g, graph);
        for (i, op) in graph.operators.iter().enumerate() {
            let kind =
                model.builtin(op).map_or_else(|| "(no code)".into(), |builtin| builtin.to_string());
            let line = format!("{i:>6}  {kind:<24}  {}", options(op));
            let _ = writeln!(out, "{}", line.trim_end());
            for (arrow, list) in [("<-", &op.inputs), ("->", &op.outputs)] {
                for &index in list {
                    let _ = writeln!(out, "{:>8}{arrow} {}", "", port(graph, index));
                }
            }
        }
    }
    out
}

fn title(out: &mut String, g: usize, graph: &SubGraph) {
    if g > 0 {
        out.push('\n');
    }
    let _ = writeln!(out, "graph {g} \"{}\"", printable(&graph.name, WIDTH - 12));
}

/// The options that are not what the schema means by leaving them out, over as many lines as needed.
fn options(op: &Operator) -> String {
    let usual = |fields: Option<Vec<_>>| fields.unwrap_or_default();
    let first = usual(Options::with_defaults(op.options.type_id()).map(|o| o.fields()));
    let second = usual(Options2::with_defaults(op.options_2.type_id()).map(|o| o.fields()));
    let fields = op.options.fields().into_iter().chain(op.options_2.fields());
    let unusual = fields.filter(|field| !first.contains(field) && !second.contains(field));
    let (mut text, mut column) = (String::new(), OPTIONS_COLUMN);
    for (name, value) in unusual {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let word = format!("{name}={}", printable(&value, 30));
        let wide = word.chars().count() + 1;
        if column + wide > WIDTH {
            let _ = write!(text, "\n{:OPTIONS_COLUMN$}", "");
            column = OPTIONS_COLUMN;
        } else if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word);
        column += wide;
    }
    text
}

fn port(graph: &SubGraph, index: i32) -> String {
    match graph.tensor(index) {
        Some(t) => {
            let name = printable(&t.name, COLUMN_MAX + 8);
            format!("{index:>5}  {name:<48}  {} {:?}", t.dtype, t.shape)
        }
        None if index == -1 => format!("{index:>5}  (left out)"),
        None => format!("{index:>5}  (no such tensor)"),
    }
}
