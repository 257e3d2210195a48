//! Why statistics cannot be shared or joined.

use crate::calibrate::CalibrateError;

/// What is wrong with a share or with a file of statistics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Text that is no share.
    #[error("shard `{found}`: expected I/N with 1 <= I <= N, such as 2/8")]
    Share {
        /// The text.
        found: String,
    },
    /// A share would have no row.
    #[error("shard {share}: calibration rows: found {rows}, expected at least one for each shard")]
    TooFew {
        /// The share.
        share: String,
        /// Calibration rows in all.
        rows: usize,
    },
    /// Bytes that are no statistics, or not all of them.
    #[error("{field}: found {found}, expected {expected}")]
    Malformed {
        /// Part of the file.
        field: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Two statistics of different jobs.
    #[error("statistics of different jobs: {field}: found {found}, expected {expected}")]
    Differs {
        /// Where they differ.
        field: &'static str,
        /// What these have.
        found: String,
        /// What the others have.
        expected: String,
    },
    /// Rows that both have seen.
    #[error("overlapping shards: calibration rows {rows} are in both")]
    Overlap {
        /// One-based, as lines of a file.
        rows: String,
    },
    /// Rows that nobody has seen.
    #[error("missing shards: calibration rows {missing} of {total} are in none of them")]
    Missing {
        /// One-based, as lines of a file.
        missing: String,
        /// Rows in all.
        total: usize,
    },
    /// Statistics that the graph cannot have.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
}
