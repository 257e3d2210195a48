//! Where a checkpoint keeps its chat template.

use super::super::error::{Error, ErrorKind, Result};
use super::super::fields::{Fields, describe};
use super::super::files::Files;
use super::super::tokenizer_config::{FILE as TOKENIZER_CONFIG, FILE_MAX};
use serde_json::Value;

const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
const FIELD: &str = "chat_template";

pub(super) struct Found {
    pub(super) file: String,
    pub(super) template: String,
}

/// The template: its own file before the older places.
pub(super) fn find(files: &Files) -> Result<Found> {
    if files.contains(JINJA)? {
        let template = files.read_text(JINJA, FILE_MAX)?;
        return Ok(Found { file: files.describe(JINJA), template });
    }
    for name in [JSON, TOKENIZER_CONFIG] {
        if !files.contains(name)? {
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
    // of two by one name transformers keeps the later
    let named = list.iter().rfind(|entry| entry["name"] == "default");
    match named.or(list.first().filter(|_| list.len() == 1)).map(|entry| &entry["template"]) {
        Some(Value::String(template)) => Ok(Some(template.clone())),
        _ => {
            let expected = "a list with a template named \"default\"";
            let found = format!("a list of {} without", list.len());
            Err(fields.wrong(ErrorKind::Missing, FIELD, expected, found))
        }
    }
}
