//! Parts of models.

use super::sample::{PEER_BLOCK, small};
use crate::circle::*;

fn names(model: &Model, list: &[i32]) -> Vec<String> {
    list.iter().map(|&t| model.subgraphs[0].tensor(t).unwrap().name.clone()).collect()
}

fn refusal(result: Result<Model>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Selection(_)));
    error.to_string()
}

#[test]
fn a_range_of_operators() {
    let part = extract(&small(), 1..=1).unwrap();
    let graph = &part.subgraphs[0];
    assert_eq!(names(&part, &graph.inputs), ["layer"]);
    assert_eq!(names(&part, &graph.outputs), ["sum"]);
    assert_eq!((graph.tensors.len(), part.buffers.len(), part.operator_codes.len()), (2, 1, 1));
    assert!(verify(&part).is_clean());
}

#[test]
fn constants_come_along() {
    let part = extract(&small(), 0..=1).unwrap();
    assert_eq!(names(&part, &part.subgraphs[0].inputs), ["x"]);
    assert_eq!(part.buffers.iter().map(Buffer::len).collect::<Vec<_>>(), [0, 32, 16]);
    assert!(verify(&part).is_clean());
}

#[test]
fn inputs_and_outputs_of_the_caller_keep_its_order() {
    let mut model = Model::new("two");
    let mut graph = SubGraph::new("main");
    for name in ["x", "y", "first", "second", "unread"] {
        graph.add_tensor(Tensor::new(name, TensorType::Float32, vec![2]));
    }
    (graph.inputs, graph.outputs) = (vec![0, 1], vec![3, 2]);
    let opcode = model.opcode(BuiltinOperator::Add);
    for (reads, makes) in [([1, 0], 2), ([2, 1], 3), ([0, 0], 4)] {
        let options = Options::of(BuiltinOperator::Add);
        graph.add_operator(Operator::new(opcode, reads.to_vec(), vec![makes], options));
    }
    model.subgraphs.push(graph);
    let part = extract(&model, 0..=2).unwrap();
    assert_eq!(names(&part, &part.subgraphs[0].inputs), ["x", "y"]);
    assert_eq!(names(&part, &part.subgraphs[0].outputs), ["second", "first"]);
    let unread = extract(&model, 2..=2).unwrap();
    assert_eq!(names(&unread, &unread.subgraphs[0].outputs), ["unread"]);
}

#[test]
fn between_tensors() {
    let part = extract_between(&small(), &["layer"], &["probabilities"]).unwrap();
    assert_eq!(names(&part, &part.subgraphs[0].inputs), ["layer"]);
    assert_eq!(part.subgraphs[0].operators.len(), 2);
    let all = extract_between(&small(), &[], &["probabilities"]).unwrap();
    assert_eq!(all, small());
}

#[test]
fn a_constant_that_is_taken_as_given_is_an_input_without_payload() {
    let part = extract_between(&small(), &["layer.weight"], &["layer"]).unwrap();
    assert_eq!(names(&part, &part.subgraphs[0].inputs), ["x", "layer.weight"]);
    assert_eq!(part.buffers.iter().map(Buffer::len).collect::<Vec<_>>(), [0, 16]);
    assert!(verify(&part).is_clean());
}

#[test]
fn a_result_is_not_both_given_and_computed_beside_another() {
    let mut model = Model::new("split");
    let mut graph = SubGraph::new("main");
    let axis = model.add_buffer(Buffer::data(1_i32.to_le_bytes().to_vec()));
    for (name, width) in [("x", 4), ("a", 2), ("b", 2), ("sum", 2)] {
        graph.add_tensor(Tensor::new(name, TensorType::Float32, [1, width]));
    }
    let axis = Tensor::new("axis", TensorType::Int32, []).with_buffer(axis);
    let axis = graph.add_tensor(axis);
    for (op, inputs, outputs) in [
        (BuiltinOperator::Split, vec![axis, 0], vec![1, 2]),
        (BuiltinOperator::Add, vec![1, 2], vec![3]),
    ] {
        let mut options = Options::of(op);
        if let Options::Split { num_splits } = &mut options {
            *num_splits = 2;
        }
        graph.add_operator(Operator::new(model.opcode(op), inputs, outputs, options));
    }
    (graph.inputs, graph.outputs) = (vec![0], vec![3]);
    model.subgraphs.push(graph);
    assert_eq!(
        refusal(extract_between(&model, &["a"], &["sum"])),
        "\"a\" comes of an operator whose other results are needed: take all as given or none"
    );
    let part = extract_between(&model, &["a", "b"], &["sum"]).unwrap();
    assert_eq!(names(&part, &part.subgraphs[0].inputs), ["a", "b"]);
}

#[test]
fn every_part_of_a_peer_file_is_valid() {
    let model = read(PEER_BLOCK).unwrap();
    let count = model.subgraphs[0].operators.len();
    for first in 0..count {
        for last in first..count {
            let part = extract(&model, first..=last).unwrap();
            let report = verify(&part);
            assert!(report.is_clean(), "{first}..={last}\n{report}");
            assert_eq!(read(&to_bytes(&part).unwrap()).unwrap(), part);
        }
    }
}

#[test]
fn impossible_parts_are_refused() {
    let model = small();
    assert_eq!(refusal(extract(&model, 2..=3)), "operators 2-3 of 3, counted from 0");
    let unknown = extract_between(&model, &["y"], &["sum"]);
    assert_eq!(refusal(unknown), "no tensor is named \"y\": inspect --json lists them");
    let backwards = extract_between(&model, &["probabilities"], &["sum"]);
    assert_eq!(refusal(backwards), "the result does not depend on \"probabilities\"");
    let nothing = extract_between(&model, &["sum"], &["sum"]);
    assert_eq!(refusal(nothing), "no operator lies between these tensors");
}
