//! An integer file in the forms a foreign runtime executes natively: integers where it has a kernel
//! for them, and float between DEQUANTIZE and QUANTIZE where it has none. Grids stay those of the
//! file, so what is computed means the same.

use super::super::import::{self, Codes};
use super::Error;
use crate::circle::{
    Buffer, BuiltinOperator as B, Model, Operator, Options, Quantization, SubGraph, Target, Tensor,
    TensorType,
};
use std::collections::BTreeMap;

/// How an operator is written.
enum Kernel {
    /// On the integers.
    Integer,
    /// On the integers, into a grid that the runtime insists on; QUANTIZE brings it to ours.
    Onto(Quantization),
    /// In float.
    Float,
}

struct Rewrite {
    model: Model,
    graph: SubGraph,
    target: Target,
    /// Constants by tensor.
    constant: Vec<bool>,
    /// The float twin of a tensor, once made.
    floats: BTreeMap<i32, i32>,
}

/// The model for a runtime.
pub(super) fn rewrite(model: &Model, target: Target) -> Result<Model, Error> {
    let mut graph = model.subgraphs[0].clone();
    let operators = std::mem::take(&mut graph.operators);
    let constant = graph.tensors.iter().map(|t| model.constant(t).is_some()).collect();
    let floats = BTreeMap::new();
    let mut rewrite = Rewrite { model: model.clone(), graph, target, constant, floats };
    if target == Target::Litert {
        for i in 0..rewrite.graph.tensors.len() {
            rewrite.signed(i);
        }
    }
    for operator in operators {
        rewrite.operator(operator)?;
    }
    rewrite.model.subgraphs = vec![rewrite.graph];
    Ok(rewrite.model)
}

impl Rewrite {
    fn tensor(&self, index: i32) -> Option<&Tensor> {
        self.graph.tensor(index)
    }

    fn is_constant(&self, index: i32) -> bool {
        usize::try_from(index).is_ok_and(|i| self.constant.get(i) == Some(&true))
    }

    fn grid(&self, index: i32) -> Option<&Quantization> {
        let tensor = self.tensor(index).filter(|t| t.dtype != TensorType::Float32)?;
        tensor.quantization.as_ref().filter(|q| !q.scale.is_empty())
    }

    /// Unsigned integers as signed ones half a range lower: the same numbers, in the types that
    /// LiteRT has most kernels for.
    fn signed(&mut self, i: usize) {
        let tensor = &mut self.graph.tensors[i];
        let (dtype, half, flip) = match tensor.dtype {
            TensorType::Uint8 => (TensorType::Int8, 128, 0x80),
            TensorType::Uint4 => (TensorType::Int4, 8, 0x88),
            _ => return,
        };
        // Plain integers may have an empty table.
        let grid = tensor.quantization.as_mut().filter(|q| !q.scale.is_empty());
        let Some(quantization) = grid else { return };
        quantization.zero_point.iter_mut().for_each(|zero| *zero -= half);
        tensor.dtype = dtype;
        let tensor = self.graph.tensors[i].clone();
        let bytes = self.model.constant(&tensor).map(|b| b.iter().map(|b| b ^ flip).collect());
        if let Some(bytes) = bytes {
            let bytes: Vec<u8> = bytes;
            self.graph.tensors[i].buffer = self.model.add_buffer(Buffer::data(bytes));
        }
    }

