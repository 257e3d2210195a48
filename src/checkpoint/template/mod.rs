//! Chat templates: Jinja, in the dialect and with the names that transformers gives it.

mod clock;
mod json;
mod source;

#[cfg(test)]
mod tests;

use super::error::{Error, ErrorKind, Result, quoted};
use super::files::Files;
use super::tokenizer_config::TokenizerConfig;
use clock::strftime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind, from_args};
use minijinja::{Environment, ErrorKind as JinjaErrorKind, State, escape_formatter, filters};
use minijinja_contrib::pycompat;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Instructions that a template may run; real ones need a few thousand for each message. Templates
/// are programs of strangers, and `range` nested in `range` would run for years.
const FUEL: u64 = 50_000_000;
/// Operators in one tag, and `elif`s of the conditions around one place: minijinja goes into each of them
/// on the stack. Real templates have tens.
const DEPTH: usize = 500;
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
        environment.set_unknown_method_callback(method);
        environment.set_formatter(|out, state, value| match json::printed(value) {
            Some(text) => Ok(out.write_str(&text)?),
            None => escape_formatter(out, state, value),
        });
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format));
        environment.add_test("sequence", is_sequence);
        environment.add_test("iterable", is_iterable);
        environment.add_filter("tojson", json::to_json);
        environment.add_filter("string", |state: &State, value: Value| {
            match json::printed(&value) {
                Some(text) => Ok(Value::from(text)),
                None => filters::string(state, &value),
            }
        });
        environment.add_filter("default", default);
        environment.add_filter("d", default);
        environment.add_filter("e", escaped);
        environment.add_filter("escape", escaped);
        // Jinja has one line end, whatever the file has
        let template = template.replace("\r\n", "\n").replace('\r', "\n");
        let template = without_generation_marks(&template).map_err(|(expected, found)| {
            Error::new(ErrorKind::Unsupported, file, expected, found)
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

fn malformed(file: &str, source: minijinja::Error) -> Error {
    Error::new(ErrorKind::Malformed, file, "a Jinja template", "a mistake").caused_by(source)
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(JinjaErrorKind::InvalidOperation, message))
}

/// The filter `default`, whose arguments have names too.
fn default(
    value: Value,
    other: Option<Value>,
    boolean: Option<Value>,
    named: Kwargs,
) -> std::result::Result<Value, minijinja::Error> {
    let other = other.or(named.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(named.get("boolean")?).is_some_and(|boolean| boolean.is_true());
    named.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value })
}

/// The methods of Python's strings, lists and dicts. Where only values of other kinds have it, the
/// conversation is to blame and not the template.
fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> std::result::Result<Value, minijinja::Error> {
    let mut called = |value: &Value| match (name, value.as_str()) {
        ("title", Some(text)) => from_args(args).map(|()| Value::from(title(text))),
        ("removeprefix", Some(text)) => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(affix).unwrap_or(text)))
        }
        ("removesuffix", Some(text)) => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(affix).unwrap_or(text)))
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    };
    let unknown = |error: &minijinja::Error| error.kind() == JinjaErrorKind::UnknownMethod;
    let result = called(value);
    let others = [Value::from(""), Value::from_iter([(); 0]), Value::from_pairs([("", ""); 0])];
    if result.as_ref().is_err_and(unknown)
        && !others.iter().all(|other| called(other).is_err_and(|error| unknown(&error)))
    {
        let message = format!("{} has no method named {name}", value.kind());
        return Err(minijinja::Error::new(JinjaErrorKind::InvalidOperation, message));
    }
    result
}

/// Capitals where letters begin, an apostrophe before them or not, as Python's `title` has them.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// What Python can index and tell the length of: texts and mappings too, and what is not there.
fn is_sequence(value: &Value) -> bool {
    value.kind() == ValueKind::Undefined || (is_iterable(value) && value.len().is_some())
}

/// What Python can go through: not `none`, unlike what minijinja thinks.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// The filter `e`, with the references that Python's markupsafe writes.
fn escaped(value: Value) -> Value {
    if value.is_safe() {
        return value;
    }
    let mut out = value.to_string().replace('&', "&amp;");
    for (c, reference) in [('<', "&lt;"), ('>', "&gt;"), ('\'', "&#39;"), ('"', "&#34;")] {
        out = out.replace(c, reference);
    }
    Value::from_safe_string(out)
}

