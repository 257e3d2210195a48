//! Text to token ids and back, as `tokenizer.json` defines it.

use super::error::{Error, ErrorKind, Result};
use super::files::{Files, unmarked};
use super::tokenizer_config::{self, PREFIX_SPACE, TokenizerConfig};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::template::TemplateProcessing;

const FILE: &str = "tokenizer.json";
/// The longest tokenizer believed, in bytes; the largest published have about 35 MiB.
const TOKENIZER_MAX: u64 = 256 << 20;

/// What the library ends the program on unless it is JSON.
#[derive(Deserialize)]
struct Delicate {
    #[serde(default, rename = "decoder")]
    _decoder: Value,
}

/// A loaded tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
}

impl Tokenizer {
    pub(super) fn load(files: &Files) -> Result<Tokenizer> {
        let mut tokenizer =
            Tokenizer::parse(&files.describe(FILE), &files.read(FILE, TOKENIZER_MAX)?)?;
        let (config, file) =
            (TokenizerConfig::load(files)?, files.describe(tokenizer_config::FILE));
        tokenizer.complete(&config).map_err(|source| {
            Error::new(ErrorKind::Unsupported, &file, "tokens to add to the tokenizer", "others")
                .caused_by(source)
        })?;
        match config.converted {
            Some(spaces) if spaces != tokenizer.spaces() => {
                let [normalizer, words] = spaces;
                let expected = format!(
                    "with it the normalizer {normalizer} and the pre_tokenizer \
                    {words}, which transformers makes of tokenizer.model, in {FILE}"
                );
                let error = Error::new(ErrorKind::Inconsistent, file, expected, "others");
                Err(error.field(PREFIX_SPACE))
            }
            _ => Ok(tokenizer),
        }
    }

    /// Normalizer and pre-tokenizer, which handle spaces, as the file would spell them today.
    fn spaces(&self) -> [Value; 2] {
        let normalizer = serde_json::to_value(self.inner.get_normalizer());
        let words = serde_json::to_value(self.inner.get_pre_tokenizer());
        [normalizer, words].map(|spelled| spelled.unwrap_or_default())
    }

    /// Adds the tokens that transformers adds to those of the file, lays tokens around documents and
    /// splits texts as it does.
    fn complete(&mut self, config: &TokenizerConfig) -> tokenizers::Result<()> {
        self.inner.set_encode_special_tokens(config.splits_specials);
        // in a sequence of pre-tokenizers, transformers leaves it as it is
        if let (Some(prefix), Some(PreTokenizerWrapper::ByteLevel(level))) =
            (config.prefix_space, self.inner.get_pre_tokenizer())
        {
            let level = level.add_prefix_space(prefix);
            self.inner.with_pre_tokenizer(Some(level));
        }
        let known = self.inner.get_added_vocabulary().get_vocab();
        let mut tokens: Vec<AddedToken> = config.added.values().cloned().collect();
        for special in config.specials() {
            let content = &special.token.content;
            let is_known = !special.is_spelled_out && known.contains_key(content);
            if !is_known && tokens.iter().all(|token| token.content != *content) {
                tokens.push(special.token.clone());
            }
        }
        for token in &mut tokens {
            token.special |= config.specials().any(|s| s.token.content == token.content);
        }
        self.inner.add_tokens(tokens)?;
        if let Some(around) = &config.around {
            let [before, after] = around.each_ref().map(|token| token.as_deref());
            let piece = |token: &str| format!("{token}:0");
            let pieces =
                before.map(piece).into_iter().chain(["$A:0".into()]).chain(after.map(piece));
            let ids = around.iter().flatten().filter_map(|t| Some((t.clone(), self.token_id(t)?)));
            let template = TemplateProcessing::builder()
                .try_single(pieces.collect::<Vec<String>>())?
                .special_tokens(ids.collect::<Vec<_>>())
                .build()?;
            self.inner.with_post_processor(Some(template));
        }
        Ok(())
    }

    /// Reads the bytes of a `tokenizer.json`; `file` is its name in errors.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Tokenizer> {
        let malformed = |source: tokenizers::Error| {
            Error::new(ErrorKind::Malformed, file, "a tokenizer", "another JSON or none")
                .caused_by(source)
        };
        let bytes = unmarked(bytes);
        serde_json::from_slice::<Delicate>(bytes).map_err(|source| malformed(source.into()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(malformed)?;
        // saved padding and truncation belong to somebody's training run, not to the vocabulary
        inner.with_padding(None);
        // without parameters nothing is left to refuse
        let _ = inner.with_truncation(None);
        Ok(Tokenizer { inner, file: file.to_owned() })
    }

    /// The ids of `text`. Special tokens spelled out in it count as such, unless
    /// `split_special_tokens` is set; none are added.
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
