//! Rotation changes weights and nothing else.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::exec::{Float, run};
use crate::graph::{Kind, Source};
use crate::layout::{Layout, Segment};
use crate::models::{self, Request};
use crate::tensor::Par;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    (0..len).map(|i| (((i as u64 + 1) * (seed * 2 + 7919)) as f32 * 0.37).sin()).collect()
}

/// The embedded demo model (text, vision, DeepStack) on one picture, with its weights.
fn demo() -> (Graph, Weights) {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let segments = [
        Segment::Text { tokens: 4 },
        Segment::Image { grid_thw: [1, 8, 8] },
        Segment::Text { tokens: 6 },
    ];
    let layout = Layout::new(&segments, 2).unwrap();
    let graph = models::build(checkpoint.config(), &Request::new(layout)).unwrap();
    let mut weights = Weights::none(&graph);
    for (id, param) in graph.params() {
        let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
        weights.set(id, param.load(&graph.value(id).shape, &read).unwrap());
    }
    (graph, weights)
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
    let (graph, plain) = demo();
    for seed in 0..3 {
        let mut weights = plain.clone();
        rotate(&graph, &mut weights, &Options { seed, ..Options::default() });
        let miss = relative(&outputs(&graph, &plain, seed), &outputs(&graph, &weights, seed));
        assert!(miss < 1e-4, "{miss}");
    }
}

#[test]
fn residual_streams_and_values_are_found_without_their_names() {
    let (graph, mut weights) = demo();
    let rotated = rotate(&graph, &mut weights, &Options::default());
    let sizes: Vec<usize> = rotated.iter().map(|space| space.size).collect();
    // The text and vision streams, and the values of four decoder layers.
    assert_eq!(sizes.iter().filter(|&&n| n == 128).count(), 1, "{rotated:?}");
    assert_eq!(sizes.iter().filter(|&&n| n == 96).count(), 1, "{rotated:?}");
    assert_eq!(sizes.iter().filter(|&&n| n == 32).count(), 4, "{rotated:?}");
    assert_eq!(rotated.len(), 6, "{rotated:?}");
}

#[test]
fn folding_leaves_gains_of_one_behind_and_float_outputs_unchanged() {
    let (graph, plain) = demo();
    let mut weights = plain.clone();
    let folded = fold::fold_norms(&graph, &mut weights);
    // Two a block and a layer, three mergers, the final one.
    assert_eq!(folded, 2 * 4 + 2 * 4 + 3 + 1);
    let miss = relative(&outputs(&graph, &plain, 5), &outputs(&graph, &weights, 5));
    assert!(miss < 1e-4, "{miss}");
    assert!(graph.ids().all(|id| match graph.value(id).source {
        Source::Param(_) => weights.get(id).is_some(),
        _ => true,
    }));
}

#[test]
fn more_tries_never_leave_wider_rows_and_change_nothing_but_the_rotation() {
    let (graph, plain) = demo();
    let mut folded = plain.clone();
    fold::fold_norms(&graph, &mut folded);
    let spaces = spaces::rotatable(&graph, &folded);
    let of = |tries: u64| -> Vec<f64> {
        let options = Options { tries, ..Options::default() };
        let best = |(i, space)| width(&best(&folded, space, &options, i));
        (0..).zip(&spaces).map(best).collect()
    };
    let (one, four) = (of(1), of(4));
    assert!(one.iter().zip(&four).all(|(one, four)| four <= one), "{one:?} {four:?}");
    assert!(one.iter().zip(&four).any(|(one, four)| four < one), "{one:?} {four:?}");
    let mut weights = plain.clone();
    rotate(&graph, &mut weights, &Options { tries: 4, ..Options::default() });
    let miss = relative(&outputs(&graph, &plain, 1), &outputs(&graph, &weights, 1));
    assert!(miss < 1e-4, "{miss}");
}
