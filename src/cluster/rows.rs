//! Sets of calibration rows.

use super::ClusterError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// Some of `total` rows, as ranges that ascend and do not touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    total: usize,
    ranges: Vec<Range<usize>>,
}

impl Rows {
    /// The rows `range` of `total`, from 0.
    pub fn new(range: Range<usize>, total: usize) -> Rows {
        let ranges = if range.is_empty() { vec![] } else { vec![range] };
        Rows { total, ranges }
    }

    /// Rows in all, seen or not.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether the ranges are what they should be: those of a file need not.
    pub(super) fn sound(&self) -> bool {
        let apart = self.ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        let inside = |range: &Range<usize>| range.start < range.end && range.end <= self.total;
        apart && self.ranges.iter().all(inside)
    }

    /// The rows of both.
    ///
    /// # Errors
    /// Those that both have.
    pub fn union(&self, other: &Rows) -> Result<Rows, ClusterError> {
        let mut ranges = [&self.ranges[..], &other.ranges[..]].concat();
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let mut joined: Vec<Range<usize>> = Vec::new();
        let mut common = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => {
                    common.push(range.start..range.end.min(last.end));
                    last.end = last.end.max(range.end);
                }
                _ => joined.push(range),
            }
        }
        common.retain(|range| !range.is_empty());
        match common.is_empty() {
            true => Ok(Rows { total: self.total, ranges: joined }),
            false => {
                let rows = Rows { total: self.total, ranges: common };
                Err(ClusterError::Overlap { rows: rows.to_string() })
            }
        }
    }

    /// Whether no row is missing.
    ///
    /// # Errors
    /// Those that are.
    pub fn complete(&self) -> Result<(), ClusterError> {
        let mut missing = Rows { total: self.total, ranges: Vec::new() };
        let mut at = 0;
        for range in self.ranges.iter().chain([&(self.total..self.total)]) {
            if at < range.start {
                missing.ranges.push(at..range.start);
            }
            at = range.end;
        }
        match missing.ranges.is_empty() {
            true => Ok(()),
            false => {
                let (total, missing) = (self.total, missing.to_string());
                Err(ClusterError::Missing { missing, total })
            }
        }
    }
}

/// As people count: `1-16, 33`.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match range.len() {
                1 => write!(f, "{comma}{}", range.end)?,
                _ => write!(f, "{comma}{}-{}", range.start + 1, range.end)?,
            }
        }
        Ok(())
    }
}
