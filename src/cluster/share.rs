//! Which rows a process takes.

use super::ClusterError;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The `index`-th of `of` shares of the calibration rows, counted from 1: `2/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: usize,
    of: usize,
}

impl Share {
    /// None unless `1 <= index <= of`.
    pub fn new(index: usize, of: usize) -> Option<Share> {
        (1 <= index && index <= of).then_some(Share { index, of })
    }

    /// Its rows among `total`, from 0: neighbours in the file, as many as the others have or one
    /// less.
    ///
    /// # Errors
    /// Fewer rows than shares.
    pub fn rows(self, total: usize) -> Result<Range<usize>, ClusterError> {
        if total < self.of {
            return Err(ClusterError::TooFew { share: self.to_string(), rows: total });
        }
        // whole parts first: the product of both numbers may not fit
        let (part, rest) = (total / self.of, total % self.of);
        let start = |index: usize| part * index + rest.min(index);
        Ok(start(self.index - 1)..start(self.index))
    }

    /// What its file of statistics is called.
    pub fn file_name(self) -> String {
        format!("statistics.{}-of-{}.stats", self.index, self.of)
    }
}

impl FromStr for Share {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Share, ClusterError> {
        let pair = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        pair.and_then(|(index, of)| Share::new(index, of))
            .ok_or_else(|| ClusterError::Share { found: text.into() })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}