/// `generation` blocks mark the assistant's tokens for training and print as their content; what
/// they set stays inside. What is expected instead of a template that minijinja cannot take: a loop is
/// left or gone on with from inside of a scope, which it would forget to close, a panic; or it would
/// overflow the stack.
fn without_generation_marks(template: &str) -> std::result::Result<String, (String, String)> {
    let mut out = String::with_capacity(template.len());
    let (mut open, mut chains) = (Vec::new(), Vec::new());
    let mut rest = template;
    let opens = |two: &[u8]| matches!(two, b"{%" | b"{{" | b"{#");
    while let Some(at) = rest.as_bytes().windows(2).position(opens) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let (inside, after) = tag.split_at(tag_len(tag));
        rest = after;
        let block = inside.strip_prefix("{%").and_then(|inside| inside.strip_suffix("%}"));
        let word = block.unwrap_or_default().trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&inside.replacen(word, "with", 1)),
            "endgeneration" => out.push_str(&inside.replacen(word, "endwith", 1)),
            // a line of a string may go on in the next
            _ => out.push_str(&inside.replace("\\\n", "")),
        }
        let (name, arguments) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()));
        let count = operators(inside);
        if count > DEPTH {
            let expected = format!("at most {DEPTH} operators in an expression");
            return Err((expected, count.to_string()));
        }
        match name {
            "if" => chains.push(0),
            "elif" => {
                chains.last_mut().into_iter().for_each(|chain| *chain += 1);
                if chains.iter().sum::<usize>() > DEPTH {
                    let expected = "elif in a condition and those around it";
                    return Err((format!("at most {DEPTH} {expected}"), "more".into()));
                }
            }
            "endif" => drop(chains.pop()),
            "for" | "with" | "generation" | "filter" | "autoescape" => open.push(name),
            // what is set to a value has no end
            "set" if !arguments.split('|').next().unwrap_or_default().contains('=') => {
                open.push(name)
            }
            "endfor" | "endwith" | "endgeneration" | "endfilter" | "endautoescape" | "endset" => {
                open.pop();
            }
            "break" | "continue" if open.last().is_some_and(|block| *block != "for") => {
                let around = "with, set, filter, autoescape, generation";
                return Err((format!("no break or continue inside of {around}"), quoted(name)));
            }
            _ => {}
        }
        if word == "raw" {
            let (raw, after) = rest.split_at(rest.find("endraw").unwrap_or(rest.len()));
            out.push_str(raw);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// How many operators an expression or a statement has at most, filters and whatever else follows a value
/// included.
fn operators(tag: &str) -> usize {
    if tag.starts_with("{#") {
        return 0;
    }
    let text: Vec<char> = unquoted(tag).map(|(_, c)| c).collect();
    let words = text.split(|c| !is_word(*c)).map(|word| word.iter().collect::<String>());
    let words = words.filter(|word| matches!(&word[..], "not" | "and" | "or" | "in" | "is" | "if"));
    let is_digit = |i: usize| text.get(i).is_some_and(char::is_ascii_digit);
    let behind_value = |i: usize| {
        let before = text[..i].iter().rev().find(|c| !c.is_whitespace());
        before.is_some_and(|&c| is_word(c) || ")]}\"'".contains(c))
    };
    // lists and numbers are values and none of these
    let signs = text.iter().enumerate().filter(|&(i, c)| match c {
        '[' | '(' => behind_value(i),
        '-' => behind_value(i) || !is_digit(i + 1),
        '.' => !is_digit(i.saturating_sub(1)) || !is_digit(i + 1),
        c => "+*/%~|".contains(*c),
    });
    words.count() + signs.count()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the tag, of the expression or of the comment that `text` begins with: up to what
/// closes it outside of strings.
fn tag_len(text: &str) -> usize {
    let close = match text.as_bytes().get(1) {
        Some(b'#') => return text.find("#}").map_or(text.len(), |end| end + 2),
        Some(b'%') => "%}",
        _ => "}}",
    };
    let end = unquoted(text).find(|(at, _)| text[*at..].starts_with(close));
    end.map_or(text.len(), |(at, _)| at + close.len())
}

/// Of the tag that `text` begins with, and whatever follows, what lies outside of strings.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut escaped) = (None, false);
    text.char_indices().skip(2).filter(move |&(_, c)| {
        let outside = quote.is_none();
        match quote {
            _ if std::mem::take(&mut escaped) => {}
            None => quote = Some(c).filter(|c| matches!(c, '"' | '\'')),
            Some(_) if c == '\\' => escaped = true,
            Some(open) => quote = Some(open).filter(|_| c != open),
        }
        outside
    })
}
