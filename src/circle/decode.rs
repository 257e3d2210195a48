//! Tables and slots as the owned model. Nothing in the bytes is trusted; see [`super::cursor`].

use std::ops::Range;
use std::sync::Arc;

use super::buffer::{Buffer, Bytes};
use super::cursor::{File, Table};
use super::error::{Error, ErrorKind, Result};
use super::model::*;
use super::operator::BuiltinOperator;
use super::options::Options;
use super::options2::Options2;
use super::types::TensorType;
use super::write::Format;

/// Reads a Circle or TFLite file. Payloads are windows into one copy of the bytes; use
/// [`read_shared`] with a memory map to avoid that copy.
pub fn read(bytes: &[u8]) -> Result<Model> {
    read_shared(Arc::new(bytes.to_vec()))
}

/// Reads a Circle or TFLite file whose payloads stay where they are: windows into `owner`.
pub fn read_shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Model> {
    let whole = Bytes::from_owner(owner);
    let reader = Reader { format: format_of(&whole)?, whole: &whole };
    let file = File::new(&whole);
    reader.model(file.root()?)
}

/// Which of the two formats these bytes claim to be, by their identifier.
pub fn format_of(bytes: &[u8]) -> Result<Format> {
    let found = bytes.get(4..8).and_then(|b| <[u8; 4]>::try_from(b).ok());
    let found = found.ok_or_else(|| {
        Error::malformed(format!("a file of {} bytes has no identifier", bytes.len()))
    })?;
    [Format::Circle, Format::TfLite]
        .into_iter()
        .find(|format| format.identifier() == found)
        .ok_or_else(|| Error::new(ErrorKind::Identifier(found)))
}

struct Reader<'a> {
    format: Format,
    whole: &'a Bytes,
}

/// Puts the field's name in front of the place of an error.
trait At<T> {
    fn at(self, field: &str) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, field: &str) -> Result<T> {
        self.map_err(|e| e.within(field))
    }
}

