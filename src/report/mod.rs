//! What was measured, as values, text and JSON. Rooms before this one return facts; only this one
//! and the command line turn them into words.

mod answers;
mod error;
mod numbers;
mod plot;

pub use answers::{AnswerScore, Answers};
pub use error::{ErrorFigures, ErrorSummary};
pub(crate) use numbers::{bytes, counted, digits, enough};
pub use plot::scatter;
