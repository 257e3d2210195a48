//! Methods of Python's texts, lists and dicts.

use minijinja::value::{ArgType, Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// An argument that was given by its place or by its name.
pub(super) fn argument<T>(
    given: Option<T>,
    named: &Kwargs,
    name: &'static str,
) -> Result<Option<T>, Error>
where
    T: for<'a> ArgType<'a, Output = T>,
{
    match given {
        Some(value) => Ok(Some(value)),
        None => named.get::<Option<T>>(name),
    }
}

/// The methods of Python's strings, lists and dicts. Where only values of other kinds have it, the
/// conversation is to blame and not the template.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let mut called = |value: &Value| {
        let known = match value.as_str() {
            Some(text) => of_text(state, text, name, args)?,
            None => of_others(value, name, args)?,
        };
        known.map_or_else(|| pycompat::unknown_method_callback(state, value, name, args), Ok)
    };
    let unknown = |error: &Error| error.kind() == ErrorKind::UnknownMethod;
    let result = called(value);
    let others = [Value::from(""), Value::from_iter([(); 0]), Value::from_pairs([("", ""); 0])];
    if result.as_ref().is_err_and(unknown)
        && !others.iter().all(|other| called(other).is_err_and(|error| unknown(&error)))
    {
        return Err(wrong(format!("{} has no method named {name}", value.kind())));
    }
    result
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Nothing if it is not one of those that minijinja lacks or has otherwise.
fn of_text(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "title" => from_args(args).map(|()| Value::from(title(text)))?,
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = text.chars().map(|c| match c.is_lowercase() {
                true => c.to_uppercase().to_string(),
                false => c.to_lowercase().to_string(),
            });
            Value::from(swapped.collect::<String>())
        }
        "removeprefix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(affix).unwrap_or(text))
        }
        "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(affix).unwrap_or(text))
        }
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<Value>,) = from_args(args)?;
            Value::from(strip(text, chars.as_ref(), [name != "rstrip", name != "lstrip"])?)
        }
        "split" | "rsplit" => {
            let (sep, count, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let sep = argument(sep, &named, "sep")?.filter(|sep| !sep.is_none());
            let count = argument(count, &named, "maxsplit")?;
            named.assert_all_used()?;
            let most =
                count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX - 1);
            Value::from(split(text, separator(sep.as_ref())?, most, name == "rsplit"))
        }
        "partition" | "rpartition" => return parted(text, name, args).map(Some),
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = argument(keep, &named, "keepends")?.unwrap_or(false);
            named.assert_all_used()?;
            Value::from(lines(text, keep))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => return seek(text, name, args).map(Some),
        "startswith" | "endswith" => return affixed(text, name, args).map(Some),
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            if items.is_none() || items.try_iter()?.any(|item| item.as_str().is_none()) {
                return Err(wrong("not only texts that are joined".into()));
            }
            return Ok(None);
        }
        "replace" => {
            let (old, new, count, named): (Value, Value, Option<i64>, Kwargs) = from_args(args)?;
            let count = argument(count, &named, "count")?;
            named.assert_all_used()?;
            let count = count.filter(|count| *count >= 0).unwrap_or(-1);
            return pycompat::unknown_method_callback(
                &mut state.env().empty_state(),
                &Value::from(text),
                name,
                &[old, new, Value::from(count)],
            )
            .map(Some);
        }
        "zfill" | "ljust" | "rjust" | "center" => return padded(state, text, name, args).map(Some),
        _ => return Ok(None),
    }))
}

fn of_others(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match (name, value.kind()) {
        ("index", ValueKind::Seq) => {
            let (sought,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *sought);
            Value::from(place.ok_or_else(|| wrong(format!("{sought} is not in the list")))?)
        }
        ("copy", ValueKind::Seq | ValueKind::Map) => from_args(args).map(|()| value.clone())?,
        _ => return Ok(None),
    }))
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

/// What Python takes for white, beyond what Unicode does.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Text without `chars` or what is white at either of its `ends`.
pub(super) fn strip(text: &str, chars: Option<&Value>, ends: [bool; 2]) -> Result<String, Error> {
    let chars = match chars.filter(|chars| !chars.is_none()) {
        None => None,
        Some(chars) => {
            Some(chars.as_str().ok_or_else(|| wrong("no text that is stripped".into()))?)
        }
    };
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if ends[0] { text.trim_start_matches(goes) } else { text };
    Ok(if ends[1] { text.trim_end_matches(goes) } else { text }.to_owned())
}

