//! The three shapes of a row.

use super::rows::{ImageRef, Origin, Row, VideoRef};
use super::text::COLUMN;
use crate::checkpoint::{
    Conversation, Error, ErrorKind, Fields, Message, Result, describe, quoted,
};
use serde_json::Value;
use std::collections::VecDeque;

/// The row in `line`, which is JSON.
pub(super) fn parse_row(place: String, line: &str, origin: &Origin) -> Result<Row> {
    let json = serde_json::from_str(line).map_err(|source| {
        let found = format!("a mistake in column {}", source.column());
        Error::new(ErrorKind::Malformed, &place, "a JSON object", found).caused_by(source)
    })?;
    let fields = Fields::root(&place, &json)?;
    let row = if fields.get("messages").is_some() {
        without(&fields, "messages", &["question", "answer", "video", "videos"])?;
        conversation(&fields, line, origin)?
    } else if fields.get("question").is_some() {
        without(&fields, "question", &["videos"])?;
        question(&fields, origin)?
    } else if let Some(text) = fields.text(origin.column)? {
        // who names a column has rows that were made for something else
        if origin.column == COLUMN {
            without(&fields, COLUMN, &["answer", "image", "images", "video", "videos"])?;
        }
        Parts { text: Some(text.to_owned()), ..Parts::default() }
    } else if origin.column != COLUMN {
        let expected = "it, \"messages\" or \"question\"";
        return Err(fields.wrong(ErrorKind::Missing, origin.column, expected, "none of them"));
    } else {
        let expected = format!("it, \"messages\" or \"text\"{}", origin.hint);
        return Err(fields.wrong(ErrorKind::Missing, "question", expected, "none of them"));
    };
    let Parts { images, videos, conversation, answer, text } = row;
    Ok(Row { images, videos, conversation, answer, text, place })
}

/// Refuses fields that nobody would look at beside `form`.
fn without(fields: &Fields, form: &str, names: &[&str]) -> Result<()> {
    let says = |name: &&&str| fields.get(name).is_some_and(|value| value.as_str() != Some(""));
    let Some(name) = names.iter().find(says) else { return Ok(()) };
    let expected = format!("none beside {}, which says all", quoted(form));
    Err(fields.wrong(ErrorKind::Inconsistent, name, expected, "one"))
}

#[derive(Default)]
struct Parts {
    images: Vec<ImageRef>,
    videos: Vec<VideoRef>,
    conversation: Conversation,
    answer: Option<String>,
    text: Option<String>,
}

fn question(fields: &Fields, origin: &Origin) -> Result<Parts> {
    let question = fields.required_text("question")?;
    let images = listed_images(fields, origin)?;
    let videos = match fields.get("video") {
        Some(_) => vec![video(fields, "video", origin)?],
        None => Vec::new(),
    };
    let kinds = [vec!["image"; images.len()], vec!["video"; videos.len()]].concat();
    let message = match kinds.is_empty() {
        true => Message::text("user", question),
        false => Message::showing("user", &kinds, question),
    };
    let conversation = vec![message].into();
    let answer = fields.text("answer")?.map(str::to_owned);
    Ok(Parts { images, videos, conversation, answer, text: None })
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

/// The frames under `name`, and when they were seen.
fn video(fields: &Fields, name: &str, origin: &Origin) -> Result<VideoRef> {
    let frames = match fields.get(name) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        found => {
            let found = found.map_or("nothing".to_owned(), describe);
            let expected = "the list of its frames, each the path of a picture";
            return Err(fields.wrong(ErrorKind::WrongType, name, expected, found));
        }
    };
    let path = |(i, frame): (usize, &Value)| {
        let name = format!("{name}[{i}]");
        match frame {
            Value::String(path) => image(fields, &name, path, origin),
            other => {
                let expected = "the path of a picture";
                Err(fields.wrong(ErrorKind::WrongType, &name, expected, describe(other)))
            }
        }
    };
    let frames: Vec<ImageRef> = frames.iter().enumerate().map(path).collect::<Result<_>>()?;
    let timestamps = timestamps(fields, frames.len())?;
    Ok(VideoRef { frames, timestamps })
}

