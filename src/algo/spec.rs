//! What a recipe says of algorithms: its `[algo]` table.

use super::channels::{self, Fed, Group, Pass, Recall};
use super::{
    Entry, ROUNDINGS, Rounding, SessionError, Streams, awq, equalize, rotate, smoothquant,
};
use crate::calibrate::Plan;
use crate::graph::{Graph, Read};
use serde::{Deserialize, Serialize};

/// Rewrites and the rounding, each a table of options; an absent table means no.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgoSpec {
    /// Rotates residual streams and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<rotate::Options>,
    /// Gives both sides of a channel the same range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equalize: Option<equalize::Options>,
    /// Moves outliers of activations into weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothquant: Option<smoothquant::Options>,
    /// Scales up weights that meet large inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awq: Option<awq::Options>,
    /// Name of the rounding; `rtn` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<String>,
    /// Its options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// A recipe that asks for what there is not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// No rounding has this name.
    #[error("algo.rounding: `{found}` is no rounding: did you mean `{nearest}`? Known are {known}")]
    Unknown {
        /// The name.
        found: String,
        /// The most alike.
        nearest: &'static str,
        /// All of them.
        known: String,
    },
    /// Options that the rounding does not take.
    #[error("algo.options of {rounding}: {message}")]
    Options {
        /// The rounding.
        rounding: &'static str,
        /// Which and why.
        message: String,
    },
    /// A number outside its bounds.
    #[error("algo.{key}: found {found}, expected a number between {least} and {most}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// The number.
        found: f64,
        /// Its lower bound.
        least: f64,
        /// Its upper bound.
        most: f64,
    },
}

impl AlgoSpec {
    /// Appends the rewrites asked for that need no data to the edits of the graph's parameters; the
    /// float network stays the same function. Rotation goes first, as it chooses the coordinates in
    /// which everything after it scales channels; then equalization.
    ///
    /// # Errors
    /// Those of `read`, which is asked for one tensor at a time.
    pub fn rewrite<E>(&self, graph: &mut Graph, read: Read<'_, E>) -> Result<(), E> {
        if let Some(options) = &self.rotate {
            rotate::rotate(graph, read, options)?;
        }
        if let Some(options) = &self.equalize {
            equalize::equalize(graph, read, options)?;
        }
        Ok(())
    }

    /// Whether [`AlgoSpec::fit`] has anything to do.
    pub fn fits(&self) -> bool {
        self.smoothquant.is_some() || self.awq.is_some()
    }