impl Reader<'_> {
    fn model(&self, t: Table<'_>) -> Result<Model> {
        Ok(Model {
            version: t.u32(0, 0).at("version")?,
            operator_codes: t.children(1, "operator_codes", operator_code)?,
            subgraphs: t.children(2, "subgraphs", |t| self.subgraph(t))?,
            description: t.string(3).at("description")?.unwrap_or_default(),
            buffers: t.children(4, "buffers", |t| self.buffer(t))?,
            metadata_buffer: t.scalars(5, i32::from_le_bytes).at("metadata_buffer")?,
            metadata: t.children(6, "metadata", metadata)?,
            signature_defs: t.children(7, "signature_defs", signature)?,
        })
    }

    fn subgraph(&self, t: Table<'_>) -> Result<SubGraph> {
        Ok(SubGraph {
            tensors: t.children(0, "tensors", |t| self.tensor(t))?,
            inputs: t.scalars(1, i32::from_le_bytes).at("inputs")?,
            outputs: t.scalars(2, i32::from_le_bytes).at("outputs")?,
            operators: t.children(3, "operators", operator)?,
            name: t.string(4).at("name")?.unwrap_or_default(),
            debug_metadata_index: t.i32(6, -1).at("debug_metadata_index")?,
        })
    }

    fn dtype(&self, code: i8) -> TensorType {
        match self.format {
            Format::Circle => TensorType::from_code(code),
            Format::TfLite => TensorType::from_litert_code(code),
        }
    }

    fn tensor(&self, t: Table<'_>) -> Result<Tensor> {
        let quantization = t.child(4).and_then(|q| q.map(|q| self.quantization(q)).transpose());
        Ok(Tensor {
            shape: t.scalars(0, i32::from_le_bytes).at("shape")?,
            dtype: self.dtype(t.i8(1, 0).at("type")?),
            buffer: t.u32(2, 0).at("buffer")?,
            name: t.string(3).at("name")?.unwrap_or_default(),
            quantization: quantization.at("quantization")?,
            is_variable: t.bool(5, false).at("is_variable")?,
            sparsity: t.child(6).and_then(|s| s.map(sparsity).transpose()).at("sparsity")?,
            shape_signature: t.maybe_scalars(7, i32::from_le_bytes).at("shape_signature")?,
            has_rank: t.bool(8, false).at("has_rank")?,
            variant_tensors: t.children(9, "variant_tensors", |t| {
                Ok(VariantSubType {
                    shape: t.scalars(0, i32::from_le_bytes).at("shape")?,
                    dtype: self.dtype(t.i8(1, 0).at("type")?),
                    has_rank: t.bool(2, false).at("has_rank")?,
                })
            })?,
            compression_type: t.i8(10, 0).at("compression_type")?,
        })
    }

    fn quantization(&self, t: Table<'_>) -> Result<Quantization> {
        let id = t.u8(4, 0).at("details_type")?;
        let details = match t.child(5).at("details")? {
            Some(member) if id != 0 => self.details(id, member).at("details")?,
            None if id != 0 => return Err(Error::malformed("details_type without details")),
            _ => Details::None,
        };
        Ok(Quantization {
            min: t.scalars(0, f32::from_le_bytes).at("min")?,
            max: t.scalars(1, f32::from_le_bytes).at("max")?,
            scale: t.scalars(2, f32::from_le_bytes).at("scale")?,
            zero_point: t.scalars(3, i64::from_le_bytes).at("zero_point")?,
            details,
            quantized_dimension: t.i32(6, 0).at("quantized_dimension")?,
        })
    }

    fn details(&self, id: u8, t: Table<'_>) -> Result<Details> {
        Ok(match (id, self.format) {
            (1, _) => Details::Custom(t.scalars(0, |[b]: [u8; 1]| b)?),
            (2, Format::Circle) => Details::Mx { axis: t.i32(0, 0)? },
            (3, Format::Circle) | (2, Format::TfLite) => Details::Blockwise {
                scales: t.i32(0, 0)?,
                zero_points: t.i32(1, 0)?,
                block_size: t.i32(2, 0)?,
            },
            (other, _) => Details::Unknown(other),
        })
    }

    fn buffer(&self, t: Table<'_>) -> Result<Buffer> {
        let (offset, size) = (t.u64(1, 0).at("offset")?, t.u64(2, 0).at("size")?);
        let inline = t.vector(0, 1).at("data")?;
        // The schema: an offset of 0 or 1 means that there is none.
        if offset > 1 {
            if inline.is_some_and(|v| v.count > 0) {
                return Err(Error::malformed("both data and offset are given"));
            }
            return Ok(Buffer::External(self.window(t.range(offset, size)?)?));
        }
        match inline {
            Some(v) if v.count > 0 => Ok(Buffer::Data(self.window(v.at..v.at + v.count)?)),
            _ => Ok(Buffer::Empty),
        }
    }

    fn window(&self, range: Range<usize>) -> Result<Bytes> {
        self.whole
            .slice(range)
            .ok_or_else(|| Error::malformed("payload passes the end of the file"))
    }
}

/// Loaders disagree about which of the two code fields counts; this takes what any of them takes.
fn operator_code(t: Table<'_>) -> Result<OperatorCode> {
    let deprecated = t.i8(0, 0).at("deprecated_builtin_code")?;
    let custom_code = t.string(1).at("custom_code")?;
    let version = t.i32(2, 1).at("version")?;
    let code = t.i32(3, 0).at("builtin_code")?;
    let code = if code == 0 && deprecated != 127 { i32::from(deprecated) } else { code };
    Ok(OperatorCode {
        builtin: BuiltinOperator::from_code(code),
        deprecated_code: deprecated,
        custom_code,
        version,
    })
}

