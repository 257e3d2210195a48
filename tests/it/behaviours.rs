//! The behaviours that the peer's own tests demand, of our design. `tests/BEHAVIOURS.md` traces each
//! of its 44 tests (and the export-time one) to a test here or elsewhere.

use crate::support::*;
use encircle::calibrate::{
    Observing, Plan, Quantizing, Site, Statistics, check, quantize_constants,
};
use encircle::checkpoint::Checkpoint;
use encircle::exec::{Float, Tap, Weights, run};
use encircle::graph::{Graph, Kind, Source, ValueId};
use encircle::layout::{Layout, Segment};
use encircle::models::{self, FAMILIES, Feed, Head, Request};
use encircle::ops::Op;
use encircle::pipeline::Numerics;
use encircle::quant::{Policy, QuantParams};
use encircle::tensor::{Par, Tensor};

const PICTURE: [usize; 3] = [1, 8, 8];
/// pixie's <|image_pad|>.
const IMAGE: u32 = 491;

fn text(seq: usize) -> Request {
    Request { head: Head::Hidden, ..Request::new(Layout::text(seq).unwrap()) }
}

fn picture(start: usize, seq: usize) -> Request {
    Request { head: Head::Hidden, ..Request::new(Layout::single(PICTURE, start, seq, 2).unwrap()) }
}

fn build(checkpoint: &Checkpoint, request: &Request) -> Graph {
    models::build(checkpoint.config(), request).unwrap()
}

/// A small deterministic generator; seeds tell samples apart.
fn noise(seed: usize, len: usize) -> Vec<f32> {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Random inputs of a graph: ids in the vocabulary, reals in [-1, 1].
fn inputs(graph: &Graph, seed: usize) -> Vec<Tensor> {
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        let len = value.shape.iter().product();
        let data = noise(seed, len);
        let ids = |x: f32| ((x + 1.0) * 240.0).floor();
        match value.kind {
            Kind::Index => Tensor::new(value.shape.clone(), data.into_iter().map(ids).collect()),
            Kind::Real => Tensor::new(value.shape.clone(), data),
        }
    };
    graph.inputs.iter().map(input).collect()
}

/// A calibrated network: the plan, the annotated graph, and float and rounded weights.
#[derive(Clone)]
struct Quantized {
    plan: Plan,
    graph: Graph,
    float: Weights,
    rounded: Weights,
}

fn calibrate(
    checkpoint: &Checkpoint,
    request: &Request,
    policy: &Policy,
    seeds: &[usize],
) -> Quantized {
    let mut graph = build(checkpoint, request);
    let float = load(checkpoint, &graph);
    let plan = Plan::new(&graph, policy).unwrap();
    let mut statistics = Statistics::new(&plan);
    for &seed in seeds {
        let mut tap = Observing { plan: &plan, statistics: &mut statistics };
        run(&graph, &inputs(&graph, seed), &float, &mut tap, Par::All);
    }
    let param = |id: ValueId| float.get(id).cloned().unwrap();
    plan.annotate_activations(&mut graph, &statistics, &param).unwrap();
    let mut tensors: Vec<_> = graph.params().map(|(id, _)| (id, param(id))).collect();
    plan.quantize_weights(&mut graph, &mut tensors).unwrap();
    let rounded = Weights::rounded(&graph, tensors);
    Quantized { plan, graph, float, rounded }
}

impl Quantized {
    fn float(&self, inputs: &[Tensor]) -> Tensor {
        run(&self.graph, inputs, &self.float, &mut Float, Par::All).remove(0)
    }

    fn quantized(&self, inputs: &[Tensor]) -> Tensor {
        let mut graph = self.graph.clone();
        quantize_constants(&mut graph);
        let tap = Quantizing::of(&graph);
        run(&graph, inputs, &self.rounded, &mut &tap, Par::All).remove(0)
    }

    /// Mean |float − quantized| on a fresh sample.
    fn cost(&self, seed: usize) -> f32 {
        let inputs = inputs(&self.graph, seed);
        mean_diff(&self.float(&inputs), &self.quantized(&inputs))
    }
}

fn mean_diff(a: &Tensor, b: &Tensor) -> f32 {
    let sum: f32 = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).sum();
    sum / a.data().len() as f32
}

