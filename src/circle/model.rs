//! The owned model: the tables of the schema as plain values.

use super::buffer::Buffer;
use super::operator::BuiltinOperator;
use super::options::Options;
use super::options2::Options2;
use super::types::TensorType;

/// The root table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// 0 in Circle, 3 in TFLite; the writer puts what the format demands.
    pub version: u32,
    /// Free text.
    pub description: String,
    /// The kinds of operators, referred to by [`Operator::opcode_index`].
    pub operator_codes: Vec<OperatorCode>,
    /// The graphs; the first is the entry.
    pub subgraphs: Vec<SubGraph>,
    /// Payloads, referred to by [`Tensor::buffer`] and [`Metadata::buffer`]; the first is empty.
    pub buffers: Vec<Buffer>,
    /// Named payloads.
    pub metadata: Vec<Metadata>,
    /// The older list of metadata buffers.
    pub metadata_buffer: Vec<i32>,
    /// Named entry points.
    pub signature_defs: Vec<SignatureDef>,
}

/// A kind of operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorCode {
    /// What it computes.
    pub builtin: BuiltinOperator,
    /// The `deprecated_builtin_code` found in a file. The writer derives its own from `builtin`.
    pub deprecated_code: i8,
    /// The name of an operator that is [`BuiltinOperator::Custom`].
    pub custom_code: Option<String>,
    /// The version of the operator, 1 in everything known.
    pub version: i32,
}

/// A graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubGraph {
    /// Its name; may be empty.
    pub name: String,
    /// Every tensor.
    pub tensors: Vec<Tensor>,
    /// The tensors that the caller provides.
    pub inputs: Vec<i32>,
    /// The tensors that the caller receives.
    pub outputs: Vec<i32>,
    /// The operators in the order of execution.
    pub operators: Vec<Operator>,
    /// Index of debug metadata, -1 for none.
    pub debug_metadata_index: i32,
}

/// A tensor: an edge of the graph or a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name. onert crashes on a tensor without one.
    pub name: String,
    /// Its dimensions, empty for a scalar.
    pub shape: Vec<i32>,
    /// The dimensions with -1 where they are dynamic; `None` for a static shape.
    pub shape_signature: Option<Vec<i32>>,
    /// The type of its elements.
    pub dtype: TensorType,
    /// The index of its payload; 0 for a tensor that is computed.
    pub buffer: u32,
    /// How its integers stand for real numbers.
    pub quantization: Option<Quantization>,
    /// Whether it keeps its value between runs.
    pub is_variable: bool,
    /// Whether an empty `shape` means a scalar rather than an unknown rank.
    pub has_rank: bool,
    /// How a sparse payload is stored.
    pub sparsity: Option<Sparsity>,
    /// The types of the elements of a variant tensor.
    pub variant_tensors: Vec<VariantSubType>,
    /// How the payload is compressed: 0 not, 1 Huffman.
    pub compression_type: i8,
}

/// `QuantizationParameters`: real = scale × (integer − zero point), per tensor or along a dimension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    /// One scale, or one for every index of `quantized_dimension`.
    pub scale: Vec<f32>,
    /// As many zero points as scales.
    pub zero_point: Vec<i64>,
    /// The dimension that the scales belong to.
    pub quantized_dimension: i32,
    /// The least real values seen; usually empty.
    pub min: Vec<f32>,
    /// The greatest real values seen; usually empty.
    pub max: Vec<f32>,
    /// Other ways of quantizing.
    pub details: Details,
}

/// The union `QuantizationDetails`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// None: scales and zero points say all.
    #[default]
    None,
    /// Bytes of another tool's meaning.
    Custom(Vec<u8>),
    /// Microscaling blocks along an axis.
    Mx {
        /// The axis.
        axis: i32,
    },
    /// Scales for blocks of elements, held in other tensors.
    Blockwise {
        /// The tensor of the scales.
        scales: i32,
        /// The tensor of the zero points.
        zero_points: i32,
        /// Elements of a block.
        block_size: i32,
    },
    /// A member that the schema does not list; cannot be written.
    Unknown(u8),
}

/// `SparsityParameters`: how a sparse payload is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparsity {
    /// The order in which dimensions are stored.
    pub traversal_order: Vec<i32>,
    /// Which dimensions the blocks split.
    pub block_map: Vec<i32>,
    /// One entry per stored dimension.
    pub dims: Vec<DimensionMetadata>,
}

/// How one dimension of a sparse payload is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DimensionMetadata {
    /// 0 dense, 1 sparse (CSR).
    pub format: i8,
    /// The size of a dense dimension.
    pub dense_size: i32,
    /// Where the rows of a sparse dimension begin.
    pub array_segments: SparseIndex,
    /// The indices that a sparse dimension stores.
    pub array_indices: SparseIndex,
}

/// The union `SparseIndexVector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SparseIndex {
    /// None.
    #[default]
    None,
    /// 32-bit indices.
    Int32(Vec<i32>),
    /// 16-bit indices.
    Uint16(Vec<u16>),
    /// 8-bit indices.
    Uint8(Vec<u8>),
}

/// The type of an element of a variant tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSubType {
    /// Its dimensions.
    pub shape: Vec<i32>,
    /// The type of its elements.
    pub dtype: TensorType,
    /// Whether an empty `shape` means a scalar.
    pub has_rank: bool,
}

/// An operator of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Its kind, an index into [`Model::operator_codes`].
    pub opcode_index: u32,
    /// The tensors it reads, -1 for an optional one that is left out.
    pub inputs: Vec<i32>,
    /// The tensors it computes.
    pub outputs: Vec<i32>,
    /// Its option table.
    pub options: Options,
    /// Its option table of the second union.
    pub options_2: Options2,
    /// The options of a custom operator.
    pub custom_options: Vec<u8>,
    /// The format of `custom_options`: 0 FlexBuffers.
    pub custom_options_format: i8,
    /// Which inputs it changes.
    pub mutating_variable_inputs: Vec<bool>,
    /// Scratch tensors, -1 for none.
    pub intermediates: Vec<i32>,
    /// Index of debug metadata, -1 for none.
    pub debug_metadata_index: i32,
}

/// A named payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// The index of its payload.
    pub buffer: u32,
}

/// A named entry point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDef {
    /// Its name.
    pub key: String,
    /// Names for inputs of the graph.
    pub inputs: Vec<TensorMap>,
    /// Names for outputs of the graph.
    pub outputs: Vec<TensorMap>,
    /// The graph it enters.
    pub subgraph_index: u32,
}

/// A name for a tensor in a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The name.
    pub name: String,
    /// The tensor.
    pub tensor_index: u32,
}
