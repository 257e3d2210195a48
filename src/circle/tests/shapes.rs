//! Shapes that operands, constants and options of an operator contradict.

use crate::circle::*;
use BuiltinOperator as Op;

/// What an operator reads: a value of a shape, or a constant list.
enum Operand<'a> {
    Of(&'a [i32]),
    Is(&'a [i32]),
    Left,
}

use Operand::{Is, Left, Of};

/// What is found in a graph of one operator whose results have these shapes.
fn found(op: Op, options: Options, inputs: &[Operand<'_>], outputs: &[&[i32]]) -> String {
    let mut model = Model::new("one");
    let mut graph = SubGraph::new("main");
    let mut operands = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("x{i}");
        operands.push(match input {
            Of(shape) => graph.add_tensor(Tensor::new(name, TensorType::Float32, *shape)),
            Is(list) => {
                let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
                let buffer = model.add_buffer(Buffer::data(bytes));
                let shape = [i32::try_from(list.len()).unwrap()];
                let list = Tensor::new(name, TensorType::Int32, shape).with_buffer(buffer);
                graph.add_tensor(list)
            }
            Left => -1,
        });
    }
    let given = |&&t: &&i32| graph.tensor(t).is_some_and(|t| t.buffer == 0);
    let given: Vec<i32> = operands.iter().filter(given).copied().collect();
    let result =
        |(i, &shape)| graph.add_tensor(Tensor::new(format!("y{i}"), TensorType::Float32, shape));
    let results: Vec<i32> = outputs.iter().enumerate().map(result).collect();
    (graph.inputs, graph.outputs) = (given, results.clone());
    let code = model.opcode(op);
    graph.add_operator(Operator::new(code, operands, results, options));
    model.subgraphs.push(graph);
    let report = verify(&model);
    assert!(report.warnings.is_empty() && report.errors.len() < 2, "{op}: {report}");
    let message = report.errors.first().map(Finding::to_string).unwrap_or_default();
    let place = format!("subgraphs[0].operators[0] {op}: ");
    assert!(message.is_empty() || message.starts_with(&place), "{message}");
    message.replace(&place, "")
}

#[test]
fn a_reshape_gives_what_its_option_and_its_operand_say() {
    let reshape = |option: &[i32], operand: &[i32], output: &[i32]| {
        let options = Options::Reshape { new_shape: option.to_vec() };
        let inputs = [Of(&[2, 6]), Is(operand)];
        found(Op::Reshape, options, &inputs[..1 + usize::from(!operand.is_empty())], &[output])
    };
    for (option, operand, output, expected) in [
        (&[3, 4][..], &[3, -1][..], &[3, 4][..], ""),
        (&[-1], &[], &[12], ""),
        (&[], &[], &[4, 3], ""),
        (&[4, 3], &[], &[3, 4], "output 0 is [3, 4], expected [4, 3]"),
        (&[3, 4], &[2, -1], &[3, 4], "output 0 is [3, 4], expected [2, 6]"),
        (&[3, 5], &[], &[3, 5], "new_shape [3, 5] holds 15 elements, expected the 12 of [2, 6]"),
        (&[5, -1], &[], &[5, 2], "new_shape [5, -1] holds 10 elements, expected the 12 of [2, 6]"),
        (
            &[-1, -1],
            &[],
            &[3, 4],
            "new_shape [-1, -1] holds 144 elements, expected the 12 of [2, 6]",
        ),
        (&[], &[], &[3, 3], "output 0 is [3, 3] of 9 elements, expected the 12 of [2, 6]"),
    ] {
        assert_eq!(reshape(option, operand, output), expected);
    }
}

#[test]
fn movements_stay_within_their_operand_and_give_its_elements() {
    let plain = |op: Op, lists: &[&[i32]], output: &[i32]| {
        let lists = lists.iter().map(|list| Is(list));
        let inputs: Vec<Operand<'_>> = [Of(&[2, 6])].into_iter().chain(lists).collect();
        found(op, Options::of(op), &inputs, &[output])
    };
    for (op, lists, output, expected) in [
        (Op::Transpose, &[&[1, 0][..]][..], &[6, 2][..], ""),
        (Op::Transpose, &[&[1, 1]], &[6, 6], "perm [1, 1] is no order of the axes of [2, 6]"),
        (Op::Transpose, &[&[0, 1]], &[6, 2], "output 0 is [6, 2], expected [2, 6]"),
        (Op::Slice, &[&[1, 2], &[1, -1]], &[1, 4], ""),
        (Op::Slice, &[&[1, 2], &[1, 5]], &[1, 5], "5 from 2 are not within 6 of [2, 6]"),
        (Op::Slice, &[&[1, 2], &[1, 3]], &[1, 4], "output 0 is [1, 4], expected [1, 3]"),
        (Op::Slice, &[&[1], &[1]], &[1], "begin [1] and size [1] for the axes of [2, 6]"),
        (Op::StridedSlice, &[&[0, -4], &[9, 9], &[1, 2]], &[2, 2], ""),
        (Op::StridedSlice, &[&[0, -1], &[2, -9], &[1, -2]], &[2, 3], ""),
        (Op::StridedSlice, &[&[1], &[2], &[1]], &[1, 6], ""),
        (
            Op::StridedSlice,
            &[&[0, 1], &[2], &[1]],
            &[2, 5],
            "begin [0, 1], end [2], strides [1] for the axes of [2, 6]",
        ),
        (
            Op::StridedSlice,
            &[&[0, 1], &[2, 6], &[1, 2]],
            &[2, 2],
            "output 0 is [2, 2], expected [2, 3]",
        ),
        (
            Op::StridedSlice,
            &[&[0, 1], &[2, 6], &[1, 0]],
            &[2, 5],
            "strides [1, 0], expected none of 0",
        ),
        (Op::Pad, &[&[0, 0, 1, 2]], &[2, 9], ""),
        (Op::Pad, &[&[0, 0, 1, 2]], &[2, 8], "output 0 is [2, 8], expected [2, 9]"),
        (Op::Pad, &[&[0, 0, -1, 2]], &[2, 7], "paddings [0, 0, -1, 2], expected 0 or more"),
        (Op::Pad, &[&[1, 2]], &[2, 9], "paddings [1, 2] for the axes of [2, 6]"),
        (Op::Mean, &[&[-1]], &[2, 1], ""),
        (Op::Mean, &[&[1]], &[2], "output 0 is [2], expected [2, 1]"),
        (Op::Sum, &[&[2]], &[2, 1], "axis 2, [2, 6] has 2"),
        (Op::Sum, &[&[]], &[1, 1], ""),
        (Op::ExpandDims, &[&[-1]], &[2, 6, 1], ""),
        (Op::ExpandDims, &[&[1]], &[2, 6, 1], "output 0 is [2, 6, 1], expected [2, 1, 6]"),
        (Op::BroadcastTo, &[&[3, 2, 6]], &[3, 2, 6], ""),
        (Op::BroadcastTo, &[&[3, 6]], &[3, 6], "operands [2, 6] and [3, 6] do not broadcast"),
        (Op::Softmax, &[], &[6, 2], "output 0 is [6, 2], expected [2, 6]"),
    ] {
        assert_eq!(plain(op, lists, output), expected, "{op} {lists:?}");
    }
    let shrunk = |begin: &[i32]| {
        let mut options = Options::of(Op::StridedSlice);
        let Options::StridedSlice { shrink_axis_mask, .. } = &mut options else { panic!() };
        *shrink_axis_mask = 1;
        let inputs = [Of(&[2, 6]), Is(begin), Is(&[1, 6]), Is(&[1, 1])];
        found(Op::StridedSlice, options, &inputs, &[&[6]])
    };
    assert_eq!(shrunk(&[-1, 0]), "");
    assert_eq!(shrunk(&[2, 0]), "begin 2 is not within axis 0 of [2, 6]");
    let dropped = Options::Reducer { keep_dims: false };
    assert_eq!(found(Op::Mean, dropped, &[Of(&[2, 6]), Is(&[0])], &[&[6]]), "");
}

#[test]
fn operands_broadcast_to_their_result() {
    let sum = |b: &[i32], output: &[i32]| {
        found(Op::Add, Options::of(Op::Add), &[Of(&[2, 1, 6]), Of(b)], &[output])
    };
    assert_eq!(sum(&[], &[2, 1, 6]), "");
    assert_eq!(sum(&[3, 1], &[2, 3, 6]), "");
    assert_eq!(sum(&[3, 1], &[2, 1, 6]), "output 0 is [2, 1, 6], expected [2, 3, 6]");
    assert_eq!(sum(&[3, 5], &[2, 3, 6]), "operands [2, 1, 6] and [3, 5] do not broadcast");
}

#[test]
fn parts_and_wholes_have_the_same_extents() {
    let concat = |axis, second: &[i32], output: &[i32]| {
        let options = Options::Concatenation { axis, fused_activation: Activation::None };
        found(Op::Concatenation, options, &[Of(&[2, 6]), Of(second)], &[output])
    };
    assert_eq!(concat(-1, &[2, 3], &[2, 9]), "");
    assert_eq!(concat(1, &[2, 3], &[2, 8]), "output 0 is [2, 8], expected [2, 9]");
    assert_eq!(concat(0, &[2, 3], &[4, 6]), "operand 1 is [2, 3], the first [2, 6], along axis 0");
    assert_eq!(concat(2, &[2, 6], &[4, 6]), "axis 2, [2, 6] has 2");
    let split = |axis, outputs: &[&[i32]]| {
        let num_splits = i32::try_from(outputs.len()).unwrap();
        found(Op::Split, Options::Split { num_splits }, &[Is(&[axis]), Of(&[2, 6])], outputs)
    };
    assert_eq!(split(1, &[&[2, 3], &[2, 3]]), "");
    assert_eq!(split(1, &[&[2, 3], &[2, 2]]), "output 1 is [2, 2], expected [2, 3]");
    assert_eq!(split(0, &[&[1, 6][..]; 3]), "3 equal parts of the 2 of axis 0 of [2, 6]");
    let split_v = |sizes: &[i32], outputs: &[&[i32]]| {
        let num_splits = i32::try_from(outputs.len()).unwrap();
        let inputs = [Of(&[2, 6]), Is(sizes), Is(&[-1])];
        found(Op::SplitV, Options::SplitV { num_splits }, &inputs, outputs)
    };
    assert_eq!(split_v(&[2, -1], &[&[2, 2], &[2, 4]]), "");
    assert_eq!(split_v(&[2, 4], &[&[2, 4], &[2, 4]]), "output 0 is [2, 4], expected [2, 2]");
    assert_eq!(
        split_v(&[2, 3], &[&[2, 2], &[2, 3]]),
        "sizes [2, 3] for 2 parts of the 6 of axis 1 of [2, 6]"
    );
    let gather = |axis, at: &[i32], output: &[i32]| {
        let options = Options::Gather { axis, batch_dims: 0 };
        found(Op::Gather, options, &[Of(&[2, 6]), Is(at)], &[output])
    };
    assert_eq!(gather(1, &[0, 5, 5], &[2, 3]), "");
    assert_eq!(gather(0, &[0, 1, 1], &[2, 3]), "output 0 is [2, 3], expected [3, 6]");
    assert_eq!(gather(1, &[0, 6], &[2, 2]), "position 6 is not within axis 1 of [2, 6]");
    assert_eq!(gather(2, &[0], &[2, 1]), "axis 2, [2, 6] has 2");
}

#[test]
fn factors_of_products_fit_each_other() {
    let linear = |keep_num_dims, weights: &[i32], bias: Operand<'_>, output: &[i32]| {
        let mut options = Options::of(Op::FullyConnected);
        let Options::FullyConnected { keep_num_dims: keep, .. } = &mut options else { panic!() };
        *keep = keep_num_dims;
        found(Op::FullyConnected, options, &[Of(&[1, 2, 6]), Of(weights), bias], &[output])
    };
    assert_eq!(linear(true, &[4, 6], Of(&[4]), &[1, 2, 4]), "");
    assert_eq!(linear(false, &[4, 6], Left, &[2, 4]), "");
    assert_eq!(
        linear(true, &[6, 4], Left, &[1, 2, 4]),
        "weights [6, 4] for rows of 4, found [1, 2, 6]"
    );
    assert_eq!(
        linear(true, &[5, 6], Left, &[1, 2, 4]),
        "output 0 is [1, 2, 4], expected [1, 2, 5]"
    );
    assert_eq!(
        linear(true, &[4, 6], Of(&[6]), &[1, 2, 4]),
        "a bias [6], expected 4 elements for weights [4, 6]"
    );
    let product = |adjoint_rhs, b: &[i32], output: &[i32]| {
        let mut options = Options::of(Op::BatchMatmul);
        let Options::BatchMatMul { adjoint_rhs: adjoint, .. } = &mut options else { panic!() };
        *adjoint = adjoint_rhs;
        found(Op::BatchMatmul, options, &[Of(&[3, 2, 6]), Of(b)], &[output])
    };
    assert_eq!(product(false, &[1, 6, 4], &[3, 2, 4]), "");
    assert_eq!(product(true, &[3, 4, 6], &[3, 2, 4]), "");
    assert_eq!(
        product(true, &[3, 6, 4], &[3, 2, 4]),
        "[3, 2, 6] times [3, 4, 6]: the second has 4 rows, expected 6"
    );
    assert_eq!(product(false, &[3, 6, 4], &[3, 2, 6]), "output 0 is [3, 2, 6], expected [3, 2, 4]");
}

