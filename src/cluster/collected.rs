//! What a process saw, and of which job.

use super::{ClusterError, Rows};
use crate::calibrate::{CalibrateError, Plan, Statistics};
use crate::graph::Graph;
use crate::quant::{Merge, MergeableObserver};
use serde::{Deserialize, Serialize};

/// What must be equal for statistics to be of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Of this program.
    pub version: String,
    /// Fingerprint of configuration and weights.
    pub checkpoint: String,
    /// The effective recipe, as text.
    pub recipe: String,
    /// Length and pictures of the static layout.
    pub layout: String,
    /// Fingerprint of all calibration rows.
    pub calibration: String,
}

impl Origin {
    /// Refuses another job.
    ///
    /// # Errors
    /// The first field that differs, with both values; of long text the first line.
    pub fn same(&self, expected: &Origin) -> Result<(), ClusterError> {
        match self.difference(expected) {
            None => Ok(()),
            Some((field, found, expected)) => Err(ClusterError::Differs { field, found, expected }),
        }
    }

    /// The first field that differs from that of another job, and what both have; of long text the
    /// first line.
    pub fn difference(&self, other: &Origin) -> Option<(&'static str, String, String)> {
        for (field, one, other) in [
            ("version", &self.version, &other.version),
            ("checkpoint", &self.checkpoint, &other.checkpoint),
            ("recipe", &self.recipe, &other.recipe),
            ("layout", &self.layout, &other.layout),
            ("calibration rows", &self.calibration, &other.calibration),
        ] {
            if one != other {
                let (one, other) = first_difference(one, other);
                return Some((field, one, other));
            }
        }
        None
    }
}

/// The first lines that differ, each behind the table of TOML that it stands in.
fn first_difference(a: &str, b: &str) -> (String, String) {
    let (mut a, mut b) = (placed(a), placed(b));
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let shown =
                    |line: Option<String>| line.map_or("nothing".into(), |l| format!("`{l}`"));
                return (shown(a), shown(b));
            }
        }
    }
}

fn placed(text: &str) -> impl Iterator<Item = String> {
    let mut table = "";
    text.lines().filter(|line| !line.trim().is_empty()).map(move |line| {
        if line.starts_with('[') {
            table = line;
        }
        if table.is_empty() || table == line { line.into() } else { format!("{table} {line}") }
    })
}

/// Observers by the name of their class, where the class is observed.
pub(super) type Classes = Vec<(String, Option<MergeableObserver>)>;

/// Statistics of some calibration rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    pub(super) origin: Origin,
    pub(super) rows: Rows,
    pub(super) classes: Classes,
}

impl Collected {
    /// `statistics` of `rows`, of a graph under `plan`.
    ///
    /// # Errors
    /// An observer that depends on order.
    pub fn new(
        origin: Origin,
        rows: Rows,
        plan: &Plan,
        (graph, statistics): (&Graph, Statistics),
    ) -> Result<Collected, ClusterError> {
        Ok(Collected { origin, rows, classes: statistics.into_parts(plan, graph)? })
    }

    /// Which rows were seen.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Joins the statistics of other rows. Exact: neither the split nor the order shows in the bits.
    ///
    /// # Errors
    /// Another job, with the field; rows that both saw; observers that do not fit.
    pub fn merge(&mut self, other: &Collected) -> Result<(), ClusterError> {
        other.origin.same(&self.origin)?;
        let differs = |field, found: String, expected: String| {
            Err(ClusterError::Differs { field, found, expected })
        };
        let totals = [other.rows.total(), self.rows.total()].map(|n| n.to_string());
        let lengths = [other.classes.len(), self.classes.len()].map(|n| n.to_string());
        for (field, [found, expected]) in [("number of rows", totals), ("classes", lengths)] {
            if found != expected {
                return differs(field, found, expected);
            }
        }
        let rows = self.rows.union(&other.rows)?;
        for ((name, mine), (named, theirs)) in self.classes.iter_mut().zip(&other.classes) {
            if name != named {
                return differs("class", named.clone(), name.clone());
            }
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    mine.merge(theirs).map_err(CalibrateError::from)?;
                }
                (None, None) => {}
                _ => return differs("observer", name.clone(), "the same in both".into()),
            }
        }
        self.rows = rows;
        Ok(())
    }

    /// The statistics of all rows, for a graph under `plan`.
    ///
    /// # Errors
    /// Another job; rows that nobody saw; observers that the plan does not have.
    pub fn statistics(
        self,
        expected: &Origin,
        plan: &Plan,
        graph: &Graph,
    ) -> Result<Statistics, ClusterError> {
        self.origin.same(expected)?;
        self.rows.complete()?;
        Ok(Statistics::from_parts(plan, graph, self.classes)?)
    }
}
