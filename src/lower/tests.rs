//! Whatever a policy asks for and is not refused for becomes a file without errors.

use super::*;
use crate::calibrate::{self, Observing, Plan, Site, Statistics};
use crate::checkpoint::Checkpoint;
use crate::circle::verify;
use crate::exec::{Weights, run};
use crate::graph::Builder;
use crate::layout::Layout;
use crate::models::{self, Request};
use crate::quant::{Granularity, ObserverSpec, Policy, PolicySpec, Rule, Spec};
use crate::tensor::Par;
use proptest::prelude::*;
use std::sync::LazyLock;

/// The demo's text model and its weights.
static DEMO: LazyLock<(Graph, Weights)> = LazyLock::new(|| {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let request = Request::new(Layout::text(3).unwrap());
    let graph = models::build(checkpoint.config(), &request).unwrap().rewritten();
    let mut weights = Weights::none(&graph);
    for (id, _) in graph.params() {
        let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
        weights.set(id, graph.load(id, &read).unwrap());
    }
    (graph, weights)
});

/// The file of the demo under a policy, or why there is none.
fn file(spec: PolicySpec) -> Result<Model, String> {
    file_of(DEMO.clone(), Tensor::new([1, 3], vec![1.0, 5.0, 9.0]), spec)
}

/// The file of a network that has seen `input`.
fn file_of(
    (mut graph, weights): (Graph, Weights),
    input: Tensor,
    spec: PolicySpec,
) -> Result<Model, String> {
    let policy = Policy::new(spec).map_err(|e| e.to_string())?;
    let plan = Plan::new(&graph, &policy).map_err(|e| e.to_string())?;
    for id in graph.ids() {
        let value = graph.value(id);
        let decision = plan.decision(id).unwrap_or(&Decision::Float);
        check(&value.name, decision, value.is_constant()).map_err(|e| e.to_string())?;
    }
    let mut statistics = Statistics::new(&plan);
    let ids = vec![input];
    let mut tap = Observing { plan: &plan, statistics: &mut statistics };
    run(&graph, &ids, &weights, &mut tap, Par::Seq);
    let float = |id: ValueId| weights.get(id).unwrap().clone();
    plan.annotate_activations(&mut graph, &statistics, &float).map_err(|e| e.to_string())?;
    let (late, mut params): (Vec<_>, Vec<_>) = graph
        .params()
        .map(|(id, _)| (id, float(id)))
        .partition(|(id, _)| matches!(plan.sites.site(*id), Site::Bias { .. }));
    params.extend(late);
    plan.quantize_weights(&mut graph, &mut params).map_err(|e| e.to_string())?;
    let mut rounded = Weights::none(&graph);
    params.into_iter().for_each(|(id, tensor)| rounded.set_rounded(&graph, id, tensor));
    calibrate::quantize_constants(&mut graph);
    // The network in memory runs on these grids too.
    run(&graph, &ids, &rounded, &mut &calibrate::Quantizing::of(&graph), Par::Seq);
    let constant = |id: ValueId| match &graph.value(id).source {
        Source::Const(tensor) => tensor.clone(),
        _ => rounded.get(id).unwrap().clone(),
    };
    // Past the check, only numbers may stand in the way.
    match lower(&graph, Precision::Quantized, &constant) {
        Err(LowerError::Bias { source, .. }) => Err(source.to_string()),
        model => Ok(model.unwrap()),
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let dtypes = |names: [&str; 6]| names.map(|name| name.parse::<DType>().unwrap()).to_vec();
    let dtype = prop_oneof![
        9 => prop::sample::select(dtypes(["uint4", "int4", "uint8", "int8", "uint16", "int16"])),
        1 => prop::sample::select(dtypes(["uint2", "int2", "int3", "int7", "uint12", "int12"])),
    ];
    let observers = ["mse", "percentile:99", "ema", "mx:int8", "mx:fp4", "identity", "softmax:9"];
    let observer =
        prop::sample::select(observers.map(|name| name.parse::<ObserverSpec>().unwrap()).to_vec());
    let axis = (0..4usize).prop_map(Granularity::Axis);
    (
        prop::option::of(dtype),
        prop::option::weighted(0.1, any::<bool>()),
        prop::option::weighted(0.1, axis),
        prop::option::weighted(0.03, prop::sample::select(vec![16, 32, 7])),
        prop::option::weighted(0.1, observer),
    )
        .prop_map(|(dtype, symmetric, axis, group, observer)| Spec {
            dtype,
            symmetric,
            axis,
            group,
            observer,
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    let patterns = ["*", "*_proj*", "*.weight", "*norm*", "*_x2", "*embed_tokens*", "*.logits*"];
    let pattern = prop::sample::select(patterns.to_vec());
    (pattern, spec()).prop_map(|(pattern, set)| Rule {
        pattern: pattern.into(),
        role: None,
        optional: true,
        set,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_policy_is_refused_or_gives_a_file_without_errors(
        (activation, weight) in (spec(), spec()),
        norm in prop::option::of(spec()),
        rules in prop::collection::vec(rule(), 0..3),
    ) {
        let policy = PolicySpec { activation, weight, norm, rules, ..PolicySpec::default() };
        if let Ok(model) = file(policy) {
            let report = verify(&model);
            prop_assert!(report.is_valid(), "{report}");
        }
    }
}

/// Rounded to the narrow grid before, it would lie on multiples of what that was spread by.
#[test]
fn a_bias_behind_a_widened_input_is_rounded_on_the_wide_grid() {
    let mut g = Builder::new("layer");
    let x = g.input("x", [1, 5, 4], Kind::Real);
    let y = g.linear("proj", x, 3, true);
    let graph = g.finish(&[y]).unwrap();
    let noise = |shape: &[usize]| {
        let len = shape.iter().product::<usize>();
        Tensor::new(shape, (0..len).map(|i| (7.0 * i as f32 + 1.0).sin()).collect())
    };
    let mut weights = Weights::none(&graph);
    graph.params().for_each(|(id, _)| weights.set(id, noise(&graph.value(id).shape)));
    let text = "activation = { dtype = \"uint8\" }\n[[rules]]\npattern = \"proj\"\n\
        role = \"activation\"\nset = { dtype = \"int16\" }";
    let model =
        file_of((graph, weights), noise(&[1, 5, 4]), toml::from_str(text).unwrap()).unwrap();
    let bias = model.subgraphs[0].tensors.iter().find(|tensor| tensor.name == "proj.bias").unwrap();
    assert_eq!(bias.dtype, TensorType::Int64);
    let scale = &bias.quantization.as_ref().unwrap().scale;
    let words = model.constant(bias).unwrap().as_chunks().0;
    let found: Vec<i64> = words.iter().map(|word| i64::from_le_bytes(*word)).collect();
    let values = noise(&[3]);
    let exact = values.data().iter().zip(scale).map(|(x, scale)| x / scale);
    assert!(found.iter().zip(exact).all(|(q, x)| (*q as f32 - x).abs() <= 1.0), "{found:?}");
}

#[test]
fn what_no_file_can_hold_is_refused_before_anything_is_computed() {
    let refused = |text: &str| file(toml::from_str(text).unwrap()).unwrap_err();
    for (text, why) in [
        ("activation = { dtype = \"uint3\" }", "activations of uint3: 4 bits are the fewest"),
        ("activation = { dtype = \"int12\" }", "no tensor type for int12"),
        ("weight = { dtype = \"int7\" }", "weight: Circle has no tensor type for int7"),
        ("weight = { group = 16 }", "groups of 16 inputs have no place in a Circle file"),
        ("weight = { observer = \"mx:int8\" }", "constants of mx int8"),
        (
            "activation = { dtype = \"int16\", symmetric = false }",
            ".cos: symmetric = false, but int16 has zero points of 0",
        ),
        (
            "weight = { dtype = \"int16\", symmetric = false }",
            "weight: symmetric = false, but int16 has zero points of 0",
        ),
    ] {
        let found = refused(text);
        assert!(found.contains(why), "no {why:?} in {found}");
    }
    let model = file(toml::from_str("weight = { dtype = \"int3\" }").unwrap()).unwrap();
    assert!(verify(&model).is_valid());
}
