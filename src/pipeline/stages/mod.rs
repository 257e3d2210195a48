//! The staged set: one file for each part of the network, for prefill and for decoding.
//!
//! Every prefill file is cut out of the one annotated graph, so qparams at the borders agree by
//! construction. The decoding graph comes from the same builder with a sequence of one token; its
//! values are called alike and take the annotations of the values they correspond to.

mod manifest;

pub(super) use manifest::VERSION;
pub use manifest::{FileEntry, Manifest, PortEntry, SpanEntry};

use super::save::save_hashed;
use super::{Error, Outcome, Written};
use crate::checkpoint::Checkpoint;
use crate::exec::Weights;
use crate::graph::{Graph, Kind, Part, Source, ValueId};
use crate::lower::{Precision, lower};
use crate::models;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// What a file computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Vision,
    Embedding,
    Layer(usize),
    Fusion(usize),
    Head,
}

impl Role {
    /// The file that a stage of the network belongs to.
    fn of(stage: &str) -> Role {
        let number = || stage.rsplit('.').next().and_then(|n| n.parse().ok());
        if stage.starts_with("model.visual") {
            Role::Vision
        } else if stage == "lm_head" {
            Role::Head
        } else if let (true, Some(i)) = (stage.contains(".layers."), number()) {
            Role::Layer(i)
        } else if let (true, Some(i)) = (stage.contains("deepstack_fusion."), number()) {
            Role::Fusion(i)
        } else {
            Role::Embedding
        }
    }

    fn layer(self) -> Option<usize> {
        match self {
            Role::Layer(i) | Role::Fusion(i) => Some(i),
            Role::Vision | Role::Embedding | Role::Head => None,
        }
    }

    /// Its name in the manifest; none for what a phase does not need a file for.
    fn name(self, decode: bool, pictures: bool) -> Option<&'static str> {
        Some(match (self, decode) {
            (Role::Vision, false) => "vision_prefill",
            (Role::Embedding, false) if pictures => "multimodal_embedding_prefill",
            (Role::Embedding, false) => "token_embedding_prefill",
            (Role::Embedding, true) => "token_embedding",
            (Role::Layer(_), false) => "decoder_layer_prefill",
            (Role::Layer(_), true) => "decoder_layer_decode",
            (Role::Fusion(_), false) => "deepstack_fusion",
            (Role::Head, true) => "lm_head",
            (Role::Head, false) | (Role::Vision | Role::Fusion(_), true) => return None,
        })
    }
}

/// A network of one phase, and where its parameters are in the outcome's graph.
struct Phase<'a> {
    graph: &'a Graph,
    decode: bool,
    origin: BTreeMap<&'a str, ValueId>,
}

/// Writes the staged set of a job into `folder`, float and quantized, and `manifest.json`.
/// `bake` makes the tables of the prefill layers constants instead of inputs.
///
/// # Errors
/// A layout of one position, which leaves nothing to keep; what the format cannot express; files
/// that cannot be written.
pub fn write_stages(
    checkpoint: &Checkpoint,
    outcome: &Outcome,
    folder: &Path,
    bake: bool,
) -> Result<Vec<Written>, Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let (config, layout) = (checkpoint.config(), &outcome.prompt.layout);
    let mut decode = models::build_decode(config, layout.seq_len() - 1)?.rewritten();
    let missing = decode.annotate_by_name(&outcome.graph, models::prefill_name);
    if let Some(&id) = missing.first() {
        return Err(Error::Stage { name: decode.value(id).name.clone() });
    }
    let fill = models::Request::new(layout.clone()).mask_fill;
    let mut manifest = Manifest::new(layout, fill, config.text.num_hidden_layers);
    let origin: BTreeMap<&str, ValueId> =
        outcome.graph.ids().map(|id| (outcome.graph.value(id).name.as_str(), id)).collect();
    let mut written = Vec::new();
    for phase in [
        Phase { graph: &outcome.graph, decode: false, origin: origin.clone() },
        Phase { graph: &decode, decode: true, origin },
    ] {
        let open = if bake || phase.decode { Vec::new() } else { tables(phase.graph) };
        for (role, nodes) in groups(phase.graph) {
            let Some(name) = role.name(phase.decode, !layout.spans().is_empty()) else { continue };
            let part = phase.graph.cut(name, nodes, &caches(phase.graph), &open);
            for (precision, weights) in
                [(Precision::Float, &outcome.weights), (Precision::Quantized, &outcome.rounded)]
            {
                let entry = put(&phase, &part, role, name, (precision, weights), folder)?;
                written.push(entry.1);
                manifest.files.push(entry.0);
            }
        }
    }
    let path = folder.join("manifest.json");
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|e| failed(&path)(e.into()))?;
    json.push(b'\n');
    super::save::save_with(&path, |out| {
        std::io::Write::write_all(out, &json).map_err(failed(&path))
    })?;
    Ok(written)
}

