//! Disk to named tensors: safetensors, config, tokenizer, chat template, pictures.
//!
//! This is the only room that reads files. Everything that it takes in is bounded, checked and
//! blamed by name; nothing that it hands out needs a second look.

mod config;
mod error;
mod fields;
mod files;
mod generation;
mod instead;
mod picture;
mod safetensors;
mod template;
mod tensor_file;
mod tokenizer;
mod tokenizer_config;

#[cfg(test)]
mod tests;

pub use config::{Config, ExpertsConfig, TextConfig, VisionConfig};
pub use error::{Error, ErrorKind, Result};
pub use files::Files;
pub use picture::{Picture, PictureSettings, RgbPicture, VideoSettings, smart_resize};
pub use safetensors::{Dtype, TensorInfo};
pub use template::{ChatTemplate, Conversation, Message};
pub use tensor_file::TensorFile;
pub use tokenizer::Tokenizer;

pub(crate) use error::quoted;
pub(crate) use fields::{Fields, describe};
pub(crate) use files::{read_marked, read_within, unmappable, unmarked};

use crate::tensor::Tensor;
use instead::instead;
use safetensors::Store;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const CONFIG: &str = "config.json";
/// The longest small JSON file believed, in bytes; real ones have a few thousand.
const JSON_MAX: u64 = 16 << 20;

/// The bytes of named tensors in a file of test data.
#[cfg(test)]
pub(crate) fn golden(files: &Files, name: &str) -> impl Fn(&str) -> Vec<u8> {
    let store = Store::open_single(files, name).expect("test data");
    move |name| store.raw(name).expect("test data").0.to_vec()
}

/// A Hugging Face checkpoint: its configuration and its tensors under canonical names.
///
/// Opening reads the configuration and the headers; weights are mapped and converted on demand.
///
/// ```no_run
/// use encircle::checkpoint::Checkpoint;
/// let checkpoint = Checkpoint::open("Qwen3-0.6B".as_ref())?;
/// let width = checkpoint.config().text.hidden_size;
/// let norm = checkpoint.read("model.language_model.norm.weight", &[width])?;
/// # Ok::<(), encircle::checkpoint::Error>(())
/// ```
#[derive(Clone)]
pub struct Checkpoint {
    files: Files,
    config: Arc<Config>,
    store: Arc<Store>,
}

impl Checkpoint {
    /// Opens the folder `dir`.
    ///
    /// # Errors
    /// Names the file and field or tensor that is missing, malformed or contradicts another.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        Checkpoint::from_files(Files::folder(dir))
    }

    /// Opens files that are part of the program, as (name, bytes).
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Result<Checkpoint> {
        Checkpoint::from_files(Files::embedded(files))
    }

    fn from_files(files: Files) -> Result<Checkpoint> {
        if let Some(found) = files.absent() {
            let expected = "a folder with a checkpoint";
            return Err(Error::new(ErrorKind::Missing, files.describe(""), expected, found));
        }
        if !files.contains(CONFIG)? {
            let (file, found) = (files.describe(CONFIG), instead(&files, "none")?);
            return Err(Error::new(ErrorKind::Missing, file, "a file", found));
        }
        let raw = files.read_json(CONFIG, JSON_MAX)?;
        let mut config = Config::parse(&files.describe(CONFIG), raw)?;
        let store = Store::open(&files, config.text.tie_word_embeddings)?;
        if store.info("lm_head.weight").is_some() {
            config.untie();
        }
        Ok(Checkpoint { files, config: Arc::new(config), store: Arc::new(store) })
    }

    /// The configuration, validated.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files of the checkpoint.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Canonical names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.store.names()
    }

    /// Dtype and shape of a tensor, by its canonical or its stored name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.store.info(name)
    }

    /// The name under which the file stores a tensor.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        self.store.stored_name(name)
    }

    /// A whole tensor as f32. Converting is exact.
    ///
    /// # Errors
    /// `Missing`, `WrongShape` if it is not `expected_shape`, `WrongDtype` if it holds no floats,
    /// `OutOfRange` if one of them is NaN or infinite.
    pub fn read(&self, name: &str, expected_shape: &[usize]) -> Result<Tensor> {
        let tensor = self.store.read(name, expected_shape)?;
        self.store.check_finite(name, &tensor)?;
        Ok(tensor)
    }

    /// The slice `rows` of a tensor's first axis as f32, without touching the rest of it.
    ///
    /// # Errors
    /// `Missing`, `OutOfRange` if there are fewer rows, `WrongDtype` if it holds no floats.
    pub fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor> {
        self.store.read_rows(name, rows)
    }

    /// The tensor as f32, or only `index` of its first axis, which it keeps with an extent of 1; the
    /// rest is not touched then.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`].
    pub fn read_part(
        &self,
        name: &str,
        expected_shape: &[usize],
        index: Option<usize>,
    ) -> Result<Tensor> {
        let Some(index) = index else { return self.read(name, expected_shape) };
        let tensor = self.store.read_index(name, expected_shape, index)?;
        self.store.check_finite(name, &tensor)?;
        Ok(tensor)
    }

    /// The rows (indices of the first axis) of a tensor from `first` on, as many as `out` holds, as
    /// f32. Whether they are finite is not looked at.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read`], apart from that; `OutOfRange` for rows beyond the last.
    pub fn read_into(&self, name: &str, first: usize, out: &mut [f32]) -> Result<()> {
        self.store.read_into(name, first, out)
    }

    /// The bytes of a tensor as stored (little endian, row-major), and what they mean.
    ///
    /// # Errors
    /// `Missing`.
    pub fn raw(&self, name: &str) -> Result<(&[u8], Dtype)> {
        self.store.raw(name)
    }

    /// A part of the bytes of a tensor as stored, no more of it than there is.
    ///
    /// # Errors
    /// `Missing`; `Unreadable` if the file was cut short since it was opened.
    pub fn part(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        self.store.part(name, part)
    }

    /// Compares the stored tensors with the canonical names and shapes that a model needs.
    ///
    /// A stored `lm_head.weight` of a model with tied embeddings and stored rotary frequencies are
    /// no difference: exporters write them and nothing reads them.
    ///
    /// # Errors
    /// `TensorsDiffer`, one error that lists every missing, misshaped and extra tensor.
    pub fn verify(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        self.store.verify(expected, self.config.text.tie_word_embeddings)
    }

    /// Loads the tokenizer from `tokenizer.json`, with what `tokenizer_config.json` adds; keep it,
    /// loading takes a while.
    ///
    /// # Errors
    /// `Missing` or `Malformed`.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(&self.files)
    }

    /// Loads the chat template and the special tokens that it may name.
    ///
    /// # Errors
    /// `Missing` if the checkpoint has none, `Malformed` if it is no Jinja.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        ChatTemplate::load(&self.files)
    }

    /// Loads how pictures are prepared from `preprocessor_config.json`, or else from
    /// `processor_config.json`.
    ///
    /// # Errors
    /// `Missing`, or the field that is wrong.
    pub fn picture_settings(&self) -> Result<PictureSettings> {
        PictureSettings::load(&self.files, &self.config)
    }

    /// Loads how videos are prepared from `video_preprocessor_config.json`, or else from a file for
    /// pictures.
    ///
    /// # Errors
    /// `Missing`, or the field that is wrong.
    pub fn video_settings(&self) -> Result<VideoSettings> {
        VideoSettings::load(&self.files, &self.config)
    }
}
