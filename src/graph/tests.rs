//! The builder and the stage cuts.

use super::*;
use crate::tensor::{Orthogonal, Side};
use std::sync::Arc;

fn two_stages() -> Graph {
    let mut g = Builder::new("toy");
    let x = g.input("x", [3, 8], Kind::Real);
    let h = g.stage("first", |g| g.scope("a", |g| g.linear("up", x, 4, true)));
    let y = g.stage("second", |g| g.scope("b", |g| g.rms_norm("norm", h, 1e-6, 0.5)));
    g.finish(&[y]).unwrap()
}

#[test]
fn names_are_scope_paths_and_params_are_checkpoint_keys() {
    let graph = two_stages();
    let names: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["x", "a.up.weight", "a.up.bias", "a.up", "b.norm.weight", "b.norm"]);
    let keys: Vec<&str> = graph.params().map(|(_, p)| p.key.as_str()).collect();
    assert_eq!(keys, ["a.up.weight", "a.up.bias", "b.norm.weight"]);
}

#[test]
fn stages_know_what_crosses_their_borders() {
    let graph = two_stages();
    let name = |ids: Vec<ValueId>| -> Vec<String> {
        ids.into_iter().map(|id| graph.value(id).name.clone()).collect()
    };
    let [first, second] = &graph.stages[..] else { panic!("two stages") };
    assert_eq!(name(graph.stage_inputs(first)), ["x"]);
    assert_eq!(name(graph.stage_outputs(first)), ["a.up"]);
    assert_eq!(name(graph.stage_inputs(second)), ["a.up"]);
    assert_eq!(name(graph.stage_outputs(second)), ["b.norm"]);
    assert_eq!(name(graph.stage_params(second)), ["b.norm.weight"]);
}

#[test]
fn the_first_misfit_is_reported_with_its_scope_path() {
    let mut g = Builder::new("bad");
    let x = g.input("x", [3, 8], Kind::Real);
    let h = g.scope("layers.0.self_attn", |g| {
        let h = g.linear("o_proj", x, 7, false);
        g.add("residual", x, h)
    });
    let y = g.softmax("later", h);
    let error = g.finish(&[y]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layers.0.self_attn.residual: binary: [3, 8] and [3, 7] do not broadcast"
    );
}

#[test]
fn folded_scales_are_applied_to_the_rows_they_name() {
    let edits = vec![Edit::ScaleRows { rows: 1..2, factor: 10.0 }];
    let param = Param { key: "w".into(), stored_shape: vec![3, 2], edits };
    let stored = Tensor::new([3, 2], vec![1.0; 6]);
    let read = |_: &str, _: &[usize], _: Option<usize>| Ok::<_, ()>(stored.clone());
    let out = param.load(&[3, 2], &read).unwrap();
    assert_eq!(out.data(), [1.0, 1.0, 10.0, 10.0, 1.0, 1.0]);
}

#[test]
fn one_matrix_of_a_stack_is_read_alone_and_its_columns_become_rows() {
    let edits = vec![Edit::Matrix { index: 1, columns: 1..3 }];
    let param = Param { key: "w".into(), stored_shape: vec![2, 2, 3], edits };
    let read = |_: &str, shape: &[usize], part: Option<usize>| {
        assert_eq!((shape, part), (&[2, 2, 3][..], Some(1)));
        Ok::<_, ()>(Tensor::new([1, 2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    };
    let out = param.load(&[2, 2], &read).unwrap();
    assert_eq!(out.data(), [1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn edits_act_in_their_order_on_what_the_ones_before_them_left() {
    let values = |key: &str| match key {
        "w" => vec![1.0, 2.0, 3.0, 4.0],
        "gain" => vec![10.0, 100.0],
        _ => vec![0.5, 0.25],
    };
    let read =
        |key: &str, shape: &[usize], _: Option<usize>| Ok::<_, ()>(Tensor::new(shape, values(key)));
    let param = |key: &str, shape: &[usize], edits: Vec<Edit>| Param {
        key: key.into(),
        stored_shape: shape.into(),
        edits,
    };
    let load = |param: &Param| param.load(&param.stored_shape, &read).unwrap().data().to_vec();
    let swap = Arc::new(Orthogonal::dense(2, vec![0.0, 1.0, 1.0, 0.0]));
    let gain = param("gain", &[2], vec![Edit::ScaleRows { rows: 0..2, factor: 2.0 }]);
    let before = param("w", &[2, 2], vec![Edit::FoldGain { gain: Box::new(gain) }]);
    assert_eq!(load(&before), [20.0, 400.0, 60.0, 800.0]);

    let mut after = before.clone();
    after.edits.push(Edit::ScaleColumns { factors: [0.1, 1.0].into() });
    after.edits.push(Edit::Rotate { side: Side::Outputs, rotation: swap.clone() });
    after.edits.push(Edit::ScaleOutputs { factors: [1.0, 0.5].into() });
    assert_eq!(load(&after), [6.0, 800.0, 1.0, 200.0]);
    // The other order is another tensor.
    after.edits.swap(2, 3);
    assert_ne!(load(&after), [6.0, 800.0, 1.0, 200.0]);

    // A shift meets the weight as it was when the shift was folded, whatever it becomes later.
    let vector = Box::new(param("beta", &[2], vec![]));
    let product = Edit::AddProduct { weight: Box::new(before), vector, repeat: 1 };
    let bias =
        param("gain", &[2], vec![product, Edit::Rotate { side: Side::Outputs, rotation: swap }]);
    assert_eq!(load(&bias), [100.0 + 230.0, 10.0 + 110.0]);
    let keys: Vec<&str> = bias.sources().iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["gain", "w", "gain", "beta"]);
    assert_eq!(load(&param("w", &[2, 2], vec![Edit::Fill { value: 1.0 }])), [1.0; 4]);
}