    fn operator(&mut self, mut operator: Operator) -> Result<(), Error> {
        let builtin = self.model.builtin(&operator).unwrap_or(B::Unknown(0));
        let ports = operator.inputs.iter().chain(&operator.outputs);
        if matches!(builtin, B::Quantize | B::Dequantize)
            || !ports.clone().any(|&i| self.grid(i).is_some())
        {
            self.graph.add_operator(operator);
            return Ok(());
        }
        // The file's scales are none, but the schema's default and some writers say so.
        if let Options::Add { pot_scale_int16, .. } | Options::Sub { pot_scale_int16, .. } =
            &mut operator.options
        {
            *pot_scale_int16 = false;
        }
        match self.kernel(builtin, &operator) {
            Kernel::Integer => self.graph.add_operator(operator),
            Kernel::Onto(grid) => {
                let Some(&output) = operator.outputs.first() else { return Ok(()) };
                let same = self.grid(output).is_some_and(|own| {
                    own.scale == grid.scale && own.zero_point == grid.zero_point
                });
                if same {
                    self.graph.add_operator(operator);
                    return Ok(());
                }
                let Some(mut tensor) = self.tensor(output).cloned() else { return Ok(()) };
                tensor.name = format!("{}.native", tensor.name);
                tensor.quantization = Some(grid);
                let native = self.graph.add_tensor(tensor);
                operator.outputs = vec![native];
                self.graph.add_operator(operator);
                self.push(B::Quantize, native, output);
            }
            Kernel::Float => {
                for slot in 0..operator.inputs.len() {
                    if self.grid(operator.inputs[slot]).is_some() {
                        operator.inputs[slot] = self.float(operator.inputs[slot])?;
                    }
                }
                let mut rounded = Vec::new();
                for slot in &mut operator.outputs {
                    if self.grid(*slot).is_some() {
                        let float = self.twin(*slot, "float");
                        rounded.push((float, *slot));
                        *slot = float;
                    }
                }
                self.graph.add_operator(operator);
                for (from, to) in rounded {
                    self.push(B::Quantize, from, to);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, builtin: B, from: i32, to: i32) {
        let code = self.model.opcode(builtin);
        let options = Options::of(builtin);
        self.graph.add_operator(Operator::new(code, vec![from], vec![to], options));
    }

    /// A float tensor like `index`.
    fn twin(&mut self, index: i32, what: &str) -> i32 {
        let like = self.tensor(index);
        let like = like.map(|t| (t.name.clone(), t.shape.clone(), t.shape_signature.clone()));
        let (name, shape, signature) = like.unwrap_or_default();
        let mut tensor = Tensor::new(format!("{name}.{what}"), TensorType::Float32, shape);
        tensor.shape_signature = signature;
        self.graph.add_tensor(tensor)
    }

    /// The reals of a tensor: by DEQUANTIZE, or as a float constant where the runtime cannot.
    fn float(&mut self, index: i32) -> Result<i32, Error> {
        if let Some(&float) = self.floats.get(&index) {
            return Ok(float);
        }
        let float = self.twin(index, "reals");
        match self.is_constant(index) && !self.dequantizes(index) {
            true => {
                let bytes = self.reals(index)?;
                let buffer = self.model.add_buffer(Buffer::data(bytes));
                if let Some(tensor) =
                    usize::try_from(float).ok().and_then(|i| self.graph.tensors.get_mut(i))
                {
                    tensor.buffer = buffer;
                }
            }
            false => self.push(B::Dequantize, index, float),
        }
        self.floats.insert(index, float);
        Ok(float)
    }

    /// Whether the runtime dequantizes such a constant.
    fn dequantizes(&self, index: i32) -> bool {
        let channels = self.grid(index).map_or(0, |q| q.scale.len());
        let dtype = self.tensor(index).map(|t| t.dtype);
        match (self.target, dtype) {
            (Target::Litert, Some(TensorType::Int8 | TensorType::Int4)) => true,
            (Target::Onert, Some(TensorType::Uint8)) => channels == 1,
            _ => false,
        }
    }

    fn reals(&self, index: i32) -> Result<Vec<u8>, Error> {
        let tensor = self.tensor(index).ok_or_else(|| Error::tensor("", "is not there"))?;
        let misfit = |message: String| Error::tensor(&tensor.name, message);
        let (shape, params) = import::grid_of(tensor).map_err(misfit)?;
        let bytes = self.model.constant(tensor).unwrap_or_default();
        let codes = Codes::decode(tensor.dtype, bytes, shape.iter().product()).map_err(misfit)?;
        let reals = codes.reals(params.as_ref(), &shape).map_err(misfit)?;
        Ok(reals.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Types of operands and result, biases aside, where all are one.
    fn one_type(&self, operator: &Operator, operands: usize) -> Option<TensorType> {
        let own = operator.inputs.iter().take(operands).chain(&operator.outputs);
        let mut types = own.map(|&i| self.grid(i).and(self.tensor(i)).map(|t| t.dtype));
        let first = types.next()??;
        types.all(|dtype| dtype == Some(first)).then_some(first)
    }

    fn kernel(&self, builtin: B, operator: &Operator) -> Kernel {
        use TensorType::{Int8, Int16, Uint8};
        let litert = self.target == Target::Litert;
        let activations = match builtin {
            B::Add | B::Sub | B::Mul | B::BatchMatmul => 2,
            B::Concatenation => operator.inputs.len(),
            _ => 1,
        };
        let Some(dtype) = self.one_type(operator, activations) else { return Kernel::Float };
        let known = if litert { matches!(dtype, Int8 | Int16) } else { dtype == Uint8 };
        if !known {
            return Kernel::Float;
        }
        let integer = match builtin {
            B::FullyConnected => self.weights_fit(operator, dtype),
            B::Add | B::Sub | B::Mul => true,
            B::BatchMatmul => litert,
            // Its 16-bit kernel computes other numbers.
            B::Gelu => litert && dtype == Int8,
            B::Reshape | B::Transpose | B::Concatenation => self.moves(operator, activations),
            B::StridedSlice | B::Slice => litert && self.moves(operator, activations),
            B::Softmax | B::Logistic if litert => {
                let (scale, zero) = match dtype {
                    Int16 => (1.0 / 32768.0, 0),
                    _ => (1.0 / 256.0, -128),
                };
                return Kernel::Onto(Quantization::per_tensor(scale, zero));
            }
            _ => false,
        };
        if integer { Kernel::Integer } else { Kernel::Float }
    }

    /// Whether all operands are on the grid of the result.
    fn moves(&self, operator: &Operator, operands: usize) -> bool {
        let own = |i: &i32| self.grid(*i).map(|q| (&q.scale, &q.zero_point));
        let result = operator.outputs.first().and_then(own);
        operator.inputs.iter().take(operands).all(|i| own(i) == result)
    }

    fn weights_fit(&self, operator: &Operator, dtype: TensorType) -> bool {
        use TensorType::{Int4, Int8, Int16, Int32, Int64, Uint8};
        let of =
            |k: usize| operator.inputs.get(k).and_then(|&i| Some((self.grid(i)?, self.tensor(i)?)));
        let Some((grid, weight)) = of(1) else { return false };
        if grid.scale.len() > 1 && grid.quantized_dimension != 0 {
            return false;
        }
        let bias = match operator.inputs.get(2) {
            None | Some(-1) => None,
            Some(_) => match of(2) {
                Some((_, bias)) => Some(bias.dtype),
                None => return false,
            },
        };
        let zero = grid.zero_point.iter().all(|&zero| zero == 0);
        match (dtype, weight.dtype) {
            (Int8, Int8 | Int4) => zero && matches!(bias, None | Some(Int32)),
            (Int16, Int8 | Int4) => zero && matches!(bias, None | Some(Int64)),
            (Uint8, Uint8) => grid.scale.len() == 1 && matches!(bias, None | Some(Int32)),
            _ => false,
        }
    }
}
