//! Recipes: what the user asks of numerics, one TOML file. The known ones are such files too.

use super::Error;
use crate::algo::{AlgoSpec, SpecError, nearest};
use crate::checkpoint::read_within;
use crate::quant::Policy;
use crate::tensor::Products;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The longest recipe believed, in bytes: one with a rule for each of a million tensors is shorter.
const RECIPE_MAX: u64 = 256 << 20;

/// Grids, observers and algorithms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numerics {
    /// Who gets which grid.
    pub policy: Policy,
    /// Rewrites and rounding.
    #[serde(default)]
    pub algo: AlgoSpec,
    /// Products of the float run that is calibrated on.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub products: Products,
}

fn is_f32(products: &Products) -> bool {
    *products == Products::F32
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every recipe that comes with the program.
        pub const RECIPES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../assets/recipes/", $name, ".toml")))),*];
    };
}

recipes![
    "w4a16-fast",
    "w4a16-best",
    "w8a8",
    "w8a8-minmax",
    "w4a8",
    "w8a16",
    "a16",
    "mx",
    "npu",
    "w8",
    "w4",
];

/// What people also call them.
const ALIASES: [(&str, &str); 1] = [("w4a16", "w4a16-fast")];

impl Numerics {
    /// The recipe called `what`, or in the file `what`.
    ///
    /// # Errors
    /// Neither a name nor a file, with the nearest name; a file that is no recipe, with its key.
    pub fn find(what: &str) -> Result<Numerics, Error> {
        let name = what.to_ascii_lowercase();
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(&name[..], |a| a.1);
        if let Some((name, text)) = RECIPES.iter().find(|(known, _)| *known == name) {
            return Numerics::parse(name, text);
        }
        let path = Path::new(what);
        if path.extension().is_some() || path.exists() {
            let no_text = |e| io::Error::new(io::ErrorKind::InvalidData, e);
            let text = read_within(path, RECIPE_MAX)
                .and_then(|bytes| String::from_utf8(bytes).map_err(no_text))
                .map_err(|source| Error::ReadRecipe { path: what.into(), source })?;
            return Numerics::parse(what, &text);
        }
        let names = || RECIPES.iter().map(|(name, _)| *name);
        Err(Error::UnknownRecipe {
            found: what.into(),
            nearest: nearest(what, names()),
            known: names().collect::<Vec<_>>().join(", "),
        })
    }

    fn parse(place: &str, text: &str) -> Result<Numerics, Error> {
        let failed = |error: toml::de::Error| Error::Recipe {
            place: place.into(),
            message: explained(&error),
        };
        let numerics: Numerics = toml::from_str(text).map_err(failed)?;
        // What no rounding takes is refused before anything is computed.
        check(place, &numerics.algo)?;
        Ok(numerics)
    }

    /// Sets one key of the algorithms, as in `algo.rounding=rtn`, `algo.options.damp=0.05` or
    /// `algo.rotate.seed=3`, or of the policy, as in `policy.prefix=isolate`. Another rounding starts
    /// with its own options. None if `text` speaks of something else.
    ///
    /// # Errors
    /// A key or value that algorithms or policy do not take.
    pub fn set_key(&mut self, text: &str) -> Option<Result<(), Error>> {
        if let Some(rest) = text.strip_prefix("policy.") {
            return Some(self.set_policy(text, rest));
        }
        let rest = text.strip_prefix("algo.")?;
        let place = format!("--set {text}");
        let failed = |message: String| Error::Recipe {
            place: place.clone(),
            message: with_nearest(&message),
        };
        Some((|| {
            let expected = "expected algo.KEY=VALUE";
            let (path, value) = rest.split_once('=').ok_or_else(|| failed(expected.into()))?;
            let mut algo = toml::Table::try_from(&self.algo).map_err(|e| failed(e.to_string()))?;
            if path == "rounding" {
                algo.remove("options");
            }
            insert(&mut algo, path, literal(value))
                .ok_or_else(|| failed(format!("{path} lies inside a plain value")))?;
            let algo: AlgoSpec =
                algo.try_into().map_err(|e: toml::de::Error| failed(e.message().into()))?;
            check(&place, &algo)?;
            self.algo = algo;
            Ok(())
        })())
    }

