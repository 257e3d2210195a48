//! Files of dynamic extents at those of an input.

use crate::circle::*;
use BuiltinOperator as Op;

/// Adds two inputs, `x` dynamic along both of its axes and `y` along one, then goes on with `op`.
fn dynamic(op: Op, options: Options, rank: usize) -> Model {
    let mut model = Model::new("dynamic");
    let mut graph = SubGraph::new("main");
    let mut tensor = |name: &str, signature: &[i32]| {
        let mut tensor = Tensor::new(name, TensorType::Float32, vec![1; signature.len()]);
        tensor.shape_signature = Some(signature.to_vec());
        graph.add_tensor(tensor)
    };
    let (x, y) = (tensor("x", &[-1, -1]), tensor("y", &[-1, 1]));
    let (sum, z) = (tensor("sum", &[-1, -1]), tensor("z", &vec![-1; rank]));
    (graph.inputs, graph.outputs) = (vec![x, y], vec![z]);
    for (op, inputs, output, options) in
        [(Op::Add, vec![x, y], sum, Options::of(Op::Add)), (op, vec![sum], z, options)]
    {
        let code = model.opcode(op);
        graph.add_operator(Operator::new(code, inputs, vec![output], options));
    }
    model.subgraphs.push(graph);
    assert!(verify(&model).is_valid(), "{}", verify(&model));
    model
}

#[test]
fn every_dynamic_dimension_follows_from_the_inputs() {
    let reshape = |new_shape: &[i32]| Options::Reshape { new_shape: new_shape.to_vec() };
    let shapes = |op: Op, options: Options, rank: usize| {
        let given = [(0, vec![1, 5]), (1, vec![3, 1])];
        let model = resized(dynamic(op, options, rank), 0, &given).unwrap();
        assert!(verify(&model).is_clean(), "{}", verify(&model));
        let tensors = &model.subgraphs[0].tensors;
        assert!(tensors.iter().all(|tensor| tensor.shape_signature.is_none()));
        [tensors[0].shape.clone(), tensors[2].shape.clone(), tensors[3].shape.clone()]
    };
    let [x, sum, z] = shapes(Op::Neg, Options::Neg, 2);
    assert_eq!([x, sum, z], [[1, 5], [3, 5], [3, 5]]);
    assert_eq!(shapes(Op::Reshape, reshape(&[-1]), 1)[2], [15]);
    assert_eq!(shapes(Op::Reshape, reshape(&[5, -1]), 2)[2], [5, 3]);
}

#[test]
fn a_shape_that_does_not_follow_is_refused_by_name() {
    let refuse = |op: Op, options: Options, y: [i32; 2]| {
        let given = [(0, vec![2, 5]), (1, y.to_vec())];
        resized(dynamic(op, options, 2), 0, &given).unwrap_err().to_string()
    };
    assert_eq!(
        refuse(Op::Neg, Options::Neg, [3, 1]),
        "operators[0] ADD: operands [2, 5] and [3, 1] do not broadcast"
    );
    assert_eq!(
        refuse(Op::Reshape, Options::Reshape { new_shape: vec![] }, [2, 1]),
        "operators[1] RESHAPE: the dynamic shape of \"z\" does not follow"
    );
}
