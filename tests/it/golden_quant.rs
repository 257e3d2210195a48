//! Quantization against the peer's golden observers: every fake-quant site that has a counterpart.

use crate::support::*;
use encircle::calibrate::{Observing, Plan, Quantizing, Statistics, quantize_constants};
use encircle::exec::{Float, Weights, run};
use encircle::graph::{Graph, ValueId};
use encircle::pipeline::Numerics;
use encircle::quant::{Policy, PolicySpec, QuantParams};
use encircle::report::ErrorSummary;
use encircle::tensor::{Par, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;

/// Calibrates the golden graph on the eight golden samples; returns it annotated, with rounded
/// weights and the float logits of sample 0.
fn calibrated(policy: &Policy) -> (Graph, Weights, Tensor) {
    let (checkpoint, golden) = (pixie(), golden());
    let mut graph = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &graph);
    let settings = checkpoint.picture_settings().unwrap();
    let plan = Plan::new(&graph, policy).unwrap();
    let mut statistics = Statistics::new(&plan);
    let mut first = None;
    for i in 0..8 {
        let inputs = golden_inputs(&golden, &settings, i);
        let mut tap = Observing { plan: &plan, statistics: &mut statistics };
        let out = run(&graph, &inputs, &weights, &mut tap, Par::All).remove(0);
        first.get_or_insert(out);
    }
    let param = |id: ValueId| weights.get(id).cloned().unwrap();
    plan.annotate_activations(&mut graph, &statistics, &param).unwrap();
    let mut tensors: Vec<(ValueId, Tensor)> =
        graph.params().map(|(id, _)| (id, param(id))).collect();
    plan.quantize_weights(&mut graph, &mut tensors).unwrap();
    let rounded = Weights::rounded(&graph, tensors);
    (graph, rounded, first.unwrap())
}

/// Our preset for a case of the peer; its uint8 keeps every value seen.
fn preset(case: &str) -> Policy {
    let name = if case == "w8a8" { "w8a8-minmax" } else { case };
    Numerics::find(name).unwrap().policy
}

/// The peer's numeric choices: full range for masked logits, asymmetric int16 weights.
fn as_the_peer(case: &str) -> Policy {
    let mut spec: PolicySpec = preset(case).spec().clone();
    spec.exact_logits = true;
    if case == "a16" {
        spec.weight.symmetric = Some(false);
        spec.norm = Some(encircle::quant::Spec { symmetric: Some(true), ..spec.activation });
    }
    Policy::new(spec).unwrap()
}

