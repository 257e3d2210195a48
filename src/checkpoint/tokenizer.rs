//! Text to token ids and back, as `tokenizer.json` defines it.

use super::error::{Error, ErrorKind, Result};
use super::files::Files;

const FILE: &str = "tokenizer.json";
/// The longest tokenizer believed, in bytes; the largest published have about 35 MiB.
const TOKENIZER_MAX: u64 = 256 << 20;

/// A loaded tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
}

impl Tokenizer {
    pub(super) fn load(files: &Files) -> Result<Tokenizer> {
        Tokenizer::parse(&files.describe(FILE), &files.read(FILE, TOKENIZER_MAX)?)
    }

    /// Reads the bytes of a `tokenizer.json`; `file` is its name in errors.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|source| {
            Error::new(ErrorKind::Malformed, file, "a tokenizer", "another JSON or none")
                .caused_by(source)
        })?;
        // saved padding and truncation belong to somebody's training run, not to the vocabulary
        inner.with_padding(None);
        // without parameters nothing is left to refuse
        let _ = inner.with_truncation(None);
        Ok(Tokenizer { inner, file: file.to_owned() })
    }

    /// The ids of `text`. Special tokens spelled out in it count as such; none are added.
    ///
    /// # Errors
    /// `Unsupported` if the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    /// The ids of `text` with those tokens around it that the tokenizer adds to a document, such as
    /// a beginning-of-sequence token.
    ///
    /// # Errors
    /// `Unsupported` if the vocabulary cannot express the text.
    pub fn encode_document(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, add_special_tokens) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(source) => {
                let (expected, found) = ("text that the vocabulary covers", "other text");
                Err(Error::new(ErrorKind::Unsupported, &self.file, expected, found)
                    .caused_by(source))
            }
        }
    }

    /// The text of `ids`, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// `Unsupported` if the decoder refuses.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|source| {
            Error::new(ErrorKind::Unsupported, &self.file, "decodable tokens", "others")
                .caused_by(source)
        })
    }

    /// The id of exactly this token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The file it came from, for errors.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }
}
