//! Prompt layouts: segments of text, pictures and video, and every table that follows from them.
//!
//! [`Layout`] says where visual tokens stand and which position ids that gives; [`Rotary`] turns
//! ids into cosines and sines; [`vision`] makes the vision tower's own tables. All of them are
//! constants of a static graph: no index arithmetic reaches it.
//!
//! This room must not know graphs, models or checkpoints: numbers in, tables out.

mod error;
mod ids;
mod prompt;
mod rotary;
pub mod vision;

pub use error::LayoutError;
pub use ids::SpecialTokens;
pub use prompt::{Layout, MAX_SEQ_LEN, Segment, VisualKind, VisualSpan};
pub use rotary::{RopeScaling, Rotary, RotaryError};

#[cfg(test)]
mod tests;
