use super::*;
use crate::dataset::{Processor, read_jsonl};
use crate::models;
use crate::pipeline::{Fixed, Means, Numerics, Silent, quantize};

fn subject(name: &str, keys: &[&str]) -> (Checkpoint, Vec<Sample>, Recipe) {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let mut rows = read_jsonl("assets/vqa/train.jsonl".as_ref()).unwrap();
    rows.truncate(4);
    let samples = Processor::new(&checkpoint).unwrap().encode_all(&rows).unwrap();
    let mut numerics = Numerics::find(name).unwrap();
    for key in keys.iter().chain(&["policy.prefix=bake"]) {
        numerics.set_key(key).unwrap().unwrap();
    }
    let Numerics { policy, algo, products } = numerics;
    let (fixed, means): (Fixed, Means) = Default::default();
    let head = models::Head::Logits;
    (checkpoint, samples, Recipe { policy, algo, products, seq_len: None, fixed, head, means })
}

#[test]
fn a_baked_prefix_leaves_the_float_network_as_it_is_turned_or_not() {
    for (name, keys) in [
        ("w8a8", &["algo.rounding=rtn"][..]),
        ("w4a16-fast", &["algo.rounding=rtn", "algo.rotate.seed=1"]),
    ] {
        let (checkpoint, samples, mut recipe) = subject(name, keys);
        let layout = prompt::layout_of(checkpoint.config(), &samples[0]).unwrap();
        let plain = Recipe { algo: Default::default(), ..recipe.clone() };
        let graph = build(&checkpoint, &plain, layout.clone(), 1).unwrap();
        let mut weights = Weights::none(&graph);
        for (id, _) in graph.params() {
            let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
            weights.set(id, graph.load(id, &read).unwrap());
        }
        let inputs = prompt::inputs(&graph, &[&samples[0]]);
        let whole = exec::run(&graph, &inputs, &weights, &mut exec::Float, Par::All).remove(0);

        let mut calib = samples.clone();
        bake(&checkpoint, &mut recipe, &mut calib, &mut []).unwrap();
        let tokens = recipe.fixed.prefix.len();
        assert_eq!(tokens, layout.spans()[0].start - 1, "{name}");
        assert_eq!(calib[1].input_ids, samples[1].input_ids[tokens..]);
        let outcome = quantize(&checkpoint, &calib, &[], &recipe, &Silent).unwrap();
        let [float, _] = &outcome.example;
        let width = float.shape()[1];
        let rest = &whole.data()[tokens * width..];
        let most = float.data().iter().zip(rest).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(float.shape()[0] + tokens == whole.shape()[1] && most < 1e-3, "{name}: {most}");
        assert!(outcome.unquantized.is_empty(), "{name}");
        let inputs = outcome.graph.inputs.iter().map(|id| &outcome.graph.value(*id).shape);
        let length = outcome.prompt.layout.seq_len();
        assert!(inputs.into_iter().any(|shape| *shape == [1, length]), "{name}");
    }
}

#[test]
fn rows_that_begin_otherwise_and_fitted_rewrites_are_refused() {
    let (checkpoint, samples, recipe) = subject("w8a8", &[]);
    let refused = |calib: &[Sample], eval: &[Sample], recipe: &Recipe| {
        let (mut calib, mut eval) = (calib.to_vec(), eval.to_vec());
        bake(&checkpoint, &mut recipe.clone(), &mut calib, &mut eval).unwrap_err().to_string()
    };
    let mut other = samples.clone();
    other[2].input_ids[0] += 1;
    let error = refused(&other, &[], &recipe);
    assert!(error.contains("policy.prefix") && error.contains("same tokens"), "{error}");
    let error = refused(&samples, &other, &recipe);
    assert!(error.contains(&other[2].place) && error.contains("begins otherwise"), "{error}");
    let mut text = samples.clone();
    text[0].prompt_len = 1;
    let error = refused(&text, &[], &recipe);
    assert!(error.contains("given no more than one token"), "{error}");
    let (_, _, fitted) = subject("w8a8", &["algo.awq.grid=4"]);
    let error = refused(&samples, &[], &fitted);
    assert!(error.contains("fitted to samples"), "{error}");
}