fn w8a8() -> Policy {
    Numerics::find("w8a8-minmax").unwrap().policy
}

// ---- text model ----

#[test]
fn text_modes_go_from_float_over_calibration_to_quantized() {
    let checkpoint = pixie();
    let plain = build(&checkpoint, &text(16));
    assert!(plain.values.iter().all(|value| value.qparams.is_none()), "float: nothing annotated");
    let q = calibrate(&checkpoint, &text(16), &w8a8(), &[1]);
    let inputs = inputs(&plain, 2);
    let float = run(&plain, &inputs, &q.float, &mut Float, Par::All).remove(0);
    let mut statistics = Statistics::new(&q.plan);
    let mut tap = Observing { plan: &q.plan, statistics: &mut statistics };
    let observed = run(&plain, &inputs, &q.float, &mut tap, Par::All).remove(0);
    assert_eq!(float, observed, "calibration passes values unchanged");
    assert_ne!(float, q.quantized(&inputs));
}

#[test]
fn text_difference_is_bounded_and_not_zero() {
    let q = calibrate(&pixie(), &text(16), &w8a8(), &[1, 2, 3, 4]);
    let cost = q.cost(5);
    assert!(0.0 < cost && cost < 0.7, "{cost}");
}

#[test]
fn text_output_is_batch_by_sequence_by_hidden() {
    let graph = build(&pixie(), &Request { batch: 2, ..text(16) });
    assert_eq!(graph.value(graph.outputs[0]).shape, [2, 16, 128]);
}

#[test]
fn text_batches_of_one_two_and_four_share_one_calibration() {
    let checkpoint = pixie();
    let q = calibrate(&checkpoint, &Request { batch: 2, ..text(16) }, &w8a8(), &[1, 2]);
    for batch in [1, 2, 4] {
        let mut graph = build(&checkpoint, &Request { batch, ..text(16) });
        graph.annotate_like(&q.graph);
        let other = Quantized { graph, ..q.clone() };
        let inputs = inputs(&other.graph, 7);
        let out = other.quantized(&inputs);
        assert_eq!(out.shape(), [batch, 16, 128]);
        assert!(mean_diff(&other.float(&inputs), &out) < 0.8);
    }
}

#[test]
fn text_lengths_of_8_16_and_32_share_one_calibration() {
    let checkpoint = pixie();
    let q = calibrate(&checkpoint, &text(16), &w8a8(), &[1, 2]);
    for seq in [8, 16, 32, checkpoint.config().text.max_position_embeddings] {
        let mut graph = build(&checkpoint, &text(seq));
        graph.annotate_like(&q.graph);
        let other = Quantized { graph, ..q.clone() };
        assert!(other.cost(9) < 0.8, "{seq}");
    }
    let beyond = models::build(checkpoint.config(), &text(513)).unwrap_err().to_string();
    assert_eq!(beyond, "sequence length 513 is beyond max_position_embeddings 512");
}

#[test]
fn text_embedding_layers_and_final_norm_are_annotated() {
    let q = calibrate(&pixie(), &text(16), &w8a8(), &[1]);
    let annotated = |name: &str| q.graph.value(q.graph.find(name).unwrap()).qparams.is_some();
    assert!(annotated("model.language_model.embed_tokens.weight"));
    assert!(annotated("model.language_model.embed_tokens"));
    for layer in 0..4 {
        assert!(annotated(&format!("model.language_model.layers.{layer}")));
        assert!(annotated(&format!("model.language_model.layers.{layer}.mlp.down_proj.weight")));
    }
    assert!(
        annotated("model.language_model.norm") && annotated("model.language_model.norm.weight")
    );
    assert_eq!(check(&q.graph), [], "QuantCheck: nothing real without a grid");
}

/// No operator computes angles, positions or indices: rotary embedding is two constants, quantized
/// as any constant among data, and products with them.
#[test]
fn rotary_embedding_is_constants_not_operators() {
    let graph = build(&pixie(), &picture(4, 40));
    for name in ["model.language_model.cos", "model.language_model.sin", "model.visual.rope_cos"] {
        let value = graph.value(graph.find(name).unwrap());
        assert!(matches!(value.source, Source::Const(_)), "{name}");
    }
    let indices = graph.values.iter().filter(|value| value.kind == Kind::Index);
    let names: Vec<&str> = indices.map(|value| value.name.as_str()).collect();
    assert_eq!(
        names,
        ["input_ids"],
        "ids are the only integers, and only the embedding reads them"
    );
    let gathers = graph.nodes.iter().filter(|node| matches!(node.op, Op::Gather(_))).count();
    assert_eq!(gathers, 1);
}