    fn set_policy(&mut self, text: &str, rest: &str) -> Result<(), Error> {
        let place = format!("--set {text}");
        let failed =
            |message: &str| Error::Recipe { place: place.clone(), message: with_nearest(message) };
        let (path, value) =
            rest.split_once('=').ok_or_else(|| failed("expected policy.KEY=VALUE"))?;
        let mut policy =
            toml::Table::try_from(self.policy.spec()).map_err(|e| failed(&e.to_string()))?;
        insert(&mut policy, path, literal(value))
            .ok_or_else(|| failed(&format!("{path} lies inside a plain value")))?;
        self.policy = policy.try_into().map_err(|e: toml::de::Error| failed(e.message()))?;
        Ok(())
    }

    /// The text of the recipe.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("invariant: a recipe that was read can be written")
    }
}

/// What no rounding takes, as an error of the recipe at `place`.
fn check(place: &str, algo: &AlgoSpec) -> Result<(), Error> {
    match algo.rounding() {
        Err(error @ SpecError::Options { .. }) => {
            let message = with_nearest(&error.to_string());
            Err(Error::Recipe { place: place.into(), message })
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// The longest line of a text that an error shows, and the longest word in an error, in characters.
const WIDTH: [usize; 2] = [200, 80];

/// What is wrong with a text in TOML: with the line where it is, unless that is too long to be read.
pub fn explained(error: &toml::de::Error) -> String {
    let text = with_nearest(error.to_string().trim_end());
    let quoted = |line: &&str| {
        line.trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start()
            .starts_with('|')
    };
    let [line, word] = WIDTH;
    let shown = !text.lines().any(|text| quoted(&text) && text.chars().count() > line);
    let cut = |text: &str| match text.char_indices().nth(word) {
        // with the quotation mark that ends it
        Some((at, _)) if !shown => {
            let last = text.trim_end_matches(|c: char| !c.is_alphanumeric()).len();
            format!("{}…{}", &text[..at], &text[last.max(at)..])
        }
        _ => text.to_owned(),
    };
    let words = |line: &str| line.split(' ').map(cut).collect::<Vec<_>>().join(" ");
    let lines = text.lines().filter(|line| shown || !quoted(line)).map(words);
    lines.collect::<Vec<_>>().join("\n")
}

/// A message of serde, where it names a type of ours, with `what` a text has in its place.
pub(super) fn in_words(message: &str, what: &str) -> String {
    match message.split_once("expected struct ") {
        None => message.into(),
        Some((before, rest)) => {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            format!("{before}expected {what}{}", &rest[end..])
        }
    }
}

/// The message about an unknown key or word that lists the known ones, with the nearest of them.
pub fn with_nearest(message: &str) -> String {
    let message = &in_words(message, "a table")[..];
    let unknown = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|start| message.split_once(start))
        .and_then(|(_, rest)| rest.split_once('`'));
    let Some((found, rest)) = unknown else { return message.into() };
    // what stands between backticks is every other piece
    let known = rest.split('`').skip(1).step_by(2);
    match known.min_by_key(|known| strsim::levenshtein(found, known)) {
        Some(nearest) => format!("{message}: did you mean `{nearest}`?"),
        None => message.into(),
    }
}

/// What TOML makes of a value; text that is none is a string.
fn literal(text: &str) -> toml::Value {
    let table: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.into()))
}

/// Puts `value` under a dotted path, making the tables on the way.
fn insert(table: &mut toml::Table, path: &str, value: toml::Value) -> Option<()> {
    match path.split_once('.') {
        None => drop(table.insert(path.into(), value)),
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| toml::Table::new().into());
            insert(inner.as_table_mut()?, rest, value)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
