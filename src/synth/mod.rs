//! Checkpoints of true shapes and random weights, to measure real sizes where no real weights are.
//!
//! A synthetic checkpoint is read like any other: sharded bf16 safetensors with an index, a config
//! of a published size, and the small tokenizer, template and picture settings of another
//! checkpoint. Values are drawn by name, so a tensor does not depend on which others there are.

mod shards;
mod values;

use crate::checkpoint::{self, Config, Files};
use crate::models::{self, ModelError};
use serde_json::Value;
use shards::Shards;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// What to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of a published size; see [`models::sizes`].
    pub like: String,
    /// Decoder layers to keep, and blocks of the vision tower at most; all by default.
    pub layers: Option<usize>,
    /// Other seeds give other weights.
    pub seed: u64,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// The checkpoint directory.
    pub path: PathBuf,
    /// Tensors in it.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of all safetensors files.
    pub bytes: u64,
    /// Number of safetensors files.
    pub shards: usize,
}

/// Why no checkpoint was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No published size has this name.
    #[error("--like {found}: unknown size, known are {known}")]
    UnknownSize {
        /// The name.
        found: String,
        /// All of them.
        known: String,
    },
    /// A number of layers that the size cannot have.
    #[error("--layers {found}: expected 1 to {most}")]
    Layers {
        /// The number.
        found: usize,
        /// Those of the whole model.
        most: usize,
    },
    /// The place is taken.
    #[error("{path}: exists, expected a new folder")]
    Exists {
        /// The place.
        path: String,
    },
    /// Something that could not be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("{path}: stopped, nothing was written")]
    Stopped {
        /// What would have been made.
        path: String,
    },
    /// The companion's files, or a size's config.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A config that no family can build.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Ids of the tokens that stand for pictures: they belong to the tokenizer, not to the size.
const TOKEN_IDS: [&str; 4] =
    ["image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"];
/// What a checkpoint has beside config and weights.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "generation_config.json",
];
/// The largest companion file believed, in bytes.
const COMPANION_MAX: u64 = 64 << 20;

/// Makes a checkpoint in the new folder `out`, with tokenizer, template and picture settings of
/// `companion`; `step` is told of every piece of a tensor, after `begin` was told their number, and
/// says whether to go on.
///
/// # Errors
/// An unknown size, a folder that exists, a disk that is full, a stop; nothing is left behind then.
pub fn synthesize(
    request: &Request,
    companion: &Files,
    out: &Path,
    begin: &dyn Fn(usize),
    step: &dyn Fn() -> bool,
) -> Result<Made, Error> {
    if out.exists() {
        return Err(Error::Exists { path: out.display().to_string() });
    }
    let raw = config(request, companion)?;
    let config = Config::parse("config.json", raw.clone())?;
    let tensors = models::tensors(&config)?;
    let shards = Shards::plan(&tensors);
    begin(shards.pieces());
    let beside = Beside::new(out)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = beside.path.join(name);
        fs::write(&path, bytes).map_err(failed(&path))
    };
    write("config.json", &pretty(&raw))?;
    for name in COMPANIONS {
        if companion.contains(name)? {
            write(name, &companion.read(name, COMPANION_MAX)?)?;
        }
    }
    for (i, shard) in shards.all.iter().enumerate() {
        let path = beside.path.join(shards.name(i));
        if !shard.write(&path, request.seed, step).map_err(failed(&path))? {
            return Err(Error::Stopped { path: out.display().to_string() });
        }
    }
    write("model.safetensors.index.json", &pretty(&shards.index()))?;
    let parameters =
        tensors.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum::<u64>();
    beside.commit(out)?;
    let (tensors, count) = (tensors.len(), shards.all.len());
    Ok(Made { path: out.to_owned(), tensors, parameters, bytes: shards.bytes(), shards: count })
}

/// The config of the size, cut to the layers asked for, speaking of the companion's tokens.
fn config(request: &Request, companion: &Files) -> Result<Value, Error> {
    let size = models::sizes().find(|size| size.name == request.like).ok_or_else(|| {
        let known: Vec<&str> = models::sizes().map(|size| size.name).collect();
        Error::UnknownSize { found: request.like.clone(), known: known.join(", ") }
    })?;
    let mut raw: Value =
        serde_json::from_str(size.config).expect("invariant: a test reads every size");
    let theirs = companion.read_json("config.json", COMPANION_MAX)?;
    for id in TOKEN_IDS {
        if let Some(theirs) = theirs.get(id) {
            raw[id] = theirs.clone();
        }
    }
    if let Some(layers) = request.layers {
        let whole = Config::parse("config.json", raw.clone())?;
        let most = whole.text.num_hidden_layers;
        if layers == 0 || layers > most {
            return Err(Error::Layers { found: layers, most });
        }
        raw["text_config"]["num_hidden_layers"] = layers.into();
        if let Some(vision) = &whole.vision {
            let depth = vision.depth.min(layers);
            let levels = vision.deepstack_visual_indexes.len().min(depth);
            raw["vision_config"]["depth"] = depth.into();
            raw["vision_config"]["deepstack_visual_indexes"] =
                (depth - levels..depth).collect::<Vec<_>>().into();
        }
    }
    Ok(raw)
}

fn pretty(json: &Value) -> Vec<u8> {
    let mut text = format!("{json:#}").into_bytes();
    text.push(b'\n');
    text
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Write { path: path.clone(), source }
}

/// A folder beside its final name; gone if dropped before it takes that name.
struct Beside {
    path: PathBuf,
    /// The folder, locked where the system locks folders: so it is not a dead process's.
    _lock: Option<File>,
}

impl Beside {
    fn new(out: &Path) -> Result<Beside, Error> {
        let name = out.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| failed(out)(io::ErrorKind::InvalidFilename.into()))?;
        sweep(out, &name);
        let unique = RandomState::new().hash_one(&name);
        let path = out.with_file_name(format!(".{name}.{unique:016x}.partial"));
        fs::create_dir_all(&path).map_err(failed(&path))?;
        let _lock = File::open(&path).ok();
        _lock.iter().for_each(|lock| drop(lock.try_lock()));
        Ok(Beside { path, _lock })
    }

    fn commit(self, out: &Path) -> Result<(), Error> {
        fs::rename(&self.path, out).map_err(failed(out))
    }
}

/// Removes what dead processes have left beside `out`, whose last part is `name`.
fn sweep(out: &Path, name: &str) {
    // the folder we are in has no name
    let above = out.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    let ours = |entry: &fs::DirEntry| {
        let found = entry.file_name().into_string().ok()?;
        let unique = found.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?;
        let unique = unique.strip_suffix(".partial")?;
        Some(unique.len() == 16 && unique.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let folder = entry.file_type().is_ok_and(|found| found.is_dir());
        if folder && ours(&entry) == Some(true) {
            let lock = File::open(entry.path()).ok();
            if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests;