#[test]
fn what_is_dynamic_or_not_constant_contradicts_nothing() {
    let mut model = Model::new("dynamic");
    let mut graph = SubGraph::new("main");
    let mut x = Tensor::new("x", TensorType::Float32, [1, 6]);
    x.shape_signature = Some(vec![-1, 6]);
    let y = Tensor::new("y", TensorType::Float32, [3, 2]);
    (graph.inputs, graph.outputs) = (vec![graph.add_tensor(x)], vec![graph.add_tensor(y)]);
    let options = Options::Reshape { new_shape: vec![-1, 2] };
    graph.add_operator(Operator::new(model.opcode(Op::Reshape), vec![0], vec![1], options));
    model.subgraphs.push(graph);
    assert!(verify(&model).is_clean(), "{}", verify(&model));
    let given = [Of(&[2, 6]), Of(&[2])];
    let options = Options::Reshape { new_shape: Vec::new() };
    assert_eq!(found(Op::Reshape, options, &given, &[&[4, 3]]), "");
}

#[test]
fn only_axes_of_extent_1_are_squeezed() {
    let squeeze = |dims: &[i32], output: &[i32]| {
        let options = Options::Squeeze { squeeze_dims: dims.to_vec() };
        found(Op::Squeeze, options, &[Of(&[2, 1, 3, 1])], &[output])
    };
    assert_eq!(squeeze(&[-3], &[2, 3, 1]), "");
    assert_eq!(squeeze(&[], &[2, 3]), "");
    assert_eq!(squeeze(&[1], &[3, 2, 1]), "output 0 is [3, 2, 1], expected [2, 3, 1]");
    assert_eq!(
        squeeze(&[0], &[1, 3, 1]),
        "squeeze_dims [0] of [2, 1, 3, 1], expected axes of extent 1"
    );
}

