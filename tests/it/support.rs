//! What several tests need: the demo checkpoint, golden values, one run of the float model.

use encircle::checkpoint::{Checkpoint, PictureSettings, TensorFile};
use encircle::dataset::{Processor, Sample, read_jsonl};
use encircle::exec::{Tap, Weights};
use encircle::graph::{Graph, ValueId};
use encircle::layout::Layout;
use encircle::models::{self, Request};
use encircle::tensor::{Par, Tensor};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

pub(crate) fn pixie() -> Checkpoint {
    Checkpoint::open(&path("assets/pixie")).unwrap()
}

/// The first calibration rows of the demo.
pub(crate) fn samples(count: usize) -> Vec<Sample> {
    let mut rows = read_jsonl(&path("assets/vqa/train.jsonl")).unwrap();
    rows.truncate(count);
    Processor::new(&pixie()).unwrap().encode_all(&rows).unwrap()
}

/// A folder with a copy of the demo checkpoint, `ck`, and some of its pictures.
pub(crate) fn demo_folder(pictures: std::ops::Range<usize>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("ck")).unwrap();
    for entry in fs::read_dir(path("assets/pixie")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), at("ck").join(entry.file_name())).unwrap();
    }
    for i in pictures {
        let name = format!("train_00{i}.jpg");
        fs::copy(path("assets/vqa").join(&name), at(&name)).unwrap();
    }
    folder
}

pub(crate) fn golden() -> TensorFile {
    TensorFile::open(&path("tests/data/golden/golden.safetensors")).unwrap()
}

/// The golden layout: one picture of 1×8×8 at index 4, 40 tokens.
pub(crate) fn golden_layout() -> Layout {
    Layout::single([1, 8, 8], 4, 40, 2).unwrap()
}

pub(crate) fn load(checkpoint: &Checkpoint, graph: &Graph) -> Weights {
    let mut weights = Weights::none(graph);
    let read = |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
    for (id, param) in graph.params() {
        weights.set(id, param.load(&graph.value(id).shape, &read).unwrap());
    }
    weights
}

/// The golden sample `i` as inputs of the golden graph.
pub(crate) fn golden_inputs(
    golden: &TensorFile,
    settings: &PictureSettings,
    i: usize,
) -> Vec<Tensor> {
    let (shape, ids) = golden.read_i32(&format!("{i}.input_ids")).unwrap();
    let file = format!("tests/data/golden/image_{i}.png");
    let picture = settings.prepare(&file, &std::fs::read(path(&file)).unwrap()).unwrap();
    vec![Tensor::new(shape, ids.iter().map(|&id| id as f32).collect()), picture.pixel_values]
}

/// Keeps every value of a run by name.
pub(crate) struct Keep<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) values: HashMap<String, Tensor>,
}

impl Tap for Keep<'_> {
    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        self.values.insert(self.graph.value(id).name.clone(), value.clone());
    }
}

/// Runs the whole graph and returns every value by name.
pub(crate) fn values(
    graph: &Graph,
    inputs: &[Tensor],
    weights: &Weights,
) -> HashMap<String, Tensor> {
    let mut keep = Keep { graph, values: HashMap::new() };
    encircle::exec::run(graph, inputs, weights, &mut keep, Par::All);
    keep.values
}

pub(crate) fn golden_graph(checkpoint: &Checkpoint) -> Graph {
    models::build(checkpoint.config(), &Request::new(golden_layout())).unwrap()
}

/// Greatest |a − b| relative to the greatest |b|.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let error = found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    error / scale.max(1e-30)
}
