//! Calibration and evaluation rows: JSONL, pictures and frames to token ids and patches.
//!
//! A row asks something (a question about pictures, a conversation, a text), and a [`Processor`]
//! turns it into the [`Sample`] that the model sees, as transformers would.

mod encode;
mod parquet;
mod parse;
mod rows;
mod text;
mod visuals;
mod windows;

#[cfg(test)]
mod tests;

pub use encode::{Processor, Sample};
pub use rows::{ImageRef, Row, VideoRef, read_jsonl, read_jsonl_from};
pub use text::{Source, has_columns, read_source};
pub use windows::{WindowError, Windows};