/// However many layers there are: one mask, which every layer adds to its logits, also in the graph
/// that is written.
#[test]
fn one_causal_mask_is_read_by_all_layers() {
    let built = build(&pixie(), &picture(4, 40));
    for graph in [built.clone(), built.rewritten()] {
        let square = |id: &ValueId| graph.value(*id).shape.ends_with(&[40, 40]);
        let constant = |id: &ValueId| matches!(graph.value(*id).source, Source::Const(_));
        let masks: Vec<ValueId> = graph.ids().filter(|id| square(id) && constant(id)).collect();
        assert_eq!(masks, [graph.find("model.language_model.causal_mask").unwrap()]);
        let readers = graph.nodes.iter().filter(|node| node.inputs.contains(&masks[0]));
        let names: Vec<&str> = readers.map(|n| graph.value(n.output).name.as_str()).collect();
        let layer = |i: usize| format!("model.language_model.layers.{i}.self_attn.mask_add");
        assert_eq!(names, [0, 1, 2, 3].map(layer));
    }
}

#[test]
fn text_families_are_registered_and_unknown_ones_list_what_is_known() {
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names, ["qwen3_vl", "qwen3_vl_moe", "llama", "qwen3", "qwen3_moe", "qwen2"]);
    let checkpoint = pixie();
    let mut config = checkpoint.config().clone();
    config.architectures = vec!["GPT9".into()];
    let error = models::build(&config, &text(4)).unwrap_err().to_string();
    for known in ["GPT9", "Qwen3VLForConditionalGeneration", "LlamaForCausalLM", "Qwen3ForCausalLM"]
    {
        assert!(error.contains(known), "{error}");
    }
}

/// Sites with statistics of their own, counted from the structure of a layer.
#[test]
fn text_observer_count_follows_from_the_structure() {
    let count = |layers: usize| {
        let checkpoint = pixie();
        let mut config = checkpoint.config().clone();
        config.text.num_hidden_layers = layers;
        config.vision.as_mut().unwrap().deepstack_visual_indexes.clear();
        let graph = models::build(&config, &text(8)).unwrap();
        Plan::new(&graph, &w8a8()).unwrap().site_count()
    };
    // Weights: 7 linears and 4 norms. Classes: 2 norm outputs, q, k, v, 2 head norms, 2 × (cos, sin,
    // rot), logits, mask_add, softmax, attn_out, o_proj, post_attn, gate, sigmoid, act_fn, up,
    // gated, down, layer output.
    assert_eq!(count(3) - count(2), 11 + 26);
    // Outside layers: embedding and final norm with their weights, cos, sin, mask.
    assert_eq!(count(2) - 2 * (count(3) - count(2)), 7);
}

#[test]
fn one_tensor_can_be_overridden_by_name() {
    let rule = r#"rules = [{ pattern = "model.language_model.embed_tokens", role = "activation", set = { dtype = "uint4" } }]"#;
    let rules: encircle::quant::PolicySpec = toml::from_str(rule).unwrap();
    let policy = w8a8().with_rules(rules.rules).unwrap();
    let q = calibrate(&pixie(), &text(16), &policy, &[1]);
    let dtype =
        |name: &str| q.graph.value(q.graph.find(name).unwrap()).qparams.as_ref().unwrap().dtype();
    assert_eq!(dtype("model.language_model.embed_tokens").unwrap().to_string(), "uint4");
    assert_eq!(dtype("model.language_model.norm").unwrap().to_string(), "uint8");
}

