//! Integer execution: every quantized operator on the integers of its operands.
//!
//! Values live as their codes, whole numbers in an f32 tensor (exact: grids of activations have at
//! most 16 bits), so that what only moves elements is the float kernel itself.

mod grid;
mod products;
mod rescale;
mod rows;

use super::npy::{Array, Elements};
use super::{Error, Program, ports};
use crate::graph::{Node, Source, ValueId};
use crate::ops::{BinaryKind, Op};
use crate::quant::{self, QuantParams};
use crate::tensor::{Par, Tensor};
use grid::{Grid, Steps};
use std::borrow::Cow;

/// How far the two readings of a file are apart on one edge, given equal operands.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeError {
    /// The value.
    pub name: String,
    /// The operator that made it.
    pub operator: &'static str,
    /// Greatest difference, in steps of the value's grid.
    pub steps_max: u32,
    /// Elements that differ.
    pub differing: usize,
    /// Elements in all.
    pub elements: usize,
}

/// In which numbers a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing it touches is quantized.
    Float,
    /// Everything is.
    Integer,
    /// One value moves from float to a grid or back.
    Crossing,
}

type Observer<'a> = dyn FnMut(&Node, &[&Tensor], &Tensor) + 'a;

impl Program {
    /// Runs on integers; outputs are the integers of their grids, in the file's types, f32 where
    /// they have none.
    ///
    /// # Errors
    /// Inputs that do not fit; operators of which some operands are quantized and others not.
    pub fn run_integers(&self, inputs: &[Tensor]) -> Result<Vec<Array>, Error> {
        let outputs = self.execute(inputs, &mut |_, _, _| {})?;
        let array = |((port, &id), tensor): ((&ports::Port, &ValueId), &Tensor)| {
            port.array(tensor, self.constant_codes(id))
        };
        Ok(self.outputs.iter().zip(&self.graph.outputs).zip(&outputs).map(array).collect())
    }

    /// Runs on integers; outputs are the reals that those integers stand for, as
    /// [`Program::run`] gives them.
    ///
    /// # Errors
    /// Those of [`Program::run_integers`].
    pub fn run_exactly(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let outputs = self.execute(inputs, &mut |_, _, _| {})?;
        Ok(self.graph.outputs.iter().zip(&outputs).map(|(&id, t)| self.reals_of(id, t)).collect())
    }

    /// Runs on integers and compares every edge with the float kernel on the same operands,
    /// rounded to the same grid.
    ///
    /// # Errors
    /// Those of [`Program::run_integers`].
    pub fn audit(&self, inputs: &[Tensor]) -> Result<Vec<EdgeError>, Error> {
        let mut edges = Vec::new();
        self.execute(inputs, &mut |node, operands, result| {
            let value = self.graph.value(node.output);
            let Some(params) = &value.qparams else { return };
            let reals: Vec<Tensor> =
                node.inputs.iter().zip(operands).map(|(&id, t)| self.reals_of(id, t)).collect();
            let real = node.op.def().eval(&reals.iter().collect::<Vec<_>>(), Par::All.into());
            let expected = quant::quantize(params, real.shape(), real.data());
            let difference = |(&a, &b): (&f32, &i32)| (f64::from(a) - f64::from(b)).abs() as u32;
            let steps: Vec<u32> = result.data().iter().zip(&expected).map(difference).collect();
            edges.push(EdgeError {
                name: value.name.clone(),
                operator: node.op.name(),
                steps_max: steps.iter().copied().max().unwrap_or(0),
                differing: steps.iter().filter(|&&n| n > 0).count(),
                elements: steps.len(),
            });
        })?;
        Ok(edges)
    }

    /// Runs on integers and keeps every quantized result: its name, its integers, and the reals
    /// they stand for.
    ///
    /// # Errors
    /// Those of [`Program::run_integers`].
    pub fn edges(&self, inputs: &[Tensor]) -> Result<Vec<(String, Array, Tensor)>, Error> {
        let mut edges = Vec::new();
        self.execute(inputs, &mut |node, _, result| {
            let value = self.graph.value(node.output);
            let Some(params) = &value.qparams else { return };
            let codes: Vec<i32> = result.data().iter().map(|&q| q as i32).collect();
            let codes = Array { shape: value.shape.clone(), elements: Elements::I32(codes) };
            edges.push((value.name.clone(), codes, dequantized(params, result)));
        })?;
        Ok(edges)
    }

    /// The reals that a live tensor stands for.
    fn reals_of(&self, id: ValueId, tensor: &Tensor) -> Tensor {
        let value = self.graph.value(id);
        match (&value.source, &value.qparams) {
            (Source::Const(reals), _) => reals.clone(),
            (_, None) => tensor.clone(),
            (_, Some(params)) => dequantized(params, tensor),
        }
    }

