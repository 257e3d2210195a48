//! Text from a staged set: the exported files are chained, not the graph in memory.

mod sampling;

pub use sampling::Sampling;

use super::stages::{MANIFEST, shown};
use super::{Error, FileEntry, Manifest, SpanEntry};
use crate::checkpoint::{Checkpoint, Config, read_within};
use crate::circle::{self, Model};
use crate::cluster::Fnv;
use crate::dataset::{Processor, Row, Sample};
use crate::layout::Layout;
use crate::models;
use crate::runtime::{Limits, Program};
use crate::tensor::Tensor;
use sampling::Sampler;
use std::collections::BTreeMap;
use std::path::Path;

/// The token embedding at the length of a whole prompt.
const PROMPT_EMBEDDING: &str = "token_embedding of a prompt";

/// Values on their way through the chain, by role.
type Values = BTreeMap<String, Tensor>;

/// In which numbers a staged set is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The float files.
    Float,
    /// The quantized files in float, every result rounded to its grid.
    Rounded,
    /// The quantized files on integers alone.
    Integers,
}

/// A staged set ready to run.
pub struct Chain {
    manifest: Manifest,
    folder: String,
    reading: Reading,
    /// By role and layer.
    programs: BTreeMap<(String, Option<usize>), (FileEntry, Program)>,
}

/// What the network remembers of the positions so far: keys and values of every layer, padded.
struct Cache {
    layers: Vec<[Tensor; 2]>,
    valid: usize,
}

/// How much of a text has been shown: bytes of what all tokens together decode to. A character of
/// which there is only the beginning decodes to U+FFFD and waits for the rest.
#[derive(Default)]
struct Spoken(usize);

impl Spoken {
    /// What `text` adds.
    fn more<'t>(&mut self, text: &'t str) -> &'t str {
        let new = text.get(self.0..).unwrap_or_default();
        self.0 += new.len();
        new
    }
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its tokens, without the end of the turn.
    pub tokens: Vec<u32>,
    /// Whether it ends where the cache is full rather than where the model ended it.
    pub full: bool,
}

impl Chain {
    /// Reads `manifest.json` of a folder and every file it lists for this reading.
    ///
    /// # Errors
    /// A manifest that is missing or of another form; files that are missing, differ from what the
    /// manifest says, or cannot be executed.
    pub fn open(folder: &Path, reading: Reading) -> Result<Chain, Error> {
        let place = folder.join(MANIFEST);
        let set =
            |path: &Path, message: String| Error::Set { path: path.display().to_string(), message };
        let manifest = Manifest::read(&place).map_err(|message| set(&place, message))?;
        let quantized = reading != Reading::Float;
        manifest.check(quantized).map_err(|message| set(&place, message))?;
        let mut programs = BTreeMap::new();
        for entry in manifest.files.iter().filter(|entry| entry.quantized == quantized) {
            let (model, program) = load(folder, entry)?;
            programs.insert((entry.role.clone(), entry.layer), (entry.clone(), program));
            if manifest.spans.is_empty() && entry.role == "token_embedding" {
                let program = at_length(folder, entry, model, manifest.seq_len)?;
                programs.insert((PROMPT_EMBEDDING.into(), None), (entry.clone(), program));
            }
        }
        Ok(Chain { manifest, folder: folder.display().to_string(), reading, programs })
    }

