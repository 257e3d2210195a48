//! The staged set: one file for each part of the network, for prefill and for decoding.
//!
//! Every prefill file is cut out of the one annotated graph, so qparams at the borders agree by
//! construction. The decoding graph comes from the same builder with a sequence of one token; its
//! values are called alike and take the annotations of the values they correspond to.

mod manifest;

pub use manifest::{FileEntry, Manifest, PortEntry, SpanEntry};
pub(super) use manifest::{MANIFEST, shown};

use super::estimate::{FileSize, Sizes};
use super::files::{Partial, Pending, hashed};
use super::{Error, Outcome, Trouble, Written};
use crate::checkpoint::Checkpoint;
use crate::circle::{self, Model, Payloads, WriteOptions};
use crate::cluster;
use crate::exec::Weights;
use crate::graph::{Graph, Kind, Part, Source, ValueId};
use crate::layout::Layout;
use crate::lower::{Precision, lower};
use crate::models;
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How the set is cut into files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageForm {
    /// Rotary tables and mask of the prefill layers are constants instead of inputs.
    pub bake_tables: bool,
    /// Prefill and decoding of a layer are two graphs of one file, which holds its weights once.
    /// onert runs the first graph of a file only; LiteRT finds both by their signatures.
    pub share_weights: bool,
    /// Where payloads go.
    pub payloads: Payloads,
}

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
        // A layer with experts has several stages, `….layers.3.mlp.experts.5` among them.
        let number = |of: &str| -> Option<usize> {
            let (_, rest) = stage.split_once(of)?;
            rest.split('.').next()?.parse().ok()
        };
        if stage.starts_with("model.visual") {
            Role::Vision
        } else if stage == "lm_head" {
            Role::Head
        } else if let Some(i) = number(".layers.") {
            Role::Layer(i)
        } else if let Some(i) = number("deepstack_fusion.") {
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
            (Role::Embedding, true) => "token_embedding",
            (Role::Layer(_), false) => "decoder_layer_prefill",
            (Role::Layer(_), true) => "decoder_layer_decode",
            (Role::Fusion(_), false) => "deepstack_fusion",
            (Role::Head, true) => "lm_head",
            (Role::Head | Role::Embedding, false) | (Role::Vision | Role::Fusion(_), true) => {
                return None;
            }
        })
    }

    /// The name of its file without precision and ending: with the number of its layer, and the
    /// grids of the pictures where it depends on them.
    fn stem(self, name: &str, layout: &Layout) -> String {
        let number = self.layer().map_or(String::new(), |i| format!("_{i}"));
        let grids = match self {
            Role::Vision | Role::Fusion(_) => layout.grids(),
            Role::Embedding if name != "token_embedding" => layout.grids(),
            Role::Embedding | Role::Layer(_) | Role::Head => Vec::new(),
        };
        let keys = grids.iter().map(|[t, h, w]| format!("_t{t}_h{h}_w{w}"));
        format!("{name}{number}{}", keys.collect::<String>())
    }
}

/// A network of one phase.
struct Phase<'a> {
    graph: &'a Graph,
    decode: bool,
}

/// What becomes one graph of one file.
struct Piece {
    role: Role,
    name: &'static str,
    part: Part,
}

/// What is written where.
struct Set<'a> {
    trouble: &'a Trouble,
    layout: &'a Layout,
    folder: &'a Path,
    /// Where parameters are in the outcome's graph.
    origin: BTreeMap<&'a str, ValueId>,
    how: WriteOptions,
    pending: &'a mut Pending,
    manifest: Manifest,
    written: Vec<Written>,
}

