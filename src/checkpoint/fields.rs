//! Reading typed fields out of a JSON object, with every mistake named by file and dotted path.

use super::error::{Error, ErrorKind, Result, quoted};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// One JSON object of a file, and the dotted path that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    file: &'a str,
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The root object of `file`.
    pub(crate) fn root(file: &'a str, value: &'a Value) -> Result<Fields<'a>> {
        match value {
            Value::Object(map) => Ok(Fields { file, path: String::new(), map }),
            other => Err(Error::new(ErrorKind::WrongType, file, "a JSON object", describe(other))),
        }
    }

    /// The dotted path of the field `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value of `name`; JSON's null counts as absent, as it does in Python's `getattr` chains.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Whether `name` is there and null.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    /// The names of all fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.keys().map(String::as_str)
    }

    /// The object with `value` as the field `name`.
    pub(crate) fn with(&self, name: &str, value: Value) -> Value {
        let mut map = self.map.clone();
        map.insert(name.to_owned(), value);
        Value::Object(map)
    }

    /// The name of the first field that holds an object.
    pub(crate) fn first_object(&self) -> Option<&'a str> {
        self.map.iter().find(|(_, value)| value.is_object()).map(|(name, _)| name.as_str())
    }

    /// What was found in the field `name`, if `value` was assumed in its absence.
    pub(crate) fn found(&self, name: &str, value: impl Display) -> String {
        match self.get(name) {
            Some(_) => value.to_string(),
            None => format!("nothing, which stands for {value}"),
        }
    }

    /// A mistake about the field `name`.
    pub(crate) fn wrong(
        &self,
        kind: ErrorKind,
        name: &str,
        expected: impl Display,
        found: impl Display,
    ) -> Error {
        Error::new(kind, self.file, expected, found).field(self.path(name))
    }

    fn wrong_type(&self, name: &str, expected: impl Display, value: &Value) -> Error {
        self.wrong(ErrorKind::WrongType, name, expected, describe(value))
    }

    /// The nested object `name`.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Fields { file: self.file, path: self.path(name), map }))
            }
            Some(other) => Err(self.wrong_type(name, "an object", other)),
        }
    }

    /// The entries of the list `name`, all of them objects.
    pub(crate) fn objects(&self, name: &str) -> Result<Option<Vec<Fields<'a>>>> {
        let list = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(name, "a list of objects", other)),
        };
        let object = |(i, value): (usize, &'a Value)| match value {
            Value::Object(map) => {
                Ok(Fields { file: self.file, path: self.path(&format!("{name}[{i}]")), map })
            }
            other => Err(self.wrong_type(&format!("{name}[{i}]"), "an object", other)),
        };
        list.iter().enumerate().map(object).collect::<Result<_>>().map(Some)
    }

    /// A whole number inside `range`.
    pub(crate) fn size(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.get(name).map(|value| self.size_of(name, value, &range)).transpose()
    }

    /// A whole number inside `range` that has no default.
    pub(crate) fn required(&self, name: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = spell(&range);
        self.size(name, range)?
            .ok_or_else(|| self.wrong(ErrorKind::Missing, name, expected, "nothing"))
    }

    /// A list of at most `len_max` whole numbers inside `range`.
    pub(crate) fn sizes(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
        len_max: usize,
    ) -> Result<Option<Vec<usize>>> {
        let list = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(name, "a list of numbers", other)),
        };
        if list.len() > len_max {
            let expected = format!("at most {len_max} entries");
            return Err(self.wrong(ErrorKind::OutOfRange, name, expected, list.len()));
        }
        let indexed = list.iter().enumerate();
        let size = |(i, v)| self.size_of(&format!("{name}[{i}]"), v, &range);
        indexed.map(size).collect::<Result<_>>().map(Some)
    }

    /// A finite real number.
    pub(crate) fn real(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|real| real.is_finite()) {
                Some(real) => Ok(Some(real)),
                None => Err(self.wrong_type(name, "a number", value)),
            },
        }
    }

    /// A finite real number greater than zero.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<f64>> {
        match self.real(name)? {
            Some(real) if real <= 0.0 => {
                Err(self.wrong(ErrorKind::OutOfRange, name, "a number above 0", real))
            }
            other => Ok(other),
        }
    }

    /// One real number for each of `N` channels; a single number stands for all of them.
    pub(crate) fn reals<const N: usize>(&self, name: &str) -> Result<Option<[f64; N]>> {
        let expected = || format!("a list of {N} numbers");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                let reals: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
                reals.and_then(|reals| <[f64; N]>::try_from(reals).ok()).map(Some).ok_or_else(
                    || self.wrong(ErrorKind::WrongType, name, expected(), "another list"),
                )
            }
            Some(value) => match value.as_f64() {
                Some(real) => Ok(Some([real; N])),
                None => Err(self.wrong_type(name, expected(), value)),
            },
        }
    }

    /// True or false.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong_type(name, "true or false", other)),
        }
    }

    /// A string that has no default.
    pub(crate) fn required_text(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.ok_or_else(|| self.wrong(ErrorKind::Missing, name, "a string", "nothing"))
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(name, "a string", other)),
        }
    }

    /// A list of strings.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let list = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(name, "a list of strings", other)),
        };
        let text = |(i, value): (usize, &Value)| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong_type(&format!("{name}[{i}]"), "a string", other)),
        };
        list.iter().enumerate().map(text).collect::<Result<_>>().map(Some)
    }

    fn size_of(&self, name: &str, value: &Value, range: &RangeInclusive<usize>) -> Result<usize> {
        let expected = spell(range);
        if !value.is_u64() && !value.is_i64() {
            return Err(self.wrong_type(name, expected, value));
        }
        match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
            Some(size) if range.contains(&size) => Ok(size),
            _ => Err(self.wrong(ErrorKind::OutOfRange, name, expected, value)),
        }
    }
}

fn spell(range: &RangeInclusive<usize>) -> String {
    match *range.end() {
        usize::MAX => format!("a whole number of at least {}", range.start()),
        end => format!("a whole number from {} to {end}", range.start()),
    }
}

/// A JSON value in an error message: short whatever the file holds.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("an object of {} fields", map.len()),
    }
}
