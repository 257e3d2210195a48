//! The borders of a program: named arrays in, arrays out, checked.

use super::npy::{Array, Elements};
use super::{Error, Program};
use crate::circle::TensorType;
use crate::graph::Kind;
use crate::ops::Op;
use crate::quant::{self, QuantParams};
use crate::tensor::Tensor;

/// An input or output of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name of the tensor.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its type in the file.
    pub dtype: TensorType,
    /// Its grid, if it is quantized.
    pub qparams: Option<QuantParams>,
}

impl Program {
    /// The inputs in order, from arrays by name (or by number, from 0). Reals are given as f32,
    /// quantized ports also as integers of their own type, ids as i32 or i64.
    ///
    /// # Errors
    /// Names that are not there, inputs that are missing, shapes, types and numbers that do not fit.
    pub fn bind(&self, arrays: Vec<(String, Array)>) -> Result<Vec<Tensor>, Error> {
        let mut bound: Vec<Option<Tensor>> = vec![None; self.inputs.len()];
        for (name, array) in arrays {
            let at = self.inputs.iter().position(|port| port.name == name);
            let number = || name.parse().ok().filter(|&n: &usize| n < self.inputs.len());
            let at = at.or_else(number).ok_or_else(|| {
                let names: Vec<&str> = self.inputs.iter().map(|p| p.name.as_str()).collect();
                let known = names.join(", ").escape_debug().to_string();
                Error::input(&name, format!("is not there, the file has {known}"))
            })?;
            if bound[at].is_some() {
                return Err(Error::input(&name, "is given twice"));
            }
            bound[at] = Some(self.inputs[at].accept(array)?);
        }
        let mut tensors = Vec::with_capacity(bound.len());
        for (i, tensor) in bound.into_iter().enumerate() {
            let idle = || self.is_idle(i).then(|| Tensor::full([0], 0.0));
            let port = &self.inputs[i];
            let missing = || {
                let message = format!("is missing, expected {} {:?}", port.dtype, port.shape);
                Error::input(&port.name, message)
            };
            tensors.push(tensor.or_else(idle).ok_or_else(missing)?);
        }
        Ok(tensors)
    }

    /// Whether nothing reads input `i`.
    fn is_idle(&self, i: usize) -> bool {
        self.graph.value(self.graph.inputs[i]).shape == [0]
    }

    /// Refuses tensors that do not have the shapes of the inputs, and ids outside their table. What
    /// is computed with: nothing in place of inputs that nobody reads.
    pub(super) fn check(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        if inputs.len() != self.inputs.len() {
            let message = format!("found {} tensors for {}", inputs.len(), self.inputs.len());
            return Err(Error::input("all", message));
        }
        for (i, (port, tensor)) in self.inputs.iter().zip(inputs).enumerate() {
            if tensor.shape() != port.shape && !self.is_idle(i) {
                let message = format!("found {:?}, expected {:?}", tensor.shape(), port.shape);
                return Err(Error::input(&port.name, message));
            }
        }
        for node in self.graph.nodes.iter().filter(|node| matches!(node.op, Op::Gather(_))) {
            let rows = self.graph.value(node.inputs[0]).shape[0];
            let ids = self.graph.inputs.iter().position(|&id| id == node.inputs[1]);
            let Some(i) = ids else { continue };
            if let Some(id) = inputs[i].data().iter().find(|&&id| !(id >= 0.0 && id < rows as f32))
            {
                let message = format!("holds the index {id}, its table has {rows} rows");
                return Err(Error::input(&self.inputs[i].name, message));
            }
        }
        let given = |(i, tensor): (usize, &Tensor)| match self.is_idle(i) {
            true => Tensor::full([0], 0.0),
            false => tensor.clone(),
        };
        Ok(inputs.iter().enumerate().map(given).collect())
    }

    /// Outputs as arrays: reals as f32, what the file declares as plain integers in its type.
    pub fn reals(&self, outputs: Vec<Tensor>) -> Vec<Array> {
        let array = |(port, tensor): (&Port, Tensor)| match port.qparams {
            Some(_) => real(tensor),
            None => port.array(&tensor, None),
        };
        self.outputs.iter().zip(outputs).map(array).collect()
    }

    /// Whether input `i` holds indices rather than reals.
    pub fn is_index(&self, i: usize) -> bool {
        self.graph.inputs.get(i).is_some_and(|&id| self.graph.value(id).kind == Kind::Index)
    }
}