#[test]
fn embeddings_can_be_fed_instead_of_ids() {
    let checkpoint = pixie();
    let by_ids = build(&checkpoint, &text(16));
    let by_embeds = build(&checkpoint, &Request { feed: Feed::Embeds, ..text(16) });
    assert_eq!(by_embeds.value(by_embeds.inputs[0]).name, "inputs_embeds");
    let ids = inputs(&by_ids, 3);
    let embeds =
        values(&by_ids, &ids, &load(&checkpoint, &by_ids))["model.language_model.embed_tokens"]
            .clone();
    let a = run(&by_ids, &ids, &load(&checkpoint, &by_ids), &mut Float, Par::All);
    let b = run(&by_embeds, &[embeds], &load(&checkpoint, &by_embeds), &mut Float, Par::All);
    assert_eq!(a, b);
    let q = calibrate(&checkpoint, &Request { feed: Feed::Embeds, ..text(16) }, &w8a8(), &[1, 2]);
    assert!((0.01..0.3).contains(&q.cost(4)), "{}", q.cost(4));
}

/// There is no cache in the whole-prompt graph: each run starts afresh and leaves nothing behind.
#[test]
fn runs_without_a_cache_do_not_see_each_other() {
    let q = calibrate(&pixie(), &text(8), &w8a8(), &[1, 2]);
    let (a, b) = (inputs(&q.graph, 3), inputs(&q.graph, 4));
    let first = q.quantized(&a);
    q.quantized(&b);
    assert_eq!(q.quantized(&a), first);
    assert!(q.cost(3) < 0.7);
}

/// A site that no sample reached is an error that names it: never a scale of infinity.
#[test]
fn a_site_never_exercised_is_an_error_that_names_it() {
    let checkpoint = pixie();
    let mut graph = build(&checkpoint, &text(8));
    let float = load(&checkpoint, &graph);
    let plan = Plan::new(&graph, &w8a8()).unwrap();
    let param = |id: ValueId| float.get(id).cloned().unwrap();
    let error = plan.annotate_activations(&mut graph, &Statistics::new(&plan), &param).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("model.language_model.") && text.contains("no value was observed"),
        "{text}"
    );
    assert!(graph.values.iter().all(|v| v.qparams.is_none()), "nothing is annotated by halves");
}

/// NaN is reported with the tensor instead of being laundered into a finite value.
#[test]
fn values_that_are_not_finite_are_an_error_that_names_the_tensor() {
    let checkpoint = pixie();
    let mut graph = build(&checkpoint, &Request { feed: Feed::Embeds, ..text(8) });
    let float = load(&checkpoint, &graph);
    let plan = Plan::new(&graph, &w8a8()).unwrap();
    let mut statistics = Statistics::new(&plan);
    let mut tap = Observing { plan: &plan, statistics: &mut statistics };
    run(&graph, &[Tensor::full([1, 8, 128], f32::NAN)], &float, &mut tap, Par::All);
    let param = |id: ValueId| float.get(id).cloned().unwrap();
    let error = plan.annotate_activations(&mut graph, &statistics, &param).unwrap_err().to_string();
    assert_eq!(error, "inputs_embeds: a NaN or an infinity was observed");
}

// ---- whole model ----

#[test]
fn statistics_are_collected_for_text_only_and_with_pictures() {
    for request in [text(24), picture(4, 24)] {
        let q = calibrate(&pixie(), &request, &w8a8(), &[1, 2, 3, 4, 5]);
        assert_eq!(check(&q.graph), []);
        assert!(q.cost(6).is_finite());
    }
}

#[test]
fn every_submodule_of_the_whole_model_is_annotated() {
    let q = calibrate(&pixie(), &Request { head: Head::Logits, ..picture(4, 24) }, &w8a8(), &[1]);
    let prefixes = [
        "model.visual.patch_embed",
        "model.visual.blocks.3",
        "model.visual.merger",
        "model.visual.deepstack_merger_list.1",
        "model.language_model.layers.3",
        "lm_head",
    ];
    for prefix in prefixes {
        let mut members = q.graph.values.iter().filter(|v| v.name.starts_with(prefix)).peekable();
        assert!(members.peek().is_some(), "{prefix}");
        assert!(members.all(|v| v.qparams.is_some()), "{prefix}");
    }
}

