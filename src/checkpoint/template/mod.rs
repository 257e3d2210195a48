//! Chat templates: Jinja, in the dialect and with the names that transformers gives it.

mod clock;
mod filters;
mod json;
mod methods;
mod printed;
mod source;
mod tags;

#[cfg(test)]
mod tests;

use super::error::{Error, ErrorKind, Result};
use super::files::Files;
use super::tokenizer_config::TokenizerConfig;
use clock::strftime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind as JinjaErrorKind};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Instructions that a template may run; real ones need a few thousand for each message. Templates
/// are programs of strangers, and `range` nested in `range` would run for years.
const FUEL: u64 = 50_000_000;
const NAME: &str = "chat";

/// One turn of a conversation as templates read it: an object of `role`, `content` and whatever else
/// is said of it, in order.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Message(Value);

impl Message {
    /// A message of text alone.
    pub fn text(role: &str, text: &str) -> Message {
        Message(Value::from_pairs([("role", role), ("content", text)]))
    }

    /// A message that shows something before its text: an `image` or a `video` each of `kinds`.
    pub fn showing(role: &str, kinds: &[&str], text: &str) -> Message {
        let part = |kind: &&str| Value::from_pairs([("type", *kind)]);
        let text = Value::from_pairs([("type", "text"), ("text", text)]);
        let content: Vec<Value> = kinds.iter().map(part).chain([text]).collect();
        Message(Value::from_pairs([("role", Value::from(role)), ("content", Value::from(content))]))
    }
}

/// What a template writes out: a row of a data set as transformers reads it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Conversation {
    /// The turns; the last one need not be the assistant's.
    pub messages: Vec<Message>,
    /// The functions that the assistant may call, as JSON schemas.
    pub tools: Option<Value>,
    /// What the assistant may look up.
    pub documents: Option<Value>,
    /// Other variables of the template, such as `enable_thinking`.
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Conversation {
        Conversation { messages, ..Conversation::default() }
    }
}

/// A compiled chat template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, serde_json::Value>,
    file: String,
}

impl ChatTemplate {
    pub(super) fn load(files: &Files) -> Result<ChatTemplate> {
        let found = source::find(files)?;
        let special_tokens = TokenizerConfig::load(files)?.variables();
        ChatTemplate::parse(&found.file, &found.template, special_tokens)
    }

    /// Compiles a template; `file` is its name in errors, `special_tokens` are variables such as
    /// `bos_token`, a string, and `additional_special_tokens`, a list of them.
    ///
    /// # Errors
    /// `Malformed` if it is no Jinja, `Unsupported` if minijinja could not take it without a panic.
    pub fn parse(
        file: &str,
        template: &str,
        special_tokens: BTreeMap<String, serde_json::Value>,
    ) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|source| malformed(file, source))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(methods::method);
        environment.set_formatter(printed::write);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format));
        environment.add_filter("tojson", json::to_json);
        filters::add(&mut environment);
        // Jinja has one line end, whatever the file has
        let template = template.replace("\r\n", "\n").replace('\r', "\n");
        let template = tags::adapted(&template).map_err(|refusal| {
            let file = format!("{file}:{}", refusal.line);
            Error::new(ErrorKind::Unsupported, file, refusal.expected, refusal.found)
        })?;
        environment.add_template_owned(NAME, template).map_err(|source| malformed(file, source))?;
        Ok(ChatTemplate { environment, special_tokens, file: file.to_owned() })
    }

    /// The prompt for `conversation`, ending where the assistant speaks if `add_generation_prompt`.
    ///
    /// `strftime_now` yields one fixed day (26 July 2024), because the same checkpoint and samples
    /// must calibrate to the same numbers whenever they run.
    ///
    /// # Errors
    /// `Unsupported` if the template raises, with its message as the source.
    pub fn render(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            context.insert(name, Value::from(Serde(token)));
        }
        let Conversation { messages, tools, documents, chat_template_kwargs } = conversation;
        for (name, value) in chat_template_kwargs.iter().flatten() {
            context.insert(name, value.clone());
        }
        let messages: Vec<Value> = messages.iter().map(|message| message.0.clone()).collect();
        context.insert("messages", Value::from(messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        // transformers passes these always; templates test them against none
        context.insert("tools", tools.clone().unwrap_or(Value::from(())));
        context.insert("documents", documents.clone().unwrap_or(Value::from(())));
        if let Some(number) = context.values().find_map(long_integer) {
            let expected = "numbers below 2^64 in messages, tools, documents and variables";
            let found = printed::number(&number);
            return Err(Error::new(ErrorKind::Unsupported, &self.file, expected, found));
        }
        let rendered =
            self.environment.get_template(NAME).and_then(|template| template.render(context));
        rendered.map_err(|source| {
            let unknown = matches!(
                source.kind(),
                JinjaErrorKind::UnknownMethod
                    | JinjaErrorKind::UnknownFilter
                    | JinjaErrorKind::UnknownTest
                    | JinjaErrorKind::UnknownFunction
            );
            if unknown {
                let file = format!("{}:{}", self.file, source.line().unwrap_or(1));
                let expected = "functions, methods, filters and tests that are known here";
                let found = source.detail().unwrap_or("others");
                return Error::new(ErrorKind::Unsupported, file, expected, found);
            }
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
        self.special_tokens.get("eos_token").and_then(serde_json::Value::as_str)
    }

    /// The file it came from, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// A number that JSON may have held as an integer of more digits, which Python would keep.
fn long_integer(value: &Value) -> Option<Value> {
    match value.kind() {
        ValueKind::Number if value.is_integer() => None,
        ValueKind::Number => {
            let number = f64::try_from(value.clone()).ok();
            let of_64_bits = -(2.0_f64.powi(63))..2.0_f64.powi(64);
            number.filter(|number| !of_64_bits.contains(number)).map(|_| value.clone())
        }
        ValueKind::Map => {
            let mut keys = value.try_iter().ok()?;
            keys.find_map(|key| long_integer(&value.get_item(&key).ok()?))
        }
        ValueKind::Seq => value.try_iter().ok()?.find_map(|item| long_integer(&item)),
        _ => None,
    }
}

fn malformed(file: &str, source: minijinja::Error) -> Error {
    Error::new(ErrorKind::Malformed, file, "a Jinja template", "a mistake").caused_by(source)
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(JinjaErrorKind::InvalidOperation, message))
}
