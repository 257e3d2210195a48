//! Float linear layers with weights in the blocks of GGML: 32 elements of a row share a scale in
//! half precision. onert multiplies them without unpacking, its input rounded to 8 bits.

use crate::circle::{Buffer, BuiltinOperator as B, Model, Operator, Options, SubGraph, TensorType};
use half::f16;

/// Elements of a block.
const BLOCK: usize = 32;

/// How weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// 8 bits an element, 34 bytes a block.
    Q8,
    /// 4 bits an element, 18 bytes a block.
    Q4,
}

/// Packs the constant weights of every float linear layer whose rows are whole blocks. A bias
/// becomes an ADD, as the runtime takes none beside such weights; an activation goes with it.
pub(super) fn pack(model: &mut Model, blocks: Blocks) {
    let Some(mut graph) = model.subgraphs.pop() else { return };
    let operators = std::mem::take(&mut graph.operators);
    let linear: Vec<bool> =
        operators.iter().map(|op| model.builtin(op) == Some(B::FullyConnected)).collect();
    // What is also looked up, multiplied or given as a result stays as it is.
    let shared = |index: i32| {
        let mut readers =
            operators.iter().zip(&linear).filter(|(op, _)| op.inputs.contains(&index));
        let weighs = |op: &Operator| (0..).zip(&op.inputs).all(|(k, &i)| (i == index) == (k == 1));
        readers.any(|(op, linear)| !linear || !weighs(op))
    };
    let mut packed = Vec::new();
    for (operator, _) in operators.iter().zip(&linear).filter(|(_, linear)| **linear) {
        let &[_, weight, _] = &operator.inputs[..] else { continue };
        if !packed.contains(&weight) && !shared(weight) && !graph.outputs.contains(&weight) {
            packed.extend(convert(model, &mut graph, weight, blocks));
        }
    }
    for mut operator in operators {
        let bias = match operator.inputs[..] {
            [_, weight, bias] if bias != -1 && packed.contains(&weight) => bias,
            _ => {
                graph.add_operator(operator);
                continue;
            }
        };
        let output = operator.outputs[0];
        let like = graph.tensor(output);
        let mut product = like.cloned().expect("invariant: a verified model has the result");
        product.name.push_str(".product");
        let product = graph.add_tensor(product);
        operator.inputs[2] = -1;
        operator.outputs[0] = product;
        let mut options = Options::of(B::Add);
        if let (
            Options::FullyConnected { fused_activation: own, .. },
            Options::Add { fused_activation, .. },
        ) = (&mut operator.options, &mut options)
        {
            std::mem::swap(own, fused_activation);
        }
        graph.add_operator(operator);
        let code = model.opcode(B::Add);
        graph.add_operator(Operator::new(code, vec![product, bias], vec![output], options));
    }
    model.subgraphs.push(graph);
}

/// Packs one weight; its index if it could be.
fn convert(model: &mut Model, graph: &mut SubGraph, index: i32, blocks: Blocks) -> Option<i32> {
    let tensor = graph.tensors.get_mut(usize::try_from(index).ok()?)?;
    let width = usize::try_from(*tensor.shape.last()?).ok()?;
    if tensor.dtype != TensorType::Float32 || !width.is_multiple_of(BLOCK) {
        return None;
    }
    let bytes = model.constant(tensor)?;
    let reals: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let mut payload = Vec::new();
    for block in reals.chunks(BLOCK) {
        match blocks {
            Blocks::Q8 => eight(block, &mut payload),
            Blocks::Q4 => four(block, &mut payload),
        }
    }
    tensor.dtype = match blocks {
        Blocks::Q8 => TensorType::GgmlQ8_0,
        Blocks::Q4 => TensorType::GgmlQ4_0,
    };
    tensor.buffer = model.add_buffer(Buffer::data(payload));
    Some(index)
}

/// The scale as stored, and what values are multiplied by.
fn scale(step: f32, out: &mut Vec<u8>) -> f32 {
    let stored = f16::from_f32(step);
    out.extend_from_slice(&stored.to_le_bytes());
    let step = stored.to_f32();
    if step == 0.0 { 0.0 } else { step.recip() }
}

fn eight(block: &[f32], out: &mut Vec<u8>) {
    let greatest = block.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let inverse = scale(greatest / 127.0, out);
    out.extend(block.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
}

fn four(block: &[f32], out: &mut Vec<u8>) {
    // The element of greatest size becomes -8, the end that the codes reach.
    let extreme = block.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max });
    let inverse = scale(extreme / -8.0, out);
    let code = |x: f32| (x * inverse + 8.0).round().clamp(0.0, 15.0) as u8;
    let (low, high) = block.split_at(BLOCK / 2);
    out.extend(low.iter().zip(high).map(|(&low, &high)| code(low) | code(high) << 4));
}

#[cfg(test)]
mod tests;
