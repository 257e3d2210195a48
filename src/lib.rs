//! `encircle`: Hugging Face checkpoints in, static quantized Circle models out.
pub mod checkpoint;
pub mod circle;
pub mod graph;
pub mod layout;
pub mod ops;
pub mod quant;
pub mod tensor;
