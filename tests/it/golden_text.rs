//! Text families against Hugging Face's eager f32: heads tied and not, grouped queries, biases,
//! norms of q and k, every law of rotary scaling.

use crate::support::*;
use encircle::checkpoint::{Checkpoint, TensorFile};
use encircle::layout::Layout;
use encircle::models::{self, Request};
use encircle::tensor::Tensor;
use serde_json::Value;
use std::fs;

/// max |error| relative to the tensor's greatest value.
const TOLERANCE: f32 = 2e-4;

struct Case {
    name: String,
    checkpoint: Checkpoint,
    ids: Tensor,
    _folder: tempfile::TempDir,
}

fn cases() -> Vec<Case> {
    let data = path("tests/data/text");
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(data.join("cases.json")).unwrap()).unwrap();
    let case = |case: &Value| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), case["config"].to_string()).unwrap();
        let weights = data.join(case["weights"].as_str().unwrap());
        fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
        let ids: Vec<f32> = serde_json::from_value(case["input_ids"].clone()).unwrap();
        Case {
            name: case["name"].as_str().unwrap().into(),
            checkpoint: Checkpoint::open(folder.path()).unwrap(),
            ids: Tensor::new([1, ids.len()], ids),
            _folder: folder,
        }
    };
    cases.iter().map(case).collect()
}

#[test]
fn layers_and_logits_of_text_models_equal_hugging_face() {
    let expected = TensorFile::open(&path("tests/data/text/outputs.safetensors")).unwrap();
    let mut compared = 0;
    for case in cases() {
        let layout = Layout::text(case.ids.shape()[1]).unwrap();
        let config = case.checkpoint.config();
        case.checkpoint.verify(&models::tensors(config).unwrap()).unwrap();
        let graph = models::build(config, &Request::new(layout)).unwrap();
        let weights = load(&case.checkpoint, &graph);
        let values = values(&graph, std::slice::from_ref(&case.ids), &weights);
        for (ours, theirs) in
            [("model.layers.0", "layers.0"), ("model.layers.1", "layers.1"), ("lm_head", "logits")]
        {
            let key = format!("{}.{theirs}", case.name);
            let error = relative_error(values[ours].data(), expected.read(&key).unwrap().data());
            assert!(error <= TOLERANCE, "{key}: relative error {error:e}");
            compared += 1;
        }
    }
    assert_eq!(compared, expected.names().count(), "every golden tensor has a counterpart");
}

/// The laws give different tables, so that a law that is not applied cannot pass for another.
#[test]
fn rotary_laws_of_the_golden_cases_differ_from_each_other() {
    let tables: Vec<Tensor> = cases()
        .iter()
        .filter(|case| case.name.starts_with("llama"))
        .map(|case| {
            let positions = Layout::text(40).unwrap().position_ids();
            case.checkpoint.config().text.rope.tables(&positions).0
        })
        .collect();
    let differing = |i: usize| tables[..i].iter().all(|other| *other != tables[i]);
    // Tied and biased cases share the default law with the first.
    assert_eq!((0..tables.len()).filter(|&i| differing(i)).count(), 4);
}
