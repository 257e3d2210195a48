//! What was measured, as values, text and JSON. Rooms before this one return facts; only this one
//! and the command line turn them into words.

mod answers;
mod error;
mod plot;

pub use answers::{AnswerScore, Answers};
pub use error::{ErrorFigures, ErrorSummary};
pub use plot::scatter;
