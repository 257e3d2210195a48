//! An integer file as a float file: constants dequantized, every activation rounded to its grid by
//! QUANTIZE and DEQUANTIZE. Any runtime with these two operators then computes what the integers
//! mean.

use super::super::import::{self, Codes};
use super::super::names::Names;
use super::Error;
use crate::circle::{
    Buffer, BuiltinOperator, Model, Operator, Options, Quantization, SubGraph, Tensor, TensorType,
};
use crate::quant::QuantParams;

struct Rewrite {
    model: Model,
    graph: SubGraph,
    /// The grid of each quantized activation, by tensor of the file.
    grids: Vec<Option<(TensorType, Quantization)>>,
    /// Whether every operator stands for itself, and the integers of what they compute.
    alone: bool,
    codes: Vec<i32>,
}

/// The model in float. Names stay with the values after rounding. With `alone` values after
/// rounding are inputs, and what was rounded are outputs, `NAME.codes`.
pub(super) fn rewrite(model: &Model, alone: bool) -> Result<Model, Error> {
    let mut graph = model.subgraphs[0].clone();
    if alone {
        // By their names the caller finds the arrays for them.
        Names::of(&mut graph);
    }
    let operators = std::mem::take(&mut graph.operators);
    let inputs = std::mem::take(&mut graph.inputs);
    let mut rewrite = Rewrite {
        model: model.clone(),
        grids: vec![None; graph.tensors.len()],
        graph,
        alone,
        codes: Vec::new(),
    };
    for i in 0..rewrite.grids.len() {
        rewrite.tensor(i)?;
    }
    for input in inputs {
        let wrapped = rewrite.grid(input).is_some() && !alone;
        let port = if wrapped { rewrite.before(input, "input") } else { input };
        rewrite.graph.inputs.push(port);
        if wrapped {
            rewrite.round(port, input);
        }
    }
    for operator in operators {
        rewrite.operator(operator)?;
    }
    if alone {
        rewrite.graph.outputs = rewrite.codes;
    }
    rewrite.model.subgraphs = vec![rewrite.graph];
    Ok(rewrite.model)
}