/// Features enter by slice and concatenation where the layout says, and nowhere else.
#[test]
fn visual_features_replace_exactly_their_span() {
    let checkpoint = pixie();
    let graph = build(&checkpoint, &picture(4, 24));
    let values = values(&graph, &inputs(&graph, 3), &load(&checkpoint, &graph));
    let fused = values["model.language_model.fused"].data();
    let embeds = values["model.language_model.embed_tokens"].data();
    let features = values["model.visual.merger.linear_fc2"].data();
    assert_eq!(&fused[..4 * 128], &embeds[..4 * 128]);
    assert_eq!(&fused[4 * 128..20 * 128], features);
    assert_eq!(&fused[20 * 128..], &embeds[20 * 128..]);
}

#[test]
fn deepstack_features_are_added_to_exactly_their_span() {
    let checkpoint = pixie();
    let graph = build(&checkpoint, &picture(4, 24));
    let values = values(&graph, &inputs(&graph, 3), &load(&checkpoint, &graph));
    for level in 0..2 {
        let before = values[&format!("model.language_model.layers.{level}")].data();
        let after = values[&format!("model.language_model.deepstack.{level}.add")].data();
        let features =
            values[&format!("model.visual.deepstack_merger_list.{level}.linear_fc2")].data();
        for i in 0..24 * 128 {
            let added = if (4 * 128..20 * 128).contains(&i) { features[i - 4 * 128] } else { 0.0 };
            assert_eq!(after[i], before[i] + added);
        }
    }
}

/// The list says which merger a block has; features come in the order of the blocks, as Hugging
/// Face's vision tower collects them.
#[test]
fn deepstack_features_come_in_the_order_of_their_blocks() {
    let checkpoint = pixie();
    let mut config = checkpoint.config().clone();
    config.vision.as_mut().unwrap().deepstack_visual_indexes.reverse();
    let graph = models::build(&config, &picture(4, 24)).unwrap();
    let values = values(&graph, &inputs(&graph, 3), &load(&checkpoint, &graph));
    for level in 0..2 {
        let before = values[&format!("model.language_model.layers.{level}")].data();
        let after = values[&format!("model.language_model.deepstack.{level}.add")].data();
        let merger = format!("model.visual.deepstack_merger_list.{}.linear_fc2", 1 - level);
        for (i, feature) in values[&merger].data().iter().enumerate() {
            assert_eq!(after[4 * 128 + i], before[4 * 128 + i] + feature, "level {level}");
        }
    }
}

#[test]
fn a_window_shorter_than_the_sequence_and_a_family_that_is_none_are_refused() {
    let checkpoint = pixie();
    let refused = |config: &encircle::checkpoint::Config| {
        let refused = models::build(config, &text(8)).unwrap_err().to_string();
        assert_eq!(models::build_decode(config, 7).unwrap_err().to_string(), refused);
        refused
    };
    let mut config = checkpoint.config().clone();
    config.text.sliding_window = Some(8);
    assert!(models::build(&config, &text(8)).is_ok() && models::build_decode(&config, 7).is_ok());
    config.text.sliding_window = Some(7);
    assert_eq!(
        refused(&config),
        "field \"sliding_window\": found 7, expected at least the 8 positions of the sequence: \
         attention to a window is not built"
    );
    let mut config = checkpoint.config().clone();
    for found in ["qwen3", "mistral"] {
        config.model_type = found.into();
        let fact = "expected \"qwen3_vl\" as in architectures";
        assert_eq!(refused(&config), format!("field \"model_type\": found \"{found}\", {fact}"));
    }
}

/// Two prompts with different pictures in one batch: each row equals its own run.
#[test]
fn batches_with_pictures_keep_rows_apart() {
    let checkpoint = pixie();
    let two = build(&checkpoint, &Request { batch: 2, ..picture(4, 24) });
    let one = build(&checkpoint, &picture(4, 24));
    let both = inputs(&two, 5);
    let out = run(&two, &both, &load(&checkpoint, &two), &mut Float, Par::All).remove(0);
    for row in 0..2 {
        let own: Vec<Tensor> = both
            .iter()
            .zip(&one.inputs)
            .map(|(all, id)| {
                let shape = one.value(*id).shape.clone();
                let len: usize = shape.iter().product();
                Tensor::new(shape, all.data()[row * len..(row + 1) * len].to_vec())
            })
            .collect();
        let alone = run(&one, &own, &load(&checkpoint, &one), &mut Float, Par::All).remove(0);
        let part = &out.data()[row * 24 * 128..(row + 1) * 24 * 128];
        assert!(relative_error(part, alone.data()) < 1e-6, "row {row}");
    }
}