    fn execute(&self, inputs: &[Tensor], observe: &mut Observer<'_>) -> Result<Vec<Tensor>, Error> {
        let inputs = self.check(inputs)?;
        let graph = &self.graph;
        let mut last_use = vec![0; graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| last_use[id.index()] = n);
        }
        graph.outputs.iter().for_each(|id| last_use[id.index()] = usize::MAX);
        let mut live: Vec<Option<Tensor>> = vec![None; graph.values.len()];
        for (&id, tensor) in graph.inputs.iter().zip(inputs) {
            live[id.index()] = Some(match &graph.value(id).qparams {
                Some(params) => quantized(params, &tensor),
                None => tensor,
            });
        }
        for (n, node) in graph.nodes.iter().enumerate() {
            let form = self.form(node)?;
            let operands: Vec<&Tensor> =
                node.inputs.iter().map(|&id| self.operand(id, &live)).collect();
            let result = match form {
                Form::Float => node.op.def().eval(&operands, Par::All.into()),
                Form::Crossing => self.cross(node, operands[0]),
                Form::Integer => self.integers(node, &operands)?,
            };
            observe(node, &operands, &result);
            for &id in node.inputs.iter().filter(|id| last_use[id.index()] == n) {
                live[id.index()] = None;
            }
            live[node.output.index()] = Some(result);
        }
        Ok(graph.outputs.iter().map(|&id| self.operand(id, &live).clone()).collect())
    }

    /// A live value, or a constant: its reals, of which kernels on integers see the shape only.
    fn operand<'a>(&'a self, id: ValueId, live: &'a [Option<Tensor>]) -> &'a Tensor {
        match &self.graph.value(id).source {
            Source::Const(tensor) => tensor,
            _ => live[id.index()].as_ref().expect("invariant: operands live until their last use"),
        }
    }

    fn form(&self, node: &Node) -> Result<Form, Error> {
        let real = |id: &&ValueId| !self.is_index_value(**id);
        let grids: Vec<bool> = node
            .inputs
            .iter()
            .filter(real)
            .map(|&id| self.graph.value(id).qparams.is_some())
            .collect();
        let result = self.graph.value(node.output).qparams.is_some();
        // The bias of a quantized product may be float: its integers follow from its operands.
        let bias = matches!(node.op, Op::Linear(_)) && grids[..] == [true, true, false];
        match (grids.iter().all(|&g| g), grids.iter().any(|&g| g), result) {
            // Codes are in the order of their reals, so positions follow from either.
            _ if self.is_index_value(node.output) => Ok(Form::Float),
            (_, false, false) => Ok(Form::Float),
            (true, _, true) => Ok(Form::Integer),
            (_, _, true) if bias => Ok(Form::Integer),
            _ if matches!(node.op, Op::Reshape(_)) => Ok(Form::Crossing),
            _ => Err(self.refuse(node, "mixes quantized and float operands")),
        }
    }

    fn is_index_value(&self, id: ValueId) -> bool {
        self.graph.value(id).kind == crate::graph::Kind::Index
    }

    /// By its result, as the file may have other operators than the graph.
    fn refuse(&self, node: &Node, what: &str) -> Error {
        Error::tensor(&self.graph.value(node.output).name, format!("computing it {what}"))
    }

    /// The integers of a quantized constant.
    fn constant_codes(&self, id: ValueId) -> Option<Vec<i64>> {
        self.codes.get(&id.index()).and_then(super::Codes::integers)
    }

    /// The codes of an operand, a constant or live.
    fn codes<'a>(&self, id: ValueId, operand: &'a Tensor) -> Cow<'a, Tensor> {
        self.constant_codes(id).map_or(Cow::Borrowed(operand), |codes| {
            Cow::Owned(Tensor::new(operand.shape(), codes.iter().map(|&q| q as f32).collect()))
        })
    }

    /// The codes of an operand in another shape on the same grid, which may have several scales: the
    /// weights of a convolution.
    fn reshaped(&self, node: &Node, operands: &[&Tensor]) -> Option<Tensor> {
        let (id, graph) = (node.inputs[0], &self.graph);
        let same = graph.value(id).qparams == graph.value(node.output).qparams;
        let moves = same && matches!(node.op, Op::Reshape(_));
        moves.then(|| node.op.def().eval(&[&*self.codes(id, operands[0])], Par::All.into()))
    }

    fn refuse_channels(&self, node: &Node, name: &str, by_rows: bool) -> Error {
        let expected = if by_rows { "one or one for each row" } else { "one" };
        self.refuse(node, &format!("reads \"{name}\" of several scales, expected {expected}"))
    }

    fn cross(&self, node: &Node, x: &Tensor) -> Tensor {
        let reals = self.reals_of(node.inputs[0], x);
        let moved = node.op.def().eval(&[&reals], Par::All.into());
        match &self.graph.value(node.output).qparams {
            Some(params) => quantized(params, &moved),
            None => moved,
        }
    }

    fn integers(&self, node: &Node, operands: &[&Tensor]) -> Result<Tensor, Error> {
        let graph = &self.graph;
        let grid = |id: ValueId, by_rows: bool| {
            let value = graph.value(id);
            let grid = value.qparams.as_ref().and_then(Grid::of);
            let grid =
                grid.ok_or_else(|| self.refuse(node, "needs affine grids of at most 16 bits"))?;
            match grid.suits(by_rows) {
                true => Ok(grid),
                false => Err(self.refuse_channels(node, &value.name, by_rows)),
            }
        };
        if let Some(moved) = self.reshaped(node, operands) {
            return Ok(moved);
        }
        let out = grid(node.output, false)?;
        let of_grid = |i: usize, by_rows: bool| -> Result<Steps<'_>, Error> {
            let id = node.inputs[i];
            let codes = self.constant_codes(id);
            Ok(grid(id, by_rows)?.steps(graph.value(id).shape.as_slice(), operands[i], codes))
        };
        let (steps, rows) = (|i| of_grid(i, false), |i| of_grid(i, true));
        Ok(match &node.op {
            Op::Linear(_) => {
                let (x, w) = (steps(0)?, rows(1)?);
                let bias = node.inputs.get(2).map(|&id| self.bias(node, id, [&x, &w]));
                products::linear(&x, &w, bias.transpose()?.as_deref(), &out)
            }
            Op::MatMul(op) => products::matmul(&steps(0)?, &steps(1)?, op.transpose_rhs, &out),
            Op::Scatter(_) => products::matmul(&steps(0)?, &steps(1)?, false, &out),
            Op::TopK(_) => return Err(self.refuse(node, "gives integers, which have no grid")),
            Op::Binary(op) => {
                let shape = &graph.value(node.output).shape;
                let (a, b) = (steps(0)?.expand(shape), steps(1)?.expand(shape));
                match op.kind {
                    BinaryKind::Mul => rows::product(&a, &b, shape, &out),
                    BinaryKind::Add | BinaryKind::Accumulate => rows::sum(&a, &b, 1, shape, &out),
                    BinaryKind::Sub => rows::sum(&a, &b, -1, shape, &out),
                }
            }
            Op::Gather(_) => products::gather(&rows(0)?, operands[1], &out),
            Op::Mean(_) => rows::mean(&steps(0)?, &out),
            Op::Softmax(_) => rows::softmax(&steps(0)?, &out),
            Op::RmsNorm(op) => rows::rms_norm(&steps(0)?, &steps(1)?, op.epsilon, &out),
            Op::Unary(op) => {
                let id = node.inputs[0];
                rows::table(op, &grid(id, false)?, &self.codes(id, operands[0]), &out)
            }
            Op::Concat(_) | Op::Reshape(_) | Op::Slice(_) | Op::Transpose(_) => {
                let mut moved = Vec::with_capacity(operands.len());
                for (i, _) in operands.iter().enumerate() {
                    moved.push(steps(i)?.on(&out));
                }
                node.op.def().eval(&moved.iter().collect::<Vec<_>>(), Par::All.into())
            }
        })
    }

    /// A bias as integers of its accumulator, whose scale is that of input times weight.
    fn bias(&self, node: &Node, id: ValueId, [x, w]: [&Steps<'_>; 2]) -> Result<Vec<i64>, Error> {
        let value = self.graph.value(id);
        let codes = self.constant_codes(id);
        // One that is computed would have more bits than codes are kept in.
        let Source::Const(reals) = &value.source else {
            return Err(self.refuse(node, "adds a bias that is no constant"));
        };
        let reals = reals.data();
        let scale = |c: usize| f64::from(x.grid.scale(0)) * f64::from(w.grid.scale(c));
        let own = match &value.qparams {
            Some(QuantParams::Affine { scale, zero_point, .. }) => Some((scale, zero_point)),
            _ => None,
        };
        let at = |c: usize| {
            let (scale, zero) = own?;
            let c = if scale.len() == 1 { 0 } else { c };
            Some((*scale.get(c)?, i64::from(*zero.get(c)?)))
        };
        let codes = (0..value.shape[0])
            .map(|c| match (&codes, at(c)) {
                // The file's scale is the f32 product, ours the exact one.
                (Some(codes), Some((own, zero)))
                    if (f64::from(own) / scale(c) - 1.0).abs() < 1e-6 =>
                {
                    codes[c].saturating_sub(zero)
                }
                _ => (f64::from(reals[c]) / scale(c)).round_ties_even() as i64,
            })
            .collect();
        Ok(codes)
    }
}

/// The codes of reals.
fn quantized(params: &QuantParams, tensor: &Tensor) -> Tensor {
    match params {
        QuantParams::Affine { .. } => {
            let codes = quant::quantize(params, tensor.shape(), tensor.data());
            Tensor::new(tensor.shape(), codes.iter().map(|&q| q as f32).collect())
        }
        // Refused when the first operator reads it.
        QuantParams::Mx { .. } => tensor.clone(),
    }
}

fn dequantized(params: &QuantParams, tensor: &Tensor) -> Tensor {
    match params {
        QuantParams::Affine { .. } => {
            let codes: Vec<i32> = tensor.data().iter().map(|&q| q as i32).collect();
            Tensor::new(tensor.shape(), quant::dequantize(params, tensor.shape(), &codes))
        }
        QuantParams::Mx { .. } => tensor.clone(),
    }
}
