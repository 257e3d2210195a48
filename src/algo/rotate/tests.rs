//! Rotation changes weights and nothing else.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::exec::{Float, Weights, run};
use crate::graph::{Kind, ValueId};
use crate::layout::{Layout, Segment};
use crate::models::{self, Request};
use crate::tensor::Par;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    (0..len).map(|i| (((i as u64 + 1) * (seed * 2 + 7919)) as f32 * 0.37).sin()).collect()
}

/// The embedded demo model (text, vision, DeepStack) on one picture.
fn demo() -> (Graph, Checkpoint) {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let segments = [
        Segment::Text { tokens: 4 },
        Segment::Image { grid_thw: [1, 8, 8] },
        Segment::Text { tokens: 6 },
    ];
    let layout = Layout::new(&segments, 2).unwrap();
    (models::build(checkpoint.config(), &Request::new(layout)).unwrap(), checkpoint)
}

fn weights(graph: &Graph, checkpoint: &Checkpoint) -> Weights {
    let mut weights = Weights::none(graph);
    for (id, _) in graph.params() {
        weights.set(
            id,
            graph.load(id, &|key, shape, part| checkpoint.read_part(key, shape, part)).unwrap(),
        );
    }
    weights
}

fn outputs(graph: &Graph, weights: &Weights, seed: u64) -> Tensor {
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        let len = value.shape.iter().product();
        let data = noise(len, seed);
        Tensor::new(
            &value.shape[..],
            match value.kind {
                Kind::Index => data.iter().map(|x| (x.abs() * 400.0).floor()).collect(),
                Kind::Real => data,
            },
        )
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
    run(graph, &inputs, weights, &mut Float, Par::Seq).remove(0)
}

fn relative(a: &Tensor, b: &Tensor) -> f32 {
    let greatest = a.data().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let miss = a.data().iter().zip(b.data()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    miss / greatest
}

#[test]
fn rotation_leaves_float_outputs_unchanged() {
    let (plain, checkpoint) = demo();
    let expected = weights(&plain, &checkpoint);
    for graph in [plain.clone(), plain.clone().rewritten()] {
        for (seed, tries) in [(0, 1), (1, 1), (2, 3)] {
            let mut turned = graph.clone();
            let options = Options { seed, tries, ..Options::default() };
            rotate(
                &mut turned,
                &|key, shape, part| checkpoint.read_part(key, shape, part),
                &options,
            )
            .unwrap();
            let turned = (weights(&turned, &checkpoint), turned);
            let expected = outputs(&plain, &expected, seed);
            let miss = relative(&expected, &outputs(&turned.1, &turned.0, seed));
            assert!(miss < 1e-4, "{miss}");
        }
    }
}

#[test]
fn residual_streams_and_values_are_found_without_their_names() {
    let (mut graph, checkpoint) = demo();
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    let rotated = rotate(&mut graph, &read, &Options::default()).unwrap();
    let sizes: Vec<usize> = rotated.iter().map(|space| space.size).collect();
    // The text and vision streams, and the values of four decoder layers.
    assert_eq!(sizes.iter().filter(|&&n| n == 128).count(), 1, "{rotated:?}");
    assert_eq!(sizes.iter().filter(|&&n| n == 96).count(), 1, "{rotated:?}");
    assert_eq!(sizes.iter().filter(|&&n| n == 32).count(), 4, "{rotated:?}");
    assert_eq!(rotated.len(), 6, "{rotated:?}");
}

#[test]
fn folding_leaves_gains_of_one_behind_and_float_outputs_unchanged() {
    let (plain, checkpoint) = demo();
    let mut graph = plain.clone();
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    let folded = fold::fold_norms(&mut graph, &read).unwrap();
    // Two a block and a layer, three mergers, the final one.
    assert_eq!(folded, 2 * 4 + 2 * 4 + 3 + 1);
    let expected = outputs(&plain, &weights(&plain, &checkpoint), 5);
    let miss = relative(&expected, &outputs(&graph, &weights(&graph, &checkpoint), 5));
    assert!(miss < 1e-4, "{miss}");
}

#[test]
fn more_tries_never_leave_wider_rows() {
    let (mut graph, checkpoint) = demo();
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    fold::fold_norms(&mut graph, &read).unwrap();
    let spaces = spaces::rotatable(&graph, &read).unwrap();
    let of = |tries: u64| -> Vec<f64> {
        let options = Options { tries, ..Options::default() };
        let found = |(i, space)| {
            let best = best(&graph, &read, space, &options, i).unwrap();
            widths(&graph, &read, space, &[best]).unwrap()[0]
        };
        (0..).zip(&spaces).map(found).collect()
    };
    let (one, four) = (of(1), of(4));
    assert!(one.iter().zip(&four).all(|(one, four)| four <= one), "{one:?} {four:?}");
    assert!(one.iter().zip(&four).any(|(one, four)| four < one), "{one:?} {four:?}");
}
