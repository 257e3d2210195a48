//! `config.json`, typed and validated: what a model family may rely on without looking again.
//!
//! Field names are Hugging Face's own. Both spellings in the wild are read: nested `text_config` or
//! flat, `rope_scaling` beside `rope_theta` (transformers 4) or `rope_parameters` (transformers 5).

mod classes;
mod experts;
mod limits;
mod rope;
mod text;
mod vision;

#[cfg(test)]
mod tests;

pub(super) use classes::{IMAGE_PROCESSOR, TokenizerClass, VIDEO_PROCESSOR, prepares_as};
pub use experts::ExpertsConfig;
pub use text::TextConfig;
pub use vision::VisionConfig;

use super::error::{ErrorKind, Result, quoted};
use super::fields::{Fields, describe};
use serde_json::Value;

/// The typed view of `config.json`. Every number in it is inside its limits and agrees with the
/// others, so shapes computed from it neither overflow nor divide by zero.
#[derive(Clone, Debug)]
pub struct Config {
    /// Class names such as `Qwen3VLForConditionalGeneration`; may be empty.
    pub architectures: Vec<String>,
    /// The family, such as `qwen3_vl`.
    pub model_type: String,
    /// The language model.
    pub text: TextConfig,
    /// The vision tower, where the family has one.
    pub vision: Option<VisionConfig>,
    /// Stands for one merged patch of a picture in the prompt.
    pub image_token_id: Option<u32>,
    /// Stands for one merged patch of a video frame in the prompt.
    pub video_token_id: Option<u32>,
    /// Opens a picture or a video frame in the prompt.
    pub vision_start_token_id: Option<u32>,
    /// Closes a picture or a video frame in the prompt.
    pub vision_end_token_id: Option<u32>,
    raw: Value,
}

impl Config {
    /// Reads and validates the JSON of the configuration; `file` is its name in errors.
    ///
    /// # Errors
    /// Names the file, the dotted field, what was found and what was expected.
    pub fn parse(file: &str, raw: Value) -> Result<Config> {
        let root = Fields::root(file, &raw)?;
        let model_type = root.text("model_type")?.ok_or_else(|| {
            root.wrong(ErrorKind::Missing, "model_type", "a family such as \"qwen3\"", "nothing")
        })?;
        check_unquantized(&root)?;
        let architectures = root.texts("architectures")?.unwrap_or_default();
        let family = Family::of(model_type);
        let text = TextConfig::parse(&root, family, model_type)?;
        let vision = match root.object("vision_config")? {
            None if family == Family::Qwen3Vl => {
                let expected = "the sizes of the vision tower";
                return Err(root.wrong(ErrorKind::Missing, "vision_config", expected, "nothing"));
            }
            None => None,
            Some(fields) if family == Family::Qwen3Vl => Some(VisionConfig::parse(&fields, &text)?),
            // another vision tower would have other fields under the same names
            Some(_) => {
                let expected = "qwen3_vl beside a vision_config";
                let found = quoted(model_type);
                return Err(root.wrong(ErrorKind::Unsupported, "model_type", expected, found));
            }
        };
        let token = |name: &str, default: usize| -> Result<Option<u32>> {
            let default = vision.as_ref().map(|_| default);
            let id = root.size(name, 0..=limits::VOCAB_MAX)?.or(default);
            match id {
                // Toys keep the real model's marker ids beside a small vocabulary; no prompt of
                // theirs holds the markers, so only the placeholders must be tokens.
                Some(id) if id >= text.vocab_size && name.starts_with("vision_") => Ok(None),
                Some(id) if id >= text.vocab_size => {
                    let expected = format!("a token below vocab_size {}", text.vocab_size);
                    Err(root.wrong(ErrorKind::Inconsistent, name, expected, root.found(name, id)))
                }
                other => Ok(other.and_then(|id| u32::try_from(id).ok())),
            }
        };
        Ok(Config {
            image_token_id: token("image_token_id", 151_655)?,
            video_token_id: token("video_token_id", 151_656)?,
            vision_start_token_id: token("vision_start_token_id", 151_652)?,
            vision_end_token_id: token("vision_end_token_id", 151_653)?,
            architectures,
            model_type: model_type.to_owned(),
            text,
            vision,
            raw,
        })
    }

    /// Unties the head of a file that says only of the whole model that it is tied: where such a file
    /// has a head of its own, transformers 4, which asks the text part, uses that.
    pub(super) fn untie(&mut self) {
        let text = self.raw["text_config"].as_object();
        if text.is_some_and(|text| text.get("tie_word_embeddings").is_none_or(Value::is_null)) {
            self.text.tie_word_embeddings = false;
        }
    }

    /// The file as it stands, for the fields that only one family knows.
    pub fn raw(&self) -> &Value {
        &self.raw
    }
}

/// Refuses a file that says how its weights were quantized: nothing here takes that back, and weights
/// that are floats all the same are not those that transformers computes with. Like transformers, it
/// looks at the whole model's fields only.
fn check_unquantized(root: &Fields) -> Result<()> {
    const NAME: &str = "quantization_config";
    let Some(value) = root.get(NAME) else { return Ok(()) };
    let (name, found) = match &value["quant_method"] {
        Value::Null => (NAME.into(), value),
        method => (format!("{NAME}.quant_method"), method),
    };
    let expected = "none: the original checkpoint, before anybody quantized it";
    Err(root.wrong(ErrorKind::Unsupported, &name, expected, describe(found)))
}

/// Which set of transformers' defaults applies to fields that the file omits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Qwen3Vl,
    Qwen2,
    Qwen3,
    Other,
}

impl Family {
    fn of(model_type: &str) -> Family {
        match model_type {
            "qwen3_vl" | "qwen3_vl_moe" => Family::Qwen3Vl,
            "qwen2" => Family::Qwen2,
            "qwen3" | "qwen3_moe" => Family::Qwen3,
            _ => Family::Other,
        }
    }
}
