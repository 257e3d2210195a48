//! `encircle`: Hugging Face checkpoints in, static quantized Circle models out.
pub mod checkpoint;
pub mod circle;
pub mod dataset;
pub mod layout;
pub mod quant;
pub mod tensor;