fn segments(kinds: &[Segment]) -> Request {
    Request { head: Head::Hidden, ..Request::new(Layout::new(kinds, 2).unwrap()) }
}

fn words(tokens: usize) -> Segment {
    Segment::Text { tokens }
}

fn video() -> Segment {
    Segment::Video { grid_thw: [2, 4, 4], timestamp_tokens: vec![3, 4] }
}

#[test]
fn forward_works_for_text_pictures_videos_and_both() {
    let image = Segment::Image { grid_thw: PICTURE };
    let layouts = [
        vec![words(12)],
        vec![words(3), image.clone(), words(5)],
        vec![words(3), image.clone(), words(2), Segment::Image { grid_thw: [1, 4, 8] }, words(5)],
        vec![words(3), video(), words(5)],
        vec![words(3), image, words(2), video(), words(5)],
    ];
    for layout in layouts {
        let request = Request { head: Head::Logits, ..segments(&layout) };
        let seq = request.layout.seq_len();
        let policy = Numerics::find("w8a16").unwrap().policy;
        let q = calibrate(&pixie(), &request, &policy, &[1, 2]);
        let inputs = inputs(&q.graph, 3);
        let out = q.quantized(&inputs);
        assert_eq!(out.shape(), [1, seq, 512]);
        let error = relative_error(out.data(), q.float(&inputs).data());
        assert!((1e-4..0.4).contains(&error), "{layout:?}: {error}");
    }
}

/// Attention in the vision tower never crosses a frame: the features of a picture do not depend on
/// what else is in the prompt.
#[test]
fn pictures_of_one_prompt_do_not_see_each_other() {
    let checkpoint = pixie();
    let image = Segment::Image { grid_thw: PICTURE };
    let other = Segment::Image { grid_thw: [1, 4, 8] };
    let alone = build(&checkpoint, &segments(&[words(3), image.clone(), words(5)]));
    let both = build(&checkpoint, &segments(&[words(3), image, words(2), other, words(5)]));
    let pixels = Tensor::new([96, 1536], noise(4, 96 * 1536));
    let first = Tensor::new([64, 1536], pixels.data()[..64 * 1536].to_vec());
    let features = |graph: &Graph, pixels: Tensor| {
        let mut inputs = inputs(graph, 2);
        inputs[1] = pixels;
        values(graph, &inputs, &load(&checkpoint, graph))["model.visual.merger.linear_fc2"].clone()
    };
    let (a, b) = (features(&alone, first), features(&both, pixels));
    assert!(relative_error(&b.data()[..a.data().len()], a.data()) < 1e-6);
}

#[test]
fn embeddings_and_pictures_can_be_fed_together() {
    let checkpoint = pixie();
    let by_ids = build(&checkpoint, &picture(4, 24));
    let by_embeds = build(&checkpoint, &Request { feed: Feed::Embeds, ..picture(4, 24) });
    let mut ids = inputs(&by_ids, 3);
    ids[0].data_mut()[4..20].fill(IMAGE as f32);
    let all = values(&by_ids, &ids, &load(&checkpoint, &by_ids));
    let fed = vec![all["model.language_model.embed_tokens"].clone(), ids[1].clone()];
    let out = run(&by_embeds, &fed, &load(&checkpoint, &by_embeds), &mut Float, Par::All).remove(0);
    assert_eq!(out, all["model.language_model.norm"]);
}

