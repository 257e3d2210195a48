//! Rows to what the model reads: token ids, patches and where the answer begins.

use super::rows::Row;
use super::visuals::{Shown, Visuals};
use crate::checkpoint::{ChatTemplate, Checkpoint, Error, ErrorKind, Result, Tokenizer};
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
    /// The patches of all pictures, then of all videos, one below the other.
    pub pixel_values: Option<Tensor>,
    /// Patches over time, height and width of each picture: `[t, h, w]`.
    pub grids: Vec<[usize; 3]>,
    /// The same of each video.
    pub video_grids: Vec<[usize; 3]>,
    /// File and line of the row.
    pub place: String,
}

/// Everything that turns rows into samples, loaded once.
pub struct Processor {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    visuals: Visuals,
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
        let visuals = Visuals::load(checkpoint, &tokenizer)?;
        Ok(Processor { tokenizer, template, visuals })
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
            return sample(row, input_ids, 1, Shown::default());
        }
        let template = self.template.as_ref().ok_or_else(|| {
            let expected = "a chat template in the checkpoint, to ask with";
            Error::new(ErrorKind::Missing, &row.place, expected, "none")
        })?;
        let rendered = template.render(&row.messages, true)?;
        let (prompt, shown) = self.visuals.show(row, rendered)?;
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
        sample(row, input_ids, prompt_len, shown)
    }
}

pub(super) fn optional<T>(loaded: Result<T>) -> Result<Option<T>> {
    match loaded {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Missing && error.item().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn sample(row: &Row, input_ids: Vec<u32>, prompt_len: usize, shown: Shown) -> Result<Sample> {
    if input_ids.is_empty() || prompt_len == 0 {
        return Err(Error::new(ErrorKind::OutOfRange, &row.place, "at least one token", "none"));
    }
    let Shown { patches, grids, video_grids } = shown;
    let pixel_values = concatenate(patches);
    let place = row.place.clone();
    Ok(Sample { input_ids, prompt_len, pixel_values, grids, video_grids, place })
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
