//! Our own reader of safetensors: bounded by the file's own size and exact about what is wrong.
//!
//! A file is eight bytes of header length, a JSON header naming each tensor's dtype, shape and byte
//! range, and the bytes. The ranges must tile the rest of the file without holes or overlaps, as
//! the format demands, so a file cannot hide data or alias two tensors.

mod convert;
mod dtype;
mod header;
mod index;
mod names;
mod store;
mod verify;

#[cfg(test)]
mod tests;

pub use dtype::Dtype;
pub(super) use store::Store;
pub use store::TensorInfo;
