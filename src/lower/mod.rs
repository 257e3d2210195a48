//! Graph to Circle: values become tensors, nodes become operators, annotations become
//! quantization parameters. Nothing is decided here.

mod meeting;
mod payload;

use crate::calibrate::meeting;
use crate::circle::{
    self, Buffer, BuiltinOperator, Model, Operator, Options, Quantization, SubGraph, TensorType,
};
use crate::graph::{Graph, Kind, Node, Source, ValueId};
use crate::ops::Operand;
use crate::quant::{self, BiasError, DType, Decision, Grain, QuantParams, Range};
use crate::tensor::Tensor;
use std::collections::HashMap;

/// A payload, and a key that equal payloads share.
pub type Content = (Buffer, Vec<u8>);

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Every real tensor as FLOAT32; annotations are ignored.
    Float,
    /// Annotated tensors as their integers.
    Quantized,
}

/// Why a graph has no Circle form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// The format has no type for this grid.
    #[error("{name}: Circle has no tensor type for {dtype}")]
    NoType {
        /// The tensor.
        name: String,
        /// The dtype asked for.
        dtype: String,
    },
    /// A weight in groups of inputs.
    ///
    /// A tensor has one scale or one a channel. GGML's blocks of 32 have grids of their own, kernels
    /// for float activations, and none for a bias; dequantizing the weight in the graph, group by
    /// group, gives a float one.
    #[error(
        "{name}: groups of {group} inputs have no place in a Circle file, whose tensors have one scale \
         or one a channel: blocks of 32 (GGML_Q4_0, GGML_Q8_0), for float activations, are what \
         `encircle export --weights` makes of a float file. `encircle eval` measures groups; \
         `axis = 0` in place of `group` makes a file"
    )]
    Groups {
        /// The weight.
        name: String,
        /// Inputs that share a grid.
        group: usize,
    },
    /// Asymmetric 16-bit integers, which kernels take for symmetric ones or refuse.
    #[error(
        "{name}: symmetric = false, but int16 has zero points of 0 in a Circle file: leave it out, or \
         choose a dtype of at most 8 bits"
    )]
    Asymmetric {
        /// The tensor.
        name: String,
    },
    /// An extent beyond what the format counts with.
    #[error("{name}: extent {found} is beyond 2147483647")]
    Extent {
        /// The tensor.
        name: String,
        /// The extent.
        found: usize,
    },
    /// A bias that its accumulator cannot hold.
    #[error("{name}: {source}")]
    Bias {
        /// The bias.
        name: String,
        /// The channel and the numbers.
        source: BiasError,
    },
}

/// Lowers `graph`; `constant` gives the float values of parameters and constants.
///
/// # Errors
/// A grid or an extent that the format cannot express, a bias that saturates.
pub fn lower(
    graph: &Graph,
    precision: Precision,
    constant: &dyn Fn(ValueId) -> Tensor,
) -> Result<Model, LowerError> {
    lower_onto(graph, precision, constant, &|_| None)
}

/// As [`lower`], where `payload` has the payloads of some constants already, as the file shall have
/// them.
///
/// # Errors
/// Those of [`lower`].
pub fn lower_onto(
    graph: &Graph,
    precision: Precision,
    constant: &dyn Fn(ValueId) -> Tensor,
    payload: &dyn Fn(ValueId) -> Option<Content>,
) -> Result<Model, LowerError> {
    let mut lowering = Lowering {
        graph,
        precision,
        constant,
        ready: payload,
        model: Model::new(format!("encircle {}", env!("CARGO_PKG_VERSION"))),
        subgraph: SubGraph::new(&graph.name),
        index: vec![None; graph.values.len()],
        widened: HashMap::new(),
        shared: HashMap::new(),
        integers: HashMap::new(),
    };
    for &id in &graph.inputs {
        let index = lowering.value(id)?;
        lowering.subgraph.inputs.push(index);
    }
    for node in &graph.nodes {
        lowering.node(node)?;
    }
    for &id in &graph.outputs {
        let index = lowering.value(id)?;
        lowering.subgraph.outputs.push(index);
    }
    lowering.model.subgraphs.push(lowering.subgraph);
    Ok(lowering.model)
}

