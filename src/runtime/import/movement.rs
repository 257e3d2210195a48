//! Operators that move elements: every way of saying reshape, slice and concatenation.

use super::{Import, Misfit};
use crate::circle::{Activation, BuiltinOperator, Operator, Options};
use crate::graph::ValueId;
use crate::ops::{Concat, Reshape, Slice};

impl Import<'_> {
    pub(super) fn movement(
        &mut self,
        builtin: BuiltinOperator,
        operator: &Operator,
    ) -> Result<(), Misfit> {
        use BuiltinOperator as B;
        match builtin {
            B::Reshape | B::ExpandDims | B::Squeeze => self.reshape(operator),
            B::Transpose => self.transpose(operator),
            B::Concatenation => self.concatenation(operator),
            B::StridedSlice => self.strided_slice(operator),
            B::Slice => self.slice(operator),
            B::Split => self.split(operator),
            B::SplitV => self.split_v(operator),
            _ => Err("is not executed by encircle".into()),
        }
    }

    /// The integers of a constant.
    pub(super) fn integers(&self, index: i32) -> Result<Vec<i64>, Misfit> {
        let tensor = self.tensor(index)?;
        let misfit =
            || format!("\"{}\" must be a constant of integers", tensor.name.escape_debug());
        self.model.integers(tensor).ok_or_else(misfit)
    }

    /// The declared shape of the output says everything; runtimes need not agree on the operands.
    fn reshape(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let x = self.operands(operator, 1)?[0];
        let output = self.output(operator)?;
        let tensor = self.tensor(output)?;
        let shape = self.shape(tensor)?;
        self.emit(Reshape { shape }, &[x], output)
    }

    fn axis(&self, x: ValueId, axis: i64) -> Result<usize, Misfit> {
        let rank = self.g.shape(x).len() as i64;
        let resolved = if axis < 0 { axis + rank } else { axis };
        let valid = usize::try_from(resolved).ok().filter(|_| resolved < rank);
        valid.ok_or_else(|| format!("there is no axis {axis} of {:?}", self.g.shape(x)))
    }

    fn concatenation(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let Options::Concatenation { axis, fused_activation: Activation::None } = operator.options
        else {
            return Err("no fused activation is executed".into());
        };
        let inputs = self.operands(operator, operator.inputs.len())?;
        let first = inputs.first().copied().ok_or("has no inputs")?;
        let axis = self.axis(first, axis.into())?;
        let output = self.output(operator)?;
        self.emit(Concat { axis }, &inputs, output)
    }

    fn strided_slice(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let Options::StridedSlice {
            begin_mask,
            end_mask,
            ellipsis_mask: 0,
            new_axis_mask: 0,
            shrink_axis_mask,
            offset: false,
        } = operator.options
        else {
            return Err("no ellipsis, no new axis and no offset is executed".into());
        };
        let [x, begin, end, strides] = operator.inputs[..] else {
            return Err(format!("has {} inputs, expected 4", operator.inputs.len()));
        };
        let (begin, end) = (self.integers(begin)?, self.integers(end)?);
        let strides = self.integers(strides)?;
        let x = self.operand(x)?;
        let shape = self.g.shape(x).to_vec();
        if [begin.len(), end.len(), strides.len()] != [shape.len(); 3] {
            return Err(format!(
                "begin, end and strides must have one element an axis of {shape:?}"
            ));
        }
        if strides.iter().any(|&s| s != 1) {
            return Err(format!("strides of 1 are executed, found {strides:?}"));
        }
        let mut from = Vec::with_capacity(shape.len());
        let mut size = Vec::with_capacity(shape.len());
        for (i, &extent) in shape.iter().enumerate() {
            let extent = extent as i64;
            let resolve =
                |at: i64| (if at < 0 { at.saturating_add(extent) } else { at }).clamp(0, extent);
            let start = if begin_mask >> i & 1 == 1 { 0 } else { resolve(begin[i]) };
            let stop = match (shrink_axis_mask >> i & 1, end_mask >> i & 1) {
                (1, _) => start + 1,
                (_, 1) => extent,
                _ => resolve(end[i]),
            };
            from.push(start as usize);
            size.push(usize::try_from(stop - start).unwrap_or(0));
        }
        let output = self.output(operator)?;
        if shrink_axis_mask == 0 {
            return self.emit(Slice { begin: from, size }, &[x], output);
        }
        let part = self.step(Slice { begin: from, size }, &[x], output, Some(x))?;
        let tensor = self.tensor(output)?;
        let shape = self.shape(tensor)?;
        self.emit(Reshape { shape }, &[part], output)
    }

    fn slice(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let [x, begin, size] = operator.inputs[..] else {
            return Err(format!("has {} inputs, expected 3", operator.inputs.len()));
        };
        let (begin, size) = (self.integers(begin)?, self.integers(size)?);
        let x = self.operand(x)?;
        let shape = self.g.shape(x).to_vec();
        if [begin.len(), size.len()] != [shape.len(); 2] {
            return Err(format!("begin and size must have one element an axis of {shape:?}"));
        }
        let mut from = Vec::with_capacity(shape.len());
        let mut extents = Vec::with_capacity(shape.len());
        for (i, &extent) in shape.iter().enumerate() {
            let start = usize::try_from(begin[i]).unwrap_or(usize::MAX).min(extent);
            from.push(start);
            extents.push(match size[i] {
                -1 => extent - start,
                n => usize::try_from(n).unwrap_or(0).min(extent),
            });
        }
        let output = self.output(operator)?;
        self.emit(Slice { begin: from, size: extents }, &[x], output)
    }

    fn split(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let [axis, x] = operator.inputs[..] else {
            return Err(format!("has {} inputs, expected 2", operator.inputs.len()));
        };
        let axis = self.integers(axis)?;
        let x = self.operand(x)?;
        let axis = self.axis(x, axis.first().copied().ok_or("has no axis")?)?;
        let (extent, parts) = (self.g.shape(x)[axis], operator.outputs.len());
        if parts == 0 || extent % parts != 0 {
            return Err(format!("{extent} does not split into {parts} equal parts"));
        }
        self.cut(x, axis, &vec![extent / parts; parts], &operator.outputs)
    }

    fn split_v(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let [x, sizes, axis] = operator.inputs[..] else {
            return Err(format!("has {} inputs, expected 3", operator.inputs.len()));
        };
        let (sizes, axis) = (self.integers(sizes)?, self.integers(axis)?);
        let x = self.operand(x)?;
        let axis = self.axis(x, axis.first().copied().ok_or("has no axis")?)?;
        let extent = self.g.shape(x)[axis];
        let known: i64 = sizes.iter().filter(|&&n| n > 0).fold(0, |sum, &n| sum.saturating_add(n));
        let rest = (extent as i64).saturating_sub(known);
        let sizes: Vec<usize> = sizes
            .iter()
            .map(|&n| usize::try_from(if n == -1 { rest } else { n }).unwrap_or(0))
            .collect();
        if sizes.len() != operator.outputs.len() {
            return Err(format!("{} sizes for {} outputs", sizes.len(), operator.outputs.len()));
        }
        self.cut(x, axis, &sizes, &operator.outputs)
    }

    fn cut(
        &mut self,
        x: ValueId,
        axis: usize,
        sizes: &[usize],
        outputs: &[i32],
    ) -> Result<(), Misfit> {
        let mut at = 0_usize;
        for (&len, &output) in sizes.iter().zip(outputs) {
            let (mut begin, mut size) = (vec![0; self.g.shape(x).len()], self.g.shape(x).to_vec());
            if len > size[axis] || at > size[axis] {
                return Err(format!("{sizes:?} is beyond axis {axis} of {size:?}"));
            }
            (begin[axis], size[axis]) = (at, len);
            at += len;
            self.emit(Slice { begin, size }, &[x], output)?;
        }
        Ok(())
    }
}