    /// Asks a question about pictures, or has a text gone on from, and hands what every token adds to
    /// `say` as it is drawn; ends at the end of the turn, after `limit` tokens, or where the cache is full.
    ///
    /// # Errors
    /// A prompt that does not fit the static layout; files that do not chain; a sampling that makes
    /// no sense.
    pub fn generate(
        &self,
        checkpoint: &Checkpoint,
        row: &Row,
        sampling: Sampling,
        limit: usize,
        say: &mut dyn FnMut(&str),
    ) -> Result<Answer, Error> {
        sampling.check()?;
        let mut sampler = Sampler::new(sampling);
        let processor = Processor::new(checkpoint)?;
        let sample = processor.encode(row)?;
        let turn = processor.turn_end().into_iter().collect();
        let ends = [checkpoint.end_tokens()?, turn].concat();
        let config = checkpoint.config();
        self.fits(checkpoint)?;
        let layout = self.layout(config, &sample)?;
        let mut said: Vec<u32> = Vec::new();
        let (mut text, mut spoken, mut full) = (String::new(), Spoken::default(), false);
        let (mut logits, mut cache) = self.prefill(config, &layout, &sample)?;
        while said.len() < limit {
            let token = sampler.draw(logits.data());
            if ends.contains(&token) {
                break;
            }
            said.push(token);
            text = processor.tokenizer().decode(&said, true)?;
            say(spoken.more(text.trim_end_matches(char::REPLACEMENT_CHARACTER)));
            // The last token needs no place in the cache: it sees itself.
            full = cache.valid > self.manifest.cache;
            if full {
                break;
            }
            logits = self.step(config, &layout, token, &mut cache)?;
        }
        say(spoken.more(&text));
        Ok(Answer { tokens: said, full })
    }

    /// Whether the set was made from the checkpoint that prepares prompts for it.
    fn fits(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let set = |message: String| {
            Err(Error::Set { path: format!("{}/{MANIFEST}", self.folder), message })
        };
        let (found, expected) = (self.manifest.layers, checkpoint.config().text.num_hidden_layers);
        if found != expected {
            return set(format!(
                "layers: found {found}, expected {expected}, as config.json has num_hidden_layers"
            ));
        }
        let expected = super::stages::made_from(checkpoint)?;
        match &self.manifest.checkpoint {
            Some(found) if *found != expected => set(format!(
                "checkpoint: found {found}, expected {expected}: the files were made from another one \
                 than {}",
                checkpoint.files().describe("")
            )),
            _ => Ok(()),
        }
    }

    /// The layout of the prompt, which must be that of the set.
    fn layout(&self, config: &Config, sample: &Sample) -> Result<Layout, Error> {
        let layout = super::prompt::layout_of(config, sample)?;
        let spans = SpanEntry::all(&layout);
        if spans != self.manifest.spans {
            let [found, expected] = [&spans, &self.manifest.spans].map(|spans| shown(spans));
            let message = format!("found {found}, the files are for {expected}");
            return Err(Error::row(sample, message));
        }
        let (found, limit) = (layout.seq_len(), self.manifest.seq_len);
        if found > limit {
            let message = format!("{found} tokens, the files take at most {limit}");
            return Err(Error::row(sample, message));
        }
        Ok(layout)
    }

    /// Runs the prompt; logits after its last token.
    fn prefill(
        &self,
        config: &Config,
        layout: &Layout,
        sample: &Sample,
    ) -> Result<(Tensor, Cache), Error> {
        let seq = self.manifest.seq_len;
        let padded = layout.clone().with_seq_len(seq)?;
        let mut values = prefill_tables(config, &padded, self.manifest.mask_fill)?;
        let mut ids: Vec<f32> = sample.input_ids.iter().map(|&id| id as f32).collect();
        ids.resize(seq, 0.0);
        values.insert("input_ids".into(), Tensor::new([1, seq], ids));
        if let Some(pixels) = &sample.pixel_values {
            values.insert("pixel_values".into(), pixels.clone());
            self.run("vision_prefill", None, &mut values)?;
            self.run("multimodal_embedding_prefill", None, &mut values)?;
        } else {
            self.run(PROMPT_EMBEDDING, None, &mut values)?;
        }
        let valid = sample.input_ids.len();
        let mut layers = Vec::with_capacity(self.manifest.layers);
        for i in 0..self.manifest.layers {
            self.run("decoder_layer_prefill", Some(i), &mut values)?;
            let mut keep = |role: &str| -> Result<Tensor, Error> {
                Ok(first(&self.take(&mut values, role)?, self.manifest.cache))
            };
            layers.push([keep("new_k")?, keep("new_v")?]);
            if self.programs.contains_key(&("deepstack_fusion".to_string(), Some(i))) {
                self.run("deepstack_fusion", Some(i), &mut values)?;
            }
        }
        let hidden = self.take(&mut values, "hidden")?;
        let width = hidden.shape().last().copied().unwrap_or(0);
        let row = hidden.data().get((valid - 1) * width..valid * width);
        let row = row.ok_or_else(|| self.misshapen("hidden", &hidden))?.to_vec();
        values.insert("hidden".into(), Tensor::new([1, 1, width], row));
        self.run("lm_head", None, &mut values)?;
        Ok((self.take(&mut values, "logits")?, Cache { layers, valid }))
    }

