//! Operators: arity, option tables, order of execution, and rules between their tensors.

use super::super::model::{Model, Operator, SubGraph, Tensor};
use super::super::operator::BuiltinOperator;
use super::super::options::Options;
use super::{Report, given, shapes};

/// How far a bias scale may be from input scale × weight scale, relative.
const BIAS_SCALE_TOLERANCE: f32 = 1e-3;

pub(super) fn check(model: &Model, graph: &SubGraph, place: &str, report: &mut Report) {
    let mut ready = given(model, graph);
    // Only a tensor that is computed at all can be computed too late.
    let mut computed = vec![false; ready.len()];
    let slot = |index: i32, len: usize| usize::try_from(index).ok().filter(|&i| i < len);
    let count = computed.len();
    for op in &graph.operators {
        op.outputs.iter().filter_map(|&t| slot(t, count)).for_each(|t| computed[t] = true);
    }
    for (i, op) in graph.operators.iter().enumerate() {
        let place = format!("{place}.operators[{i}]");
        for t in op.inputs.iter().filter_map(|&t| slot(t, count)) {
            if computed[t] && !ready[t] {
                report.error(&place, format!("reads tensor {t} before it is computed"));
            }
        }
        op.outputs.iter().filter_map(|&t| slot(t, count)).for_each(|t| ready[t] = true);
        let Some(builtin) = model.builtin(op) else { continue };
        let place = format!("{place} {builtin}");
        arity(builtin, op, &place, report);
        options(builtin, op, &place, report);
        ranks(graph, builtin, op, &place, report);
        bias(graph, builtin, op, &place, report);
        shapes::check(model, graph, builtin, op, &place, report);
        if let Some(message) = channels(graph, builtin, op) {
            report.warn(&place, message);
        }
    }
    codes(model, report);
}

/// Inputs (least, most) and outputs (least, most) of the operators that this project writes.
fn expected_arity(op: BuiltinOperator) -> Option<([usize; 2], [usize; 2])> {
    use BuiltinOperator::*;
    Some(match op {
        Neg | Rsqrt | Sqrt | Sin | Cos | Exp | Log | Abs | Logistic | Tanh | Relu | Relu6
        | Gelu | Softmax | Quantize | Dequantize | Cast | Square | LogSoftmax | HardSwish => {
            ([1, 1], [1, 1])
        }
        Add | Sub | Mul | Div | Pow | Maximum | Minimum | SquaredDifference | BatchMatmul
        | Transpose | Mean | Sum | Gather | GatherNd | ExpandDims | BroadcastTo | Pad | Cumsum
        | ArgMax | ArgMin | RmsNorm => ([2, 2], [1, 1]),
        Reshape => ([1, 2], [1, 1]),
        Squeeze => ([1, 1], [1, 1]),
        Slice | SelectV2 | Rope | PadV2 => ([3, 3], [1, 1]),
        StridedSlice => ([4, 4], [1, 1]),
        FullyConnected | Conv2d | DepthwiseConv2d => ([2, 3], [1, 1]),
        Concatenation | Pack => ([1, usize::MAX], [1, 1]),
        TopkV2 => ([2, 2], [2, 2]),
        Split => ([2, 2], [1, usize::MAX]),
        SplitV => ([3, 3], [1, usize::MAX]),
        _ => return None,
    })
}

fn arity(builtin: BuiltinOperator, op: &Operator, place: &str, report: &mut Report) {
    let Some((inputs, outputs)) = expected_arity(builtin) else { return };
    for (name, list, [least, most]) in
        [("inputs", &op.inputs, inputs), ("outputs", &op.outputs, outputs)]
    {
        if list.len() < least || list.len() > most {
            let expected = match (least, most) {
                (a, b) if a == b => a.to_string(),
                (a, usize::MAX) => format!("at least {a}"),
                (a, b) => format!("{a} to {b}"),
            };
            report.error(place, format!("{} {name}, expected {expected}", list.len()));
        }
    }
    let declared = match &op.options {
        Options::Split { num_splits } | Options::SplitV { num_splits } => *num_splits,
        _ => return,
    };
    if usize::try_from(declared).ok() != Some(op.outputs.len()) {
        report.error(place, format!("num_splits {declared}, but {} outputs", op.outputs.len()));
    }
}