/// Seconds of each of `frames` frames: as listed, or one after another at `fps`.
fn timestamps(fields: &Fields, frames: usize) -> Result<Vec<f64>> {
    let name = "timestamps";
    let wrong = |kind, expected: String, found: String| fields.wrong(kind, name, expected, found);
    let Some(listed) = fields.get(name) else {
        let Some(fps) = fields.positive("fps")? else {
            // the prompt says when each frame was seen, so a guess would be another prompt
            let expected = "frames a second, or \"timestamps\" in seconds, one a frame";
            return Err(fields.wrong(ErrorKind::Missing, "fps", expected, "neither"));
        };
        return Ok((0..frames).map(|frame| frame as f64 / fps).collect());
    };
    without(fields, name, &["fps"])?;
    let expected = || format!("{frames} numbers, the seconds of each frame");
    let seconds: Option<Vec<f64>> =
        listed.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    let Some(seconds) = seconds else {
        return Err(wrong(ErrorKind::WrongType, expected(), describe(listed)));
    };
    if seconds.len() != frames {
        return Err(wrong(ErrorKind::Inconsistent, expected(), seconds.len().to_string()));
    }
    let rising = seconds.windows(2).all(|pair| pair[0] <= pair[1]);
    if !rising || seconds.first().is_some_and(|first| *first < 0.0) {
        let expected = "seconds from 0 that do not fall".to_owned();
        return Err(wrong(ErrorKind::OutOfRange, expected, format!("{seconds:?}")));
    }
    Ok(seconds)
}

fn conversation(fields: &Fields, line: &str, origin: &Origin) -> Result<Parts> {
    let listed: VecDeque<ImageRef> = listed_images(fields, origin)?.into();
    let mut shown = Shown { listed, images: Vec::new(), videos: Vec::new(), origin };
    let (mut answer, mut last) = (None, None);
    for message in fields.objects("messages")?.unwrap_or_default() {
        let is_answer = message.required_text("role")? == "assistant";
        answer = Some(content(&message, &mut shown)?).filter(|_| is_answer);
        last = Some(message);
    }
    if let (Some(_), Some(message)) = (&answer, last) {
        // judged is what stands in the content, as the model writes it
        without(&message, "content", &["reasoning_content", "reasoning", "thinking"])?;
    }
    if !shown.listed.is_empty() {
        let expected = format!("{} pictures, one for each place", shown.images.len());
        let found = shown.images.len() + shown.listed.len();
        let name = if fields.get("images").is_some() { "images" } else { "image" };
        return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, found));
    }
    fields.objects("tools")?;
    fields.objects("documents")?;
    if let Some(variables) = fields.object("chat_template_kwargs")? {
        let own = ["messages", "tools", "documents", "add_generation_prompt"];
        without(&variables, "messages", &own)?;
    }
    // As they are written: templates see all that is said of them, and its order.
    let mut conversation: Conversation = serde_json::from_str(line).map_err(|source| {
        // they were read before, so only this is left
        let expected = "it and what belongs to it once";
        let error = fields.wrong(ErrorKind::Duplicate, "messages", expected, "a field twice");
        error.caused_by(source)
    })?;
    if let Some(answer) = &answer {
        conversation.messages.pop();
        if answer.is_none() {
            let (name, expected) = ("messages", "an answer of text alone");
            return Err(fields.wrong(
                ErrorKind::Unsupported,
                name,
                expected,
                "a picture or a call",
            ));
        }
    }
    if conversation.messages.is_empty() {
        let expected = "a message before the answer";
        return Err(fields.wrong(ErrorKind::Missing, "messages", expected, "none"));
    }
    let Shown { images, videos, .. } = shown;
    Ok(Parts { images, videos, conversation, answer: answer.flatten(), text: None })
}

/// The pictures and videos met so far, and the pictures that wait for a place.
struct Shown<'a> {
    listed: VecDeque<ImageRef>,
    images: Vec<ImageRef>,
    videos: Vec<VideoRef>,
    origin: &'a Origin<'a>,
}

/// Collects what a message shows; its text, if it is nothing but text.
fn content(message: &Fields, shown: &mut Shown) -> Result<Option<String>> {
    let name = "content";
    let calls = message.get("tool_calls").is_some();
    match message.get(name) {
        Some(Value::String(text)) => return Ok(Some(text.clone()).filter(|_| !calls)),
        Some(Value::Array(_)) => {}
        None if calls => return Ok(None),
        other => {
            let kind = if other.is_some() { ErrorKind::WrongType } else { ErrorKind::Missing };
            let found = other.map_or("nothing".to_owned(), describe);
            return Err(message.wrong(kind, name, "a string or a list of parts", found));
        }
    }
    let mut text = Some(String::new()).filter(|_| !calls);
    for fields in message.objects(name)?.unwrap_or_default() {
        text = text.zip(part(&fields, shown)?).map(|(text, more)| text + more);
    }
    Ok(text)
}

/// The text of a part; none of one that shows something.
fn part<'a>(fields: &Fields<'a>, shown: &mut Shown) -> Result<Option<&'a str>> {
    match fields.required_text("type")? {
        "text" => fields.required_text("text").map(Some),
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
            Ok(None)
        }
        "video" => {
            let named = ["video", "path", "url"].into_iter().find(|n| fields.get(n).is_some());
            shown.videos.push(video(fields, named.unwrap_or("video"), shown.origin)?);
            Ok(None)
        }
        other => {
            let expected = "\"text\", \"image\" or \"video\"";
            Err(fields.wrong(ErrorKind::Unsupported, "type", expected, quoted(other)))
        }
    }
}