/// Writes the staged set of a job into `folder`, float and quantized, with the `manifest.json` that makes
/// it one, once `pending` is committed.
///
/// # Errors
/// A layout of one position, which leaves nothing to keep; what the format cannot express; files
/// that cannot be written.
pub fn write_stages(
    checkpoint: &Checkpoint,
    outcome: &Outcome,
    folder: &Path,
    form: StageForm,
    pending: &mut Pending,
) -> Result<Vec<Written>, Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let (config, layout) = (checkpoint.config(), &outcome.prompt.layout);
    if layout.known() > 0 {
        return Err(Error::Prefix("the staged set (--stages) holds whole prompts".into()));
    }
    let mut decode = models::build_decode(config, layout.seq_len() - 1)?.rewritten();
    let missing = decode.annotate_by_name(&outcome.graph, models::prefill_name);
    if let Some(&id) = missing.first() {
        return Err(Error::Stage { name: decode.value(id).name.clone() });
    }
    let named = |id: ValueId| (outcome.graph.value(id).name.as_str(), id);
    let mut set = Set {
        trouble: &outcome.trouble,
        layout,
        folder,
        origin: outcome.graph.ids().map(named).collect(),
        how: WriteOptions { payloads: form.payloads, ..WriteOptions::default() },
        pending,
        manifest: Manifest::new(
            made_from(checkpoint)?,
            layout,
            outcome.mask_fill,
            config.text.num_hidden_layers,
        ),
        written: Vec::new(),
    };
    let phases =
        [Phase { graph: &outcome.graph, decode: false }, Phase { graph: &decode, decode: true }];
    let files = files(&phases, layout, form);
    let next = files.iter().flat_map(|pieces| names(pieces, layout)).collect();
    let stale = stale(folder, &next);
    for pieces in files {
        for (precision, weights) in
            [(Precision::Float, &outcome.weights), (Precision::Quantized, &outcome.rounded)]
        {
            set.put(&pieces, precision, weights)?;
        }
    }
    let path = folder.join(MANIFEST);
    let mut json = serde_json::to_vec_pretty(&set.manifest).map_err(|e| failed(&path)(e.into()))?;
    json.push(b'\n');
    set.pending.add_seal(Partial::of(&path, &json)?);
    stale.into_iter().for_each(|path| set.pending.forget(path));
    Ok(set.written)
}

/// Fingerprint of a checkpoint, as what was made from it carries it.
pub(super) fn made_from(checkpoint: &Checkpoint) -> Result<String, Error> {
    Ok(format!("{:016x}", cluster::of_checkpoint(checkpoint)?))
}

/// Names and sizes of the files that [`write_stages`] writes of a graph, before it is annotated.
///
/// # Errors
/// Those of [`write_stages`] that need no weights.
pub(super) fn sizes(
    checkpoint: &Checkpoint,
    (graph, layout): (&Graph, &Layout),
    sizes: &Sizes<'_>,
    form: StageForm,
) -> Result<Vec<FileSize>, Error> {
    let decode = models::build_decode(checkpoint.config(), layout.seq_len() - 1)?.rewritten();
    let phases = [Phase { graph, decode: false }, Phase { graph: &decode, decode: true }];
    let mut found = Vec::new();
    for pieces in files(&phases, layout, form) {
        let mut parts = pieces.iter().map(|p| sizes.file(&p.part.graph, &models::prefill_name));
        // Graphs of one file share its weights.
        let size = parts.next().unwrap_or_default();
        let file = |(name, size)| FileSize { name: format!("stages/{name}"), size };
        found.extend(names(&pieces, layout).into_iter().zip(size).map(file));
    }
    Ok(found)
}

/// The names of the float file of these pieces and of the quantized one.
fn names(pieces: &[Piece], layout: &Layout) -> [String; 2] {
    let stem = match pieces {
        [piece] => piece.role.stem(piece.name, layout),
        _ => pieces[0].role.stem("decoder_layer", layout),
    };
    ["f32", "q"].map(|form| format!("{stem}.{form}.circle"))
}

/// The files of the set before that are not among the `next`.
fn stale(folder: &Path, next: &BTreeSet<String>) -> Vec<PathBuf> {
    let before = Manifest::read(&folder.join(MANIFEST)).into_iter().flat_map(|set| set.files);
    let before: BTreeSet<String> = before.map(|entry| entry.file).collect();
    // A name that leads elsewhere is none of ours.
    let here = |name: &&String| Path::new(name).file_name() == Some(name.as_ref());
    before.difference(next).filter(here).map(|name| folder.join(name)).collect()
}

