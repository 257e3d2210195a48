//! What a budget buys, through the library: the losses it is decided by, and how it ends early.

use crate::support::{load, pixie, samples};
use encircle::calibrate::{Observing, Plan, Quantizing, Statistics, quantize_constants};
use encircle::dataset::Sample;
use encircle::exec::{Float, Tap, Weights};
use encircle::graph::Graph;
use encircle::models::{self, Head, Request};
use encircle::pipeline::{
    self, Bought, Budget, Fixed, Means, Numerics, Progress, Prompt, Recipe, Silent, ValueChoice,
};
use encircle::quant::{self, DType, Role, Rule, Spec};
use encircle::tensor::{Par, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};

fn recipe(memory: Option<u64>) -> Recipe {
    let Numerics { policy, algo, products } = Numerics::find("npu").unwrap();
    let (fixed, head) = (Fixed::default(), Head::Logits);
    let means = Means { memory, ..Means::default() };
    Recipe { policy, algo, products, seq_len: None, fixed, head, means }
}

fn fit(memory: Option<u64>, progress: &dyn Progress) -> Result<Bought, pipeline::Error> {
    pipeline::fit(&pixie(), &samples(3), &mut recipe(memory), Budget::Bits(6.0), progress)
}

/// Logits of a sample, run alone and from the start.
fn logits(graph: &Graph, sample: &Sample, weights: &Weights, tap: &mut dyn Tap) -> Tensor {
    let ids: Vec<f32> = sample.input_ids.iter().map(|&id| id as f32).collect();
    let ids = Tensor::new([1, ids.len()], ids);
    let inputs = [ids, sample.pixel_values.clone().unwrap()];
    encircle::exec::run(graph, &inputs, weights, tap, Par::All).swap_remove(0)
}

/// Sum over rows of `vocab` logits of KL(softmax float ‖ softmax judged), and how many rows.
fn divergence(vocab: usize, float: &Tensor, judged: &Tensor) -> (f64, usize) {
    let log_softmax = |row: &[f32]| {
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x) - total.ln()).collect::<Vec<f64>>()
    };
    let rows = float.data().chunks(vocab).zip(judged.data().chunks(vocab));
    let of = |(float, judged): (&[f32], &[f32])| {
        let (p, q) = (log_softmax(float), log_softmax(judged));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    };
    (rows.map(of).sum(), float.len() / vocab)
}

#[test]
fn losses_are_those_of_the_whole_network_with_one_weight_rounded() {
    let (checkpoint, samples) = (pixie(), samples(3));
    let bought = fit(None, &Silent).unwrap();
    let layout = |sample: &Sample| {
        let one = std::slice::from_ref(sample);
        Prompt::of(checkpoint.config(), one, &[], None, &Fixed::default()).unwrap().layout
    };
    let build = |sample| models::build(checkpoint.config(), &Request::new(layout(sample))).unwrap();
    let graphs: Vec<Graph> = samples.iter().map(|sample| build(sample).rewritten()).collect();
    let weights = load(&checkpoint, &graphs[0]);
    let run = |weights: &Weights| -> Vec<Tensor> {
        let each = graphs.iter().zip(&samples);
        each.map(|(graph, sample)| logits(graph, sample, weights, &mut Float)).collect()
    };
    let float = run(&weights);
    // The first stands before everything, one amid the text model, the last before the logits.
    let (last, middle) = (bought.choices.len() - 1, bought.choices.len() * 3 / 4);
    for choice in [0, middle, last].map(|i| &bought.choices[i]) {
        let named = |name: &str| name == choice.name;
        let (id, _) = graphs[0].params().find(|(id, _)| named(&graphs[0].value(*id).name)).unwrap();
        for candidate in &choice.candidates[..2] {
            let set = Spec { dtype: Some(candidate.dtype), ..Spec::default() };
            let role = Some(Role::Weight);
            let rule = Rule { pattern: "*".into(), role, optional: false, set };
            let policy = recipe(None).policy.with_rules([rule]).unwrap();
            let plan = Plan::new(&graphs[0], &policy).unwrap();
            let mut tensor = weights.get(id).unwrap().clone();
            let grid = plan.weight_grid(id, &choice.name, &tensor).unwrap().unwrap();
            quant::round(&grid, &mut tensor);
            let mut changed = weights.clone();
            changed.set(id, tensor);
            let (mut total, mut tokens) = (0.0, 0);
            for (float, judged) in float.iter().zip(run(&changed)) {
                let vocab = float.shape()[2];
                let (sum, rows) = divergence(vocab, float, &judged);
                (total, tokens) = (total + sum, tokens + rows);
            }
            let (expected, found) = (total / tokens as f64, candidate.loss);
            let why = format!("{} at {}: {found} {expected}", choice.name, candidate.dtype);
            assert!((found - expected).abs() <= 1e-3 * expected + 1e-9, "{why}");
            assert!(expected > 0.0, "{why}");
        }
    }
}

