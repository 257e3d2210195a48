//! Rows to what the model reads: token ids, patches and where the answer begins.

use super::rows::Row;
use super::text::COLUMN;
use super::visuals::{Shown, Visuals};
use crate::checkpoint::{ChatTemplate, Checkpoint, Error, ErrorKind, Result, Tokenizer, quoted};
use crate::tensor::{Tensor, each};

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

impl Sample {
    /// Whether there is something that the model should say.
    pub fn is_answered(&self) -> bool {
        self.prompt_len < self.input_ids.len()
    }
}

/// Everything that turns rows into samples, loaded once.
pub struct Processor {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    visuals: Visuals,
    vocab_size: usize,
}

impl Processor {
    /// Loads tokenizer, chat template and picture settings. The latter two may be missing until a
    /// row needs them.
    ///
    /// # Errors
    /// What is malformed in those files, or that the placeholder of pictures is no token.
    pub fn new(checkpoint: &Checkpoint) -> Result<Processor> {
        let tokenizer = checkpoint.tokenizer()?;
        let template = unless_absent(checkpoint.chat_template())?.ok();
        let visuals = Visuals::load(checkpoint, &tokenizer)?;
        let vocab_size = checkpoint.config().text.vocab_size;
        Ok(Processor { tokenizer, template, visuals, vocab_size })
    }

    /// The tokenizer, for reading answers back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that ends what is said, if a chat template says so.
    pub fn turn_end(&self) -> Option<u32> {
        self.template.as_ref()?.turn_end().and_then(|end| self.tokenizer.token_id(end))
    }

    /// The samples of all rows, in order, on all threads.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub fn encode_all(&self, rows: &[Row]) -> Result<Vec<Sample>> {
        each(rows, |row| self.encode(row))
    }

    /// The sample of one row.
    ///
    /// # Errors
    /// Names the row, and the picture or the part of the checkpoint that is missing or wrong.
    pub fn encode(&self, row: &Row) -> Result<Sample> {
        if let Some(text) = &row.text {
            if text.is_empty() {
                let error = Error::new(ErrorKind::OutOfRange, &row.place, "some text", "none");
                return Err(error.field(COLUMN));
            }
            let input_ids = self.encode_document(text, &row.place)?;
            return self.sample(row, input_ids, 1, Shown::default());
        }
        let template = self.template.as_ref().ok_or_else(|| {
            let expected = "a chat template in the checkpoint, to ask with";
            Error::new(ErrorKind::Missing, &row.place, expected, "none")
        })?;
        let of_row = |error: Error| error.led_to_from(&row.place);
        let rendered = template.render(&row.conversation, true).map_err(of_row)?;
        let (prompt, shown) = self.visuals.show(row, rendered)?;
        let mut input_ids = self.tokenizer.encode(&prompt).map_err(of_row)?;
        let prompt_len = input_ids.len();
        if let Some(answer) = &row.answer {
            let end = template.turn_end().filter(|end| self.tokenizer.token_id(end).is_some());
            let end = end.ok_or_else(|| {
                let expected = "an eos_token that ends answers, beside the tokenizer";
                Error::new(ErrorKind::Missing, self.tokenizer.file(), expected, "none")
            })?;
            // apart from the prompt: its tokens must not depend on the answer
            let said = self.tokenizer.encode(&format!("{answer}{end}")).map_err(of_row)?;
            input_ids.extend(said);
        }
        self.sample(row, input_ids, prompt_len, shown)
    }

    /// The ids of a text from `place` that asks nothing, with those around it that the tokenizer adds
    /// to a document.
    ///
    /// # Errors
    /// Names the place, and the token that the model does not have.
    pub fn encode_document(&self, text: &str, place: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode_document(text).map_err(|error| error.led_to_from(place))?;
        self.known(ids, place)
    }

    /// `ids`, if the model has an embedding for each: a tokenizer may have more tokens.
    fn known(&self, ids: Vec<u32>, place: &str) -> Result<Vec<u32>> {
        let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) else {
            return Ok(ids);
        };
        let expected = format!("tokens below the vocab_size {} of config.json", self.vocab_size);
        let token = quoted(&self.tokenizer.token(id).unwrap_or_default());
        let found = format!("{id}, the token {token} of {}", self.tokenizer.file());
        Err(Error::new(ErrorKind::OutOfRange, place, expected, found))
    }

    fn sample(
        &self,
        row: &Row,
        input_ids: Vec<u32>,
        prompt_len: usize,
        shown: Shown,
    ) -> Result<Sample> {
        if input_ids.is_empty() || prompt_len == 0 {
            return Err(Error::new(
                ErrorKind::OutOfRange,
                &row.place,
                "at least one token",
                "none",
            ));
        }
        let input_ids = self.known(input_ids, &row.place)?;
        let Shown { patches, grids, video_grids } = shown;
        let pixel_values = concatenate(patches);
        let place = row.place.clone();
        Ok(Sample { input_ids, prompt_len, pixel_values, grids, video_grids, place })
    }
}

/// What was loaded, or what was looked for if the checkpoint has no file of it.
pub(super) fn unless_absent<T>(loaded: Result<T>) -> Result<std::result::Result<T, String>> {
    match loaded {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.kind() == ErrorKind::Missing && error.item().is_none() => {
            Ok(Err(error.expected().to_owned()))
        }
        Err(error) => Err(error),
    }
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