impl Rewrite {
    fn grid(&self, index: i32) -> Option<&(TensorType, Quantization)> {
        self.grids.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Makes a tensor float; remembers the grid of an activation, dequantizes a constant.
    fn tensor(&mut self, i: usize) -> Result<(), Error> {
        let tensor = &self.graph.tensors[i];
        let misfit = |message: String| Error::tensor(&tensor.name, message);
        let (shape, params) = import::grid_of(tensor).map_err(misfit)?;
        let Some(params) = params else { return Ok(()) };
        if matches!(params, QuantParams::Mx { .. }) {
            return Err(misfit("is in MX blocks, which QUANTIZE does not know".into()));
        }
        let buffer = match self.model.constant(tensor) {
            None => None,
            Some(bytes) => {
                let count = shape.iter().product();
                let codes = Codes::decode(tensor.dtype, bytes, count).map_err(misfit)?;
                let reals = codes.reals(Some(&params), &shape).map_err(misfit)?;
                Some(reals.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
            }
        };
        let buffer = buffer.map(|bytes| self.model.add_buffer(Buffer::data(bytes)));
        let tensor = &mut self.graph.tensors[i];
        let quantization = tensor.quantization.take().unwrap_or_default();
        let dtype = std::mem::replace(&mut tensor.dtype, TensorType::Float32);
        match buffer {
            Some(buffer) => tensor.buffer = buffer,
            None => self.grids[i] = Some((dtype, quantization)),
        }
        Ok(())
    }

    /// A float tensor like `index`, under another name.
    fn before(&mut self, index: i32, what: &str) -> i32 {
        let mut tensor = self.graph.tensor(index).cloned().expect("invariant: the grid's tensor");
        tensor.name = format!("{}.{what}", tensor.name);
        self.graph.add_tensor(tensor)
    }

    /// `to` = `from` rounded to the grid of `to`.
    fn round(&mut self, from: i32, to: i32) {
        let Some((dtype, quantization)) = self.grid(to).cloned() else { return };
        let like = self.graph.tensor(to).cloned().expect("invariant: the grid's tensor");
        let name = format!("{}.codes", like.name);
        let mut codes = Tensor::new(name, dtype, like.shape).with_quantization(quantization);
        codes.shape_signature = like.shape_signature;
        let codes = self.graph.add_tensor(codes);
        self.push(BuiltinOperator::Quantize, from, codes);
        if self.alone {
            self.codes.push(codes);
            self.graph.inputs.push(to);
        } else {
            self.push(BuiltinOperator::Dequantize, codes, to);
        }
    }

    fn push(&mut self, builtin: BuiltinOperator, from: i32, to: i32) {
        let code = self.model.opcode(builtin);
        let options = Options::of(builtin);
        self.graph.add_operator(Operator::new(code, vec![from], vec![to], options));
    }

    fn operator(&mut self, mut operator: Operator) -> Result<(), Error> {
        use BuiltinOperator as B;
        let builtin = self.model.builtin(&operator).unwrap_or(B::Unknown(0));
        let (from, to) = (operator.inputs.first().copied(), operator.outputs.first().copied());
        if let (B::Quantize | B::Dequantize, Some(from), Some(to)) = (builtin, from, to) {
            if self.grid(to).is_none() {
                return self.copy(from, to);
            }
            self.round(from, to);
            return Ok(());
        }
        let moves = matches!(
            builtin,
            B::Reshape
                | B::Transpose
                | B::StridedSlice
                | B::Slice
                | B::Concatenation
                | B::Split
                | B::SplitV
        );
        let mut rounded = Vec::new();
        for slot in &mut operator.outputs {
            let output = *slot;
            let grids = operator.inputs.iter().filter_map(|&i| self.grid(i));
            // What moves within a grid is on it already; a constant among the operands may not be.
            let reals = operator.inputs.iter().filter(|&&i| self.is_real(i)).count();
            let still = moves
                && !self.alone
                && grids.clone().count() == reals
                && grids.into_iter().all(|grid| Some(grid) == self.grid(output));
            if self.grid(output).is_some() && !still {
                *slot = self.before(output, "float");
                rounded.push((*slot, output));
            }
        }
        if !self.split_in_equal_parts(builtin, &mut operator) {
            self.graph.add_operator(operator);
        }
        for (from, to) in rounded {
            self.round(from, to);
        }
        Ok(())
    }

    fn is_real(&self, index: i32) -> bool {
        self.graph.tensor(index).is_some_and(|t| t.dtype == TensorType::Float32)
    }

    /// A value that crosses from a grid to float: it is float already.
    fn copy(&mut self, from: i32, to: i32) -> Result<(), Error> {
        let like = self.graph.tensor(to).expect("invariant: a verified model has the result");
        let shape = like.shape_signature.as_ref().unwrap_or(&like.shape).clone();
        if shape.iter().filter(|&&extent| extent < 0).count() > 1 {
            let message = format!("is dynamic as {shape:?}, expected at most one such dimension");
            return Err(Error::tensor(&like.name, message));
        }
        let extents = self.integers("shape", &shape);
        let code = self.model.opcode(BuiltinOperator::Reshape);
        let options = Options::Reshape { new_shape: shape };
        self.graph.add_operator(Operator::new(code, vec![from, extents], vec![to], options));
        Ok(())
    }

    fn integers(&mut self, name: &str, values: &[i32]) -> i32 {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let buffer = self.model.add_buffer(Buffer::data(bytes));
        let len = i32::try_from(values.len()).unwrap_or(i32::MAX);
        let name = format!("{name}.{}", self.graph.tensors.len());
        let tensor = Tensor::new(name, TensorType::Int32, vec![len]).with_buffer(buffer);
        self.graph.add_tensor(tensor)
    }

    /// SPLIT_V computes nothing on onert; equal parts are a SPLIT.
    fn split_in_equal_parts(&mut self, builtin: BuiltinOperator, operator: &mut Operator) -> bool {
        let (BuiltinOperator::SplitV, [x, _, axis]) = (builtin, &operator.inputs[..]) else {
            return false;
        };
        let extent = |index: &i32| Some(self.graph.tensor(*index)?.shape.clone());
        let shapes: Vec<_> = operator.outputs.iter().map(extent).collect();
        let constant = self.graph.tensor(*axis).and_then(|t| self.model.constant(t));
        let axis = constant.and_then(|bytes| Some(i32::from_le_bytes(*bytes.first_chunk()?)));
        let rank = extent(x).map(|shape| shape.len());
        let (Some(axis), Some(rank), true) = (axis, rank, shapes.windows(2).all(|w| w[0] == w[1]))
        else {
            return false;
        };
        let rank = i32::try_from(rank).unwrap_or(0);
        let axis = if axis < 0 { axis + rank } else { axis };
        let x = *x;
        let axis = self.integers("axis", &[axis]);
        let num_splits = i32::try_from(operator.outputs.len()).unwrap_or(0);
        let code = self.model.opcode(BuiltinOperator::Split);
        let outputs = operator.outputs.clone();
        let options = Options::Split { num_splits };
        self.graph.add_operator(Operator::new(code, vec![axis, x], outputs, options));
        true
    }
}