impl Port {
    /// An output of the integer reading: its codes, or those of a constant, in the type of the file;
    /// f32 where that is none of integers.
    pub(super) fn array(&self, tensor: &Tensor, constant: Option<Vec<i64>>) -> Array {
        let live = || tensor.data().iter().map(|&x| x as i64).collect();
        match integers(self.dtype, &constant.unwrap_or_else(live)) {
            Some(elements) => Array { shape: tensor.shape().to_vec(), elements },
            None => real(tensor.clone()),
        }
    }

    /// The reals of an array handed to this port.
    fn accept(&self, array: Array) -> Result<Tensor, Error> {
        let Array { shape, elements } = array;
        if shape != self.shape {
            let message = format!("found {shape:?}, expected {:?}", self.shape);
            return Err(Error::input(&self.name, message));
        }
        let descr = elements.descr();
        let misfit = |expected: String| {
            Error::input(&self.name, format!("found {descr}, expected {expected}"))
        };
        let reals = match (&self.qparams, elements) {
            (None, Elements::F32(reals)) if self.dtype == TensorType::Float32 => reals,
            (None, other) if self.dtype == TensorType::Float32 => {
                drop(other);
                return Err(misfit("<f4".into()));
            }
            (None, ids @ (Elements::I64(_) | Elements::I32(_))) => self.ids(&ids)?,
            (None, _) => return Err(misfit("<i8 or <i4".into())),
            (Some(_), Elements::F32(reals)) => reals,
            (Some(params), codes) => {
                let own = own_type(self.dtype);
                let integers = codes.integers().filter(|_| own == Some(descr));
                let expected = || format!("<f4 or {}", own.unwrap_or("nothing else"));
                let integers = integers.ok_or_else(|| misfit(expected()))?;
                quant::dequantize(params, &self.shape, &self.codes(params, &integers)?)
            }
        };
        if let Some(at) = reals.iter().position(|x| !x.is_finite()) {
            let message = format!("holds {} at element {at}, expected finite numbers", reals[at]);
            return Err(Error::input(&self.name, message));
        }
        Ok(Tensor::new(shape, reals))
    }

    /// Integers on the port's grid.
    fn codes(&self, params: &QuantParams, integers: &[i64]) -> Result<Vec<i32>, Error> {
        let (low, high) = params.dtype().map_or((0, 0), |dtype| (dtype.qmin(), dtype.qmax()));
        let code = |&q: &i64| i32::try_from(q).ok().filter(|q| (low..=high).contains(q)).ok_or(q);
        integers
            .iter()
            .map(code)
            .collect::<Result<_, _>>()
            .map_err(|q| Error::input(&self.name, format!("holds {q}, expected {low} to {high}")))
    }

    /// Ids travel as f32, exact below 2^24.
    fn ids(&self, ids: &Elements) -> Result<Vec<f32>, Error> {
        let ids = ids.integers().unwrap_or_default();
        match ids.iter().find(|id| !(0..1 << 24).contains(*id)) {
            Some(id) => {
                Err(Error::input(&self.name, format!("holds {id}, expected 0 to 16777215")))
            }
            None => Ok(ids.iter().map(|&id| id as f32).collect()),
        }
    }
}

fn real(tensor: Tensor) -> Array {
    Array { shape: tensor.shape().to_vec(), elements: Elements::F32(tensor.into_data()) }
}

/// NumPy's name of the integers of a type.
fn own_type(dtype: TensorType) -> Option<&'static str> {
    integers(dtype, &[]).map(|elements| elements.descr())
}

/// Integers of a type as NumPy holds them: those of 4 bits in bytes.
fn integers(dtype: TensorType, codes: &[i64]) -> Option<Elements> {
    let codes = codes.iter();
    Some(match dtype {
        TensorType::Uint4 | TensorType::Uint8 => Elements::U8(codes.map(|&q| q as u8).collect()),
        TensorType::Int4 | TensorType::Int8 => Elements::I8(codes.map(|&q| q as i8).collect()),
        TensorType::Uint16 => Elements::U16(codes.map(|&q| q as u16).collect()),
        TensorType::Int16 => Elements::I16(codes.map(|&q| q as i16).collect()),
        TensorType::Int32 => Elements::I32(codes.map(|&q| q as i32).collect()),
        TensorType::Int64 => Elements::I64(codes.copied().collect()),
        _ => return None,
    })
}