fn separator(sep: Option<&Value>) -> Result<Option<&str>, Error> {
    match sep.map(|sep| sep.as_str().filter(|sep| !sep.is_empty())) {
        Some(None) => Err(wrong("a separator that is empty or no text".into())),
        sep => Ok(sep.flatten()),
    }
}

/// Split at most `most` times, from behind or not, at each `sep` or at what is white.
fn split(text: &str, sep: Option<&str>, most: usize, behind: bool) -> Vec<Value> {
    let mut parts: Vec<&str> = match (sep, behind) {
        (Some(sep), false) => text.splitn(most + 1, sep).collect(),
        (Some(sep), true) => text.rsplitn(most + 1, sep).collect(),
        (None, _) => {
            let (mut parts, mut rest) = (Vec::new(), text);
            loop {
                rest = if behind {
                    rest.trim_end_matches(is_space)
                } else {
                    rest.trim_start_matches(is_space)
                };
                let gap = if behind { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(gap) = gap.filter(|_| parts.len() < most) else { break };
                let white = rest[gap..].chars().next().map_or(0, char::len_utf8);
                let (before, after) = (&rest[..gap], &rest[gap + white..]);
                parts.push(if behind { after } else { before });
                rest = if behind { before } else { after };
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
            parts
        }
    };
    if behind {
        parts.reverse();
    }
    parts.into_iter().map(Value::from).collect()
}

fn parted(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (sep,): (Value,) = from_args(args)?;
    let behind = name == "rpartition";
    let sep = separator(Some(&sep))?.unwrap_or_default();
    let found = if behind { text.rsplit_once(sep) } else { text.split_once(sep) };
    let parts = match found {
        Some((before, after)) => [before, sep, after],
        None if behind => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The lines of a text, with their ends or not.
pub(super) fn lines(text: &str, keep: bool) -> Vec<Value> {
    let ends = |c| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        let len = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(0, char::len_utf8),
        };
        lines.push(Value::from(&rest[..if keep { at + len } else { at }]));
        rest = &rest[at + len..];
    }
    lines.extend(Some(rest).filter(|rest| !rest.is_empty()).map(Value::from));
    lines
}

/// The part of `text` from one character to before another, and where it begins; nothing if that is
/// beyond its end.
fn part(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    let count = text.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at,
        Err(_) => count.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(count)),
    };
    let (start, end) = (start.map_or(0, place), end.map_or(count, place).min(count));
    let byte = |at| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    (start <= end).then(|| (start, &text[byte(start)..byte(end)]))
}

fn seek(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (sought, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let part = part(text, start, end);
    if name == "count" {
        return Ok(Value::from(part.map_or(0, |(_, part)| part.matches(sought).count())));
    }
    let place = part.and_then(|(start, part)| {
        let at = if name.starts_with('r') { part.rfind(sought) } else { part.find(sought) };
        at.map(|at| start + part[..at].chars().count())
    });
    match place {
        Some(place) => Ok(Value::from(place)),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(wrong(format!("{sought:?} is not in the text"))),
    }
}

fn affixed(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (affix, start, end): (Value, Option<i64>, Option<i64>) = from_args(args)?;
    let affixes = if affix.is_tuple() { affix.try_iter()?.collect() } else { vec![affix] };
    let part = part(text, start, end);
    for affix in affixes {
        let affix = affix.as_str().ok_or_else(|| wrong(format!("no text for {name}")))?;
        let has = |part: &str| match name {
            "startswith" => part.starts_with(affix),
            _ => part.ends_with(affix),
        };
        if part.is_some_and(|(_, part)| has(part)) {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn padded(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<char>) = from_args(args)?;
    let lacks = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    state.consume_fuel(u64::try_from(lacks).unwrap_or(u64::MAX))?;
    let (sign, digits) = match name {
        "zfill" if text.starts_with(['+', '-']) => text.split_at(1),
        _ => ("", text),
    };
    let before = match name {
        "ljust" => 0,
        // the odd one stands before a text of an even length, behind another
        "center" => lacks / 2 + (lacks & usize::try_from(width).unwrap_or(0) & 1),
        _ => lacks,
    };
    let fill = if name == "zfill" { '0' } else { fill.unwrap_or(' ') };
    let pad = |count| String::from_iter(std::iter::repeat_n(fill, count));
    Ok(Value::from([sign, &pad(before), digits, &pad(lacks - before)].concat()))
}
