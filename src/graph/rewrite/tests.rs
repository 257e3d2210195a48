//! Outputs are unchanged on random graphs, by each rewrite and by all together.

use super::*;
use crate::graph::{Builder, Kind, Source};
use crate::ops::UnaryKind;
use crate::tensor::{Par, Tensor};
use proptest::prelude::*;
use std::collections::HashMap;

const WIDTH: usize = 8;

/// A graph over `[2, 6, 8]` whose steps are chosen by `choices`; every value may be read later.
fn random(choices: &[u8]) -> Graph {
    let mut g = Builder::new("random");
    let mut values = vec![g.input("x", [2, 6, WIDTH], Kind::Real)];
    for (i, &choice) in choices.iter().enumerate() {
        let pick = |shift: u32| values[usize::from(choice.rotate_left(shift)) % values.len()];
        let (x, name) = (pick(3), format!("s{i}"));
        let step = g.stage(&format!("stage{i}"), |g| match choice % 8 {
            0 => {
                let h = g.layer_norm(&format!("{name}.norm"), x, 1e-6);
                g.linear(&name, h, WIDTH, true)
            }
            1 => {
                let h = g.layer_norm(&format!("{name}.norm"), x, 1e-6);
                let h = g.reshape(&format!("{name}.merged"), h, [2, 3, 2 * WIDTH]);
                let h = g.linear(&format!("{name}.fc"), h, 2 * WIDTH, true);
                g.reshape(&name, h, [2, 6, WIDTH])
            }
            2 => g.add(&name, x, pick(5)),
            3 => {
                // the same work twice
                let a = g.unary(&format!("{name}.a"), UnaryKind::GeluTanh, x);
                let b = g.unary(&format!("{name}.b"), UnaryKind::GeluTanh, x);
                g.add(&name, a, b)
            }
            4 => {
                let h = g.reshape(&format!("{name}.flat"), x, [12, WIDTH]);
                let h = g.reshape(&format!("{name}.wide"), h, [4, 24]);
                g.reshape(&name, h, [2, 6, WIDTH])
            }
            5 => {
                let h = g.transpose(&format!("{name}.there"), x, [1, 0, 2]);
                g.transpose(&name, h, [1, 0, 2])
            }
            6 => {
                let data = (0..WIDTH).map(|i| i as f32 * 0.1).collect();
                let c = g.constant(&format!("{name}.c"), Tensor::new([WIDTH], data));
                let twice = g.mul(&format!("{name}.cc"), c, c);
                g.mul(&name, x, twice)
            }
            // a norm that something other than a linear layer reads keeps its bias
            _ => g.layer_norm(&name, x, 1e-6),
        });
        values.push(step);
    }
    let last = values[values.len() - 1];
    let out = g.add("out", last, values[values.len() / 2]);
    g.finish(&[out, last]).unwrap()
}

/// Deterministic numbers for every key of the checkpoint.
fn parameter(key: &str, shape: &[usize]) -> Tensor {
    let seed: usize = key.bytes().map(usize::from).sum();
    let n = shape.iter().product();
    let value = |i: usize| ((seed * 31 + i * 37) % 19) as f32 * 0.05 - 0.4;
    Tensor::new(shape, (0..n).map(value).collect())
}

/// Evaluates node by node; the executor is a later room.
fn outputs(graph: &Graph) -> Vec<Tensor> {
    let mut live: HashMap<usize, Tensor> = HashMap::new();
    for id in graph.ids() {
        let value = graph.value(id);
        let tensor = match &value.source {
            Source::Input => parameter("x", &value.shape),
            Source::Const(tensor) => tensor.clone(),
            Source::Param(param) => {
                let read = |key: &str, shape: &[usize], _: Option<usize>| {
                    Ok::<_, ()>(parameter(key, shape))
                };
                param.load(&value.shape, &read).unwrap()
            }
            Source::Node(_) => continue,
        };
        live.insert(id.index(), tensor);
    }
    for node in &graph.nodes {
        let operands: Vec<&Tensor> = node.inputs.iter().map(|id| &live[&id.index()]).collect();
        let result = node.op.def().eval(&operands, Par::Seq.into());
        assert_eq!(result.shape(), graph.value(node.output).shape);
        live.insert(node.output.index(), result);
    }
    graph.outputs.iter().map(|id| live[&id.index()].clone()).collect()
}

#[track_caller]
fn assert_same(graph: &Graph, rewritten: &Graph) {
    let name = |g: &Graph| -> Vec<String> {
        g.outputs.iter().map(|&id| g.value(id).name.clone()).collect()
    };
    assert_eq!(name(graph), name(rewritten));
    for (a, b) in outputs(graph).iter().zip(&outputs(rewritten)) {
        let largest = a.data().iter().fold(1.0_f32, |max, x| max.max(x.abs()));
        for (x, y) in a.data().iter().zip(b.data()) {
            assert!((x - y).abs() <= 1e-5 * largest, "{x} {y} of {largest}\n{graph}\n{rewritten}");
        }
    }
    for (n, node) in rewritten.nodes.iter().enumerate() {
        assert!(matches!(rewritten.value(node.output).source, Source::Node(m) if m == n));
    }
    let last = rewritten.stages.last().map_or(0, |stage| stage.nodes.end);
    assert!(last <= rewritten.nodes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_rewrite_keeps_the_outputs(choices in prop::collection::vec(any::<u8>(), 1..14)) {
        let graph = random(&choices);
        for pass in [constants::fold, sharing::share, views::merge, norm_bias::fold] {
            assert_same(&graph, &pass(graph.clone()));
        }
        let rewritten = graph.clone().rewritten();
        assert_same(&graph, &rewritten);
        prop_assert!(rewritten.nodes.len() <= graph.nodes.len());
    }
}

#[test]
fn a_norms_bias_moves_into_the_linear_layer_and_its_operator_goes() {
    let mut g = Builder::new("norm");
    let x = g.input("x", [3, WIDTH], Kind::Real);
    let h = g.layer_norm("norm", x, 1e-6);
    let a = g.linear("a", h, 4, true);
    let b = g.linear("b", h, 4, true);
    let out = g.add("out", a, b);
    let graph = g.finish(&[out]).unwrap();
    let rewritten = graph.clone().rewritten();
    assert_eq!(graph.nodes.len() - rewritten.nodes.len(), 1);
    assert!(rewritten.find("norm").is_none() && rewritten.find("norm.affine_mul").is_some());
    assert_same(&graph, &rewritten);
}
