//! Where tokens are, and that they count as the policy says.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::exec::{Tap, Weights, run};
use crate::graph::{Builder, Graph, Kind, ValueId};
use crate::layout::{Layout, Segment};
use crate::models::{self, Request};
use crate::quant::{DType, Decision, Observer, Policy, PolicySpec, QuantParams};
use crate::tensor::{Par, Tensor};

fn spec(text: &str) -> PolicySpec {
    toml::from_str(text).unwrap()
}

fn policy(text: &str) -> Policy {
    toml::from_str(text).unwrap()
}

fn layout(text: [usize; 2]) -> Layout {
    let [before, after] = text.map(|tokens| Segment::Text { tokens });
    Layout::new(&[before, Segment::Image { grid_thw: [1, 8, 8] }, after], 2).unwrap()
}

struct Keep(Vec<Option<Tensor>>);

impl Tap for Keep {
    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        self.0[id.index()] = Some(value.clone());
    }
}

fn demo(layout: Layout) -> (Graph, Weights) {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let graph = models::build(checkpoint.config(), &Request::new(layout)).unwrap().rewritten();
    let mut weights = Weights::none(&graph);
    for (id, _) in graph.params() {
        let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
        weights.set(id, graph.load(id, &read).unwrap());
    }
    (graph, weights)
}

fn inputs(graph: &Graph, last: f32) -> Vec<Tensor> {
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        let len = value.shape.iter().product::<usize>();
        let mut data: Vec<f32> = (0..len).map(|i| ((i * 37) as f32 * 0.61).sin()).collect();
        if value.kind == Kind::Index {
            data = (0..len).map(|i| (i * 7 % 90) as f32).collect();
            data[len - 1] = last;
        }
        Tensor::new(value.shape.clone(), data)
    };
    graph.inputs.iter().map(input).collect()
}

#[test]
fn tokens_lie_where_a_change_of_the_last_one_shows() {
    let (graph, weights) = demo(layout([4, 6]));
    let tokens = Tokens::of(&graph);
    let values = |last| {
        let mut keep = Keep(vec![None; graph.values.len()]);
        run(&graph, &inputs(&graph, last), &weights, &mut keep, Par::Seq);
        keep.0
    };
    let (one, other) = (values(3.0), values(50.0));
    let mut changed = 0;
    for node in &graph.nodes {
        let (id, name) = (node.output, &graph.value(node.output).name);
        let [a, b] = [&one, &other].map(|values| values[id.index()].as_ref().unwrap());
        // before the mask, the last key shows in all rows
        if a == b || ["logits", "mask_add"].iter().any(|part| name.contains(part)) {
            continue;
        }
        changed += 1;
        let slice = name.contains("text_");
        let axis = tokens.axis(id);
        assert!(axis.is_some() || slice, "{name}: changes, but its tokens are not known");
        let Some(axis) = axis else { continue };
        let inner: usize = a.shape()[axis + 1..].iter().product();
        for (i, (a, b)) in a.data().iter().zip(b.data()).enumerate() {
            let token = i / inner % a_extent(&graph, id, axis) % tokens.seq();
            assert!(a == b || token + 1 == tokens.seq(), "{name}: token {token} changes");
        }
    }
    assert!(changed > 60, "{changed}");
    let tower = graph.ids().filter(|&id| graph.value(id).name.contains("visual.blocks"));
    let tower: Vec<ValueId> = tower
        .filter(|&id| matches!(graph.value(id).source, crate::graph::Source::Node(_)))
        .collect();
    assert!(tower.len() > 20 && tower.iter().all(|&id| tokens.is_picture(id)));
}

fn a_extent(graph: &Graph, id: ValueId, axis: usize) -> usize {
    graph.value(id).shape[axis]
}

