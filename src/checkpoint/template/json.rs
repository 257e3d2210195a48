//! Numbers and JSON as Python writes them.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The most spaces that a level is set in by.
const INDENT_MAX: i64 = 64;

/// A value as Python prints it, where minijinja may print another: a number with a fraction, and what
/// can hold one.
pub(super) fn printed(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map if !value.is_tuple() => {
            let mut out = String::new();
            write_repr(&mut out, value).ok().map(|()| out)
        }
        _ => fraction(value),
    }
}

fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    let kind = value.kind();
    if value.is_tuple() || !matches!(kind, ValueKind::Seq | ValueKind::Map) {
        out.push_str(&fraction(value).unwrap_or_else(|| format!("{value:?}")));
        return Ok(());
    }
    let mapping = kind == ValueKind::Map;
    out.push(if mapping { '{' } else { '[' });
    for (i, item) in value.try_iter()?.enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write_repr(out, &item)?;
        if mapping {
            out.push_str(": ");
            write_repr(out, &value.get_item(&item)?)?;
        }
    }
    out.push(if mapping { '}' } else { ']' });
    Ok(())
}

/// A number with a fraction as Python prints it; nothing if `value` is another.
fn fraction(value: &Value) -> Option<String> {
    let real = value.is_number() && !value.is_integer();
    let number = f64::try_from(value.clone()).ok().filter(|number| real && number.is_finite())?;
    // digits, and the bounds beyond which powers of ten are written, are the same in both languages
    let text = format!("{number:?}");
    Some(match text.split_once('e').map(|(digits, power)| (digits, power.parse::<i32>())) {
        Some((digits, Ok(power))) => format!("{digits}e{power:+03}"),
        _ => text,
    })
}

/// The filter `tojson` as transformers defines it: `json.dumps`, nothing escaped for HTML.
pub(super) fn to_json(
    value: Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Vec<String>>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let or_named = |given: Option<Value>, name| match given {
        Some(value) => Ok(Some(value)),
        None => kwargs.get::<Option<Value>>(name),
    };
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let indent = or_named(indent, "indent")?.filter(|indent| !indent.is_none());
    let separators = match separators {
        Some(separators) => Some(separators),
        None => kwargs.get("separators")?,
    };
    let ensure_ascii = is_true(or_named(ensure_ascii, "ensure_ascii")?);
    let sort_keys = is_true(kwargs.get("sort_keys")?);
    kwargs.assert_all_used()?;
    let between = match separators.as_deref() {
        None => if indent.is_some() { [",", ": "] } else { [", ", ": "] }.map(str::to_owned),
        Some([item, key]) => [item.clone(), key.clone()],
        Some(_) => return Err(unwritable()),
    };
    let spaces = |count: i64| " ".repeat(usize::try_from(count.min(INDENT_MAX)).unwrap_or(0));
    let line = indent.map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => i64::try_from(indent).map(spaces),
    });
    let mut out = String::new();
    Dumps { between, line: line.transpose()?, sort_keys }.write(&mut out, &value, 0)?;
    Ok(Value::from(if ensure_ascii { in_ascii(&out) } else { out }))
}

fn unwritable() -> Error {
    Error::new(ErrorKind::InvalidOperation, "not writable as JSON")
}

/// JSON holds other characters in its strings alone.
fn in_ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ..='~' => out.push(c),
            _ => {
                out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")))
            }
        }
    }
    out
}

/// How `json.dumps` writes.
struct Dumps {
    /// What stands between items, and between a key and its value.
    between: [String; 2],
    /// What a line begins with, once for each level; none keeps all on one line.
    line: Option<String>,
    sort_keys: bool,
}

impl Dumps {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Undefined => return Err(unwritable()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect();
                self.list(out, ['[', ']'], items, depth, |out, item| {
                    self.write(out, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.list(out, ['{', '}'], keys, depth, |out, key| {
                    let mut name = String::new();
                    match key.as_str() {
                        Some(text) => name.push_str(text),
                        None => self.write(&mut name, key, depth)?,
                    }
                    self.write(out, &Value::from(name), depth)?;
                    out.push_str(&self.between[1]);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            _ => match fraction(value) {
                Some(number) => out.push_str(&number),
                None => out.push_str(
                    &serde_json::to_string(value).map_err(|s| unwritable().with_source(s))?,
                ),
            },
        }
        Ok(())
    }

    fn list(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: Vec<Value>,
        depth: usize,
        write: impl Fn(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |out: &mut String, depth| {
            if let Some(indent) = &self.line {
                out.extend(["\n", &indent.repeat(depth)]);
            }
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.between[0]);
            }
            new_line(out, depth + 1);
            write(out, item)?;
        }
        if !items.is_empty() {
            new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }
}
