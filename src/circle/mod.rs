//! The Circle file format alone: owned model, bounded reader, deterministic writer, verifier, printer.
//!
//! Must not know: any other room of the crate. It deals in tables, bytes and numbers; what a
//! network means or how a scale was found is decided elsewhere.
//!
//! Read `model` first (the tables as values), then `write` and `encode` (values to bytes), then
//! `cursor` (bytes to values, nothing trusted).

mod buffer;
mod build;
mod code;
mod cursor;
mod decode;
mod emit;
mod encode;
mod error;
mod extract;
mod inspect;
mod join;
mod model;
mod operator;
mod option_field;
mod options;
mod options2;
mod place;
mod resize;
mod types;
mod verify;
mod write;

pub use buffer::{Buffer, Bytes, Source};
pub use decode::{format_of, read, read_shared};
pub use error::{Error, ErrorKind, Result};
pub use extract::{alone, extract, extract_between, find_graph};
pub use inspect::{list_operators, list_tensors, summarize, to_json};
pub use join::join;
pub use model::{
    Details, DimensionMetadata, Metadata, Model, Operator, OperatorCode, Quantization,
    SignatureDef, SparseIndex, Sparsity, SubGraph, Tensor, TensorMap, VariantSubType,
};
pub use operator::BuiltinOperator;
pub use options::Options;
pub use options2::Options2;
pub use place::{Place, Placed};
pub use resize::resized;
pub use types::{Activation, Padding, TensorType};
pub use verify::{Finding, Report, Target, verify, verify_for};
pub use write::{Format, Payloads, WriteOptions, to_bytes, write, write_with};

#[cfg(test)]
mod tests;
