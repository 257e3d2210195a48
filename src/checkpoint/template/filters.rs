//! Filters and tests that are other in Python than in minijinja, and those that `tags` adds.

use super::methods::{argument, lines, strip};
use super::printed::{enter, spaces, text};
use minijinja::value::{Kwargs, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// Of minijinja alone: a template that names one of them is wrong.
const UNKNOWN: [&str; 7] = ["attr", "bool", "chain", "lines", "pprint", "split", "zip"];

pub(super) fn add(environment: &mut Environment) {
    UNKNOWN.into_iter().for_each(|name| environment.remove_filter(name));
    environment.remove_global("debug");
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_filter("string", |state: &State, value: Value| match value.is_safe() {
        true => Ok(value),
        false => joinable(state, value),
    });
    for (name, filter) in [("default", default as fn(_, _, _, _) -> _), ("d", default)] {
        environment.add_filter(name, filter);
    }
    environment.add_filter("e", |state: &State, value: Value| escaped(state, value));
    environment.add_filter("escape", |state: &State, value: Value| escaped(state, value));
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("join", join);
    environment.add_filter("lower", |state: &State, value: Value| {
        text(state, &value).map(|text| like(&value, text.to_lowercase()))
    });
    environment.add_filter("upper", |state: &State, value: Value| {
        text(state, &value).map(|text| like(&value, text.to_uppercase()))
    });
    environment.add_filter("list", |state: &State, value: Value| {
        each(state, value)?.try_iter().map(Value::from_iter)
    });
    environment.add_filter("trim", |state: &State, value: Value, chars: Option<Value>| {
        strip(&text(state, &value)?, chars.as_ref(), [true; 2]).map(|trimmed| like(&value, trimmed))
    });
    environment.add_filter("__each", each);
    environment.add_filter("__slice", slice);
    environment.add_filter("__text", joinable);
    environment.add_filter("__added", added);
    environment.add_filter("__ordered", ordered);
    environment.add_filter("__kept", |state: &State, value: Value| kept(state, value, false));
    environment.add_filter("__kept_inside", |state: &State, value: Value| kept(state, value, true));
}

/// What a template does that is neither taken nor any message's fault.
pub(super) fn refused(what: &str) -> Error {
    Error::new(ErrorKind::UnknownFunction, what.to_owned())
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

/// Text as safe as `value` is.
fn like(value: &Value, text: String) -> Value {
    if value.is_safe() { Value::from_safe_string(text) } else { Value::from(text) }
}

/// What a loop goes through, its length known: nothing of what is not there, but an error of `none`.
fn each(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Err(wrong("none has no items")),
        ValueKind::Seq | ValueKind::Map => Ok(value),
        ValueKind::String => {
            Ok(value.as_str().unwrap_or_default().chars().map(Value::from).collect())
        }
        _ => {
            let items = value.try_iter()?.map(|item| state.consume_fuel(1).map(|()| item));
            items.collect::<Result<Vec<Value>, Error>>().map(Value::from)
        }
    }
}

/// Python's slices, of texts and lists.
fn slice(
    state: &State,
    value: Value,
    start: Option<i64>,
    stop: Option<i64>,
    step: Option<i64>,
) -> Result<Value, Error> {
    let items: Vec<Value> = match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => {
            each(state, value.clone())?.try_iter()?.collect()
        }
        _ => return Err(wrong("a slice of what is no text and no list")),
    };
    state.consume_fuel(u64::try_from(items.len() / 64).unwrap_or(u64::MAX))?;
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(wrong("a slice whose step is 0"));
    }
    let (low, high) = if step < 0 { (-1, count - 1) } else { (0, count) };
    let (from, to) = if step < 0 { (high, low) } else { (low, high) };
    let place = |at: i64| if at < 0 { (at + count).max(low) } else { at.min(high) };
    let (mut at, stop) = (start.map_or(from, place), stop.map_or(to, place));
    let mut part = Vec::new();
    while if step < 0 { at > stop } else { at < stop } {
        let item = usize::try_from(at).ok().and_then(|at| items.get(at));
        part.extend(item.cloned());
        at = at.saturating_add(step);
    }
    Ok(match value.kind() {
        ValueKind::String => like(&value, part.iter().filter_map(Value::as_str).collect()),
        _ if value.is_tuple() => Value::from(Tuple::from(part)),
        _ => Value::from(part),
    })
}

/// An operand of `~`.
fn joinable(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String if !value.is_safe() => Ok(value),
        _ => text(state, &value).map(Value::from),
    }
}

/// An operand of `+`.
fn added(value: Value) -> Result<Value, Error> {
    match value.is_safe() {
        true => Err(refused("escaped or safe text that is added to")),
        false => Ok(value),
    }
}

/// An operand of `<`, `<=`, `>` and `>=`.
fn ordered(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => Err(wrong("none is neither less nor greater")),
        _ => Ok(value),
    }
}

