//! A graph of dynamic extents at those of its inputs.

use std::collections::BTreeSet;

use super::error::{Error, ErrorKind, Result};
use super::model::{Model, Tensor};
use super::operator::BuiltinOperator;
use super::verify::results;

/// The model with one graph at the shapes that are given for some of its inputs, by tensor. A dynamic
/// dimension of an input takes the extent given there, those of a result what its operator makes of
/// its operands; none is left.
///
/// # Errors
/// A dynamic result whose shape does not follow.
pub fn resized(mut model: Model, graph: usize, given: &[(i32, Vec<i32>)]) -> Result<Model> {
    let Some(file) = model.subgraphs.get_mut(graph) else { return Ok(model) };
    let operators = file.operators.clone();
    let computed: BTreeSet<i32> = operators.iter().flat_map(|op| &op.outputs).copied().collect();
    for (index, tensor) in (0..).zip(&mut file.tensors) {
        let given = given.iter().find(|(input, _)| *input == index);
        if is_dynamic(tensor) && !computed.contains(&index) {
            let signature = tensor.shape_signature.take().unwrap_or_default();
            let shape = given.map_or_else(|| tensor.shape.clone(), |(_, shape)| shape.clone());
            for ((extent, wanted), given) in tensor.shape.iter_mut().zip(signature).zip(shape) {
                *extent = if wanted < 0 { given } else { wanted };
            }
        }
    }
    for (i, op) in operators.iter().enumerate() {
        let file = &model.subgraphs[graph];
        let open = op.outputs.iter().filter_map(|&t| file.tensor(t)).find(|t| is_dynamic(t));
        let Some(open) = open else { continue };
        let shapes = results(&model, file, op).map_err(|contradiction| {
            let name = open.name.escape_debug();
            let unknown = || format!("the dynamic shape of \"{name}\" does not follow");
            let builtin = model.builtin(op).unwrap_or(BuiltinOperator::Unknown(0));
            let error = ErrorKind::Selection(contradiction.unwrap_or_else(unknown));
            Error::new(error).within(format_args!("operators[{i}] {builtin}"))
        })?;
        for (&output, shape) in op.outputs.iter().zip(shapes) {
            let slot = usize::try_from(output).ok();
            let tensor = slot.and_then(|t| model.subgraphs[graph].tensors.get_mut(t));
            if let Some(tensor) = tensor.filter(|tensor| is_dynamic(tensor)) {
                let extent = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
                (tensor.shape, tensor.shape_signature) =
                    (shape.into_iter().map(extent).collect(), None);
            }
        }
    }
    Ok(model)
}

fn is_dynamic(tensor: &Tensor) -> bool {
    tensor.shape_signature.iter().flatten().any(|&extent| extent < 0)
}
