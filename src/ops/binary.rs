//! Sum, difference and product of two tensors, with NumPy broadcasting.

use super::{Encoding, OpDef, OutputRule, ensure};
use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{self, Run, Tensor};

/// Which function of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryKind {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a · b
    Mul,
    /// a + b where a is a sum that grows term by term: all its partial sums share one grid, so that
    /// a term of zeros rounds nothing anew.
    Accumulate,
}

/// `a ∘ b`, shapes broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The function.
    pub kind: BinaryKind,
}

impl Binary {
    fn kernel(&self) -> fn(&mut [f32], &[f32], &[f32]) {
        match self.kind {
            BinaryKind::Add | BinaryKind::Accumulate => tensor::add,
            BinaryKind::Sub => tensor::sub,
            BinaryKind::Mul => tensor::mul,
        }
    }
}

impl OpDef for Binary {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let [a, b] = inputs else { return Err(format!("takes 2 inputs, found {}", inputs.len())) };
        let rank = a.len().max(b.len());
        let extent =
            |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |at| s[at]);
        (0..rank)
            .map(|axis| match (extent(a, axis), extent(b, axis)) {
                (x, y) if x == y || y == 1 => Ok(x),
                (1, y) => Ok(y),
                _ => Err(format!("{a:?} and {b:?} do not broadcast")),
            })
            .collect()
    }

    fn encode(&self, _: &[&[usize]]) -> Encoding {
        let builtin = match self.kind {
            BinaryKind::Add | BinaryKind::Accumulate => BuiltinOperator::Add,
            BinaryKind::Sub => BuiltinOperator::Sub,
            BinaryKind::Mul => BuiltinOperator::Mul,
        };
        Encoding::new(builtin, Options::of(builtin))
    }

    fn rule(&self) -> OutputRule {
        match self.kind {
            BinaryKind::Accumulate => OutputRule::ObserveLike { operand: 0 },
            BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul => OutputRule::Observe,
        }
    }

    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor {
        let shapes = [inputs[0].shape(), inputs[1].shape()];
        if self.in_place(&shapes) {
            return self.eval_over(inputs[0].clone(), &inputs[1..], run);
        }
        let shape = self.shape(&shapes).expect("invariant: shapes were checked while building");
        Tensor::written(shape.clone(), |out| {
            if !out.is_empty() {
                general(out, &shape, [inputs[0].data(), inputs[1].data()], shapes, self.kernel());
                run.whole(out, 1);
            }
        })
    }

    fn in_place(&self, inputs: &[&[usize]]) -> bool {
        inputs[1].len() <= inputs[0].len()
            && (repeats(inputs[1], inputs[0]) || by_rows(inputs[1], inputs[0]))
    }

    fn eval_over(&self, a: Tensor, rest: &[&Tensor], run: Run<'_>) -> Tensor {
        let (b, kernel) = (rest[0].data(), self.kernel());
        if !repeats(rest[0].shape(), a.shape()) {
            let width = a.shape().last().copied().unwrap_or(1);
            return a.mapped(width, run, |at, out, a| {
                let mut same = vec![0.0; width];
                let rows = out.chunks_exact_mut(width).zip(a.chunks_exact(width));
                for ((out, a), b) in rows.zip(&b[at / width..]) {
                    same.fill(*b);
                    kernel(out, a, &same);
                }
            });
        }
        // A call for every few elements would cost more than the elements.
        let longer = (b.len() < SPAN && a.len() > SPAN).then(|| b.repeat(SPAN.div_ceil(b.len())));
        let b = longer.as_deref().unwrap_or(b);
        a.mapped(1, run, |mut at, mut out, mut a| {
            while !out.is_empty() {
                let b = &b[at % b.len()..];
                let (now, later) = out.split_at_mut(b.len().min(out.len()));
                kernel(now, &a[..now.len()], &b[..now.len()]);
                (at, a, out) = (at + now.len(), &a[now.len()..], later);
            }
        })
    }
}

/// Elements that an operand which is repeated is made long for.
const SPAN: usize = 1 << 10;

/// Whether a tensor of `shape` is repeated whole, axis after axis, to fill `out`.
fn repeats(shape: &[usize], out: &[usize]) -> bool {
    let lead = shape.iter().take_while(|&&n| n == 1).count();
    out.ends_with(&shape[lead..])
}

/// Whether a tensor of `shape` has a number for each row of `out`.
fn by_rows(shape: &[usize], out: &[usize]) -> bool {
    match (shape, out) {
        ([lead @ .., 1], [rows @ .., _]) => lead == rows,
        _ => false,
    }
}

/// Any broadcast, a row of the last axis at a time.
fn general(
    out: &mut [f32],
    shape: &[usize],
    data: [&[f32]; 2],
    shapes: [&[usize]; 2],
    kernel: fn(&mut [f32], &[f32], &[f32]),
) {
    let width = *shape.last().expect("invariant: two scalars take the repeating path");
    let strides = shapes.map(|s| broadcast_strides(s, shape.len()));
    let mut filled = [vec![0.0; width], vec![0.0; width]];
    let mut index = vec![0; shape.len() - 1];
    for out in out.chunks_exact_mut(width) {
        let at = [0, 1].map(|i| index.iter().zip(&strides[i]).map(|(x, s)| x * s).sum::<usize>());
        for i in 0..2 {
            if strides[i][shape.len() - 1] == 0 {
                filled[i].fill(data[i][at[i]]);
            }
        }
        let [a, b] = [0, 1].map(|i| {
            if strides[i][shape.len() - 1] == 0 {
                &filled[i][..]
            } else {
                &data[i][at[i]..at[i] + width]
            }
        });
        kernel(out, a, b);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Element strides of `shape` seen at rank `rank`; zero where an extent of 1 is repeated.
fn broadcast_strides(shape: &[usize], rank: usize) -> Vec<usize> {
    let mut strides = vec![0; rank];
    let mut step = 1;
    for (axis, &extent) in shape.iter().enumerate().rev() {
        strides[axis + rank - shape.len()] = if extent == 1 { 0 } else { step };
        step *= extent;
    }
    strides
}

/// Broadcasting needs no more ranks than the format has.
pub(super) fn check_rank(shape: &[usize]) -> Result<(), String> {
    ensure(shape.len() <= 6, || format!("rank {} is beyond the 6 that runtimes take", shape.len()))
}
