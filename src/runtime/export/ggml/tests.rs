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
