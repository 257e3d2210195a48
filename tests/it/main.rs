//! One integration binary: golden values, behaviours of the peer's tests, the command line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifact;
mod behaviours;
mod budgets;
mod cli_budget;
mod cli_eval;
mod cli_plan;
mod cli_quantize;
mod cli_rope;
mod cli_words;
mod endings;
mod experts;
mod generating;
mod golden_float;
mod golden_quant;
mod golden_text;
mod groups;
mod means;
mod products;
mod resume;
mod running;
mod sharded;
mod staged;
mod support;
mod weights_only;
#[path = "../written/mod.rs"]
mod written;
