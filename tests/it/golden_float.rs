//! Float execution against Hugging Face's eager f32 activations: every module of the golden sample.

use crate::support::*;
use encircle::graph::{Graph, Source};
use encircle::tensor::Tensor;

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

/// The export-time difference of the peer's tests: the graph, whose tables were computed before there
/// was a prompt, gives what the network gives with tables that are computed from the prompt's ids
/// and grid when it is run, by formulas of this test.
#[test]
fn precomputed_tables_equal_positions_computed_at_run_time() {
    let (checkpoint, golden) = (pixie(), golden());
    let graph = golden_graph(&checkpoint);
    let weights = load(&checkpoint, &graph);
    let inputs = golden_inputs(&golden, &checkpoint.picture_settings().unwrap(), 0);
    let positions = positions_of(inputs[0].data(), [8, 8]);
    let (_, expected) = golden.read_i32("0.position_ids").unwrap();
    let axis = |axis: usize| positions.iter().map(move |position| position[axis] as i32);
    assert_eq!((0..3).flat_map(axis).collect::<Vec<i32>>(), expected);

    // Text: channel pairs take turns between time, row and column while the sections last; pixie's
    // are 6, 5 and 5 of 16. Vision: half of the pairs turn with the row, half with the column.
    let text = angles(&positions, 16, |i| if i < 15 { i % 3 } else { 0 }, 16);
    let patches: Vec<[f32; 3]> = (0..64).map(patch).collect();
    let vision = angles(&patches, 8, |i| 1 + i / 8, 16);
    let mut at_run_time = graph.clone();
    for (name, angles) in [("language_model.", &text), ("visual.rope_", &vision)] {
        for (table, f) in [("cos", f32::cos as fn(f32) -> f32), ("sin", f32::sin)] {
            let id = graph.find(&format!("model.{name}{table}")).unwrap();
            let turn = |half: usize, angle: f32| match (table, half) {
                ("sin", 0) => -f(angle), // rotating swaps the halves and negates none
                _ => f(angle),
            };
            let row = |row: &[f32]| {
                [0, 1]
                    .map(|half| row.iter().map(move |a| turn(half, *a)).collect::<Vec<f32>>())
                    .concat()
            };
            let data = angles.chunks(16).flat_map(row).collect();
            let shape = graph.value(id).shape.clone();
            at_run_time.values[id.index()].source = Source::Const(Tensor::new(shape, data));
        }
    }
    let run = |graph: &Graph| values(graph, &inputs, &weights)["lm_head"].clone();
    assert_eq!(run(&graph), run(&at_run_time));
}

/// Time, row and column of every token, walking over the ids: text counts on; the tokens of a picture
/// stay at the time it begins and spread over its rows and columns; what follows it begins after
/// the greatest of its positions.
fn positions_of(ids: &[f32], [height, width]: [usize; 2]) -> Vec<[f32; 3]> {
    const IMAGE: f32 = 491.0;
    let (height, width) = (height / 2, width / 2);
    let (mut positions, mut next, mut seen) = (Vec::new(), 0, 0);
    for &id in ids {
        if id == IMAGE {
            let at = [next, next + seen / width, next + seen % width];
            positions.push(at.map(|p| p as f32));
            seen += 1;
            if seen == height * width {
                (next, seen) = (next + height.max(width), 0);
            }
        } else {
            positions.push([next as f32; 3]);
            next += 1;
        }
    }
    positions
}

/// Row and column of a patch of an 8×8 picture, whose patches come in blocks of 2×2.
fn patch(i: usize) -> [f32; 3] {
    let (block, inside) = (i / 4, i % 4);
    [0, 2 * (block / 4) + inside / 2, 2 * (block % 4) + inside % 2].map(|p| p as f32)
}

/// Of every position its angles, one a pair of channels: the position on the pair's axis times
/// 10000^(−i / frequencies).
fn angles(
    positions: &[[f32; 3]],
    frequencies: usize,
    axis: impl Fn(usize) -> usize,
    pairs: usize,
) -> Vec<f32> {
    let frequency =
        |i: usize| 1.0 / 10_000f64.powf((i % frequencies) as f64 / frequencies as f64) as f32;
    let row = |position: &[f32; 3]| {
        (0..pairs).map(|i| position[axis(i)] * frequency(i)).collect::<Vec<f32>>()
    };
    positions.iter().flat_map(row).collect()
}
