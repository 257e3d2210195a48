//! Calibrating with bf16 products: ranges stay where f32 products put them.

use crate::support::*;
use encircle::calibrate::{Observing, Plan, Statistics};
use encircle::exec::{Weights, run};
use encircle::graph::{Graph, ValueId};
use encircle::pipeline::Numerics;
use encircle::quant::QuantParams;
use encircle::tensor::{Par, Products};

/// The demo's grids over two golden samples.
fn grids(products: Products) -> Graph {
    let (checkpoint, golden) = (pixie(), golden());
    let mut graph = golden_graph(&checkpoint);
    let settings = checkpoint.picture_settings().unwrap();
    let weights: Weights = load(&checkpoint, &graph).with_products(products);
    let plan = Plan::new(&graph, &Numerics::find("w8a8-minmax").unwrap().policy).unwrap();
    let mut statistics = Statistics::new(&plan);
    for i in 0..2 {
        let mut tap = Observing { plan: &plan, statistics: &mut statistics };
        run(&graph, &golden_inputs(&golden, &settings, i), &weights, &mut tap, Par::All);
    }
    let param = |id: ValueId| weights.get(id).cloned().unwrap();
    plan.annotate_activations(&mut graph, &statistics, &param).unwrap();
    graph
}

#[test]
fn grids_calibrated_with_bf16_products_are_within_one_percent_of_those_of_f32() {
    let (f32s, bf16s) = (grids(Products::F32), grids(Products::Bf16));
    let (mut seen, mut moved) = (0, 0);
    for (a, b) in f32s.values.iter().zip(&bf16s.values) {
        let (Some(a_grid), Some(b_grid)) = (&a.qparams, &b.qparams) else { continue };
        let (
            QuantParams::Affine { scale: a_scale, zero_point: a_zero, dtype, .. },
            QuantParams::Affine { scale: b_scale, zero_point: b_zero, .. },
        ) = (a_grid, b_grid)
        else {
            panic!("the policy knows affine grids only");
        };
        let steps = (dtype.qmax() - dtype.qmin()) as f32;
        for ((a_scale, b_scale), (a_zero, b_zero)) in
            a_scale.iter().zip(b_scale).zip(a_zero.iter().zip(b_zero))
        {
            let off = (a_scale / b_scale - 1.0).abs();
            assert!(off <= 0.01, "{}: scale {a_scale} and {b_scale}", a.name);
            let shift = a_zero.abs_diff(*b_zero) as f32 / steps;
            assert!(shift <= 0.01, "{}: zero point {a_zero} and {b_zero}", a.name);
            seen += 1;
            moved += usize::from(off > 0.0);
        }
    }
    assert!(seen > 100 && moved > 0, "{seen} grids, {moved} differ: bf16 was used");
}
