//! Rows to what the model reads: token ids, patches and where the answer begins.

use super::rows::Row;
use crate::checkpoint::{
    ChatTemplate, Checkpoint, Error, ErrorKind, PictureSettings, Result, Tokenizer,
};
use crate::tensor::Tensor;
use rayon::prelude::*;

/// One row as the model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The prompt, then the answer with the token that ends it.
    pub input_ids: Vec<u32>,
    /// How many of the ids are given; the rest is what the model should say. At least 1, so every
    /// token to be said has one before it: a plain text gives only its first.
    pub prompt_len: usize,
    /// The patches of all pictures, one below the other.
    pub pixel_values: Option<Tensor>,
    /// Patches over time, height and width of each picture: `[t, h, w]`.
    pub grids: Vec<[usize; 3]>,
    /// File and line of the row.
    pub place: String,
}

/// Everything that turns rows into samples, loaded once.
pub struct Processor {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    pictures: Option<Pictures>,
}

struct Pictures {
    settings: PictureSettings,
    /// The token that the template writes for a picture.
    placeholder: String,
}

impl Processor {
    /// Loads tokenizer, chat template and picture settings. The latter two may be missing until a
    /// row needs them.
    ///
    /// # Errors
    /// What is malformed in those files, or that the placeholder of pictures is no token.
    pub fn new(checkpoint: &Checkpoint) -> Result<Processor> {
        let tokenizer = checkpoint.tokenizer()?;
        let template = optional(checkpoint.chat_template())?;
        let config = checkpoint.config();
        let pictures = match config.image_token_id.filter(|_| config.vision.is_some()) {
            None => None,
            Some(id) => {
                let placeholder = tokenizer.token(id).ok_or_else(|| {
                    let expected = format!("token {id}, the image_token_id of config.json");
                    Error::new(ErrorKind::Inconsistent, tokenizer.file(), expected, "none")
                })?;
                let settings = optional(checkpoint.picture_settings())?;
                settings.map(|settings| Pictures { settings, placeholder })
            }
        };
        Ok(Processor { tokenizer, template, pictures })
    }

    /// The tokenizer, for reading answers back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The samples of all rows, in order, on all threads.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub fn encode_all(&self, rows: &[Row]) -> Result<Vec<Sample>> {
        let samples: Vec<Result<Sample>> = rows.par_iter().map(|row| self.encode(row)).collect();
        samples.into_iter().collect()
    }

    /// The sample of one row.
    ///
    /// # Errors
    /// Names the row, and the picture or the part of the checkpoint that is missing or wrong.
    pub fn encode(&self, row: &Row) -> Result<Sample> {
        if let Some(text) = &row.text {
            let input_ids = self.tokenizer.encode_document(text)?;
            return sample(row, input_ids, 1, Vec::new(), Vec::new());
        }
        let template = self.template.as_ref().ok_or_else(|| {
            let expected = "a chat template in the checkpoint, to ask with";
            Error::new(ErrorKind::Missing, &row.place, expected, "none")
        })?;
        let rendered = template.render(&row.messages, true)?;
        let (prompt, patches, grids) = self.show(row, rendered)?;
        let mut input_ids = self.tokenizer.encode(&prompt)?;
        let prompt_len = input_ids.len();
        if let Some(answer) = &row.answer {
            let end = template.turn_end().filter(|end| self.tokenizer.token_id(end).is_some());
            let end = end.ok_or_else(|| {
                let expected = "an eos_token that ends answers, beside the tokenizer";
                Error::new(ErrorKind::Missing, self.tokenizer.file(), expected, "none")
            })?;
            // apart from the prompt: its tokens must not depend on the answer
            input_ids.extend(self.tokenizer.encode(&format!("{answer}{end}"))?);
        }
        sample(row, input_ids, prompt_len, patches, grids)
    }

    /// Prepares the pictures and stretches each placeholder to one token for each merged patch.
    fn show(&self, row: &Row, rendered: String) -> Result<(String, Vec<Tensor>, Vec<[usize; 3]>)> {
        let Some(Pictures { settings, placeholder }) = &self.pictures else {
            if row.images.is_empty() {
                return Ok((rendered, Vec::new(), Vec::new()));
            }
            let expected = "no picture, as the checkpoint has no vision tower or no \
                            preprocessor_config.json";
            let found = row.images.len();
            let error = Error::new(ErrorKind::Unsupported, &row.place, expected, found);
            return Err(error.field("image"));
        };
        let places = rendered.matches(placeholder.as_str()).count();
        if places != row.images.len() {
            let expected = format!("{places} pictures, one for each {placeholder} of the prompt");
            let error = Error::new(ErrorKind::Inconsistent, &row.place, expected, row.images.len());
            return Err(error.field("image"));
        }
        let mut patches = Vec::new();
        let mut grids = Vec::new();
        let mut prompt = String::with_capacity(rendered.len());
        let mut pieces = rendered.split(placeholder.as_str());
        prompt.push_str(pieces.next().unwrap_or_default());
        for (image, piece) in row.images.iter().zip(pieces) {
            let path = image.path();
            let prepared = image.read().and_then(|bytes| settings.prepare(&path, &bytes));
            let picture = prepared.map_err(|inner| {
                let expected = format!("{} in {path}", inner.expected());
                let error = Error::new(inner.kind(), &row.place, expected, inner.found());
                error.field("image").caused_by(inner)
            })?;
            let patch_count: usize = picture.grid_thw.iter().product();
            let tokens = patch_count / (settings.merge_size * settings.merge_size);
            prompt.push_str(&placeholder.repeat(tokens));
            prompt.push_str(piece);
            grids.push(picture.grid_thw);
            patches.push(picture.pixel_values);
        }
        Ok((prompt, patches, grids))
    }
}

fn optional<T>(loaded: Result<T>) -> Result<Option<T>> {
    match loaded {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Missing && error.item().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn sample(
    row: &Row,
    input_ids: Vec<u32>,
    prompt_len: usize,
    patches: Vec<Tensor>,
    grids: Vec<[usize; 3]>,
) -> Result<Sample> {
    if input_ids.is_empty() || prompt_len == 0 {
        return Err(Error::new(ErrorKind::OutOfRange, &row.place, "at least one token", "none"));
    }
    let pixel_values = concatenate(patches);
    Ok(Sample { input_ids, prompt_len, pixel_values, grids, place: row.place.clone() })
}

/// All rows of tensors of equal width, one below the other.
fn concatenate(mut tensors: Vec<Tensor>) -> Option<Tensor> {
    if tensors.len() < 2 {
        return tensors.pop();
    }
    let width = tensors[0].shape().last().copied().unwrap_or(0);
    let rows = tensors.iter().map(|tensor| tensor.shape()[0]).sum::<usize>();
    let data = tensors.iter().flat_map(|tensor| tensor.data().iter().copied()).collect();
    Some(Tensor::new([rows, width], data))
}
