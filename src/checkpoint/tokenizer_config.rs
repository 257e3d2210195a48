//! `tokenizer_config.json`: what transformers' tokenizer classes make of it beside `tokenizer.json`.

use super::config::TokenizerClass;
use super::error::{ErrorKind, Result};
use super::fields::{Fields, describe};
use super::files::Files;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokenizers::AddedToken;

pub(super) const FILE: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The longest of these files believed, in bytes; one that spells out thousands of added tokens
/// reaches a few MiB.
pub(super) const FILE_MAX: u64 = 64 << 20;

const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const ADDITIONAL: &str = "additional_special_tokens";
const EXTRA: &str = "extra_special_tokens";
const ADDED: &str = "added_tokens_decoder";
pub(super) const PREFIX_SPACE: &str = "add_prefix_space";

/// A special token as a file spells it.
#[derive(Clone)]
pub(super) struct Special {
    pub(super) token: AddedToken,
    /// Whether its flags are stated, and not only its content.
    pub(super) is_spelled_out: bool,
}

/// The tokens that a checkpoint names, and those that it adds to its tokenizer.
#[derive(Default)]
pub(super) struct TokenizerConfig {
    /// `bos_token` and its like, by name.
    named: Vec<(String, Special)>,
    additional: Vec<Special>,
    /// Those that only this tokenizer has, by name.
    extra: Vec<(String, Special)>,
    /// Tokens with their flags, by their ids.
    pub(super) added: BTreeMap<u32, AddedToken>,
    /// What stands before and after a document, if that is not for `tokenizer.json` to say.
    pub(super) around: Option<[Option<String>; 2]>,
    /// Whether a byte-level pre-tokenizer sets a space before words that have none, if that is not for
    /// `tokenizer.json` to say.
    pub(super) prefix_space: Option<bool>,
    /// Whether special tokens spelled out in a text are text like any other.
    pub(super) splits_specials: bool,
    /// Normalizer and pre-tokenizer of a tokenizer that transformers makes anew, as `tokenizer.json`
    /// spells them.
    pub(super) converted: Option<[Value; 2]>,
}

impl TokenizerConfig {
    pub(super) fn load(files: &Files) -> Result<TokenizerConfig> {
        let read = |name: &str| match files.contains(name)? {
            true => files.read_json(name, FILE_MAX),
            false => Ok(json!({})),
        };
        let (file, older_file) = (files.describe(FILE), files.describe(SPECIAL_TOKENS));
        let json = read(FILE)?;
        let fields = Fields::root(&file, &json)?;
        // where all added tokens are spelled out, transformers looks no further
        if fields.get(ADDED).is_some() {
            return TokenizerConfig::parse(&fields, None);
        }
        let older = read(SPECIAL_TOKENS)?;
        TokenizerConfig::parse(&fields, Some(&Fields::root(&older_file, &older)?))
    }

    /// Special tokens that `older` mentions hold as it says.
    fn parse(fields: &Fields, older: Option<&Fields>) -> Result<TokenizerConfig> {
        let class = fields.text("tokenizer_class")?.map(TokenizerClass::of).unwrap_or_default();
        let mut config = TokenizerConfig::default();
        for name in NAMES {
            let mentions = |fields: &&Fields| fields.get(name).is_some() || fields.is_null(name);
            let token = match older.into_iter().chain([fields]).find(mentions) {
                Some(fields) => named(fields, name)?,
                None => class.tokens.iter().find(|(of, _)| *of == name).map(|(_, t)| plain(t)),
            };
            config.named.extend(token.map(|token| (name.to_owned(), token)));
        }
        if let Some(Value::Array(_)) = fields.get(EXTRA) {
            // so transformers 5 calls the additional ones
            config.additional = listed(fields, EXTRA)?;
        } else if let Some(fields) = fields.object(EXTRA)? {
            for name in fields.names() {
                config.extra.extend(named(&fields, name)?.map(|token| (name.to_owned(), token)));
            }
        }
        for fields in [Some(fields), older].into_iter().flatten() {
            config.additional.extend(listed(fields, ADDITIONAL)?);
        }
        if let Some(decoder) = fields.object(ADDED)? {
            for name in decoder.names() {
                let id = name.parse().map_err(|_| {
                    decoder.wrong(ErrorKind::WrongType, name, "the id of a token", "another name")
                })?;
                config.added.extend(named(&decoder, name)?.map(|special| (id, special.token)));
            }
        }
        config.splits_specials = fields.flag("split_special_tokens")?.unwrap_or(false);
        match fields.flag(PREFIX_SPACE)? {
            Some(prefix) if class.converts => {
                let legacy = fields.flag("legacy")?.unwrap_or(true);
                config.converted = Some(converted(prefix, legacy));
            }
            None if class.converts || fields.is_null(PREFIX_SPACE) => {}
            prefix => config.prefix_space = Some(prefix.unwrap_or(false)),
        }
        if class.frames {
            let before = config.frame(fields, "bos_token", "add_bos_token", true)?;
            config.around =
                Some([before, config.frame(fields, "eos_token", "add_eos_token", false)?]);
        }
        Ok(config)
    }

