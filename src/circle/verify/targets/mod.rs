//! What is valid, yet known to fail, crash or compute nonsense in a runtime. Measured on onert 0.1.0
//! and 0.2.0.dev250922 and LiteRT 2.3.0 (`docs/runtimes.md`).

mod litert;
mod onert;

use super::super::model::{Model, Operator, SubGraph, Tensor};
use super::super::operator::BuiltinOperator;
use super::super::options::Options;
use super::super::types::TensorType;
use super::super::write::Format;
use super::{Report, Target};
use BuiltinOperator::*;

pub(super) fn check(
    model: &Model,
    graph: &SubGraph,
    target: Target,
    place: &str,
    report: &mut Report,
) {
    if place == "subgraphs[0]" {
        match target {
            Target::One if model.version != Format::Circle.version() => {
                report.warn("version", format!("is {}, Circle files have 0", model.version));
            }
            Target::One => {}
            Target::Onert => onert::model(model, report),
            Target::Litert => litert::model(model, report),
        }
    }
    match target {
        Target::One => return,
        Target::Onert => {
            onert::ports(graph, place, report);
            tensors(graph, place, report, onert::tensor);
        }
        Target::Litert => tensors(graph, place, report, litert::tensor),
    }
    for (i, op) in graph.operators.iter().enumerate() {
        let Some(builtin) = model.builtin(op) else { continue };
        let trap = match target {
            Target::One => None,
            Target::Onert => onert::operator(graph, builtin, op),
            Target::Litert => litert::operator(graph, builtin, op),
        };
        let place = format!("{place}.operators[{i}] {builtin}");
        for trap in trap.into_iter().chain(defaults(&op.options).map(String::from)) {
            report.warn(&place, trap);
        }
    }
}

fn tensors(
    graph: &SubGraph,
    place: &str,
    report: &mut Report,
    trap: fn(&Tensor) -> Option<String>,
) {
    for (i, tensor) in graph.tensors.iter().enumerate() {
        if let Some(message) = trap(tensor) {
            report.warn(format_args!("{place}.tensors[{i}]"), message);
        }
    }
}

/// Options left to the schema's defaults, which no one means.
fn defaults(options: &Options) -> Option<&'static str> {
    match options {
        Options::Softmax { beta: 0.0 } => {
            Some("beta is 0, the schema's default: all weights equal")
        }
        Options::RmsNorm { epsilon: 0.0 } => {
            Some("epsilon is 0, the schema's default, which onert takes for 1e-6")
        }
        Options::Conv2d { stride_w: 0, .. } | Options::Conv2d { stride_h: 0, .. } => {
            Some("a stride is 0, the schema's default")
        }
        _ => None,
    }
}

/// The type an operator works in: that of its first output, or of its first input where the
/// operator's purpose is to change the type.
fn working_type(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<TensorType> {
    let list = match builtin {
        Quantize | Dequantize | Cast | ArgMax => &op.inputs,
        _ => &op.outputs,
    };
    Some(graph.tensor(*list.first()?)?.dtype)
}

fn input<'a>(graph: &'a SubGraph, op: &Operator, k: usize) -> Option<&'a Tensor> {
    graph.tensor(*op.inputs.get(k)?)
}

fn output<'a>(graph: &'a SubGraph, op: &Operator) -> Option<&'a Tensor> {
    graph.tensor(*op.outputs.first()?)
}

fn per_channel(tensor: &Tensor) -> bool {
    tensor.quantization.as_ref().is_some_and(|q| q.scale.len() > 1)
}