    /// Runs one token after what the cache holds, and keeps it there; logits after it.
    fn step(
        &self,
        config: &Config,
        layout: &Layout,
        token: u32,
        cache: &mut Cache,
    ) -> Result<Tensor, Error> {
        let position = cache.valid as i64 + layout.rope_delta();
        let counts = [cache.valid, self.manifest.cache];
        let tables = models::step_values(config, position, counts, self.manifest.mask_fill);
        let mut values = Values::new();
        for (role, table) in ["cos", "sin", "causal_mask"].into_iter().zip(tables) {
            values.insert(role.into(), table);
        }
        values.insert("input_ids".into(), Tensor::new([1, 1], vec![token as f32]));
        self.run("token_embedding", None, &mut values)?;
        for (i, [k, v]) in cache.layers.iter_mut().enumerate() {
            values.insert("past_k".into(), k.clone());
            values.insert("past_v".into(), v.clone());
            self.run("decoder_layer_decode", Some(i), &mut values)?;
            for (kept, role) in [(k, "new_k"), (v, "new_v")] {
                let new = self.take(&mut values, role)?;
                if cache.valid < self.manifest.cache {
                    put_row(kept, &new, cache.valid).ok_or_else(|| self.misshapen(role, &new))?;
                }
            }
        }
        cache.valid += 1;
        self.run("lm_head", None, &mut values)?;
        self.take(&mut values, "logits")
    }

    fn take(&self, values: &mut Values, role: &str) -> Result<Tensor, Error> {
        values.remove(role).ok_or_else(|| Error::Set {
            path: self.folder.clone(),
            message: format!("no file of the chain gives {role}"),
        })
    }

    /// An output that its file may have, but no place in the chain.
    fn misshapen(&self, role: &str, found: &Tensor) -> Error {
        let message = format!("{role}: found {:?}, which the next file cannot take", found.shape());
        Error::Set { path: self.folder.clone(), message }
    }

    /// Runs one file on the values of its input roles; its outputs replace those of their roles.
    fn run(&self, role: &str, layer: Option<usize>, values: &mut Values) -> Result<(), Error> {
        let key = (role.to_string(), layer);
        let (entry, program) = self.programs.get(&key).ok_or_else(|| {
            let kind = if self.reading != Reading::Float { "quantized" } else { "float" };
            let number = layer.map_or(String::new(), |i| format!(" {i}"));
            Error::Set {
                path: self.folder.clone(),
                message: format!("manifest.json lists no {kind} file for {role}{number}"),
            }
        })?;
        let path = || format!("{}/{}", self.folder, entry.file);
        let mut inputs = Vec::with_capacity(entry.inputs.len());
        for port in &entry.inputs {
            inputs.push(values.get(&port.role).cloned().ok_or_else(|| Error::Set {
                path: path(),
                message: format!("input {}: nothing before it gives this", port.role),
            })?);
        }
        let outputs = match self.reading {
            Reading::Float | Reading::Rounded => program.run(&inputs),
            Reading::Integers => program.run_exactly(&inputs),
        }
        .map_err(|source| Error::Run { path: path(), source })?;
        for (port, tensor) in entry.outputs.iter().zip(outputs) {
            values.insert(port.role.clone(), tensor);
        }
        Ok(())
    }
}

