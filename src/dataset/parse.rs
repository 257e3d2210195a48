//! The three shapes of a row.

use super::rows::{ImageRef, Origin, Row};
use crate::checkpoint::{
    Content, Error, ErrorKind, Fields, Message, Part, Result, describe, quoted,
};
use serde_json::Value;
use std::collections::VecDeque;

pub(super) fn parse_row(place: String, json: &Value, origin: &Origin) -> Result<Row> {
    let fields = Fields::root(&place, json)?;
    let row = if fields.get("messages").is_some() {
        conversation(&fields, origin)?
    } else if fields.get("question").is_some() {
        question(&fields, origin)?
    } else if let Some(text) = fields.text("text")? {
        if text.is_empty() {
            return Err(fields.wrong(ErrorKind::OutOfRange, "text", "some text", "none"));
        }
        Parts { images: vec![], messages: vec![], answer: None, text: Some(text.to_owned()) }
    } else {
        let expected = "it, \"messages\" or \"text\"";
        return Err(fields.wrong(ErrorKind::Missing, "question", expected, "none of them"));
    };
    let Parts { images, messages, answer, text } = row;
    Ok(Row { images, messages, answer, text, place })
}

struct Parts {
    images: Vec<ImageRef>,
    messages: Vec<Message>,
    answer: Option<String>,
    text: Option<String>,
}

fn question(fields: &Fields, origin: &Origin) -> Result<Parts> {
    let question = fields.required_text("question")?;
    let images = listed_images(fields, origin)?;
    let content = if images.is_empty() {
        Content::Text(question.to_owned())
    } else {
        let mut parts = vec![Part::Image; images.len()];
        parts.push(Part::Text { text: question.to_owned() });
        Content::Parts(parts)
    };
    let messages = vec![Message { role: "user".to_owned(), content }];
    let answer = fields.text("answer")?.map(str::to_owned);
    Ok(Parts { images, messages, answer, text: None })
}

/// Pictures beside the conversation: `image` or `images`, one path or a list.
fn listed_images(fields: &Fields, origin: &Origin) -> Result<Vec<ImageRef>> {
    let mut images = Vec::new();
    for name in ["image", "images"] {
        match fields.get(name) {
            None => {}
            Some(Value::String(path)) => images.push(image(fields, name, path, origin)?),
            Some(Value::Array(list)) => {
                for (i, entry) in list.iter().enumerate() {
                    let name = format!("{name}[{i}]");
                    let Value::String(path) = entry else {
                        return Err(no_path(fields, &name, entry));
                    };
                    images.push(image(fields, &name, path, origin)?);
                }
            }
            Some(other) => return Err(no_path(fields, name, other)),
        }
    }
    Ok(images)
}

fn no_path(fields: &Fields, name: &str, found: &Value) -> Error {
    let expected = "a path or a list of paths";
    fields.wrong(ErrorKind::WrongType, name, expected, describe(found))
}

fn image(fields: &Fields, name: &str, path: &str, origin: &Origin) -> Result<ImageRef> {
    let local = path.strip_prefix("file://").unwrap_or(path);
    if local.is_empty() || local.contains("://") || local.starts_with("data:") {
        let expected = "the path of a local file";
        return Err(fields.wrong(ErrorKind::Unsupported, name, expected, quoted(path)));
    }
    Ok(origin.image(local))
}

fn conversation(fields: &Fields, origin: &Origin) -> Result<Parts> {
    let listed: VecDeque<ImageRef> = listed_images(fields, origin)?.into();
    let mut shown = Shown { listed, images: Vec::new(), origin };
    let mut messages = Vec::new();
    for message in fields.objects("messages")?.unwrap_or_default() {
        let role = message.required_text("role")?.to_owned();
        messages.push(Message { role, content: content(&message, &mut shown)? });
    }
    if !shown.listed.is_empty() {
        let expected = format!("{} pictures, one for each place", shown.images.len());
        let found = shown.images.len() + shown.listed.len();
        return Err(fields.wrong(ErrorKind::Inconsistent, "images", expected, found));
    }
    let answer = match messages.pop_if(|message| message.role == "assistant") {
        None => None,
        Some(Message { content: Content::Text(text), .. }) => Some(text),
        Some(_) => {
            let (name, expected) = ("messages", "an answer of text alone");
            return Err(fields.wrong(ErrorKind::Unsupported, name, expected, "a picture"));
        }
    };
    if messages.is_empty() {
        let expected = "a message before the answer";
        return Err(fields.wrong(ErrorKind::Missing, "messages", expected, "none"));
    }
    Ok(Parts { images: shown.images, messages, answer, text: None })
}

/// The pictures met so far, and those that wait for a place.
struct Shown<'a> {
    listed: VecDeque<ImageRef>,
    images: Vec<ImageRef>,
    origin: &'a Origin<'a>,
}

fn content(message: &Fields, shown: &mut Shown) -> Result<Content> {
    let name = "content";
    match message.get(name) {
        Some(Value::String(text)) => return Ok(Content::Text(text.clone())),
        Some(Value::Array(_)) => {}
        other => {
            let kind = if other.is_some() { ErrorKind::WrongType } else { ErrorKind::Missing };
            let found = other.map_or("nothing".to_owned(), describe);
            return Err(message.wrong(kind, name, "a string or a list of parts", found));
        }
    }
    let mut parts = Vec::new();
    for fields in message.objects(name)?.unwrap_or_default() {
        parts.push(part(&fields, shown)?);
    }
    // templates of text-only models take strings alone, and parts of text mean the same
    let texts = parts.iter().map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    match texts.collect::<Option<String>>() {
        Some(text) => Ok(Content::Text(text)),
        None => Ok(Content::Parts(parts)),
    }
}

fn part(fields: &Fields, shown: &mut Shown) -> Result<Part> {
    match fields.required_text("type")? {
        "text" => Ok(Part::Text { text: fields.required_text("text")?.to_owned() }),
        "image" => {
            let named = ["image", "path", "url"].into_iter().find(|n| fields.get(n).is_some());
            let picture = match named {
                Some(name) => image(fields, name, fields.required_text(name)?, shown.origin)?,
                None => shown.listed.pop_front().ok_or_else(|| {
                    let expected = "a path here, or one more in the row's \"images\"";
                    fields.wrong(ErrorKind::Missing, "image", expected, "neither")
                })?,
            };
            shown.images.push(picture);
            Ok(Part::Image)
        }
        other => {
            let expected = "\"text\" or \"image\"";
            Err(fields.wrong(ErrorKind::Unsupported, "type", expected, quoted(other)))
        }
    }
}