#[test]
fn inputs_of_wrong_make_are_refused_before_anything_runs() {
    let checkpoint = pixie();
    let build =
        |request: &Request| models::build(checkpoint.config(), request).unwrap_err().to_string();
    assert_eq!(build(&Request { batch: 0, ..text(4) }), "batch is 0, expected at least 1");
    let merge = Layout::single([1, 12, 12], 0, 20, 3).unwrap();
    assert_eq!(
        build(&Request::new(merge)),
        "config.json: vision_config.spatial_merge_size: found 2, the layout was made for 3"
    );
    for (grid, start, seq, expected) in [
        (
            [1, 7, 8],
            0,
            40,
            "picture 0: height 7 of grid [1, 7, 8] is no multiple of the merge size 2",
        ),
        (
            [1, 8, 9],
            0,
            40,
            "picture 0: width 9 of grid [1, 8, 9] is no multiple of the merge size 2",
        ),
        ([0, 8, 8], 0, 40, "picture 0: frames of grid [0, 8, 8] is 0: expected at least 1"),
        (
            [1, 8, 8],
            30,
            40,
            "visual span 0 occupies tokens 30..46, but the sequence has 40: expected a sequence length \
             of at least 46",
        ),
    ] {
        let error = Layout::single(grid, start, seq, 2).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}

/// Later steps of the same prompt continue its positions: index + rope_delta.
#[test]
fn later_positions_reuse_the_rope_delta_of_the_prompt() {
    let layout = Layout::single(PICTURE, 4, 40, 2).unwrap();
    assert_eq!(layout.rope_delta(), -12);
    let ids = layout.position_ids();
    assert_eq!(layout.position_at(39), ids[0][39]);
    assert_eq!(layout.position_at(40), ids[0][39] + 1);
    let longer = Layout::single(PICTURE, 4, 50, 2).unwrap();
    assert_eq!(longer.rope_delta(), layout.rope_delta());
    assert_eq!(longer.position_ids()[2][45], layout.position_at(45));
}

/// Tables depend on the layout alone; a different layout of the same length changes them.
#[test]
fn explicit_layouts_are_never_ignored() {
    let checkpoint = pixie();
    let tables = |request: &Request| {
        let graph = build(&checkpoint, request);
        match &graph.value(graph.find("model.language_model.cos").unwrap()).source {
            Source::Const(tensor) => tensor.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(tables(&picture(4, 40)), tables(&picture(10, 40)));
    assert_ne!(tables(&picture(4, 40)), tables(&text(40)));
}

/// The graph is static: one serves every sample of its layout, and whatever the data are, every
/// value has the shape that was known before.
#[test]
fn the_graph_is_static_with_pictures_and_with_videos() {
    let checkpoint = pixie();
    for request in [picture(4, 24), segments(&[words(3), video(), words(5)])] {
        let graph = build(&checkpoint, &request);
        assert_eq!(graph.to_string(), build(&checkpoint, &request).to_string());
        let weights = load(&checkpoint, &graph);
        for seed in [1, 2] {
            let run = values(&graph, &inputs(&graph, seed), &weights);
            for node in &graph.nodes {
                let value = graph.value(node.output);
                assert_eq!(run[&value.name].shape(), value.shape, "{}", value.name);
            }
        }
    }
}

/// Pictures are no data to a graph: others make another one, even if they have as many tokens.
#[test]
fn layouts_of_different_pictures_give_different_static_graphs() {
    let graph =
        |grid: [usize; 3]| build(&pixie(), &Request::new(Layout::single(grid, 4, 24, 2).unwrap()));
    let [square, wide, small] = [[1, 8, 8], [1, 4, 16], [1, 4, 8]].map(graph);
    for table in ["model.language_model.cos", "model.visual.rope_cos"] {
        let [one, other] =
            [&square, &wide].map(|graph| match &graph.value(graph.find(table).unwrap()).source {
                Source::Const(tensor) => tensor.clone(),
                other => panic!("{table}: {other:?}"),
            });
        assert_eq!(one.shape(), other.shape(), "{table}");
        assert_ne!(one, other, "{table}");
    }
    let shapes = |graph: &Graph| graph.values.iter().map(|v| v.shape.clone()).collect::<Vec<_>>();
    assert_eq!(shapes(&square), shapes(&wide));
    let patches = |graph: &Graph| graph.value(graph.inputs[1]).shape.clone();
    assert_eq!([&square, &small].map(patches), [[64, 1536], [32, 1536]]);
}

#[test]
fn whole_model_dtypes_follow_the_policy() {
    let rule = r#"rules = [{ pattern = "*.fused", set = { dtype = "uint4" } }]"#;
    let rules: encircle::quant::PolicySpec = toml::from_str(rule).unwrap();
    let policy = w8a8().with_rules(rules.rules).unwrap();
    let q = calibrate(&pixie(), &picture(4, 24), &policy, &[1]);
    let grid = |name: &str| q.graph.value(q.graph.find(name).unwrap()).qparams.clone();
    let Some(QuantParams::Affine { dtype, .. }) = grid("model.language_model.fused") else {
        panic!()
    };
    assert_eq!(dtype.to_string(), "uint4");
    assert_eq!(grid("model.language_model.fused"), grid("model.visual.merger.linear_fc2"), "tied");
}

/// One more sample can only widen what min-max has seen, and statistics of parts merge to the whole.
#[test]
fn several_calibration_steps_accumulate() {
    let checkpoint = pixie();
    let graph = build(&checkpoint, &text(16));
    let float = load(&checkpoint, &graph);
    let plan = Plan::new(&graph, &w8a8()).unwrap();
    let observe = |seeds: &[usize]| {
        let mut statistics = Statistics::new(&plan);
        for &seed in seeds {
            let mut tap = Observing { plan: &plan, statistics: &mut statistics };
            run(&graph, &inputs(&graph, seed), &float, &mut tap, Par::All);
        }
        statistics
    };
    let grids = |statistics: &Statistics| {
        let mut graph = graph.clone();
        let param = |id: ValueId| float.get(id).cloned().unwrap();
        plan.annotate_activations(&mut graph, statistics, &param).unwrap();
        graph.values.iter().map(|v| v.qparams.clone()).collect::<Vec<_>>()
    };
    let whole = grids(&observe(&[1, 2, 3, 4, 5]));
    let mut parts = observe(&[4, 5]);
    parts.merge(&observe(&[1, 2, 3])).unwrap();
    assert_eq!(grids(&parts), whole);
    assert_ne!(grids(&observe(&[1])), whole);
}

#[test]
fn whole_model_observer_count_is_that_of_its_classes_and_weights() {
    let graph = build(&pixie(), &Request { head: Head::Logits, ..picture(4, 24) });
    let plan = Plan::new(&graph, &w8a8()).unwrap();
    let weights =
        graph.ids().filter(|&id| matches!(plan.sites.site(id), Site::Weight | Site::Gain)).count();
    assert_eq!(plan.site_count(), plan.sites.classes.len() + weights);
    let begins = |id: ValueId, head: &str| graph.value(id).name.starts_with(head);
    let of = |head: &str| {
        plan.sites.classes.iter().filter(|class| begins(class.members[0], head)).count()
    };
    assert_eq!([of("model.visual."), of("model.language_model."), weights], [133, 110, 81]);
    // One grid at the fusion: text, features and the joined sequence are one class.
    let class = |name: &str| plan.sites.site(graph.find(name).unwrap());
    assert_eq!(class("model.language_model.fused"), class("model.visual.merger.linear_fc2"));
    assert_eq!(class("model.language_model.fused"), class("model.language_model.embed_tokens"));
}

/// Running never changes what the caller handed in.
#[test]
fn the_callers_tensors_are_never_mutated() {
    let q = calibrate(&pixie(), &picture(4, 24), &w8a8(), &[1]);
    let inputs = inputs(&q.graph, 2);
    let before: Vec<Vec<f32>> = inputs.iter().map(|t| t.data().to_vec()).collect();
    q.quantized(&inputs);
    assert!(inputs.iter().zip(&before).all(|(t, b)| t.data() == b));
    struct Vandal;
    impl Tap for Vandal {
        fn visit(&mut self, _: ValueId, value: &mut Tensor) {
            value.data_mut().fill(0.0);
        }
    }
    run(&q.graph, &inputs, &q.float, &mut Vandal, Par::All);
    assert!(inputs.iter().zip(&before).all(|(t, b)| t.data() == b));
}

/// Scales are folded before grids are chosen: the grid fits what the weight has become.
#[test]
fn folded_scales_come_before_the_grid_is_chosen() {
    let q = calibrate(&pixie(), &picture(4, 24), &Numerics::find("w4a16").unwrap().policy, &[1]);
    let id = q.graph.find("model.visual.blocks.0.attn.qkv.weight").unwrap();
    let (float, rounded) = (q.float.get(id).unwrap(), q.rounded.get(id).unwrap());
    for part in 0..3 {
        let rows = part * 96 * 96..(part + 1) * 96 * 96;
        let error = relative_error(&rounded.data()[rows.clone()], &float.data()[rows]);
        assert!(error < 0.08, "third {part}: {error}");
    }
}
