//! Float linear layers with weights in the blocks of GGML: 32 elements of a row share a scale in
//! half precision. onert multiplies them without unpacking, its input rounded to 8 bits.

use crate::circle::{
    Buffer, BuiltinOperator as B, Model, Operator, Options, SubGraph, Tensor, TensorType,
};
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
/// becomes an ADD, as the runtime takes none beside such weights.
pub(super) fn pack(model: &mut Model, blocks: Blocks) {
    let Some(mut graph) = model.subgraphs.pop() else { return };
    let operators = std::mem::take(&mut graph.operators);
    // A table that is looked up stays as it is.
    let shared = |index: i32| {
        let reads = |op: &&Operator| op.inputs.contains(&index);
        operators.iter().filter(reads).any(|op| op.inputs.get(1) != Some(&index))
    };
    let mut packed = Vec::new();
    for operator in &operators {
        let &[_, weight, _] = &operator.inputs[..] else { continue };
        let linear = model.builtin(operator) == Some(B::FullyConnected);
        if linear && !packed.contains(&weight) && !shared(weight) {
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
        let (name, shape) = like.map(|t| (t.name.clone(), t.shape.clone())).unwrap_or_default();
        let product = Tensor::new(format!("{name}.product"), TensorType::Float32, shape);
        let product = graph.add_tensor(product);
        operator.inputs[2] = -1;
        operator.outputs[0] = product;
        graph.add_operator(operator);
        let code = model.opcode(B::Add);
        let options = Options::of(B::Add);
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
mod tests {
    use super::*;

    fn reals() -> Vec<f32> {
        (0..64).map(|i| ((i * 37 + 11) % 97) as f32 / 48.0 - 1.0).collect()
    }

    fn packed(blocks: Blocks) -> Vec<u8> {
        let mut model = Model::new("linear");
        let mut graph = SubGraph::new("main");
        let payload: Vec<u8> = reals().iter().flat_map(|x| x.to_le_bytes()).collect();
        let weight = model.add_buffer(Buffer::data(payload));
        let bias = model.add_buffer(Buffer::data(vec![0; 8]));
        let mut float = |name: &str, shape: &[i32], buffer| {
            graph.add_tensor(Tensor::new(name, TensorType::Float32, shape).with_buffer(buffer))
        };
        let (x, w) = (float("x", &[1, 32], 0), float("w", &[2, 32], weight));
        let (b, y) = (float("b", &[2], bias), float("y", &[1, 2], 0));
        let code = model.opcode(B::FullyConnected);
        let options = Options::of(B::FullyConnected);
        graph.add_operator(Operator::new(code, vec![x, w, b], vec![y], options));
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        model.subgraphs.push(graph);
        pack(&mut model, blocks);
        let report = crate::circle::verify(&model);
        assert!(report.is_valid(), "{report}");
        let graph = &model.subgraphs[0];
        let builtins: Vec<_> = graph.operators.iter().map(|op| model.builtin(op)).collect();
        assert_eq!(builtins, [Some(B::FullyConnected), Some(B::Add)]);
        assert_eq!(graph.operators[0].inputs[2], -1);
        model.constant(&graph.tensors[1]).unwrap().to_vec()
    }

    #[test]
    fn eight_bits_are_within_half_a_step() {
        let bytes = packed(Blocks::Q8);
        assert_eq!(bytes.len(), 2 * 34);
        for (block, reals) in bytes.chunks(34).zip(reals().chunks(32)) {
            let step = f16::from_le_bytes([block[0], block[1]]).to_f32();
            for (&code, real) in block[2..].iter().zip(reals) {
                let found = f32::from(code as i8) * step;
                assert!((found - real).abs() <= 0.51 * step, "{found} {real}");
            }
        }
    }

    #[test]
    fn four_bits_are_within_a_step_and_lie_in_halves() {
        let bytes = packed(Blocks::Q4);
        assert_eq!(bytes.len(), 2 * 18);
        for (block, reals) in bytes.chunks(18).zip(reals().chunks(32)) {
            let step = f16::from_le_bytes([block[0], block[1]]).to_f32();
            for (i, real) in reals.iter().enumerate() {
                let byte = block[2 + i % 16];
                let code = if i < 16 { byte & 15 } else { byte >> 4 };
                let found = (f32::from(code) - 8.0) * step;
                assert!((found - real).abs() <= 1.01 * step.abs(), "{i}: {found} {real}");
            }
        }
    }
}
