//! `encircle`: Hugging Face checkpoints in, static quantized Circle models out.
pub mod algo;
pub mod calibrate;
pub mod checkpoint;
pub mod circle;
pub mod cli;
pub mod dataset;
pub mod exec;
pub mod graph;
pub mod layout;
pub mod lower;
pub mod models;
pub mod ops;
pub mod pipeline;
pub mod quant;
pub mod report;
pub mod runtime;
pub mod tensor;
