//! One integration binary: golden values, behaviours of the peer's tests, the command line.

mod artifact;
mod behaviours;
mod cli_quantize;
mod cli_rope;
mod golden_float;
mod golden_quant;
mod running;
mod staged;
mod support;
