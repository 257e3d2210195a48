//! JSON as Python writes it.

use super::methods::argument;
use super::printed::{enter, number, spaces};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State};

/// The filter `tojson` as transformers defines it: `json.dumps`, nothing escaped for HTML.
pub(super) fn to_json(
    state: &State,
    value: Value,
    arguments: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Vec<String>>, Kwargs);
    let arguments: Vec<Value> = arguments.iter().map(|argument| Value::clone(argument)).collect();
    let (ensure_ascii, indent, separators, kwargs): Arguments = from_args(&arguments)?;
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let indent = argument(indent, &kwargs, "indent")?.filter(|indent| !indent.is_none());
    let separators = argument(separators, &kwargs, "separators")?;
    let ensure_ascii = is_true(argument(ensure_ascii, &kwargs, "ensure_ascii")?);
    let sort_keys = is_true(kwargs.get("sort_keys")?);
    kwargs.assert_all_used()?;
    let between = match separators.as_deref() {
        None => if indent.is_some() { [",", ": "] } else { [", ", ": "] }.map(str::to_owned),
        Some([item, key]) => [item.clone(), key.clone()],
        Some(_) => return Err(unwritable()),
    };
    let line = indent.map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => spaces(&indent),
    });
    let mut out = String::new();
    Dumps { state, between, line: line.transpose()?, sort_keys }.write(&mut out, &value, 0)?;
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
struct Dumps<'a> {
    state: &'a State<'a, 'a>,
    /// What stands between items, and between a key and its value.
    between: [String; 2],
    /// What a line begins with, once for each level; none keeps all on one line.
    line: Option<String>,
    sort_keys: bool,
}

impl Dumps<'_> {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        enter(self.state, depth)?;
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
                        None if key.try_iter().is_ok_and(|_| !key.is_none()) => {
                            return Err(unwritable());
                        }
                        None => self.write(&mut name, key, depth)?,
                    }
                    self.write(out, &Value::from(name), depth)?;
                    out.push_str(&self.between[1]);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            ValueKind::Number => out.push_str(&match &number(value)[..] {
                "nan" => "NaN".to_owned(),
                infinite if infinite.ends_with("inf") => infinite.replace("inf", "Infinity"),
                number => number.to_owned(),
            }),
            _ => out
                .push_str(&serde_json::to_string(value).map_err(|s| unwritable().with_source(s))?),
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
