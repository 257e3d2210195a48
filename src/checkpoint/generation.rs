//! `generation_config.json`: with which tokens a model ends what it says.

use super::error::Result;
use super::fields::{Fields, describe};
use super::{CONFIG, Checkpoint, ErrorKind, JSON_MAX};
use serde_json::Value;
use std::slice;

const FILE: &str = "generation_config.json";
const NAME: &str = "eos_token_id";

impl Checkpoint {
    /// The tokens of which each ends an answer, as transformers' `generate` has them: those of
    /// `generation_config.json`, of `config.json` where that file is absent; empty if none are named.
    ///
    /// # Errors
    /// What is no token id, or no list of them, with its file.
    pub fn end_tokens(&self) -> Result<Vec<u32>> {
        let name = if self.files.contains(FILE)? { FILE } else { CONFIG };
        let (file, json) = (self.files.describe(name), self.files.read_json(name, JSON_MAX)?);
        let fields = Fields::root(&file, &json)?;
        let inner = if name == CONFIG { fields.object("text_config")? } else { None };
        match (ids(&fields)?, inner) {
            (Some(found), _) => Ok(found),
            (None, Some(inner)) => Ok(ids(&inner)?.unwrap_or_default()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

fn ids(fields: &Fields) -> Result<Option<Vec<u32>>> {
    let list = match fields.get(NAME) {
        None => return Ok(None),
        Some(Value::Array(list)) => &list[..],
        Some(one) => slice::from_ref(one),
    };
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let expected = "the id of a token, or a list of them";
        id.ok_or_else(|| fields.wrong(ErrorKind::WrongType, NAME, expected, describe(value)))
    };
    list.iter().map(id).collect::<Result<_>>().map(Some)
}

#[cfg(test)]
mod tests;
