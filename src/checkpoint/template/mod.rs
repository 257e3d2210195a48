//! Chat templates: Jinja, in the dialect and with the names that transformers gives it.

mod clock;
mod source;

#[cfg(test)]
mod tests;

use super::error::{Error, ErrorKind, Result};
use super::files::Files;
use clock::strftime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind as JinjaErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::collections::BTreeMap;
use std::io;

/// Instructions that a template may run; real ones need a few thousand for each message. Templates
/// are programs of strangers, and `range` nested in `range` would run for years.
const FUEL: u64 = 50_000_000;
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What is said and shown.
    pub content: Content,
}

/// What a message says: text alone, or parts in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Text alone, which text-only templates require.
    Text(String),
    /// Text mixed with pictures.
    Parts(Vec<Part>),
}

/// One part of a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// A picture; which one is told by its place among the pictures.
    Image,
    /// A video; which one is told by its place among the videos.
    Video,
    /// Text.
    Text {
        /// The text itself.
        text: String,
    },
}

impl Message {
    /// A message of text alone.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()) }
    }
}

/// A compiled chat template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    file: String,
}

impl ChatTemplate {
    pub(super) fn load(files: &Files) -> Result<ChatTemplate> {
        let found = source::find(files)?;
        let special_tokens = source::special_tokens(files)?;
        ChatTemplate::parse(&found.file, &found.template, special_tokens)
    }

    /// Compiles a template; `file` is its name in errors, `special_tokens` are variables such as
    /// `bos_token`.
    ///
    /// # Errors
    /// `Malformed` if it is no Jinja.
    pub fn parse(
        file: &str,
        template: &str,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|source| malformed(file, source))?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format));
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_marks(template))
            .map_err(|source| malformed(file, source))?;
        Ok(ChatTemplate { environment, special_tokens, file: file.to_owned() })
    }

    /// The prompt for `messages`, ending where the assistant speaks if `add_generation_prompt`.
    ///
    /// `strftime_now` yields one fixed day (26 July 2024), because the same checkpoint and samples
    /// must calibrate to the same numbers whenever they run.
    ///
    /// # Errors
    /// `Unsupported` if the template raises, with its message as the source.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            context.insert(name, Value::from(token));
        }
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        // transformers passes these always; templates test them against none
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        let rendered =
            self.environment.get_template(NAME).and_then(|template| template.render(context));
        rendered.map_err(|source| {
            let (expected, found) = ("messages that the template accepts", "others");
            Error::new(ErrorKind::Unsupported, &self.file, expected, found).caused_by(source)
        })
    }

    /// The token that ends the assistant's turn: the one that the template writes, else the
    /// `eos_token` of `tokenizer_config.json`. They differ where a base model was given a template.
    pub fn turn_end(&self) -> Option<&str> {
        const CHATML: &str = "<|im_end|>";
        let template = self.environment.get_template(NAME).ok();
        if template.is_some_and(|template| template.source().contains(CHATML)) {
            return Some(CHATML);
        }
        self.special_tokens.get("eos_token").map(String::as_str)
    }

    /// The file it came from, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }
}

fn malformed(file: &str, source: minijinja::Error) -> Error {
    Error::new(ErrorKind::Malformed, file, "a Jinja template", "a mistake").caused_by(source)
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(JinjaErrorKind::InvalidOperation, message))
}

/// `generation` blocks mark the assistant's tokens for training and print as their content.
fn without_generation_marks(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let inside = tag.find("%}").map_or(tag, |end| &tag[..end]);
        let word = inside.trim_matches(['-', '+']).trim();
        let plain = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        rest = tag;
        if let Some(plain) = plain {
            out.push_str(&inside.replacen(word, plain, 1));
            rest = &tag[inside.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps`: a space after `:` and `,`, nothing escaped for HTML.
fn to_json(
    value: Value,
    indent: Option<usize>,
    kwargs: Kwargs,
) -> std::result::Result<Value, minijinja::Error> {
    const INDENT_MAX: usize = 64;
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<usize>>("indent")?,
    };
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(indent) => {
            let indent = vec![b' '; indent.min(INDENT_MAX)];
            let formatter = PrettyFormatter::with_indent(&indent);
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
    };
    let bad = || minijinja::Error::new(JinjaErrorKind::InvalidOperation, "not writable as JSON");
    written.map_err(|source| bad().with_source(source))?;
    // safe, lest a template named .html someday escapes it again
    String::from_utf8(out).map(Value::from_safe_string).map_err(|source| bad().with_source(source))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}