enum Counterpart {
    /// The value of this name.
    Value(String),
    /// The first operand of the operator that makes this value.
    InputOf(String),
    /// Nothing here carries statistics of its own for this site, and why.
    None(&'static str),
}

/// What a site of the peer is here. `path` is the module, `site` the observer.
fn counterpart(path: &str, site: &str) -> Counterpart {
    use Counterpart::{InputOf, None, Value};
    let vision = path.contains("visual");
    let at =
        |name: &str| Value(if path.is_empty() { name.into() } else { format!("{path}.{name}") });
    let layer_norm =
        vision && (path.ends_with("norm") || path.ends_with("norm1") || path.ends_with("norm2"));
    match site {
        "square" | "var" | "eps" | "add_eps" | "inv_std" | "norm" if layer_norm => {
            None("inside RMS_NORM, which is one operator")
        }
        "x1" | "x2" | "neg" | "cat" | "q_x1" | "q_x2" | "q_neg" | "q_cat" | "k_x1" | "k_x2"
        | "k_neg" | "k_cat" => None("moves values: shares the grid of what it moves"),
        "scaling" | "mul_logits_scale" => None("never used by the peer either"),
        "softmax" | "attn_weights" => None("pinned to [0, 1], whatever the data"),
        "sin" | "rope_sin" => None("our table is negated in its first half"),
        "local_this" => None("we add to the whole sequence"),
        "deepstack_visual_embeds_2" | "deepstack_visual_embeds_3" => {
            None("never exercised: no such level")
        }
        "deepstack_visual_embeds_0" => {
            Value("model.visual.deepstack_merger_list.0.linear_fc2".into())
        }
        "deepstack_visual_embeds_1" => {
            Value("model.visual.deepstack_merger_list.1.linear_fc2".into())
        }
        "act_out" | "act_outs"
            if path.ends_with("embed_tokens") || path == "model.visual.merger.linear_fc2" =>
        {
            None("tied to the fused sequence by concatenation")
        }
        "mm_fusion" | "inputs_embeds" => Value("model.language_model.fused".into()),
        "attention_mask" | "causal_mask" => Value("model.language_model.causal_mask".into()),
        "cos" | "rope_cos" if vision => Value("model.visual.rope_cos".into()),
        "cos" => Value("model.language_model.cos".into()),
        "weight" | "bias" => at(site),
        "mean" | "centered" | "affine_mul" => at(site),
        "affine_add" => Value(path.into()),
        "hidden" if vision => InputOf(format!("{path}.qkv")),
        "hidden" => InputOf(format!("{path}.q_proj")),
        "act_in" if layer_norm => InputOf(format!("{path}.mean")),
        "act_in" if path.ends_with("act_fn") && !vision => InputOf(format!("{path}.sigmoid")),
        "act_in" if path.ends_with(".mlp") && vision => InputOf(format!("{path}.linear_fc1")),
        "act_in" if path.ends_with(".mlp") => InputOf(format!("{path}.gate_proj")),
        "act_in" if path.contains("blocks") && path.split('.').count() == 4 => {
            InputOf(format!("{path}.norm1.mean"))
        }
        "act_in" if path.contains("layers") && path.split('.').count() == 4 => {
            InputOf(format!("{path}.input_layernorm"))
        }
        "act_in" => InputOf(path.into()),
        "act_out" if path.ends_with(".mlp") && vision => at("linear_fc2"),
        "act_out" if path.ends_with(".mlp") => at("down_proj"),
        "act_out" | "act_outs" | "mul" => Value(path.into()),
        "sig" => at("sigmoid"),
        "gated_out" => at("gated"),
        "pos_embeds" => Value("model.visual.pos_embed.weight".into()),
        "attn_out_h" => at("attn_out"),
        "q_rot" | "k_rot" | "q_cos" | "q_sin" | "k_cos" | "k_sin" | "logits" | "mask_add"
        | "attn_out" | "post_attn" | "pos_add" => at(site),
        other => panic!("{path}: unknown site {other}"),
    }
}

/// `wrapped.model.wrapped.visual….obs_act_in` to (`model.visual…`, `act_in`).
fn split(key: &str) -> (String, String) {
    let key = key.replace("wrapped.", "");
    let (path, site) = key.rsplit_once('.').unwrap();
    let site = site.trim_start_matches("obs_").trim_end_matches("_obs");
    (path.to_string(), site.to_string())
}

fn compare(case: &str, expect_compared: usize) {
    let (graph, ..) = calibrated(&as_the_peer(case));
    let text = std::fs::read_to_string(path("tests/data/golden/golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut compared, mut wrong) = (0, Vec::new());
    for (key, site) in golden["observers"][case].as_object().unwrap() {
        let (path, name) = split(key);
        let id = match counterpart(&path, &name) {
            Counterpart::None(why) => {
                *excused.entry(why).or_default() += 1;
                continue;
            }
            Counterpart::Value(name) => {
                graph.find(&name).unwrap_or_else(|| panic!("{key}: no {name}"))
            }
            Counterpart::InputOf(name) => {
                let id = graph.find(&name).unwrap_or_else(|| panic!("{key}: no {name}"));
                graph.nodes.iter().find(|node| node.output == id).unwrap().inputs[0]
            }
        };
        let value = graph.value(id);
        let Some(QuantParams::Affine { dtype, scale, zero_point, .. }) = &value.qparams else {
            panic!("{key}: {} is not annotated", value.name)
        };
        assert_eq!(dtype.to_string(), site["dtype"].as_str().unwrap(), "{key}");
        assert_eq!(scale.len(), site["n"].as_u64().unwrap() as usize, "{key}");
        let theirs =
            |field: &str| site[field].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
        for (i, (s, z)) in theirs("scale").zip(theirs("zp")).enumerate() {
            let off = (f64::from(scale[i]) / s - 1.0).abs();
            // A zero point is rounded, so one step is within the noise of its range.
            if off > 1e-5 || (f64::from(zero_point[i]) - z).abs() > 1.0 {
                wrong.push(format!(
                    "{key}[{i}]: {} {} against {s} {z} ({off:e})",
                    scale[i], zero_point[i]
                ));
            }
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{case}:\n{}", wrong.join("\n"));
    assert_eq!(compared, expect_compared, "{case}: excused {excused:#?}");
}

#[test]
fn every_site_of_the_peer_with_a_counterpart_has_its_w8a8_grid() {
    compare("w8a8", 466);
}

#[test]
fn every_site_of_the_peer_with_a_counterpart_has_its_a16_grid() {
    compare("a16", 466);
}

/// Mean |diff| and PEIR of sample 0 under our preset.
fn cost(case: &str) -> (f64, f64) {
    let (mut graph, rounded, float) = calibrated(&preset(case));
    quantize_constants(&mut graph);
    let (checkpoint, golden) = (pixie(), golden());
    let inputs = golden_inputs(&golden, &checkpoint.picture_settings().unwrap(), 0);
    let tap = Quantizing::of(&graph);
    let out = run(&graph, &inputs, &rounded, &mut &tap, Par::All).remove(0);
    let mut summary = ErrorSummary::default();
    summary.add(float.data(), out.data());
    let figures = summary.figures().unwrap();
    (figures.mean_abs_diff, figures.peir)
}

#[test]
fn presets_cost_no_more_than_the_peers() {
    let text = std::fs::read_to_string(path("tests/data/golden/golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    for case in ["w8a8", "a16"] {
        let peer = &golden["metrics"][case];
        let (mean, peir) = cost(case);
        println!(
            "{case}: mean |diff| {mean:.6} (peer {}), PEIR {peir:.6} (peer {})",
            peer["mean_abs_diff"], peer["peir"]
        );
        assert!(mean > 0.0 && mean <= peer["mean_abs_diff"].as_f64().unwrap(), "{case}: {mean}");
        assert!(peir <= peer["peir"].as_f64().unwrap(), "{case}: {peir}");
    }
}

/// A float run through the same graph is untouched by its annotations.
#[test]
fn annotations_do_not_change_the_float_run() {
    let (checkpoint, golden) = (pixie(), golden());
    let (graph, ..) = calibrated(&preset("w8a8"));
    let plain = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &plain);
    let inputs = golden_inputs(&golden, &checkpoint.picture_settings().unwrap(), 3);
    let run = |graph: &Graph| run(graph, &inputs, &weights, &mut Float, Par::All);
    assert_eq!(run(&graph), run(&plain));
}