#[test]
fn modalities_count_alike_or_as_the_policy_says() {
    let layout = layout([2, 3]);
    // 16 visual tokens a row; 7 and 9 others, 3 rows
    let rows: Vec<Vec<u32>> = [23, 25, 23].map(|len| vec![5; len]).to_vec();
    let rows: Vec<&[u32]> = rows.iter().map(|row| &row[..]).collect();
    let of = |text: &str| Emphasis::of(&spec(text), &layout, &rows).unwrap();
    assert!(of("").is_plain());
    // 48 visual, 23 of text
    let equal = of("modality = \"equal\"");
    assert_eq!(equal.times(), Some([48, 23]));
    let visual = layout.spans()[0].start;
    let roots = equal.roots(Some(vec![0, visual])).unwrap();
    assert!((roots[0].powi(2) * 23.0 - roots[1].powi(2) * 48.0).abs() < 1e-9);
    assert!((roots[0].powi(2) * 23.0 + roots[1].powi(2) * 48.0 - 71.0).abs() < 1e-9);
    assert_eq!(of("modality = { vision = 2, text = 6 }").times(), Some([3, 1]));
    assert!(of("modality = { vision = 4, text = 4 }").is_plain());
    let text = Emphasis::of(&spec("modality = \"equal\""), &Layout::text(9).unwrap(), &rows);
    assert!(text.unwrap().is_plain());
    for wrong in ["\"equl\"", "{ vision = 0, text = 1 }", "{ vision = 1.5, text = 1 }", "3"] {
        let error = toml::from_str::<PolicySpec>(&format!("modality = {wrong}")).unwrap_err();
        assert!(error.to_string().contains("expected \"equal\" or { vision = N"), "{error}");
    }
}

#[test]
fn the_prefix_is_what_all_rows_begin_with() {
    let layout = layout([4, 6]);
    let rows: [&[u32]; 2] = [&[1, 2, 3, 9, 0, 0, 0, 0], &[1, 2, 3, 7, 0, 0]];
    let of = |text: &str, rows: &[&[u32]]| Emphasis::of(&spec(text), &layout, rows);
    let isolated = |rows: &[&[u32]]| of("prefix = \"isolate\"", rows).unwrap().isolated();
    assert_eq!(isolated(&rows), 3);
    assert_eq!(isolated(&[&[1, 2], &[3, 2]]), 1, "at least the first");
    assert_eq!(isolated(&[&[4; 30]]), layout.spans()[0].start, "up to the picture");
    assert_eq!(isolated(&[&[4, 4, 4]]), 2, "something is left");
    assert_eq!(of("prefix = 2", &rows).unwrap().isolated(), 2);
    let error = of("prefix = 4", &rows).unwrap_err().to_string();
    assert!(error.contains("policy.prefix: found 4") && error.contains("3 tokens"), "{error}");
    for wrong in ["0", "\"isolat\"", "-1", "1.5"] {
        let error = toml::from_str::<PolicySpec>(&format!("prefix = {wrong}")).unwrap_err();
        assert!(
            error.to_string().contains("expected \"isolate\", \"bake\" or a number"),
            "{error}"
        );
    }
}

/// ids → rows of a table → a linear layer; row 0 of the table is an outlier.
fn sink() -> (Graph, Weights) {
    let mut g = Builder::new("sink");
    let ids = g.input("ids", [1, 4], Kind::Index);
    let table = g.param("table", [3, 2]);
    let x = g.gather("x", table, ids);
    let y = g.linear("y", x, 2, false);
    let graph = g.finish(&[y]).unwrap();
    let mut weights = Weights::none(&graph);
    for (id, param) in graph.params() {
        weights.set(
            id,
            match param.key.as_str() {
                "table" => Tensor::new([3, 2], vec![1000.0, -1000.0, 0.5, -0.25, 0.125, 1.0]),
                _ => Tensor::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]),
            },
        );
    }
    (graph, weights)
}

