//! Values as Python prints them.

use super::filters::escaped;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Error, ErrorKind, Output, State};

/// How deep values lie in one another at most: minijinja goes into them on the stack. Rows of a data set
/// reach 128.
pub(super) const NESTED: usize = 200;

/// The most spaces that a line is set in by.
const INDENT_MAX: i64 = 64;
/// The fuel for a visit of a value: it takes as long as a few instructions.
const VISIT: u64 = 4;

/// Writes what stands in braces.
pub(super) fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let escapes = !matches!(state.auto_escape(), AutoEscape::None);
    let value = if escapes { escaped(state, value.clone())? } else { value.clone() };
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&text(state, &value)?)?,
    }
    Ok(())
}

/// Python's `str`.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::String => out.push_str(value.as_str().unwrap_or_default()),
        _ => write_repr(&mut out, state, value, 0)?,
    }
    Ok(out)
}

fn write_repr(out: &mut String, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    enter(state, depth)?;
    let kind = value.kind();
    match kind {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String if value.is_safe() => {
            out.push_str("Markup(");
            write_quoted(out, value.as_str().unwrap_or_default());
            out.push(')');
        }
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let [open, close] = match kind {
                ValueKind::Map => ["{", "}"],
                _ if value.is_tuple() && value.len() == Some(1) => ["(", ",)"],
                _ if value.is_tuple() => ["(", ")"],
                _ => ["[", "]"],
            };
            out.push_str(open);
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, state, &item, depth + 1)?;
                if kind == ValueKind::Map {
                    out.push_str(": ");
                    write_repr(out, state, &value.get_item(&item)?, depth + 1)?;
                }
            }
            out.push_str(close);
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Pays for one more value, `depth` values deep.
pub(super) fn enter(state: &State, depth: usize) -> Result<(), Error> {
    if depth > NESTED {
        let message = format!("values nested more than {NESTED} deep");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    state.consume_fuel(VISIT)
}

/// What a line is set in by.
pub(super) fn spaces(count: &Value) -> Result<String, Error> {
    match i64::try_from(count.clone())? {
        count @ ..=INDENT_MAX => Ok(" ".repeat(usize::try_from(count).unwrap_or(0))),
        count => {
            let message = format!("lines set in by {count}, more than {INDENT_MAX}");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// A number as Python prints it.
pub(super) fn number(value: &Value) -> String {
    let real = !value.is_integer();
    let Some(number) = f64::try_from(value.clone()).ok().filter(|_| real) else {
        return value.to_string();
    };
    // digits, and the bounds beyond which powers of ten are written, are the same in both languages
    let text = format!("{number:?}");
    match text.split_once('e').map(|(digits, power)| (digits, power.parse::<i32>())) {
        Some((digits, Ok(power))) => format!("{digits}e{power:+03}"),
        _ => text.to_lowercase(),
    }
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&match u32::from(c) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
}

/// Behind another character, which it may combine with, Rust escapes what is not printable.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"') || String::from_iter(['x', c]).escape_debug().count() == 2
}