#[test]
fn a_convolution_counts_its_windows_and_kernels() {
    let conv = |padding: Padding, kernel: &[i32], bias: Operand<'_>, output: &[i32]| {
        let mut options = Options::of(Op::Conv2d);
        let Options::Conv2d { padding: own, stride_w, dilation_h_factor, .. } = &mut options else {
            panic!()
        };
        (*own, *stride_w, *dilation_h_factor) = (padding, 2, 2);
        found(Op::Conv2d, options, &[Of(&[1, 5, 6, 4]), Of(kernel), bias], &[output])
    };
    let (same, valid) = (Padding::Same, Padding::Valid);
    assert_eq!(conv(same, &[8, 3, 3, 4], Left, &[1, 5, 3, 8]), "");
    assert_eq!(conv(valid, &[8, 3, 3, 4], Of(&[8]), &[1, 1, 2, 8]), "");
    // groups
    assert_eq!(conv(valid, &[8, 1, 1, 2], Left, &[1, 5, 3, 8]), "");
    for (kernel, bias, output, expected) in [
        (&[8, 1, 1, 4], Left, &[1, 8, 5, 3], "output 0 is [1, 8, 5, 3], expected [1, 5, 3, 8]"),
        (
            &[8, 1, 1, 3],
            Left,
            &[1, 5, 3, 8],
            "a kernel [8, 1, 1, 3] over the 4 channels of [1, 5, 6, 4]",
        ),
        (
            &[8, 1, 1, 4],
            Of(&[4]),
            &[1, 5, 3, 8],
            "a bias [4], expected 8 elements for weights [8, 1, 1, 4]",
        ),
    ] {
        assert_eq!(conv(same, kernel, bias, output), expected);
    }
    let mut options = Options::of(Op::DepthwiseConv2d);
    let Options::DepthwiseConv2d { padding, .. } = &mut options else { panic!() };
    *padding = valid;
    let inputs = [Of(&[1, 5, 6, 4]), Of(&[1, 3, 2, 8])];
    let depthwise =
        |output: &[i32]| found(Op::DepthwiseConv2d, options.clone(), &inputs, &[output]);
    assert_eq!(depthwise(&[1, 3, 5, 8]), "");
    assert_eq!(depthwise(&[1, 3, 5, 1]), "output 0 is [1, 3, 5, 1], expected [1, 3, 5, 8]");
}

#[test]
fn a_tensor_without_elements_needs_no_payload() {
    let mut model = Model::new("scalar");
    let mut graph = SubGraph::new("main");
    let x = graph.add_tensor(Tensor::new("x", TensorType::Float32, [1]));
    let shape = graph.add_tensor(Tensor::new("shape", TensorType::Int32, [0]));
    let y = graph.add_tensor(Tensor::new("y", TensorType::Float32, []));
    let code = model.opcode(Op::Reshape);
    let options = Options::Reshape { new_shape: Vec::new() };
    graph.add_operator(Operator::new(code, vec![x, shape], vec![y], options));
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    model.subgraphs.push(graph);
    assert!(verify(&model).is_clean(), "{}", verify(&model));
    let part = extract(&model, 0..=0).unwrap();
    assert_eq!(part.subgraphs[0].inputs.len(), 1);
}