#[test]
fn an_isolated_prefix_saturates_and_the_others_keep_their_resolution() {
    let (mut graph, weights) = sink();
    let row: &[u32] = &[0, 1, 2, 1];
    let ids = || vec![Tensor::new([1, 4], row.iter().map(|&id| id as f32).collect())];
    let policy = |text: &str| {
        Policy::new(spec(&format!("activation = {{ dtype = \"uint8\" }}\n{text}"))).unwrap()
    };
    let mut errors = Vec::new();
    for text in ["", "prefix = 1"] {
        let policy = policy(text);
        let emphasis = Emphasis::of(policy.spec(), &Layout::text(4).unwrap(), &[row]).unwrap();
        let plan = Plan::new(&graph, &policy).unwrap().with_emphasis(emphasis);
        let mut statistics = Statistics::new(&plan);
        let tokens = Tokens::of(&graph);
        let observing = Observing { plan: &plan, statistics: &mut statistics };
        let mut tap = Weighing { observing, tokens: &tokens };
        let float = run(&graph, &ids(), &weights, &mut tap, Par::Seq).remove(0);
        let param = |id: ValueId| weights.get(id).unwrap().clone();
        plan.annotate_activations(&mut graph, &statistics, &param).unwrap();
        let quantizing = Quantizing::of(&graph);
        let found = run(&graph, &ids(), &weights, &mut &quantizing, Par::Seq).remove(0);
        let miss = |token: usize| {
            let at = 2 * token..2 * token + 2;
            let pairs = float.data()[at.clone()].iter().zip(&found.data()[at]);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        errors.push([miss(0), (1..4).map(miss).fold(0.0, f32::max)]);
    }
    let [[sink, others], [isolated, freed]] = errors[..] else { panic!("{errors:?}") };
    assert!(sink < 8.0 && others > 0.2, "{errors:?}");
    assert!(isolated > 990.0 && freed < 0.005, "{errors:?}");
}

#[test]
fn visual_rows_that_count_thrice_are_observed_thrice() {
    let layout = layout([4, 6]);
    let (graph, weights) = demo(layout.clone());
    let text = "activation = { dtype = \"uint8\", observer = \"mse\" }\n";
    let policy =
        Policy::new(spec(&format!("{text}modality = {{ vision = 3, text = 1 }}"))).unwrap();
    let row = vec![7; layout.seq_len()];
    let emphasis = Emphasis::of(policy.spec(), &layout, &[&row]).unwrap();
    let plan = Plan::new(&graph, &policy).unwrap().with_emphasis(emphasis);
    let (mut statistics, tokens) = (Statistics::new(&plan), Tokens::of(&graph));
    let observing = Observing { plan: &plan, statistics: &mut statistics };
    run(
        &graph,
        &inputs(&graph, 3.0),
        &weights,
        &mut Weighing { observing, tokens: &tokens },
        Par::Seq,
    );
    // by hand, for what the MLP of the second decoder layer multiplies
    let name = "model.language_model.layers.1.mlp.gated";
    let id = graph.find(name).unwrap();
    let mut keep = Keep(vec![None; graph.values.len()]);
    run(&graph, &inputs(&graph, 3.0), &weights, &mut keep, Par::Seq);
    let x = keep.0[id.index()].take().unwrap();
    let Site::Activation { class } = plan.sites.site(id) else { panic!("{name}") };
    let mut observer = plan.classes[class].observer().unwrap();
    let span = layout.spans()[0].clone();
    for (token, row) in x.data().chunks(x.shape()[2]).enumerate() {
        let times = if (span.start..span.start + span.len).contains(&token) { 3 } else { 1 };
        (0..times).for_each(|_| observer.observe(row, &[row.len()]));
    }
    assert_eq!(statistics.classes[class].as_ref(), Some(&observer));
    let plain = |x: &Tensor| {
        let mut observer = plan.classes[class].observer().unwrap();
        observer.observe(x.data(), x.shape());
        observer
    };
    assert_ne!(plain(&x), observer);
}

#[test]
fn scores_that_the_mask_cannot_hide_are_named() {
    let mut g = Builder::new("attention");
    let scores = g.input("scores", [1, 1, 2, 2], Kind::Real);
    let mask = g.constant("causal_mask", Tensor::new([1, 1, 2, 2], vec![0.0, -120.0, 0.0, 0.0]));
    let out = g.add("mask_add", scores, mask);
    let graph = g.finish(&[out]).unwrap();
    let plan = Plan::new(&graph, &Policy::new(spec("")).unwrap()).unwrap();
    let found = |spread: f32| {
        let mut statistics = Statistics::new(&plan);
        let seen = Tensor::new([1, 1, 2, 2], vec![-30.0, spread - 30.0, 0.0, 1.0]);
        let mut observing = Observing { plan: &plan, statistics: &mut statistics };
        run(&graph, &[seen], &Weights::none(&graph), &mut observing, Par::Seq);
        plan.unhidden(&graph, &statistics)
    };
    assert_eq!(found(99.0), []);
    let far = found(101.0);
    assert_eq!((far.len(), &far[0].0[..], far[0].1.max), (1, "scores", 71.0));
}

#[test]
fn blocks_lie_along_the_last_axis_of_every_view() {
    let (mut graph, weights) = demo(Layout::text(6).unwrap());
    let rule = "[[rules]]\npattern = \"*layers.1*v_proj\"\nset = { observer = \"mx:int8\" }";
    let plan = Plan::new(&graph, &policy(rule)).unwrap();
    let mut statistics = Statistics::new(&plan);
    let mut tap = Observing { plan: &plan, statistics: &mut statistics };
    let inputs = inputs(&graph, 3.0);
    run(&graph, &inputs, &weights, &mut tap, Par::Seq);
    let param = |id: ValueId| weights.get(id).unwrap().clone();
    plan.annotate_activations(&mut graph, &statistics, &param).unwrap();
    let mut ranks = std::collections::BTreeSet::new();
    for value in &graph.values {
        if let Some(QuantParams::Mx { axis, .. }) = value.qparams {
            assert_eq!(axis + 1, value.shape.len(), "{}", value.name);
            ranks.insert(axis);
        }
    }
    assert!(ranks.len() > 1, "{ranks:?}");
    let quantizing = Quantizing::of(&graph);
    run(&graph, &inputs, &weights, &mut &quantizing, Par::Seq);
}

#[test]
fn a_value_that_is_always_zero_leaves_room_for_the_bias_behind_it() {
    let mut g = Builder::new("zero");
    let x = g.input("x", [1, 2], Kind::Real);
    let y = g.linear("y", x, 1, true);
    let mut graph = g.finish(&[y]).unwrap();
    let mut weights: Vec<(ValueId, Tensor)> = Vec::new();
    for (id, _) in graph.params() {
        weights.push((id, Tensor::full(&graph.value(id).shape[..], 0.1)));
    }
    let plan = Plan::new(&graph, &policy("activation = { dtype = \"int16\" }")).unwrap();
    let mut statistics = Statistics::new(&plan);
    for id in graph.ids() {
        if let Some(class) = plan.sites.observed(id) {
            let value = if id == x { 0.0 } else { 0.1 };
            statistics.observe(class, &Tensor::full(&graph.value(id).shape[..], value));
        }
    }
    let none = |_: ValueId| -> Tensor { panic!("no constants") };
    plan.annotate_activations(&mut graph, &statistics, &none).unwrap();
    plan.quantize_weights(&mut graph, &mut weights).unwrap();
    assert_eq!(graph.value(x).qparams, Some(QuantParams::per_tensor(DType::INT16, 1.0, 0)));
    let bias = weights.iter().find(|(id, _)| matches!(plan.sites.site(*id), Site::Bias { .. }));
    assert!((bias.unwrap().1.data()[0] - 0.1).abs() < 1e-3);
}

#[test]
fn rules_that_name_different_members_of_a_class_both_hold() {
    let (graph, _) = demo(layout([4, 6]));
    let rules = r#"
        [[rules]]
        pattern = "*attn.attn_merged"
        set = { dtype = "int16" }
        [[rules]]
        pattern = "*attn.attn_out"
        set = { observer = "percentile:99.9" }
    "#;
    let plan = Plan::new(&graph, &policy(rules)).unwrap();
    let named = |id: &ValueId| graph.value(*id).name.ends_with("attn.attn_merged");
    let merged: Vec<ValueId> = graph.ids().filter(named).collect();
    assert!(!merged.is_empty());
    for id in merged {
        let Some(Decision::Affine { dtype, observer, .. }) = plan.decision(id) else { panic!() };
        assert_eq!((*dtype, &observer.to_string()[..]), (DType::INT16, "percentile:99.9"));
    }
}

#[test]
fn a_moving_average_is_over_samples_and_not_over_members_and_constants() {
    let mut g = Builder::new("padded");
    let [a, b] = ["a", "b"].map(|name| g.input(name, [1, 2], Kind::Real));
    let zeros = g.constant("zeros", Tensor::full(&[1, 2][..], 0.0));
    let y = g.concat("y", &[zeros, a, b], 1);
    let mut graph = g.finish(&[y]).unwrap();
    let plan = Plan::new(&graph, &policy("activation = { observer = \"ema:0.5\" }")).unwrap();
    let mut statistics = Statistics::new(&plan);
    for (sample, [x, z]) in [[4.0, 1.0], [2.0, 8.0]].into_iter().enumerate() {
        statistics.begin(sample);
        let inputs = [x, z].map(|x| Tensor::new([1, 2], vec![0.0, x]));
        let mut tap = Observing { plan: &plan, statistics: &mut statistics };
        run(&graph, &inputs, &Weights::none(&graph), &mut tap, Par::Seq);
    }
    let none = |_: ValueId| -> Tensor { panic!("no parameters") };
    plan.annotate_activations(&mut graph, &statistics, &none).unwrap();
    assert_eq!(graph.value(y).qparams, Some(QuantParams::per_tensor(DType::UINT8, 6.0 / 255.0, 0)));
}

#[test]
fn grids_that_meet_are_widened_exactly() {
    let dtypes = ["uint4", "int4", "uint8", "int8", "uint12", "int12", "uint16", "int16"];
    let dtypes = dtypes.map(|name| name.parse::<DType>().unwrap());
    for (one, other) in dtypes.iter().flat_map(|one| dtypes.iter().map(move |other| (*one, *other)))
    {
        let mut g = Builder::new("sum");
        let [a, b] = ["a", "b"].map(|name| g.input(name, [1, 2], Kind::Real));
        let sum = g.add("sum", a, b);
        let mut graph = g.finish(&[sum]).unwrap();
        for (id, dtype) in [(a, one), (b, other), (sum, one)] {
            let zero = if dtype.signed() { 0 } else { dtype.qmax() / 3 };
            graph.values[id.index()].qparams = Some(QuantParams::per_tensor(dtype, 0.25, zero));
        }
        let Some(met) = meeting(&graph, &graph.nodes[0]) else { continue };
        for (id, dtype) in [(a, one), (b, other)] {
            let Some(wide) = spread(&graph, id, met) else { continue };
            let narrow = graph.value(id).qparams.clone().unwrap();
            for q in [dtype.qmin(), dtype.qmin() + 1, dtype.qmax()] {
                let x = crate::quant::dequantize(&narrow, &[1], &[q]);
                let mut again = x.clone();
                crate::quant::fake_quant(&wide, &[1], &mut again);
                assert_eq!(again, x, "{one} and {other} in {met}: {q} of {dtype}");
            }
        }
    }
}
