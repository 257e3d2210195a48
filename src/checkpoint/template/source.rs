//! Where a checkpoint keeps its chat template and its special tokens.

use super::super::error::{Error, ErrorKind, Result};
use super::super::fields::{Fields, describe};
use super::super::files::Files;
use serde_json::Value;
use std::collections::BTreeMap;

const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The longest of these files believed, in bytes; a tokenizer_config.json that spells out thousands
/// of added tokens reaches a few MiB.
const FILE_MAX: u64 = 64 << 20;
const FIELD: &str = "chat_template";

pub(super) struct Found {
    pub(super) file: String,
    pub(super) template: String,
}

/// The template: its own file before the older places.
pub(super) fn find(files: &Files) -> Result<Found> {
    if files.contains(JINJA) {
        let template = files.read_text(JINJA, FILE_MAX)?;
        return Ok(Found { file: files.describe(JINJA), template });
    }
    for name in [JSON, TOKENIZER_CONFIG] {
        if !files.contains(name) {
            continue;
        }
        let file = files.describe(name);
        let json = files.read_json(name, FILE_MAX)?;
        if let Some(template) = inside(&Fields::root(&file, &json)?)? {
            return Ok(Found { file, template });
        }
    }
    let expected = format!("it, {JSON} or a {FIELD} in {TOKENIZER_CONFIG}");
    Err(Error::new(ErrorKind::Missing, files.describe(JINJA), expected, "none"))
}

/// The field is the template itself, or a list of named ones of which `default` is for chat.
fn inside(fields: &Fields) -> Result<Option<String>> {
    let list = match fields.get(FIELD) {
        None => return Ok(None),
        Some(Value::String(template)) => return Ok(Some(template.clone())),
        Some(Value::Array(list)) => list,
        Some(other) => {
            let expected = "a template or a list of named templates";
            return Err(fields.wrong(ErrorKind::WrongType, FIELD, expected, describe(other)));
        }
    };
    let named = list.iter().find(|entry| entry["name"] == "default");
    match named.or(list.first().filter(|_| list.len() == 1)).map(|entry| &entry["template"]) {
        Some(Value::String(template)) => Ok(Some(template.clone())),
        _ => {
            let expected = "a list with a template named \"default\"";
            let found = format!("a list of {} without", list.len());
            Err(fields.wrong(ErrorKind::Missing, FIELD, expected, found))
        }
    }
}

/// `bos_token`, `eos_token` and their like, as template variables.
pub(super) fn special_tokens(files: &Files) -> Result<BTreeMap<String, String>> {
    const NAMES: [&str; 7] = [
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    ];
    let mut tokens = BTreeMap::new();
    for file in [TOKENIZER_CONFIG, SPECIAL_TOKENS] {
        if !files.contains(file) {
            continue;
        }
        let json = files.read_json(file, FILE_MAX)?;
        let described = files.describe(file);
        let fields = Fields::root(&described, &json)?;
        for name in NAMES {
            let token = match fields.get(name) {
                // an added token with its flags spelled out
                Some(Value::Object(_)) => match fields.object(name)? {
                    Some(token) => token.text("content")?,
                    None => None,
                },
                Some(_) => fields.text(name)?,
                None => None,
            };
            if let Some(token) = token {
                tokens.entry(name.to_owned()).or_insert_with(|| token.to_owned());
            }
        }
    }
    Ok(tokens)
}
