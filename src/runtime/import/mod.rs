//! Circle to graph: tensors become values, operators become nodes, quantization parameters become
//! annotations. Every number is checked before it is used: the file may be hostile.

mod movement;
mod operators;
mod payload;

pub(super) use payload::Codes;

use super::{Error, Limits, fold::fold, names::Names};
use crate::circle::{self, BuiltinOperator, Details, Model, Operator, SubGraph, TensorType};
use crate::graph::{Builder, Graph, Kind, ValueId};
use crate::ops::{Op, OutputRule};
use crate::quant::{DType, Grain, MxFormat, QuantParams};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, HashMap};

/// What an import yields.
pub(super) struct Imported {
    pub(super) graph: Graph,
    /// Integers of quantized constants, by index of the value.
    pub(super) codes: BTreeMap<usize, Codes>,
    /// Types of the graph's inputs and outputs in the file.
    pub(super) types: [Vec<TensorType>; 2],
}

/// Why an operator does not import; the place is added by the caller.
pub(super) type Misfit = String;

/// A graph in the making.
struct Import<'a> {
    model: &'a Model,
    file: &'a SubGraph,
    limits: Limits,
    used: u64,
    g: Builder,
    names: Names,
    /// The value of each tensor, once it has one.
    values: Vec<Option<ValueId>>,
    params: Vec<(ValueId, QuantParams)>,
    codes: BTreeMap<usize, Codes>,
    /// What computed positions stay below.
    most: HashMap<ValueId, usize>,
}

/// The graph of this name, or the first of a model.
pub(super) fn import(
    model: &Model,
    graph: Option<&str>,
    limits: Limits,
) -> Result<Imported, Error> {
    let report = circle::verify(model);
    if let Some(finding) = report.errors.first() {
        return Err(Error::Invalid(finding.to_string()));
    }
    let index = circle::find_graph(model, graph).map_err(|e| Error::Graph(e.to_string()))?;
    let mut model = model.clone();
    let done = fold(&mut model, index, limits);
    let names = Names::of(&mut model.subgraphs[index]);
    let file = &model.subgraphs[index];
    let mut import = Import {
        model: &model,
        file,
        limits,
        used: 0,
        g: Builder::new(&file.name),
        names,
        values: vec![None; file.tensors.len()],
        params: Vec::new(),
        codes: BTreeMap::new(),
        most: HashMap::new(),
    };
    for &input in &file.inputs {
        import.input(input)?;
    }
    let operators = file.operators.iter().enumerate();
    for (index, operator) in operators.filter(|(index, _)| !done.contains(index)) {
        import.operator(index, operator)?;
    }
    let output = |&index: &i32| {
        import.operand(index).map_err(|message| Error::tensor(import_name(file, index), message))
    };
    let outputs = file.outputs.iter().map(output).collect::<Result<Vec<_>, _>>()?;
    let types = [&file.inputs, &file.outputs]
        .map(|ports| ports.iter().filter_map(|&i| Some(file.tensor(i)?.dtype)).collect());
    let mut graph = import.g.finish(&outputs).map_err(|e| Error::Invalid(e.to_string()))?;
    for (id, params) in import.params {
        graph.values[id.index()].qparams = Some(params);
    }
    Ok(Imported { graph, codes: import.codes, types })
}

fn import_name(file: &SubGraph, index: i32) -> &str {
    file.tensor(index).map_or("", |tensor| &tensor.name)
}

impl<'a> Import<'a> {
    fn operator(&mut self, index: usize, operator: &Operator) -> Result<(), Error> {
        let builtin = self.model.builtin(operator).unwrap_or(BuiltinOperator::Unknown(0));
        let place = |message| Error::Operator { index, operator: builtin.to_string(), message };
        self.encode(builtin, operator).map_err(place)?;
        if self.used > self.limits.elements {
            return Err(Error::TooLarge { needed: self.used, limit: self.limits.elements });
        }
        Ok(())
    }

