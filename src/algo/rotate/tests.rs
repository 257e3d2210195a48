//! Rotation changes weights and nothing else.

use super::learn::{STRIDE, Sample, judge, moved, steepest};
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
        for (seed, tries, learn) in [(0, 1, 0), (1, 1, 3), (2, 3, 0)] {
            let mut turned = graph.clone();
            let options = Options { seed, tries, learn, ..Options::default() };
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
fn more_tries_and_learning_never_leave_wider_rows() {
    let (mut graph, checkpoint) = demo();
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    fold::fold_norms(&mut graph, &read).unwrap();
    let spaces = spaces::rotatable(&graph, &read).unwrap();
    let of = |tries: u64, learn: usize| -> Vec<f64> {
        let options = Options { tries, learn, ..Options::default() };
        let found = |(i, space)| {
            let best = best(&graph, &read, space, &options, i).unwrap();
            widths(&graph, &read, space, &[best]).unwrap()[0]
        };
        (0..).zip(&spaces).map(found).collect()
    };
    let (one, four, learned) = (of(1, 0), of(4, 0), of(1, 8));
    for better in [four, learned] {
        assert!(one.iter().zip(&better).all(|(one, better)| better <= one), "{one:?} {better:?}");
        assert!(one.iter().zip(&better).any(|(one, better)| better < one), "{one:?} {better:?}");
    }
}

/// Rows that a rotation by 45° evens out: all their weight lies on one axis or the other.
fn spiky(n: usize) -> Vec<Sample> {
    let spike = |i: usize| if i / n % n == i % n { 1.0 } else { 0.02 * (i as f64).sin() };
    let data = (0..3 * n * n).map(spike).collect();
    vec![Sample { data, across: false, share: 1.0 }]
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let n = 5;
    let mut samples = spiky(n);
    samples.push(Sample { data: spiky(n).remove(0).data, across: true, share: 0.3 });
    let r = Orthogonal::random(n, false, 1).matrix();
    let (_, gradient) = judge(&samples, &r, n);
    for i in 0..n * n {
        let at = |step: f64| {
            let mut r = r.clone();
            r[i] += step;
            judge(&samples, &r, n).0
        };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((slope - gradient[i]).abs() < 1e-5 * (1.0 + slope.abs()), "{i}");
    }
}

#[test]
fn a_step_stays_orthogonal_and_keeps_ones_on_request() {
    for (n, fix) in [(6, false), (6, true)] {
        let r = Orthogonal::random(n, fix, 2).matrix();
        let (_, gradient) = judge(&spiky(n), &r, n);
        let s = steepest(&gradient, &r, n, fix);
        let length = s.iter().map(|x| x * x).sum::<f64>().sqrt();
        let y = moved(&r, &s, STRIDE / length, n);
        assert!(y.iter().zip(&r).any(|(a, b)| (a - b).abs() > 1e-2));
        for i in 0..n {
            for j in 0..n {
                let dot: f64 = (0..n).map(|l| y[i * n + l] * y[j * n + l]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
            let sum: f64 = y[i * n..(i + 1) * n].iter().sum();
            assert!(!fix || (sum - 1.0).abs() < 1e-12, "{sum}");
        }
    }
}
