//! One integration binary: golden values, behaviours of the peer's tests, the command line.

mod artifact;
mod behaviours;
mod golden_float;
mod golden_quant;
mod support;
