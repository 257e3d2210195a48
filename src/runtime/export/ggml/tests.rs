use super::*;
use crate::circle::{Activation, Tensor};

fn reals() -> Vec<f32> {
    (0..64).map(|i| ((i * 37 + 11) % 97) as f32 / 48.0 - 1.0).collect()
}

/// A linear layer with a bias of -1, a RELU and a batch of any size.
fn linear() -> Model {
    let mut model = Model::new("linear");
    let mut graph = SubGraph::new("main");
    let payload: Vec<u8> = reals().iter().flat_map(|x| x.to_le_bytes()).collect();
    let weight = model.add_buffer(Buffer::data(payload));
    let bias = model.add_buffer(Buffer::data([-1.0_f32, -1.0].map(f32::to_le_bytes).concat()));
    let mut float = |name: &str, shape: &[i32], buffer| {
        graph.add_tensor(Tensor::new(name, TensorType::Float32, shape).with_buffer(buffer))
    };
    let (x, w) = (float("x", &[1, 32], 0), float("w", &[2, 32], weight));
    let (b, y) = (float("b", &[2], bias), float("y", &[1, 2], 0));
    let code = model.opcode(B::FullyConnected);
    let mut options = Options::of(B::FullyConnected);
    if let Options::FullyConnected { fused_activation, .. } = &mut options {
        *fused_activation = Activation::Relu;
    }
    graph.add_operator(Operator::new(code, vec![x, w, b], vec![y], options));
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph.tensors[0].shape_signature = Some(vec![-1, 32]);
    graph.tensors[3].shape_signature = Some(vec![-1, 2]);
    model.subgraphs.push(graph);
    model
}

fn packed(blocks: Blocks) -> Vec<u8> {
    let mut model = linear();
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

#[test]
fn an_activation_goes_behind_the_bias_and_what_is_between_is_as_dynamic() {
    let mut model = linear();
    pack(&mut model, Blocks::Q8);
    let graph = &model.subgraphs[0];
    let activations = graph.operators.iter().map(|op| match op.options {
        Options::FullyConnected { fused_activation, .. }
        | Options::Add { fused_activation, .. } => fused_activation,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(activations.collect::<Vec<_>>(), [Activation::None, Activation::Relu]);
    let product = graph.tensor(graph.operators[0].outputs[0]).unwrap();
    assert_eq!(
        (product.name.as_str(), &product.shape_signature),
        ("y.product", &Some(vec![-1, 2]))
    );
}

#[test]
fn weights_that_others_read_stay_as_they_are() {
    let another = |op: B, inputs: &[i32]| {
        let mut model = linear();
        let code = model.opcode(op);
        let graph = &mut model.subgraphs[0];
        let z = graph.add_tensor(Tensor::new("z", TensorType::Float32, [2, 32]));
        graph.add_operator(Operator::new(code, inputs.to_vec(), vec![z], Options::of(op)));
        graph.outputs.push(z);
        model
    };
    let mut given = linear();
    given.subgraphs[0].outputs.push(1);
    for mut model in [another(B::Mul, &[0, 1]), another(B::FullyConnected, &[1, 1, -1]), given] {
        let before = model.subgraphs[0].tensors[1].clone();
        pack(&mut model, Blocks::Q8);
        assert_eq!(model.subgraphs[0].tensors[1], before);
    }
}