#[test]
fn activations_are_widened_until_the_limit_holds_and_the_rules_say_what_was_measured() {
    let (checkpoint, samples) = (pixie(), samples(3));
    let Numerics { policy, algo, products } = Numerics::find("w8a8").unwrap();
    let mut widened = Recipe { policy, algo, products, ..recipe(None) };
    let told = pipeline::widen(&checkpoint, &samples, &mut widened, 1e-3, &Silent).unwrap();
    assert!(told.loss <= 1e-3 && told.narrow_loss > 1e-3, "{} {}", told.loss, told.narrow_loss);
    let got = |choice: &ValueChoice| choice.candidates[choice.chosen].dtype;
    let wide = told.choices.iter().filter(|choice| got(choice) == DType::INT16).count();
    assert!((1..told.choices.len() / 2).contains(&wide), "{wide}");

    // The whole policy, its ranges observed once more, and the network on these grids alone.
    let layout = |sample: &Sample| {
        let one = std::slice::from_ref(sample);
        Prompt::of(checkpoint.config(), one, &[], None, &Fixed::default()).unwrap().layout
    };
    let build = |sample| models::build(checkpoint.config(), &Request::new(layout(sample))).unwrap();
    let mut graphs: Vec<Graph> = samples.iter().map(|sample| build(sample).rewritten()).collect();
    let mut weights = load(&checkpoint, &graphs[0]);
    let plan = Plan::new(&graphs[0], &widened.policy).unwrap();
    let mut statistics = Statistics::new(&plan);
    let each = graphs.iter().zip(&samples);
    let float: Vec<Tensor> = each
        .map(|(graph, sample)| {
            let mut observing = Observing { plan: &plan, statistics: &mut statistics };
            logits(graph, sample, &weights, &mut observing)
        })
        .collect();
    let mut annotated = graphs[0].clone();
    let param = |id| weights.get(id).unwrap().clone();
    plan.annotate_activations(&mut annotated, &statistics, &param).unwrap();
    for (id, _) in annotated.params() {
        if let Some(grid) = &annotated.value(id).qparams {
            let mut tensor = weights.get(id).unwrap().clone();
            quant::round(grid, &mut tensor);
            weights.set(id, tensor);
        }
    }
    let (mut total, mut tokens) = (0.0, 0);
    for ((graph, sample), float) in graphs.iter_mut().zip(&samples).zip(&float) {
        graph.annotate_like(&annotated);
        quantize_constants(graph);
        let judged = logits(graph, sample, &weights, &mut &Quantizing::of(graph));
        let (sum, rows) = divergence(float.shape()[2], float, &judged);
        (total, tokens) = (total + sum, tokens + rows);
    }
    let expected = total / tokens as f64;
    assert!((told.loss - expected).abs() <= 1e-3 * expected, "{} {expected}", told.loss);
}

/// Counts losses, and wants to end after a few.
struct Few(AtomicUsize);

impl Progress for Few {
    fn begin(&self, _: &'static str, _: usize) {}

    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 5
    }
}

#[test]
fn measuring_losses_ends_when_somebody_wants_that() {
    let few = Few(AtomicUsize::new(0));
    let error = fit(None, &few).err().unwrap();
    assert!(matches!(error, pipeline::Error::Stopped { .. }), "{error}");
    assert_eq!(few.0.into_inner(), 5);
}

#[test]
fn too_little_memory_for_all_weights_is_refused_with_the_way_out() {
    struct Untold;
    impl Progress for Untold {
        fn begin(&self, phase: &'static str, _: usize) {
            panic!("{phase} began");
        }
        fn step(&self) {}
    }
    let text = fit(Some(20 << 20), &Untold).err().unwrap().to_string();
    for part in ["21.0 MB of memory", "--memory", "all weights", "recipe.toml", "--recipe"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