    /// The token `name` if `flag` asks for it.
    fn frame(
        &self,
        fields: &Fields,
        name: &str,
        flag: &str,
        default: bool,
    ) -> Result<Option<String>> {
        if !fields.flag(flag)?.unwrap_or(default && !fields.is_null(flag)) {
            return Ok(None);
        }
        let named = self.named.iter().find(|(known, _)| known == name);
        let token = named.map(|(_, special)| special.token.content.clone());
        let missing = || fields.wrong(ErrorKind::Missing, name, format!("it for {flag}"), "none");
        token.ok_or_else(missing).map(Some)
    }

    /// All special tokens, in the order in which new ones get their ids.
    pub(super) fn specials(&self) -> impl Iterator<Item = &Special> {
        let named = self.named.iter().map(|(_, special)| special);
        named.chain(&self.additional).chain(self.extra.iter().map(|(_, special)| special))
    }

    /// The special tokens as variables of templates.
    pub(super) fn variables(&self) -> BTreeMap<String, Value> {
        let content = |special: &Special| Value::from(special.token.content.as_str());
        let named = self.named.iter().chain(&self.extra);
        let mut variables: BTreeMap<String, Value> =
            named.map(|(name, special)| (name.clone(), content(special))).collect();
        if !self.additional.is_empty() {
            variables.insert(ADDITIONAL.into(), self.additional.iter().map(content).collect());
        }
        variables
    }
}

/// The token under `name`; an empty one is none.
fn named(fields: &Fields, name: &str) -> Result<Option<Special>> {
    let token = fields.get(name).map(|value| special(fields, name, value)).transpose()?;
    Ok(token.filter(|special| !special.token.content.is_empty()))
}

/// The tokens in the list `name`.
fn listed(fields: &Fields, name: &str) -> Result<Vec<Special>> {
    match fields.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|value| special(fields, name, value)).collect(),
        Some(other) => {
            Err(fields.wrong(ErrorKind::WrongType, name, "a list of tokens", describe(other)))
        }
    }
}

/// A token is its content, or an object that also says how it is found in text.
fn special(fields: &Fields, name: &str, value: &Value) -> Result<Special> {
    let flag = |name: &str| value[name].as_bool();
    match (value, value["content"].as_str()) {
        (Value::String(content), _) => Ok(plain(content)),
        (_, Some(content)) => {
            let token = AddedToken::from(content, flag("special").unwrap_or(false));
            let normalized = flag("normalized").unwrap_or(token.normalized);
            let token = token
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(normalized);
            Ok(Special { token, is_spelled_out: true })
        }
        _ => Err(fields.wrong(ErrorKind::WrongType, name, "a token", describe(value))),
    }
}

/// What a conversion from sentencepiece makes of spaces: normalizer and pre-tokenizer.
fn converted(prefix: bool, legacy: bool) -> [Value; 2] {
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let scheme = if prefix { "first" } else { "never" };
    let normalizers: Vec<Value> = prefix.then_some(prepend).into_iter().chain([replace]).collect();
    match legacy {
        true => [json!({"type": "Sequence", "normalizers": normalizers}), Value::Null],
        false => {
            let metaspace = json!({"type": "Metaspace", "replacement": "▁", "split": false,
                "prepend_scheme": scheme});
            [Value::Null, metaspace]
        }
    }
}

fn plain(content: &str) -> Special {
    Special { token: AddedToken::from(content, true), is_spelled_out: false }
}