/// The pieces of every file, in the order of execution.
fn files(phases: &[Phase<'_>], layout: &Layout, form: StageForm) -> Vec<Vec<Piece>> {
    let mut files: Vec<Vec<Piece>> = Vec::new();
    for Phase { graph, decode } in phases {
        let open = if form.bake_tables || *decode { Vec::new() } else { tables(graph) };
        for (role, nodes) in groups(graph) {
            let Some(name) = role.name(*decode, !layout.spans().is_empty()) else { continue };
            let piece = Piece { role, name, part: graph.cut(name, nodes, &caches(graph), &open) };
            let layer = form.share_weights && matches!(role, Role::Layer(_));
            match files.iter_mut().find(|pieces| layer && pieces[0].role == role) {
                Some(pieces) => pieces.push(piece),
                None => files.push(vec![piece]),
            }
        }
    }
    files
}

impl Set<'_> {
    /// Writes one file of a precision.
    fn put(
        &mut self,
        pieces: &[Piece],
        precision: Precision,
        weights: &Weights,
    ) -> Result<(), Error> {
        let quantized = precision == Precision::Quantized;
        let mut models = Vec::with_capacity(pieces.len());
        for piece in pieces {
            models.push(self.lower(piece, precision, weights)?);
        }
        let graphs: Vec<Option<String>> = match &models[..] {
            [_] => vec![None],
            _ => ["prefill", "decode"].map(|name| Some(name.into())).into(),
        };
        let model = match graphs[0] {
            None => models.swap_remove(0),
            Some(_) => circle::join(["prefill", "decode"].into_iter().zip(models).collect()),
        };
        let [float, rounded] = names(pieces, self.layout);
        let file = if quantized { rounded } else { float };
        let path = self.folder.join(&file);
        let (partial, (size, hash)) = hashed(&model, &self.how, &path, self.trouble)?;
        self.pending.add(partial);
        for ((piece, subgraph), graph) in pieces.iter().zip(&model.subgraphs).zip(graphs) {
            let own = &piece.part.graph;
            let grids = |ids: &[ValueId]| -> Vec<_> {
                ids.iter().map(|&id| own.value(id).qparams.clone().filter(|_| quantized)).collect()
            };
            self.manifest.files.push(FileEntry {
                file: file.clone(),
                graph,
                role: piece.name.into(),
                layer: piece.role.layer(),
                quantized,
                size,
                fnv1a64: format!("{hash:016x}"),
                inputs: manifest::ports(subgraph, &subgraph.inputs, &grids(&own.inputs)),
                outputs: manifest::ports(subgraph, &subgraph.outputs, &grids(&own.outputs)),
            });
        }
        let count = |of: fn(&circle::SubGraph) -> usize| model.subgraphs.iter().map(of).sum();
        let (operators, tensors) = (count(|g| g.operators.len()), count(|g| g.tensors.len()));
        self.written.push(Written { path, size, operators, tensors });
        Ok(())
    }

    /// One piece as a model.
    fn lower(
        &self,
        piece: &Piece,
        precision: Precision,
        weights: &Weights,
    ) -> Result<Model, Error> {
        let graph = &piece.part.graph;
        let constant = |id: ValueId| match &graph.value(id).source {
            Source::Const(tensor) => tensor.clone(),
            _ => self
                .origin
                .get(graph.value(id).name.as_str())
                .and_then(|&id| weights.get(id).cloned())
                .unwrap_or_else(|| Tensor::full([0], 0.0)),
        };
        let mut model = lower(graph, precision, &constant)?;
        if piece.name == "token_embedding" {
            any_length(&mut model);
        }
        Ok(model)
    }
}

/// Lets a runtime choose the length of every activation, `[1, 1, …]` as declared.
fn any_length(model: &mut Model) {
    for graph in &mut model.subgraphs {
        let made = graph.operators.iter().flat_map(|operator| &operator.outputs);
        let activations: Vec<i32> = graph.inputs.iter().chain(made).copied().collect();
        for index in activations {
            let tensor = usize::try_from(index).ok().and_then(|i| graph.tensors.get_mut(i));
            let Some(tensor) = tensor else { continue };
            let mut signature = tensor.shape.clone();
            if let Some(length) = signature.get_mut(1) {
                *length = -1;
            }
            tensor.shape_signature = Some(signature);
        }
    }
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
