//! Checks a model for what the bytes alone cannot guarantee: indices, order, shapes, sizes,
//! quantization, and the traps of the runtimes that load such files.

mod operators;
mod shapes;
mod structure;
mod targets;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use super::model::{Model, SubGraph};
pub(super) use shapes::results;

/// Who is to load the file; each has traps of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Tools of the ONE compiler family.
    One,
    /// onert, ONE's runtime.
    Onert,
    /// LiteRT (TensorFlow Lite), for a model that is to be written as TFLite.
    Litert,
}

/// One thing that is wrong or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: `subgraphs[0].tensors[12]`.
    pub place: String,
    /// What, with the numbers.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What makes the model invalid.
    pub errors: Vec<Finding>,
    /// What is allowed but doubtful, or known to fail on a target.
    pub warnings: Vec<Finding>,
}

impl Report {
    /// Whether there are no errors.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether there is nothing to say at all.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.warnings.is_empty()
    }

    fn error(&mut self, place: impl fmt::Display, message: impl Into<String>) {
        self.errors.push(Finding { place: place.to_string(), message: message.into() });
    }

    fn warn(&mut self, place: impl fmt::Display, message: impl Into<String>) {
        self.warnings.push(Finding { place: place.to_string(), message: message.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (severity, findings) in [("error", &self.errors), ("warning", &self.warnings)] {
            for finding in findings {
                writeln!(f, "{severity}: {finding}")?;
            }
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors.len(), self.warnings.len());
        write!(f, "{}, {}", counted(errors, "error"), counted(warnings, "warning"))
    }
}

/// Checks a model as a Circle file, whoever loads it.
pub fn verify(model: &Model) -> Report {
    verify_for(model, &[Target::One])
}

/// Checks a model and warns of the traps of these targets.
pub fn verify_for(model: &Model, targets: &[Target]) -> Report {
    let mut report = Report::default();
    structure::check(model, &mut report);
    for (g, graph) in model.subgraphs.iter().enumerate() {
        let place = format!("subgraphs[{g}]");
        values::check(model, graph, &place, &mut report);
        operators::check(model, graph, &place, &mut report);
        for &target in targets {
            targets::check(model, graph, target, &place, &mut report);
        }
    }
    report
}

/// Whether an index names an element.
fn in_range(index: i32, count: usize) -> bool {
    usize::try_from(index).is_ok_and(|i| i < count)
}

/// Which tensors have a value before the first operator runs.
fn given(model: &Model, graph: &SubGraph) -> Vec<bool> {
    let mut given: Vec<bool> =
        graph.tensors.iter().map(|t| t.is_variable || model.holds(t)).collect();
    for &input in &graph.inputs {
        if let Some(slot) = usize::try_from(input).ok().and_then(|i| given.get_mut(i)) {
            *slot = true;
        }
    }
    given
}

/// The values that occur more than once, with their numbers.
fn repeated<T: Ord>(items: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_insert(0) += 1);
    counts.into_iter().filter(|(_, count)| *count > 1).collect()
}
