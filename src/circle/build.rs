//! Conveniences for those who build a model piece by piece.

use super::buffer::{Buffer, Bytes};
use super::model::{
    Model, Operator, OperatorCode, Quantization, SignatureDef, SubGraph, Tensor, TensorMap,
};
use super::operator::BuiltinOperator;
use super::options::Options;
use super::options2::Options2;
use super::types::TensorType;

impl Model {
    /// A model without graphs, holding the empty buffer 0 that every file must have.
    pub fn new(description: impl Into<String>) -> Self {
        Self { description: description.into(), buffers: vec![Buffer::Empty], ..Self::default() }
    }

    /// The index of an operator's code, added (version 1) where it is not there yet.
    pub fn opcode(&mut self, op: BuiltinOperator) -> u32 {
        self.opcode_version(op, 1)
    }

    /// The index of an operator's code of this version, added where it is not there yet.
    pub fn opcode_version(&mut self, op: BuiltinOperator, version: i32) -> u32 {
        self.add_code(OperatorCode { version, ..OperatorCode::new(op) })
    }

    /// The index of a code, added where it is not there yet.
    pub(super) fn add_code(&mut self, code: OperatorCode) -> u32 {
        let found = self.operator_codes.iter().position(|own| *own == code).unwrap_or_else(|| {
            self.operator_codes.push(code);
            self.operator_codes.len() - 1
        });
        index_u32(found)
    }

    /// Adds a payload and returns its index. Equal payloads are not merged.
    pub fn add_buffer(&mut self, buffer: Buffer) -> u32 {
        if self.buffers.is_empty() {
            self.buffers.push(Buffer::Empty);
        }
        self.buffers.push(buffer);
        index_u32(self.buffers.len() - 1)
    }

    /// What an operator of this model computes; `None` where its code does not exist.
    pub fn builtin(&self, op: &Operator) -> Option<BuiltinOperator> {
        let index = usize::try_from(op.opcode_index).ok()?;
        self.operator_codes.get(index).map(|code| code.builtin)
    }

    /// The payload of a tensor; `None` where its index does not exist.
    pub fn payload(&self, tensor: &Tensor) -> Option<&Buffer> {
        self.buffers.get(usize::try_from(tensor.buffer).ok()?)
    }

    /// Whether a tensor has all its elements in the file, be they none.
    pub(super) fn holds(&self, tensor: &Tensor) -> bool {
        tensor.shape.contains(&0) || self.payload(tensor).is_some_and(|bytes| !bytes.is_empty())
    }

    /// The payload of a constant where it is at hand; `None` for computed tensors and lazy payloads.
    /// A tensor without elements has all of its payload.
    pub fn constant(&self, tensor: &Tensor) -> Option<&[u8]> {
        let whole = |bytes: &&[u8]| !bytes.is_empty() || tensor.shape.contains(&0);
        self.payload(tensor)?.bytes().filter(whole)
    }

    /// The elements of a constant of INT32 or INT64, which axes and extents are; `None` for others.
    pub fn integers(&self, tensor: &Tensor) -> Option<Vec<i64>> {
        let bytes = self.constant(tensor)?;
        match tensor.dtype {
            TensorType::Int32 => {
                let chunks = bytes.as_chunks().0.iter();
                Some(chunks.map(|&chunk| i32::from_le_bytes(chunk).into()).collect())
            }
            TensorType::Int64 => {
                Some(bytes.as_chunks().0.iter().map(|&chunk| i64::from_le_bytes(chunk)).collect())
            }
            _ => None,
        }
    }
}

impl OperatorCode {
    /// Version 1 of an operator.
    pub fn new(builtin: BuiltinOperator) -> Self {
        Self { builtin, deprecated_code: builtin.deprecated_code(), custom_code: None, version: 1 }
    }
}

impl SubGraph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), debug_metadata_index: -1, ..Self::default() }
    }

    /// Adds a tensor and returns its index.
    pub fn add_tensor(&mut self, tensor: Tensor) -> i32 {
        self.tensors.push(tensor);
        index_i32(self.tensors.len() - 1)
    }

    /// Adds an operator at the end of the execution.
    pub fn add_operator(&mut self, operator: Operator) {
        self.operators.push(operator);
    }

    /// The tensor of an index; `None` for -1 and indices that do not exist.
    pub fn tensor(&self, index: i32) -> Option<&Tensor> {
        self.tensors.get(usize::try_from(index).ok()?)
    }

    /// The index of the first tensor of this name.
    pub fn find(&self, name: &str) -> Option<i32> {
        self.tensors.iter().position(|t| t.name == name).map(index_i32)
    }
}

impl Tensor {
    /// A tensor with a static shape and no payload.
    pub fn new(name: impl Into<String>, dtype: TensorType, shape: impl Into<Vec<i32>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            shape_signature: None,
            dtype,
            buffer: 0,
            quantization: None,
            is_variable: false,
            has_rank: false,
            sparsity: None,
            variant_tensors: Vec::new(),
            compression_type: 0,
        }
    }

    /// The same tensor with a payload.
    pub fn with_buffer(mut self, buffer: u32) -> Self {
        self.buffer = buffer;
        self
    }

    /// The same tensor, quantized.
    pub fn with_quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }
}

impl Quantization {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i64) -> Self {
        Self { scale: vec![scale], zero_point: vec![zero_point], ..Self::default() }
    }

    /// A scale and a zero point for every index of `dimension`.
    pub fn per_channel(scale: Vec<f32>, zero_point: Vec<i64>, dimension: i32) -> Self {
        Self { scale, zero_point, quantized_dimension: dimension, ..Self::default() }
    }
}

impl Operator {
    /// An operator of a builtin kind. See [`Options::of`] for options of a plain use.
    pub fn new(opcode_index: u32, inputs: Vec<i32>, outputs: Vec<i32>, options: Options) -> Self {
        Self {
            opcode_index,
            inputs,
            outputs,
            options,
            options_2: Options2::None,
            custom_options: Vec::new(),
            custom_options_format: 0,
            mutating_variable_inputs: Vec::new(),
            intermediates: Vec::new(),
            debug_metadata_index: -1,
        }
    }
}

impl SignatureDef {
    /// A signature whose names are those given.
    pub fn new(
        key: impl Into<String>,
        inputs: impl IntoIterator<Item = (String, u32)>,
        outputs: impl IntoIterator<Item = (String, u32)>,
    ) -> Self {
        let map = |(name, tensor_index)| TensorMap { name, tensor_index };
        Self {
            key: key.into(),
            inputs: inputs.into_iter().map(map).collect(),
            outputs: outputs.into_iter().map(map).collect(),
            subgraph_index: 0,
        }
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Buffer::Empty } else { Buffer::Data(bytes) }
    }
}

/// The index of an item of a vector that fits memory many times over in a FlatBuffer's 2 GiB.
fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("invariant: a model has fewer than 2^32 items of a kind")
}

fn index_i32(index: usize) -> i32 {
    i32::try_from(index).expect("invariant: a graph has fewer than 2^31 tensors")
}