/// Lowers one part and writes its file.
fn put(
    phase: &Phase<'_>,
    part: &Part,
    role: Role,
    name: &str,
    (precision, weights): (Precision, &Weights),
    folder: &Path,
) -> Result<(FileEntry, Written), Error> {
    let graph = &part.graph;
    let constant = |id: ValueId| match &graph.value(id).source {
        Source::Const(tensor) => tensor.clone(),
        _ => phase
            .origin
            .get(graph.value(id).name.as_str())
            .and_then(|&id| weights.get(id).cloned())
            .unwrap_or_else(|| Tensor::full([0], 0.0)),
    };
    let model = lower(graph, precision, &constant)?;
    let quantized = precision == Precision::Quantized;
    let number = role.layer().map_or(String::new(), |i| format!("_{i}"));
    let tag = if quantized { "q" } else { "f32" };
    let file = format!("{name}{number}.{tag}.circle");
    let path = folder.join(&file);
    let (size, hash) = save_hashed(&model, &path)?;
    let subgraph = &model.subgraphs[0];
    let grids = |ids: &[ValueId]| -> Vec<_> {
        ids.iter().map(|&id| graph.value(id).qparams.clone().filter(|_| quantized)).collect()
    };
    let entry = FileEntry {
        file,
        role: name.into(),
        layer: role.layer(),
        quantized,
        size,
        fnv1a64: format!("{hash:016x}"),
        inputs: manifest::ports(subgraph, &subgraph.inputs, &grids(&graph.inputs)),
        outputs: manifest::ports(subgraph, &subgraph.outputs, &grids(&graph.outputs)),
    };
    let (operators, tensors) = (subgraph.operators.len(), subgraph.tensors.len());
    Ok((entry, Written { path, size, operators, tensors }))
}

/// Consecutive stages of one file; nodes between stages belong to the one that follows.
fn groups(graph: &Graph) -> Vec<(Role, Range<usize>)> {
    let mut groups: Vec<(Role, Range<usize>)> = Vec::new();
    let mut at = 0;
    for stage in &graph.stages {
        let role = Role::of(&stage.name);
        match groups.last_mut() {
            Some((last, nodes)) if *last == role => nodes.end = stage.nodes.end,
            _ => groups.push((role, at..stage.nodes.end)),
        }
        at = stage.nodes.end;
    }
    groups
}

/// Values that a runtime keeps for later positions: keys after rotation, and values.
fn caches(graph: &Graph) -> Vec<ValueId> {
    let kept = |id: &ValueId| {
        let name = &graph.value(*id).name;
        name.ends_with(".self_attn.k_rot") || name.ends_with(".self_attn.v_t")
    };
    let mut kept: Vec<ValueId> = graph.ids().filter(kept).collect();
    // Keys come first, as in the contract of the peer's files.
    kept.sort_by_key(|&id| graph.value(id).name.ends_with(".v_t"));
    kept
}

/// The tables that every layer reads.
fn tables(graph: &Graph) -> Vec<ValueId> {
    let table = |id: &ValueId| {
        let value = graph.value(*id);
        let last = value.name.rsplit('.').next();
        matches!(value.source, Source::Const(_))
            && value.kind == Kind::Real
            && matches!(last, Some("cos" | "sin" | "causal_mask"))
    };
    graph.ids().filter(table).collect()
}
