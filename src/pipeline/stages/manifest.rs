//! `manifest.json`: what each file of a staged set is, and how to chain them.

use super::super::recipe::in_words;
use crate::checkpoint::read_within;
use crate::circle::SubGraph;
use crate::layout::{Layout, VisualKind, VisualSpan};
use crate::quant::QuantParams;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::path::Path;

/// What it is called.
pub(in super::super) const MANIFEST: &str = "manifest.json";
/// The longest manifest believed, in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// Version of the manifest's own form.
const VERSION: u32 = 3;

/// How to read the ports of the files, for people.
const CHAIN: &str = "Rows of pixel_values, image_embeds and deepstack_i: those of all pictures in the \
order of the prompt, then those of all videos; patch_offset and feature_offset of a span say where it \
begins. Prefill: vision_prefill, then the embedding with its image_embeds, then layer \
by layer hidden to hidden; deepstack_fusion i follows layer i with feature deepstack_i of the vision \
file. Keep new_k and new_v of every layer. Decode: token_embedding, every layer with its kept keys and \
values in past_k and past_v (the first cache positions, valid ones first), lm_head. The new token's key \
is position `cache` inside the file: causal_mask is 0 on the valid positions and there, mask_fill \
elsewhere. sin has its first half negated. Prompts shorter than seq_len are padded at their end. \
token_embedding takes one token, or as many as a runtime resizes its -1 to: a prompt without \
pictures begins with it. Where graph is given, the file holds several, which share their constants.";

/// A staged set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The program that wrote it.
    pub writer: String,
    /// How to chain the files.
    pub chain: String,
    /// Fingerprint of the checkpoint that they were made from; older sets have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Positions of the prefill files.
    pub seq_len: usize,
    /// Kept positions of the decode files: one less.
    pub cache: usize,
    /// Additive mask value of positions that must not be seen.
    pub mask_fill: f32,
    /// Where pictures and frames stand.
    pub spans: Vec<SpanEntry>,
    /// Decoder layers.
    pub layers: usize,
    /// The files, prefill first, in the order of execution.
    pub files: Vec<FileEntry>,
}

/// A picture or a video's frame of the static layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpanEntry {
    /// `picture` or `video frame`.
    #[serde(default)]
    pub kind: String,
    /// Index of its first token.
    pub start: usize,
    /// Its tokens.
    pub len: usize,
    /// Its patches over time, height and width.
    pub grid_thw: [usize; 3],
    /// Its first row of pixel_values, of which it has as many as patches.
    #[serde(default)]
    pub patch_offset: usize,
    /// Its first row of image_embeds and deepstack_i, of which it has as many as tokens.
    #[serde(default)]
    pub feature_offset: usize,
}

impl SpanEntry {
    /// Those of a layout, in the order of the prompt.
    pub fn all(layout: &Layout) -> Vec<SpanEntry> {
        let entry = |span: &VisualSpan| {
            let VisualSpan { kind, start, len, grid_thw, feature_offset } = *span;
            let kind = match kind {
                VisualKind::Image => "picture",
                VisualKind::VideoFrame => "video frame",
            };
            SpanEntry {
                kind: kind.into(),
                start,
                len,
                grid_thw,
                patch_offset: feature_offset * layout.merge().pow(2),
                feature_offset,
            }
        };
        layout.spans().iter().map(entry).collect()
    }
}

impl Display for SpanEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [t, h, w] = self.grid_thw;
        write!(f, "{} {t}x{h}x{w} at {}", self.kind, self.start)
    }
}