/// What gets a name, or a name `inside` of a namespace: so deep that no stack overflows.
fn kept(state: &State, value: Value, inside: bool) -> Result<Value, Error> {
    fn check(state: &State, value: &Value, depth: usize, inside: bool) -> Result<(), Error> {
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            return state.consume_fuel(1);
        }
        enter(state, depth)?;
        if inside && value.as_object().is_some_and(|it| it.type_name().ends_with("Namespace")) {
            return Err(refused("a namespace that is set in a namespace"));
        }
        for item in value.try_iter()? {
            check(state, &item, depth + 1, inside)?;
            if value.kind() == ValueKind::Map {
                check(state, &value.get_item(&item)?, depth + 1, inside)?;
            }
        }
        Ok(())
    }
    check(state, &value, 0, inside).map(|()| value)
}

fn join(
    state: &mut State,
    value: Value,
    between: Option<Value>,
    attribute: Option<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let between = argument(between, &named, "d")?.unwrap_or_else(|| Value::from(""));
    let attribute = argument(attribute, &named, "attribute")?;
    named.assert_all_used()?;
    let items = match attribute {
        None => value,
        Some(path) => {
            let named = Kwargs::from_iter([("attribute", path)]);
            state.apply_filter("map", &[value, Value::from(named)])?
        }
    };
    let between = text(state, &between)?;
    let mut out = String::new();
    for (i, item) in each(state, items)?.try_iter()?.enumerate() {
        state.consume_fuel(1 + u64::try_from(between.len() / 64).unwrap_or(u64::MAX))?;
        out.push_str(if i > 0 { &between } else { "" });
        out.push_str(&text(state, &item)?);
    }
    Ok(out)
}

/// What may be a number, as minijinja reads it.
fn numeral(value: &Value) -> Result<Value, Error> {
    match value.as_str().map(|text| strip(text, None, [true; 2])).transpose()? {
        None if value.is_undefined() => Err(wrong("a number that is undefined")),
        None => Ok(value.clone()),
        Some(text) if text.contains('_') => Err(refused("a number with an underscore")),
        Some(text) => Ok(Value::from(text)),
    }
}

fn indent(
    state: &State,
    value: Value,
    width: Option<Value>,
    first: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let width = argument(width, &named, "width")?.unwrap_or_else(|| Value::from(4));
    let first = argument(first, &named, "first")?.is_some_and(|first| first.is_true());
    let blank = argument(None::<Value>, &named, "blank")?.is_some_and(|blank| blank.is_true());
    named.assert_all_used()?;
    if value.is_undefined() {
        return Err(wrong("what is undefined has no lines"));
    }
    let width = match width.as_str() {
        Some(text) => text.to_owned(),
        None => spaces(&width)?,
    };
    let mut out = String::new();
    // Jinja looks for lines in the text and one more end of a line
    for (i, line) in lines(&(text(state, &value)? + "\n"), false).iter().enumerate() {
        let line = line.as_str().unwrap_or_default();
        state.consume_fuel(1 + u64::try_from(width.len() / 64).unwrap_or(u64::MAX))?;
        out.push_str(if i > 0 { "\n" } else { "" });
        let indented = if i > 0 { blank || !line.is_empty() } else { first };
        out.push_str(if indented { &width } else { "" });
        out.push_str(line);
    }
    Ok(like(&value, out))
}

fn nothing_named() -> Kwargs {
    Kwargs::from_iter([("", Value::UNDEFINED); 0])
}

fn int(
    state: &State,
    value: Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Result<Value, Error> {
    let default = argument(default, &named, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &named, "base")?;
    named.assert_all_used()?;
    let value = numeral(&value)?;
    let real = value.as_str().map_or(f64::try_from(value.clone()).ok(), |text| text.parse().ok());
    if real.is_some_and(|real| !real.is_finite()) {
        return Ok(default);
    }
    filters::int(state, &value, Some(default), base, nothing_named())
}

fn float(
    state: &State,
    value: Value,
    default: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let default = argument(default, &named, "default")?.unwrap_or_else(|| Value::from(0.0));
    named.assert_all_used()?;
    filters::float(state, &numeral(&value)?, Some(default), nothing_named())
}

/// The filter `default`, whose arguments have names too.
fn default(
    value: Value,
    other: Option<Value>,
    boolean: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let other = argument(other, &named, "default_value")?.unwrap_or_else(|| Value::from(""));
    let boolean = argument(boolean, &named, "boolean")?.is_some_and(|boolean| boolean.is_true());
    named.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value })
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
pub(super) fn escaped(state: &State, value: Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value);
    }
    let mut out = text(state, &value)?.replace('&', "&amp;");
    for (c, reference) in [('<', "&lt;"), ('>', "&gt;"), ('\'', "&#39;"), ('"', "&#34;")] {
        out = out.replace(c, reference);
    }
    Ok(Value::from_safe_string(out))
}