    /// The tensor of an index.
    fn tensor(&self, index: i32) -> Result<&'a circle::Tensor, Misfit> {
        self.file.tensor(index).ok_or_else(|| format!("there is no tensor {index}"))
    }

    /// The extents of a tensor, all of them positive, and its elements counted.
    fn shape(&mut self, tensor: &circle::Tensor) -> Result<Vec<usize>, Misfit> {
        let mut count = 1_u64;
        let mut shape = Vec::with_capacity(tensor.shape.len());
        for &n in &tensor.shape {
            let extent = usize::try_from(n).ok().filter(|&n| n > 0);
            let extent = extent.ok_or_else(|| format!("has the extent {n}"))?;
            count = count.saturating_mul(extent as u64);
            shape.push(extent);
        }
        if shape.len() > 6 {
            return Err(format!("has rank {}, at most 6 is executed", shape.len()));
        }
        self.work(count)?;
        Ok(shape)
    }

    /// Counts elements against the limit.
    fn work(&mut self, elements: u64) -> Result<(), Misfit> {
        self.used = self.used.saturating_add(elements);
        match self.used > self.limits.elements {
            true => Err(format!("is beyond the limit of {} elements", self.limits.elements)),
            false => Ok(()),
        }
    }

    fn input(&mut self, index: i32) -> Result<(), Error> {
        let name = import_name(self.file, index);
        let misfit = |message: Misfit| Error::tensor(name, message);
        let tensor = self.tensor(index).map_err(misfit)?;
        let slot = usize::try_from(index).unwrap_or(usize::MAX);
        if self.values[slot].is_some() {
            return Err(misfit("is an input twice".into()));
        }
        let shape = self.shape(tensor).map_err(misfit)?;
        let params = params(tensor, &shape).map_err(misfit)?;
        let kind = match (tensor.dtype, &params) {
            (TensorType::Int32 | TensorType::Int64, None) => Kind::Index,
            (TensorType::Float32, None) | (_, Some(_)) => Kind::Real,
            (other, None) => return Err(misfit(format!("is {other} without qparams"))),
        };
        let id = self.g.input(name, shape, kind);
        self.params.extend(params.map(|params| (id, params)));
        self.values[slot] = Some(id);
        Ok(())
    }

    /// The value of a tensor that is read; constants become values at their first reading.
    fn operand(&mut self, index: i32) -> Result<ValueId, Misfit> {
        let tensor = self.tensor(index)?;
        let slot = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(id) = self.values[slot] {
            return Ok(id);
        }
        let named = |message: Misfit| format!("\"{}\" {message}", tensor.name.escape_debug());
        let Some(bytes) = self.model.constant(tensor) else {
            return Err(named("is read before it is computed".into()));
        };
        let shape = self.shape(tensor).map_err(named)?;
        let params = params(tensor, &shape).map_err(named)?;
        let count = shape.iter().product();
        let codes = Codes::decode(tensor.dtype, bytes, count).map_err(named)?;
        let reals = codes.reals(params.as_ref(), &shape).map_err(named)?;
        let id = self.g.constant(&tensor.name, Tensor::new(shape, reals));
        if let Some(params) = params {
            self.params.push((id, params));
            self.codes.insert(id.index(), codes);
        }
        self.values[slot] = Some(id);
        Ok(id)
    }

    /// A node whose result is tensor `output` of the file.
    fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId], output: i32) -> Result<(), Misfit> {
        let op = op.into();
        let tensor = self.tensor(output)?;
        let named = |message: Misfit| format!("\"{}\" {message}", tensor.name.escape_debug());
        if !matches!(op, Op::Gather(_)) && inputs.iter().any(|&id| self.g.is_index(id)) {
            return Err("reads an integer input that is not quantized".into());
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.g.shape(id)).collect();
        let found = op.def().shape(&shapes)?;
        let shape = self.shape(tensor).map_err(named)?;
        if found != shape {
            return Err(named(format!("is declared {shape:?}, but computed {found:?}")));
        }
        let params = params(tensor, &shape).map_err(named)?;
        let counts = op.def().rule() == OutputRule::Indices;
        let expected = if counts { TensorType::Int32 } else { TensorType::Float32 };
        if counts && params.is_some() {
            return Err(named("counts, but has qparams".into()));
        }
        if params.is_none() && tensor.dtype != expected {
            return Err(named(format!("is {} without qparams", tensor.dtype)));
        }
        if params.as_ref().is_some_and(|p| p.dtype().is_some() && !p.is_per_tensor()) {
            return Err(named("is computed and has a scale for each channel".into()));
        }
        let slot = usize::try_from(output).unwrap_or(usize::MAX);
        if self.values[slot].is_some() {
            return Err(named("is computed twice".into()));
        }
        let id = self.g.push(&tensor.name, op, inputs);
        self.params.extend(params.map(|params| (id, params)));
        self.values[slot] = Some(id);
        Ok(())
    }

    /// A node on the way to tensor `output`, on the grid of `like`.
    fn step(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        output: i32,
        like: Option<ValueId>,
    ) -> Result<ValueId, Misfit> {
        let op = op.into();
        if inputs.iter().any(|&id| self.g.is_index(id)) {
            return Err("reads an integer input that is not quantized".into());
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.g.shape(id)).collect();
        let shape = op.def().shape(&shapes)?;
        let count = shape.iter().fold(1_u64, |count, &n| count.saturating_mul(n as u64));
        self.work(count)?;
        let params = like.and_then(|like| self.params_of(like));
        // The axis of several scales may be lost on the way.
        params.iter().try_for_each(|params| params.check(&shape).map_err(|e| e.to_string()))?;
        let wanted = format!("{}.step", self.tensor(output)?.name);
        let name = self.names.give(&wanted);
        let id = self.g.push(&name, op, inputs);
        self.params.extend(params.map(|params| (id, params)));
        Ok(id)
    }

    /// Puts a value on the grid of tensor `output` of the file.
    fn same_grid(&mut self, id: ValueId, output: i32) -> Result<(), Misfit> {
        let tensor = self.tensor(output)?;
        let shape = self.shape(tensor)?;
        self.params.extend(params(tensor, &shape)?.map(|params| (id, params)));
        Ok(())
    }

    fn params_of(&self, id: ValueId) -> Option<QuantParams> {
        self.params.iter().find(|(other, _)| *other == id).map(|(_, params)| params.clone())
    }
}