/// One file, which must be the one that the manifest speaks of.
fn load(folder: &Path, entry: &FileEntry) -> Result<(Model, Program), Error> {
    let path = folder.join(&entry.file);
    let place = path.display().to_string();
    let set = |message: String| Error::Set { path: place.clone(), message };
    let plain = Path::new(&entry.file).components().count() == 1;
    if !plain {
        return Err(set("is outside the folder of the manifest".into()));
    }
    let bytes = read_within(&path, entry.size).map_err(|e| set(format!("cannot read: {e}")))?;
    let mut hash = Fnv::default();
    hash.add(&bytes);
    let found = format!("{:016x}", hash.0);
    if found != entry.fnv1a64 {
        let expected = &entry.fnv1a64;
        return Err(set(format!("hash: found {found}, manifest.json says {expected}")));
    }
    let model = circle::read(&bytes).map_err(|e| set(e.to_string()))?;
    let program = Program::of(&model, entry.graph.as_deref(), Limits::default())
        .map_err(|source| Error::Run { path: place.clone(), source })?;
    for (ports, entries) in [(program.inputs(), &entry.inputs), (program.outputs(), &entry.outputs)]
    {
        let own: Vec<_> = ports.iter().map(|p| (&p.name, &p.shape, &p.qparams)).collect();
        let said: Vec<_> = entries.iter().map(|p| (&p.tensor, &p.shape, &p.qparams)).collect();
        if own != said {
            return Err(set("its ports are not those of manifest.json".into()));
        }
    }
    Ok((model, program))
}

/// A file of dynamic length at a length of one's own.
fn at_length(
    folder: &Path,
    entry: &FileEntry,
    model: Model,
    length: usize,
) -> Result<Program, Error> {
    let path = folder.join(&entry.file).display().to_string();
    let extent = i32::try_from(length)
        .map_err(|_| Error::Set { path: path.clone(), message: format!("{length} positions") })?;
    let refused = |e: circle::Error| Error::Set { path: path.clone(), message: e.to_string() };
    let graph = circle::find_graph(&model, entry.graph.as_deref()).map_err(refused)?;
    let ids = model.subgraphs[graph].inputs.iter().map(|&ids| (ids, vec![1, extent]));
    let ids: Vec<_> = ids.collect();
    let model = circle::resized(model, graph, &ids).map_err(refused)?;
    Program::of(&model, entry.graph.as_deref(), Limits::default())
        .map_err(|source| Error::Run { path, source })
}

/// The tables of a prompt: the constants of its graph.
fn prefill_tables(config: &Config, layout: &Layout, mask_fill: f32) -> Result<Values, Error> {
    let request = models::Request { mask_fill, ..models::Request::new(layout.clone()) };
    let graph = models::build(config, &request)?;
    let table = |value: &crate::graph::Value| match &value.source {
        crate::graph::Source::Const(tensor) => {
            let last = value.name.rsplit('.').next()?;
            let known = ["cos", "sin", "causal_mask"].contains(&last);
            known.then(|| (last.to_string(), tensor.clone()))
        }
        _ => None,
    };
    Ok(graph.values.iter().filter_map(table).collect())
}

/// The first `len` positions of keys or values `[1, heads, positions, width]`.
fn first(kept: &Tensor, len: usize) -> Tensor {
    let &[batch, heads, positions, width] = kept.shape() else { return kept.clone() };
    let rows = kept.data().chunks((positions * width).max(1));
    let data = rows.flat_map(|rows| rows[..len.min(positions) * width].iter().copied()).collect();
    Tensor::new([batch, heads, len.min(positions), width], data)
}

/// Writes the one position of `new` at position `at` of a cache; nothing if it does not fit there.
fn put_row(cache: &mut Tensor, new: &Tensor, at: usize) -> Option<()> {
    let &[batch, heads, positions, width] = cache.shape() else { return None };
    if new.shape() != [batch, heads, 1, width] || at >= positions || width == 0 {
        return None;
    }
    let heads = cache.data_mut().chunks_mut(positions * width);
    for (rows, new) in heads.zip(new.data().chunks(width)) {
        rows[at * width..(at + 1) * width].copy_from_slice(new);
    }
    Some(())
}

#[cfg(test)]
mod tests;