/// Refuses a grid that [`lower`] would refuse, before one is made: that of a constant or an activation.
///
/// # Errors
/// A dtype that no tensor type of the format has, MX blocks of a constant, groups, zero points of
/// 16-bit integers.
pub fn check(name: &str, decision: &Decision, constant: bool) -> Result<(), LowerError> {
    // Nobody knows the range yet; on one side of zero it shows whether there are zero points.
    match decision.params(&[Range::new(0.0, 1.0)]) {
        Ok(Some(params)) => tensor_type(name, &params, constant).map(drop),
        _ => Ok(()),
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    precision: Precision,
    constant: &'a dyn Fn(ValueId) -> Tensor,
    ready: &'a dyn Fn(ValueId) -> Option<Content>,
    model: Model,
    subgraph: SubGraph,
    /// Circle tensor of each value, once made.
    index: Vec<Option<i32>>,
    /// Circle tensor of a value on its grid spread over a wider dtype.
    widened: HashMap<(ValueId, DType), i32>,
    /// Constants of equal content and grid are one tensor, so tied weights stay tied.
    shared: HashMap<Vec<u8>, i32>,
    /// Likewise for shapes, orders and axes.
    integers: HashMap<Vec<i32>, i32>,
}

impl Lowering<'_> {
    fn node(&mut self, node: &Node) -> Result<(), LowerError> {
        let shapes: Vec<&[usize]> =
            node.inputs.iter().map(|&id| &self.graph.value(id).shape[..]).collect();
        let encoding = node.op.def().encode(&shapes);
        let dtype = match self.precision {
            Precision::Float => None,
            Precision::Quantized => meeting(self.graph, node),
        };
        let mut inputs = Vec::with_capacity(encoding.arity);
        for (position, &id) in node.inputs.iter().enumerate() {
            inputs.push(match (dtype, node.op.def().operand(position)) {
                (Some(dtype), Operand::Activation) => self.widened(id, dtype)?,
                _ => self.value(id)?,
            });
        }
        inputs.extend(encoding.constants.into_iter().map(|c| self.integer_vector(c)));
        inputs.resize(inputs.len().max(encoding.arity), -1);
        let output = self.value(node.output)?;
        let wide = dtype.map(|dtype| self.wide_result(node.output, dtype)).transpose()?.flatten();
        let spare = encoding.spare.map(|shape| self.spare(node, shape)).transpose()?;
        let outputs = spare.into_iter().chain([wide.unwrap_or(output)]).collect();
        self.push(encoding.builtin, encoding.options, inputs, outputs);
        if let Some(wide) = wide {
            self.requantize(wide, output);
        }
        Ok(())
    }

    /// A result that the operator has and nobody reads, on the grid of the first operand.
    fn spare(&mut self, node: &Node, shape: Vec<usize>) -> Result<i32, LowerError> {
        let params = self.graph.value(node.inputs[0]).qparams.as_ref();
        let params = params.filter(|_| self.precision == Precision::Quantized);
        let mut tensor = self.tensor(node.inputs[0], params)?;
        tensor.name = format!("{}.values", self.graph.value(node.output).name);
        tensor.shape = shape.iter().map(|&n| i32::try_from(n).unwrap_or(i32::MAX)).collect();
        Ok(self.subgraph.add_tensor(tensor))
    }

    fn push(&mut self, op: BuiltinOperator, options: Options, inputs: Vec<i32>, outputs: Vec<i32>) {
        let opcode = self.model.opcode(op);
        self.subgraph.add_operator(Operator::new(opcode, inputs, outputs, options));
    }

    fn integer_vector(&mut self, vector: Vec<i32>) -> i32 {
        if let Some(&index) = self.integers.get(&vector) {
            return index;
        }
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let words: Vec<String> = vector.iter().map(i32::to_string).collect();
        let shape = vec![i32::try_from(vector.len()).unwrap_or(i32::MAX)];
        let mut tensor =
            circle::Tensor::new(format!("int[{}]", words.join(",")), TensorType::Int32, shape);
        tensor.buffer = self.model.add_buffer(Buffer::data(bytes));
        let index = self.subgraph.add_tensor(tensor);
        self.integers.insert(vector, index);
        index
    }

    fn value(&mut self, id: ValueId) -> Result<i32, LowerError> {
        if let Some(index) = self.index[id.index()] {
            return Ok(index);
        }
        let value = self.graph.value(id);
        let params = value.qparams.as_ref().filter(|_| self.precision == Precision::Quantized);
        let tensor = self.tensor(id, params)?;
        let index = match value.source {
            Source::Param(_) | Source::Const(_) => {
                let payload = self.payload(id, params)?;
                self.constant(tensor, payload)
            }
            Source::Input | Source::Node(_) => self.subgraph.add_tensor(tensor),
        };
        self.index[id.index()] = Some(index);
        Ok(index)
    }

    /// The tensor of a value on the grid `params`, without its content.
    fn tensor(
        &self,
        id: ValueId,
        params: Option<&QuantParams>,
    ) -> Result<circle::Tensor, LowerError> {
        let value = self.graph.value(id);
        let extent = |&n: &usize| {
            i32::try_from(n).map_err(|_| LowerError::Extent { name: value.name.clone(), found: n })
        };
        let shape = value.shape.iter().map(extent).collect::<Result<Vec<i32>, _>>()?;
        let dtype = match (value.kind, params) {
            (Kind::Index, _) if matches!(value.source, Source::Node(_)) => TensorType::Int32,
            (Kind::Index, _) => TensorType::Int64,
            (Kind::Real, None) => TensorType::Float32,
            (Kind::Real, Some(params)) => tensor_type(&value.name, params, value.is_constant())?,
        };
        let mut tensor = circle::Tensor::new(&value.name, dtype, shape);
        tensor.quantization = params.map(quantization);
        Ok(tensor)
    }

    /// A tensor of this content, made once; with a key that equal payloads share.
    fn constant(&mut self, mut tensor: circle::Tensor, (payload, content): Content) -> i32 {
        let mut key = format!("{:?} {:?} {:?} ", tensor.dtype, tensor.shape, tensor.quantization)
            .into_bytes();
        key.extend_from_slice(&content);
        if let Some(&index) = self.shared.get(&key) {
            return index;
        }
        tensor.buffer = self.model.add_buffer(payload);
        let index = self.subgraph.add_tensor(tensor);
        self.shared.insert(key, index);
        index
    }

    /// The payload of a constant, and a key that equal payloads share.
    fn payload(&self, id: ValueId, params: Option<&QuantParams>) -> Result<Content, LowerError> {
        if let Some(content) = (self.ready)(id) {
            return Ok(content);
        }
        let tensor = (self.constant)(id);
        match params {
            Some(QuantParams::Affine { dtype, scale, .. }) if dtype.bits() > 16 => {
                let bytes = self.bias(id, &tensor, *dtype, scale)?;
                Ok((Buffer::data(bytes.clone()), bytes))
            }
            _ => Ok(payload::of(tensor, params)),
        }
    }

    /// The integers of a bias, on the scales that it was annotated with.
    fn bias(
        &self,
        id: ValueId,
        bias: &Tensor,
        dtype: DType,
        scale: &[f32],
    ) -> Result<Vec<u8>, LowerError> {
        let (_, integers) =
            quant::quantize_bias(bias.data(), 1.0, scale, dtype).map_err(|source| {
                LowerError::Bias { name: self.graph.value(id).name.clone(), source }
            })?;
        Ok(match dtype.bits() {
            32 => integers.iter().flat_map(|&q| (q as i32).to_le_bytes()).collect(),
            _ => integers.iter().flat_map(|q| q.to_le_bytes()).collect(),
        })
    }
}

