//! One calibration over several processes: which rows each takes, and statistics that leave one
//! process and are joined in another.
//!
//! The statistics of a calibration are least and largest values and integer counts. Both join
//! exactly: any split of the rows, joined in any order, gives the bits of one run over all of them.
//! What depends on order (the moving average) does not get in. [`Collected`] is what one process
//! saw, with the [`Origin`] that tells whether two of them speak of the same job.

mod collected;
mod crew;
mod error;
mod fingerprint;
mod form;
#[cfg(feature = "mpi")]
mod mpi;
mod rows;
mod share;

#[cfg(test)]
mod tests;

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
pub use collected::{Collected, Origin};
pub use crew::{Alone, Crew, gather};
pub use error::ClusterError;
pub use fingerprint::{Fnv, of_checkpoint, of_samples};
pub use form::MAGIC;
pub use rows::Rows;
pub use share::Share;