fn operator(t: Table<'_>) -> Result<Operator> {
    Ok(Operator {
        opcode_index: t.u32(0, 0).at("opcode_index")?,
        inputs: t.scalars(1, i32::from_le_bytes).at("inputs")?,
        outputs: t.scalars(2, i32::from_le_bytes).at("outputs")?,
        options: union(&t, 3, Options::read).at("builtin_options")?.unwrap_or_default(),
        options_2: union(&t, 11, Options2::read).at("builtin_options_2")?.unwrap_or_default(),
        custom_options: custom_options(&t).at("custom_options")?,
        custom_options_format: t.i8(6, 0).at("custom_options_format")?,
        mutating_variable_inputs: t
            .scalars(7, |[b]: [u8; 1]| b != 0)
            .at("mutating_variable_inputs")?,
        intermediates: t.scalars(8, i32::from_le_bytes).at("intermediates")?,
        debug_metadata_index: t.i32(13, -1).at("debug_metadata_index")?,
    })
}

/// A union's member: its type at `slot`, its table in the next. A type without a table counts as
/// none, which is how loaders see it; the verifier asks for the table where one is needed.
fn union<T>(t: &Table<'_>, slot: u16, read: fn(u8, &Table<'_>) -> Result<T>) -> Result<Option<T>> {
    match (t.u8(slot, 0)?, t.child(slot + 1)?) {
        (0, _) | (_, None) => Ok(None),
        (id, Some(member)) => read(id, &member).map(Some),
    }
}

/// Custom options, whether they lie in a vector or, large ones, behind the FlatBuffer.
fn custom_options(t: &Table<'_>) -> Result<Vec<u8>> {
    let (offset, size) = (t.u64(9, 0)?, t.u64(10, 0)?);
    if offset > 1 { t.copy(t.range(offset, size)?) } else { t.scalars(5, |[b]: [u8; 1]| b) }
}

fn sparsity(t: Table<'_>) -> Result<Sparsity> {
    Ok(Sparsity {
        traversal_order: t.scalars(0, i32::from_le_bytes).at("traversal_order")?,
        block_map: t.scalars(1, i32::from_le_bytes).at("block_map")?,
        dims: t.children(2, "dim_metadata", |t| {
            Ok(DimensionMetadata {
                format: t.i8(0, 0)?,
                dense_size: t.i32(1, 0)?,
                array_segments: sparse_index(&t, 2).at("array_segments")?,
                array_indices: sparse_index(&t, 4).at("array_indices")?,
            })
        })?,
    })
}

fn sparse_index(t: &Table<'_>, slot: u16) -> Result<SparseIndex> {
    let Some(member) = t.child(slot + 1)? else { return Ok(SparseIndex::None) };
    Ok(match t.u8(slot, 0)? {
        0 => SparseIndex::None,
        1 => SparseIndex::Int32(member.scalars(0, i32::from_le_bytes)?),
        2 => SparseIndex::Uint16(member.scalars(0, u16::from_le_bytes)?),
        3 => SparseIndex::Uint8(member.scalars(0, |[b]: [u8; 1]| b)?),
        other => return Err(Error::malformed(format!("index vector of unknown type {other}"))),
    })
}

fn metadata(t: Table<'_>) -> Result<Metadata> {
    Ok(Metadata {
        name: t.string(0).at("name")?.unwrap_or_default(),
        buffer: t.u32(1, 0).at("buffer")?,
    })
}

fn signature(t: Table<'_>) -> Result<SignatureDef> {
    let map = |t: Table<'_>| {
        Ok(TensorMap {
            name: t.string(0).at("name")?.unwrap_or_default(),
            tensor_index: t.u32(1, 0).at("tensor_index")?,
        })
    };
    Ok(SignatureDef {
        inputs: t.children(0, "inputs", map)?,
        outputs: t.children(1, "outputs", map)?,
        key: t.string(2).at("signature_key")?.unwrap_or_default(),
        subgraph_index: t.u32(4, 0).at("subgraph_index")?,
    })
}