    /// Appends the rewrites that need data, after those of [`AlgoSpec::rewrite`]: of each group of
    /// channels first the outliers are smoothed, then the weights are scaled for what is left. One
    /// float pass over `samples`, a few weights in memory at a time; the same edits whatever the
    /// number of threads. Scales that `recall` knows are not sought again.
    ///
    /// # Errors
    /// Those of `read` and `recall`; inputs that are not finite, with the layer; a grid that cannot be.
    pub fn fit<E: From<SessionError>>(
        &self,
        graph: &mut Graph,
        plan: &Plan,
        (samples, recall): (&[Fed<'_>], &dyn Recall<E>),
        read: Read<'_, E>,
    ) -> Result<(), E> {
        if !self.fits() {
            return Ok(());
        }
        let (moments, emphasis) = (self.awq.is_some(), plan.emphasis());
        let pass = Pass { samples, read, moments, emphasis };
        let key = |what: &str, graph: &Graph, group: &Group| {
            format!("{what} {}", graph.value(group.readers[0].weight).name)
        };
        let known = |graph: &mut Graph, group: &Group| {
            let of = |what| recall.known(&key(what, graph, group));
            let steps = [(self.smoothquant.is_some(), "smoothquant"), (moments, "awq")];
            let wanted = steps.into_iter().filter(|(wanted, _)| *wanted);
            let scales: Option<Vec<Vec<f64>>> = wanted.map(|(_, what)| of(what)).collect();
            let fits = |scales: &Vec<f64>| scales.len() == group.free.len();
            let scales = scales.filter(|all| all.iter().all(fits));
            scales.iter().flatten().for_each(|scales| group.scale(graph, scales));
            scales.is_some()
        };
        channels::each_group(graph, &pass, known, |graph, group, inputs| {
            let mut divided = vec![1.0; group.free.len()];
            if let Some(options) = &self.smoothquant {
                let scales = smoothquant::scales(graph, group, inputs, read, options)?;
                group.scale(graph, &scales);
                divided = group.allowed(&scales);
                recall.note(key("smoothquant", graph, group), &scales)?;
            }
            if let Some(options) = &self.awq {
                let divided = &divided;
                let choice = awq::Choice { group, inputs, divided, plan };
                let scales = choice.scales(graph, read, options)?;
                group.scale(graph, &scales);
                recall.note(key("awq", graph, group), &scales)?;
            }
            Ok(())
        })
    }

    /// The first key that asks for what only calibration rows tell; none if weights alone will do.
    ///
    /// # Errors
    /// Those of [`AlgoSpec::rounding`].
    pub fn needs_rows(&self) -> Result<Option<String>, SpecError> {
        let rewrites = [("smoothquant", self.smoothquant.is_some()), ("awq", self.awq.is_some())];
        if let Some((key, _)) = rewrites.iter().find(|(_, set)| *set) {
            return Ok(Some(format!("algo.{key}")));
        }
        let looks = self.rounding()?.streams() != Streams::Neither;
        let name = self.rounding.as_deref().unwrap_or("rtn");
        Ok(looks.then(|| format!("algo.rounding = \"{name}\"")))
    }

    /// Whether every number is within its bounds.
    ///
    /// # Errors
    /// The first that is not, with its key.
    pub fn check(&self) -> Result<(), SpecError> {
        let rewrites = [
            self.smoothquant.map(|options| ("smoothquant.alpha", options.alpha, SHARE)),
            self.awq.map(|options| ("awq.grid", options.grid as f64, COUNT)),
            self.equalize.map(|options| ("equalize.rounds", options.rounds as f64, COUNT)),
            self.rotate.map(|options| ("rotate.tries", options.tries as f64, COUNT)),
        ];
        let option = |&(key, bounds): &(&'static str, [f64; 2])| {
            let value = self.options.get(key.strip_prefix("options.")?)?;
            let number = value.as_float().or(value.as_integer().map(|n| n as f64));
            number.map(|number| (key, number, bounds))
        };
        let numbers = rewrites.into_iter().flatten().chain(OPTIONS.iter().filter_map(option));
        for (key, found, [least, most]) in numbers {
            if !(least..=most).contains(&found) {
                return Err(SpecError::Bounds { key, found, least, most });
            }
        }
        Ok(())
    }

    /// The rounding with its options.
    ///
    /// # Errors
    /// An unknown name, with the nearest known one; options it does not take; those of
    /// [`AlgoSpec::check`].
    pub fn rounding(&self) -> Result<Box<dyn Rounding>, SpecError> {
        self.check()?;
        let name = self.rounding.as_deref().unwrap_or("rtn");
        let entry = entry(name)?;
        let wrong = |message| SpecError::Options { rounding: entry.name, message };
        let known = entry.keys.concat();
        if let Some(key) = self.options.keys().find(|key| !known.contains(&&key[..])) {
            // As serde says it, which knows nothing of keys in two structures.
            let expected = match known[..] {
                [] => "there are no fields".into(),
                _ => format!("expected one of `{}`", known.join("`, `")),
            };
            return Err(wrong(format!("unknown field `{key}`, {expected}")));
        }
        (entry.build)(self.options.clone()).map_err(|error| wrong(error.message().to_owned()))
    }
}

/// Bounds of a share.
const SHARE: [f64; 2] = [0.0, 1.0];
/// Bounds of how often something is done at least once.
const COUNT: [f64; 2] = [1.0, 1000.0];
/// Bounds of the numbers among a rounding's options, whichever takes them.
const OPTIONS: [(&str, [f64; 2]); 10] = [
    ("options.damp", [1e-12, 1000.0]),
    ("options.alpha", SHARE),
    ("options.beta", SHARE),
    ("options.candidates", COUNT),
    ("options.finalists", COUNT),
    ("options.sweeps", [0.0, 1000.0]),
    ("options.refits", [0.0, 1000.0]),
    ("options.steps", [0.0, 100_000.0]),
    ("options.rate", SHARE),
    ("options.range_rate", SHARE),
];

fn entry(name: &str) -> Result<&'static Entry, SpecError> {
    ROUNDINGS.iter().find(|entry| entry.name == name).ok_or_else(|| SpecError::Unknown {
        found: name.to_owned(),
        nearest: nearest(name, ROUNDINGS.iter().map(|entry| entry.name)),
        known: ROUNDINGS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })
}

/// The known name that is most like `name`, whatever its case; the first of equals, empty if none
/// is known.
pub fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> &'static str {
    let name = name.to_ascii_lowercase();
    known.into_iter().min_by_key(|known| strsim::levenshtein(&name, known)).unwrap_or("")
}