/// Shape and grid of a tensor of a file.
pub(super) fn grid_of(
    tensor: &circle::Tensor,
) -> Result<(Vec<usize>, Option<QuantParams>), Misfit> {
    let extent = |&n: &i32| usize::try_from(n).map_err(|_| format!("has the extent {n}"));
    let shape = tensor.shape.iter().map(extent).collect::<Result<Vec<_>, _>>()?;
    let params = params(tensor, &shape)?;
    Ok((shape, params))
}

/// The grid of a tensor; none if it is not quantized.
fn params(tensor: &circle::Tensor, shape: &[usize]) -> Result<Option<QuantParams>, Misfit> {
    if let Some(format) = match tensor.dtype {
        TensorType::MxInt8 => Some("int8"),
        TensorType::MxFp4 => Some("fp4"),
        _ => None,
    } {
        let format: MxFormat = format.parse().map_err(|_| format!("mx {format}"))?;
        let axis = tensor.quantization.as_ref().map_or(0, |q| q.quantized_dimension);
        let axis = usize::try_from(axis).map_err(|_| format!("has the block axis {axis}"))?;
        let params = QuantParams::Mx { format, axis };
        params.check(shape).map_err(|e| e.to_string())?;
        return Ok(Some(params));
    }
    let Some(q) = tensor.quantization.as_ref().filter(|q| !q.scale.is_empty()) else {
        return Ok(None);
    };
    if q.details != Details::None {
        return Err("has quantization details, which are not executed".into());
    }
    let dtype = match tensor.dtype {
        TensorType::Float32 => return Ok(None),
        TensorType::Uint4 => DType::UINT4,
        TensorType::Int4 => DType::INT4,
        TensorType::Uint8 => DType::UINT8,
        TensorType::Int8 => DType::INT8,
        TensorType::Uint16 => DType::UINT16,
        TensorType::Int16 => DType::INT16,
        TensorType::Int32 => DType::INT32,
        TensorType::Int64 => DType::INT64,
        other => return Err(format!("is quantized {other}, which is not executed")),
    };
    let zero = |&z: &i64| i32::try_from(z).map_err(|_| format!("has the zero point {z}"));
    let axis = usize::try_from(q.quantized_dimension)
        .map_err(|_| format!("has the channel axis {}", q.quantized_dimension))?;
    let params = QuantParams::Affine {
        dtype,
        scale: q.scale.clone(),
        zero_point: q.zero_point.iter().map(zero).collect::<Result<_, _>>()?,
        grain: if q.scale.len() > 1 { Grain::Axis(axis) } else { Grain::Tensor },
    };
    params.check(shape).map_err(|e| e.to_string())?;
    Ok(Some(params))
}