fn tensor_type(name: &str, params: &QuantParams, constant: bool) -> Result<TensorType, LowerError> {
    let none = |dtype: String| LowerError::NoType { name: name.into(), dtype };
    match params {
        QuantParams::Affine { grain: Grain::Groups(group), .. } => {
            Err(LowerError::Groups { name: name.into(), group: *group })
        }
        QuantParams::Affine { dtype: DType::INT16, zero_point, .. }
            if zero_point.iter().any(|&zero| zero != 0) =>
        {
            Err(LowerError::Asymmetric { name: name.into() })
        }
        QuantParams::Affine { dtype, .. } => Ok(match *dtype {
            // No runtime would keep what it computes within fewer bits than the type has.
            d if d.bits() < 4 && !constant => {
                return Err(none(format!("activations of {d}: 4 bits are the fewest")));
            }
            // Fewer bits have no type of their own; their integers are valid 4-bit ones.
            d if d.bits() <= 4 && !d.signed() => TensorType::Uint4,
            d if d.bits() <= 4 => TensorType::Int4,
            DType::UINT8 => TensorType::Uint8,
            DType::INT8 => TensorType::Int8,
            DType::UINT16 => TensorType::Uint16,
            DType::INT16 => TensorType::Int16,
            DType::INT32 => TensorType::Int32,
            DType::INT64 => TensorType::Int64,
            other => return Err(none(other.to_string())),
        }),
        QuantParams::Mx { format, .. } if constant => {
            Err(none(format!("constants of mx {format}")))
        }
        QuantParams::Mx { format, .. } => match format.to_string().as_str() {
            "int8" => Ok(TensorType::MxInt8),
            "fp4" => Ok(TensorType::MxFp4),
            other => Err(none(format!("mx {other}"))),
        },
    }
}

/// A grid as the file says it.
pub fn quantization(params: &QuantParams) -> Quantization {
    match params {
        QuantParams::Affine { scale, zero_point, grain, .. } => Quantization {
            scale: scale.clone(),
            zero_point: zero_point.iter().map(|&z| i64::from(z)).collect(),
            quantized_dimension: match grain {
                Grain::Axis(axis) => i32::try_from(*axis).unwrap_or(0),
                Grain::Tensor | Grain::Groups(_) => 0,
            },
            ..Quantization::default()
        },
        // The type says the format; runtimes read the block axis here.
        QuantParams::Mx { axis, .. } => Quantization {
            quantized_dimension: i32::try_from(*axis).unwrap_or(0),
            ..Quantization::default()
        },
    }
}

#[cfg(test)]
mod tests;