fn options(builtin: BuiltinOperator, op: &Operator, place: &str, report: &mut Report) {
    let found = op.options.type_id();
    match builtin.options_type() {
        Some(expected) if found == 0 => {
            let table = Options::with_defaults(expected);
            let missing = format!("{} is missing", table.as_ref().map_or("UNKNOWN", Options::name));
            // Of one without fields nobody reads any; the peer leaves some out.
            match table.is_some_and(|table| table.fields().is_empty()) {
                true => report.warn(place, missing),
                false => report.error(place, format!("{missing}, on which onert crashes")),
            }
        }
        Some(expected) if found != expected => {
            report.error(place, format!("has {} (type {found})", op.options.name()));
        }
        Some(_) if matches!(op.options, Options::RmsNorm { epsilon } if epsilon == 0.0) => {
            report.warn(place, "epsilon is 0, for which runtimes take 1e-6");
        }
        _ => {}
    }
}

fn ranks(
    graph: &SubGraph,
    builtin: BuiltinOperator,
    op: &Operator,
    place: &str,
    report: &mut Report,
) {
    let rank = |list: &[i32], k: usize| Some(graph.tensor(*list.get(k)?)?.shape.len());
    if builtin == BuiltinOperator::BatchMatmul {
        let (a, b, c) = (rank(&op.inputs, 0), rank(&op.inputs, 1), rank(&op.outputs, 0));
        if let (Some(a), Some(b), Some(c)) = (a, b, c)
            && (a != b || a != c)
        {
            let what = format!("ranks {a} and {b} give rank {c}");
            report.warn(place, format!("{what}: runtimes refuse or miscompute unequal ranks"));
        }
    }
}

/// The one scale, or the scale of every channel.
fn scales(tensor: Option<&Tensor>) -> Option<&[f32]> {
    tensor?.quantization.as_ref().map(|q| q.scale.as_slice()).filter(|s| !s.is_empty())
}

fn bias(
    graph: &SubGraph,
    builtin: BuiltinOperator,
    op: &Operator,
    place: &str,
    report: &mut Report,
) {
    use BuiltinOperator::{Conv2d, DepthwiseConv2d, FullyConnected};
    if !matches!(builtin, FullyConnected | Conv2d | DepthwiseConv2d) {
        return;
    }
    let [x, w, b] = [0, 1, 2].map(|k| op.inputs.get(k).and_then(|&t| scales(graph.tensor(t))));
    let (Some([x]), Some(w), Some(b)) = (x, w, b) else { return };
    // The one scale of a weight may be repeated for every channel of the bias.
    if b.len() != w.len() && w.len() != 1 {
        return report.error(place, format!("{} bias scales, {} weight scales", b.len(), w.len()));
    }
    for (i, (&w, &b)) in w.iter().cycle().zip(b).enumerate() {
        let expected = x * w;
        if (b - expected).abs() > BIAS_SCALE_TOLERANCE * expected.abs() {
            let what = format!("bias scale[{i}] is {b:e}, input scale × weight scale {expected:e}");
            return report.error(place, what);
        }
    }
}

/// What is doubtful about an operand that has a scale for each index of an axis, where the kernels of
/// the operator apply one, or those of another axis: its reals are defined, and no kernel's.
fn channels(graph: &SubGraph, builtin: BuiltinOperator, op: &Operator) -> Option<String> {
    use BuiltinOperator::{Conv2d, DepthwiseConv2d, FullyConnected, Gather, RmsNorm};
    let (operand, axis) = match (builtin, &op.options) {
        (FullyConnected | Conv2d, _) => (1, Some(0)),
        (DepthwiseConv2d, _) => (1, Some(3)),
        // A row that is looked up comes with its scale.
        (Gather, Options::Gather { axis, .. }) => (0, Some(*axis)),
        (RmsNorm, _) => (1, None),
        _ => return None,
    };
    let tensor = graph.tensor(*op.inputs.get(operand)?)?;
    let q = tensor.quantization.as_ref().filter(|q| q.scale.len() > 1)?;
    let found = q.quantized_dimension;
    // One that does not fit the shape is an error of the tensor.
    let extent = usize::try_from(found).ok().and_then(|axis| tensor.shape.get(axis))?;
    if usize::try_from(*extent).ok()? != q.scale.len() || axis == Some(found) {
        return None;
    }
    let expected = axis.map_or("one scale".into(), |axis| format!("those of dimension {axis}"));
    let what = format!("operand {operand} has scales along dimension {found}");
    Some(format!("{what}, kernels apply {expected}"))
}

fn codes(model: &Model, report: &mut Report) {
    for (i, code) in model.operator_codes.iter().enumerate() {
        let place = format!("operator_codes[{i}] {}", code.builtin);
        let expected = code.builtin.deprecated_code();
        if code.deprecated_code != expected {
            let found = code.deprecated_code;
            let what = format!("deprecated_builtin_code {found}, expected {expected}");
            report.warn(&place, format!("{what}: loaders read another operator"));
        }
        if code.builtin == BuiltinOperator::Custom && code.custom_code.is_none() {
            report.error(&place, "has no custom_code");
        }
    }
}
