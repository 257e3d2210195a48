//! Float execution against Hugging Face's eager f32 activations: every module of the golden sample.

use crate::support::*;

/// max |error| relative to the tensor's greatest value, as the golden values demand.
const TOLERANCE: f32 = 2e-4;

/// Our value for the output of a module of the reference, if it is called otherwise.
fn our_name(module: &str) -> String {
    let rename =
        |suffix: &str, to: &str| module.strip_suffix(suffix).map(|head| format!("{head}{to}"));
    let exact = match module {
        "model" | "model.language_model" => Some("model.language_model.norm"),
        "model.visual" => Some("model.visual.merger.linear_fc2"),
        "model.visual.patch_embed" => Some("model.visual.patch_embed.proj"),
        _ => None,
    };
    exact
        .map(String::from)
        .or_else(|| rename(".attn", ".attn.proj"))
        .or_else(|| rename(".self_attn", ".self_attn.o_proj"))
        .or_else(|| {
            let down = if module.contains("language_model") {
                ".mlp.down_proj"
            } else {
                ".mlp.linear_fc2"
            };
            rename(".mlp", down)
        })
        .or_else(|| {
            module.contains("merger").then(|| rename("", ".linear_fc2")).flatten().filter(|_| {
                !module.contains(".norm") && !module.contains(".linear") && !module.contains(".act")
            })
        })
        .unwrap_or_else(|| module.to_string())
}

/// What is folded into the value here and not there.
fn folded(module: &str, value: &[f32]) -> Vec<f32> {
    let mut value = value.to_vec();
    if module.ends_with(".k_norm") {
        // pixie's text heads are 32 wide
        value.iter_mut().for_each(|x| *x *= 32f32.sqrt());
    }
    if module.ends_with(".attn.qkv") {
        // rows of q, k and v are 96 wide; pixie's vision heads are 32 wide
        for row in value.chunks_exact_mut(288) {
            row[96..192].iter_mut().for_each(|x| *x *= 32f32.sqrt());
        }
    }
    value
}

#[test]
fn every_module_equals_hugging_face() {
    let (checkpoint, golden) = (pixie(), golden());
    let graph = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &graph);
    let inputs = golden_inputs(&golden, &checkpoint.picture_settings().unwrap(), 0);
    let values = values(&graph, &inputs, &weights);
    let mut compared = 0;
    for key in golden.names().filter(|name| name.starts_with("0.act.")) {
        let module = &key["0.act.".len()..];
        if module.ends_with("rotary_emb")
            || module.ends_with("rotary_pos_emb")
            || module.ends_with(".pos_embed")
        {
            continue; // no such thing in a static graph; their results are compared as tables
        }
        let expected = golden.read(key).unwrap();
        let name = our_name(module);
        let ours = values.get(&name).unwrap_or_else(|| panic!("{module}: no value {name}"));
        let error = relative_error(&folded(module, ours.data()), expected.data());
        assert!(error <= TOLERANCE, "{module}: relative error {error:e}");
        compared += 1;
    }
    assert_eq!(compared, 123, "every module with an output that the graph has");
}

#[test]
fn features_of_the_vision_tower_equal_hugging_face() {
    let (checkpoint, golden) = (pixie(), golden());
    let graph = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &graph);
    let inputs = golden_inputs(&golden, &checkpoint.picture_settings().unwrap(), 0);
    let values = values(&graph, &inputs, &weights);
    for (key, name) in [
        ("0.image_embeds", "model.visual.merger.linear_fc2"),
        ("0.deepstack.0", "model.visual.deepstack_merger_list.0.linear_fc2"),
        ("0.deepstack.1", "model.visual.deepstack_merger_list.1.linear_fc2"),
    ] {
        let error = relative_error(values[name].data(), golden.read(key).unwrap().data());
        assert!(error <= TOLERANCE, "{key}: relative error {error:e}");
    }
}

#[test]
fn logits_of_all_samples_equal_hugging_face() {
    let (checkpoint, golden) = (pixie(), golden());
    let graph = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &graph);
    let settings = checkpoint.picture_settings().unwrap();
    for i in 0..8 {
        let inputs = golden_inputs(&golden, &settings, i);
        let values = values(&graph, &inputs, &weights);
        let expected = golden.read(&format!("{i}.logits")).unwrap();
        let error = relative_error(values["lm_head"].data(), expected.data());
        assert!(error <= TOLERANCE, "sample {i}: relative error {error:e}");
    }
}

/// The export-time difference of the peer's tests: tables computed once give the same network as
/// position ids computed from the prompt when it is run.
#[test]
fn precomputed_tables_equal_positions_computed_at_run_time() {
    let golden = golden();
    let layout = golden_layout();
    let (_, expected) = golden.read_i32("0.position_ids").unwrap();
    let ours: Vec<i32> = layout.position_ids().concat().iter().map(|&p| p as i32).collect();
    assert_eq!(ours, expected);
    let checkpoint = pixie();
    let (cos, sin) = checkpoint.config().text.rope.tables(&layout.position_ids());
    for (ours, key) in [(cos, "0.rope.cos"), (sin, "0.rope.sin")] {
        let expected = golden.read(key).unwrap();
        let worst =
            ours.data().iter().zip(expected.data()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-6, "{key}: {worst:e}");
    }
}