/// What a prompt shows, for people.
pub(in super::super) fn shown(spans: &[SpanEntry]) -> String {
    match spans {
        [] => "no pictures".into(),
        spans => spans.iter().map(SpanEntry::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// One Circle file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name in the folder of the manifest.
    pub file: String,
    /// Which of the file's graphs, where it holds several: `prefill` or `decode`, also the key of
    /// a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// What it computes, such as `decoder_layer_prefill`.
    pub role: String,
    /// Its decoder layer, or level of fusion.
    pub layer: Option<usize>,
    /// Whether its tensors are integers.
    pub quantized: bool,
    /// Bytes.
    pub size: u64,
    /// FNV-1a over the bytes, 64 bits, hexadecimal.
    pub fnv1a64: String,
    /// What it takes.
    pub inputs: Vec<PortEntry>,
    /// What it gives.
    pub outputs: Vec<PortEntry>,
}

/// An input or output of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortEntry {
    /// What it is: `hidden`, `past_k`, `new_k`, `causal_mask`, `cos`, `sin`, …
    pub role: String,
    /// Name of the tensor in the file.
    pub tensor: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its shape with -1 where a runtime may choose the extent; none where it is static.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape_signature: Option<Vec<i32>>,
    /// Its type in the file.
    pub dtype: String,
    /// Its grid, if it is quantized.
    pub qparams: Option<QuantParams>,
}

impl Manifest {
    pub(super) fn new(
        checkpoint: String,
        layout: &Layout,
        mask_fill: f32,
        layers: usize,
    ) -> Manifest {
        Manifest {
            version: VERSION,
            writer: format!("encircle {}", env!("CARGO_PKG_VERSION")),
            chain: CHAIN.into(),
            checkpoint: Some(checkpoint),
            seq_len: layout.seq_len(),
            cache: layout.seq_len() - 1,
            mask_fill,
            spans: SpanEntry::all(layout),
            layers,
            files: Vec::new(),
        }
    }

    /// Reads one; an error says what is wrong with it.
    pub(in super::super) fn read(path: &Path) -> Result<Manifest, String> {
        let json = read_within(path, BYTES_MAX).map_err(|e| format!("cannot read: {e}"))?;
        // Of a list serde takes its elements for fields.
        if json.trim_ascii_start().starts_with(b"[") {
            return Err("found a list, expected an object".into());
        }
        serde_json::from_slice(&json).map_err(|e| in_words(&e.to_string(), "an object"))
    }

    /// Refuses numbers that contradict each other or the files of one kind that are listed.
    pub(in super::super) fn check(&self, quantized: bool) -> Result<(), String> {
        let differ = |field: &str, found: &dyn Display, expected: &dyn Display| {
            Err(format!("{field}: found {found}, expected {expected}"))
        };
        let Manifest { version, seq_len, cache, mask_fill, layers, .. } = self;
        if *version != VERSION {
            return differ("version", version, &VERSION);
        }
        if *seq_len < 2 {
            return differ("seq_len", seq_len, &"at least 2");
        }
        if *cache != seq_len - 1 {
            return differ("cache", cache, &format_args!("{}, one less than seq_len", seq_len - 1));
        }
        if *layers == 0 {
            return differ("layers", layers, &"at least 1");
        }
        if !(f32::MIN..0.0).contains(mask_fill) {
            return differ("mask_fill", mask_fill, &"a negative number");
        }
        for (role, port, axis, field, length) in [
            ("decoder_layer_prefill", "hidden", 1, "seq_len", seq_len),
            ("decoder_layer_decode", "past_k", 2, "cache", cache),
        ] {
            let of_role = |file: &&FileEntry| file.role == role && file.quantized == quantized;
            let files = || self.files.iter().filter(of_role);
            let kind = if quantized { "quantized" } else { "float" };
            let listed: BTreeSet<Option<usize>> = files().map(|file| file.layer).collect();
            let count = files().count();
            if count != *layers {
                let what = format!("{count}, the number of {kind} files of {role}");
                return differ("layers", layers, &what);
            }
            if let Some(i) = (0..count).find(|i| !listed.contains(&Some(*i))) {
                return differ("files", &format!("no {kind} one of {role} {i}"), &"one");
            }
            for FileEntry { file, inputs, .. } in files() {
                let shape = inputs.iter().find(|p| p.role == port).map_or(&[][..], |p| &p.shape);
                if shape.get(axis) != Some(length) {
                    let what = format!("that of input {port} of {file}, whose shape is {shape:?}");
                    return differ(field, length, &what);
                }
            }
        }
        // each level of features that the tower gives enters behind the decoder layer of its number
        let tower = self.find("vision_prefill", None, quantized);
        for port in tower.map_or(&[][..], |tower| &tower.outputs) {
            let level = port.role.strip_prefix("deepstack_").and_then(|level| level.parse().ok());
            if level.is_some() && self.find("deepstack_fusion", level, quantized).is_none() {
                let lost = format!("none of deepstack_fusion that takes {}", port.role);
                return differ("files", &lost, &"one");
            }
        }
        Ok(())
    }

    /// The file of a role, of a layer where roles have several.
    pub fn find(&self, role: &str, layer: Option<usize>, quantized: bool) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.role == role && f.layer == layer && f.quantized == quantized)
    }
}

/// The ports of a lowered graph; `qparams` in the order of the ports.
pub(super) fn ports(
    graph: &SubGraph,
    indices: &[i32],
    qparams: &[Option<QuantParams>],
) -> Vec<PortEntry> {
    let port = |(&index, qparams): (&i32, &Option<QuantParams>)| {
        let tensor = graph.tensor(index)?;
        let shape = tensor.shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
        let shape_signature = tensor.shape_signature.clone();
        let (tensor, dtype) = (tensor.name.clone(), tensor.dtype.to_string());
        let qparams = qparams.clone();
        Some(PortEntry { role: role(&tensor), tensor, shape, shape_signature, dtype, qparams })
    };
    indices.iter().zip(qparams).filter_map(port).collect()
}

/// What a port is, by the name of its value in the network.
fn role(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let level = name
        .split_once("deepstack_merger_list.")
        .map(|(_, rest)| rest.split('.').next().unwrap_or(rest));
    match (last, level) {
        (_, Some(level)) => format!("deepstack_{level}"),
        ("input_ids" | "pixel_values" | "cos" | "sin" | "causal_mask" | "past_k" | "past_v", _) => {
            last.into()
        }
        ("k_rot", _) => "new_k".into(),
        ("v_t", _) => "new_v".into(),
        ("lm_head", _) => "logits".into(),
        _ if name.contains(".merger") => "image_embeds".into(),
        _ => "hidden".into(),
    }
}
