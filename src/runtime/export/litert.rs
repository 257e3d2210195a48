//! What LiteRT does not have, in terms of what it has.

use super::Error;
use crate::circle::{
    Buffer, BuiltinOperator as B, Model, Operator, Options, SubGraph, Tensor, TensorType,
};

/// Epsilon where a file leaves it out, as onert reads it.
const EPSILON: f32 = 1e-6;

/// Decomposes RMS_NORM; raises the versions of operators that LiteRT has in later ones only.
pub(super) fn rewrite(model: &mut Model) -> Result<(), Error> {
    let Some(mut graph) = model.subgraphs.pop() else { return Ok(()) };
    let operators = std::mem::take(&mut graph.operators);
    for (index, operator) in operators.into_iter().enumerate() {
        match (model.builtin(&operator), &operator.options) {
            (Some(B::RmsNorm), &Options::RmsNorm { epsilon }) => {
                let place = |message: String| Error::Operator {
                    index,
                    operator: "RMS_NORM".into(),
                    message,
                };
                let epsilon = if epsilon == 0.0 { EPSILON } else { epsilon };
                rms_norm(model, &mut graph, &operator, epsilon).map_err(place)?;
            }
            _ => graph.add_operator(operator),
        }
    }
    for code in &mut model.operator_codes {
        if code.builtin == B::BroadcastTo {
            code.version = code.version.max(2);
        }
    }
    model.subgraphs.push(graph);
    Ok(())
}

/// γ x rsqrt(mean(x x) + ε)
fn rms_norm(
    model: &mut Model,
    graph: &mut SubGraph,
    operator: &Operator,
    epsilon: f32,
) -> Result<(), String> {
    let (&[x, gamma], &[out]) = (&operator.inputs[..], &operator.outputs[..]) else {
        return Err("expected 2 inputs and 1 output".into());
    };
    let like = graph.tensor(x).cloned().ok_or("has no input")?;
    let name = graph.tensor(out).map(|t| t.name.clone()).unwrap_or_default();
    if like.dtype != TensorType::Float32 {
        return Err(format!("is decomposed in float only (--qdq), found {}", like.dtype));
    }
    let rank = like.shape.len();
    let last = i32::try_from(rank).unwrap_or(0) - 1;
    let mut constant = |what: &str, dtype, shape: Vec<i32>, bytes: [u8; 4]| {
        let buffer = model.add_buffer(Buffer::data(bytes.to_vec()));
        graph.add_tensor(Tensor::new(format!("{name}.{what}"), dtype, shape).with_buffer(buffer))
    };
    let axis = constant("axis", TensorType::Int32, vec![1], last.to_le_bytes());
    let epsilon = constant("epsilon", TensorType::Float32, vec![], epsilon.to_le_bytes());
    let mut value = |what: &str, whole: bool| {
        let name = format!("{name}.{what}");
        let mut tensor = Tensor::new(name, TensorType::Float32, like.shape.clone());
        tensor.shape_signature = like.shape_signature.clone();
        if !whole {
            let lists = std::iter::once(&mut tensor.shape).chain(&mut tensor.shape_signature);
            lists.filter_map(|list| list.last_mut()).for_each(|extent| *extent = 1);
        }
        graph.add_tensor(tensor)
    };
    let square = value("square", true);
    let mean = value("mean_square", false);
    let shifted = value("add_epsilon", false);
    let inverse = value("inverse", false);
    let normed = value("normed", true);
    for (builtin, inputs, output) in [
        (B::Mul, vec![x, x], square),
        (B::Mean, vec![square, axis], mean),
        (B::Add, vec![mean, epsilon], shifted),
        (B::Rsqrt, vec![shifted], inverse),
        (B::Mul, vec![x, inverse], normed),
        (B::Mul, vec![normed, gamma], out),
    ] {
        let code = model.opcode(builtin);
        graph.add_operator(Operator::new(code, inputs, vec![output], Options::of(builtin)));
    }
    Ok(())
}
