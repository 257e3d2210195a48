//! Operators with arithmetic: which of ours computes what the file asks for.

use super::{Import, Misfit};
use crate::circle::{Activation, BuiltinOperator, Operator, Options, Padding};
use crate::graph::ValueId;
use crate::ops::{
    Binary, BinaryKind, Gather, Linear, MatMul, Mean, Op, Reshape, RmsNorm, Softmax, TopK,
    Transpose, Unary, UnaryKind,
};

/// Epsilon where a file leaves it out, as onert reads it.
const EPSILON: f32 = 1e-6;

impl Import<'_> {
    /// Adds the nodes of one operator.
    pub(super) fn encode(
        &mut self,
        builtin: BuiltinOperator,
        operator: &Operator,
    ) -> Result<(), Misfit> {
        use BuiltinOperator as B;
        let binary = |kind| Op::from(Binary { kind });
        let unary = |kind| Op::from(Unary { kind });
        match builtin {
            B::Add => self.plain(operator, binary(BinaryKind::Add), 2),
            B::Sub => self.plain(operator, binary(BinaryKind::Sub), 2),
            B::Mul => self.plain(operator, binary(BinaryKind::Mul), 2),
            B::Neg => self.plain(operator, unary(UnaryKind::Neg), 1),
            B::Rsqrt => self.plain(operator, unary(UnaryKind::Rsqrt), 1),
            B::Logistic => self.plain(operator, unary(UnaryKind::Logistic), 1),
            B::Gelu => {
                let Options::Gelu { approximate } = operator.options else {
                    return Err("has no GeluOptions".into());
                };
                let kind = if approximate { UnaryKind::GeluTanh } else { UnaryKind::GeluErf };
                self.plain(operator, unary(kind), 1)
            }
            B::Softmax => match operator.options {
                Options::Softmax { beta: 1.0 } => self.plain(operator, Softmax.into(), 1),
                ref other => Err(format!("beta 1 is executed, found {}", told(other))),
            },
            B::RmsNorm => self.rms_norm(operator),
            B::Mean => self.mean(operator),
            B::FullyConnected => self.fully_connected(operator),
            B::BatchMatmul => self.batch_matmul(operator),
            B::Conv2d => self.conv_2d(operator),
            B::Gather => self.gather(operator),
            B::TopkV2 => self.top_k(operator),
            // The value crosses to another grid, or from or to none.
            B::Quantize | B::Dequantize => self.copy(operator),
            _ => self.movement(builtin, operator),
        }
    }

    pub(super) fn operands(
        &mut self,
        operator: &Operator,
        count: usize,
    ) -> Result<Vec<ValueId>, Misfit> {
        let present = operator.inputs.get(..count);
        let found = operator.inputs.len();
        let present = present.ok_or_else(|| format!("has {found} inputs, expected {count}"))?;
        present.iter().map(|&index| self.operand(index)).collect()
    }

    pub(super) fn output(&self, operator: &Operator) -> Result<i32, Misfit> {
        match operator.outputs[..] {
            [output] => Ok(output),
            ref outputs => Err(format!("has {} outputs, expected 1", outputs.len())),
        }
    }

    /// An operator that is ours one to one.
    fn plain(&mut self, operator: &Operator, op: Op, count: usize) -> Result<(), Misfit> {
        unfused(operator)?;
        if operator.inputs.len() != count {
            return Err(format!("has {} inputs, expected {count}", operator.inputs.len()));
        }
        let inputs = self.operands(operator, count)?;
        let output = self.output(operator)?;
        self.emit(op, &inputs, output)
    }

    fn rms_norm(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let Options::RmsNorm { epsilon } = operator.options else {
            return Err("has no RmsNormOptions".into());
        };
        let epsilon = if epsilon == 0.0 { EPSILON } else { epsilon };
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(format!("epsilon is {epsilon}"));
        }
        self.plain(operator, RmsNorm { epsilon }.into(), 2)
    }

    fn mean(&mut self, operator: &Operator) -> Result<(), Misfit> {
        if !matches!(operator.options, Options::Reducer { keep_dims: true }) {
            return Err("keep_dims true is executed, found false".into());
        }
        let [x, axes] = operator.inputs[..] else { return Err("expected 2 inputs".into()) };
        let axes = self.integers(axes)?;
        let x = self.operand(x)?;
        let last = self.g.shape(x).len() as i64 - 1;
        if axes != [last] && axes != [-1] {
            return Err(format!("the mean over axis {last} is executed, found {axes:?}"));
        }
        let output = self.output(operator)?;
        self.emit(Mean, &[x], output)
    }

    fn fully_connected(&mut self, operator: &Operator) -> Result<(), Misfit> {
        unfused(operator)?;
        let Options::FullyConnected { keep_num_dims, weights_format: 0, .. } = operator.options
        else {
            let found = told(&operator.options);
            return Err(format!("weights_format 0 is executed, found {found}"));
        };
        let mut inputs = self.operands(operator, 2)?;
        if let Some(&bias) = operator.inputs.get(2).filter(|&&bias| bias != -1) {
            inputs.push(self.operand(bias)?);
        }
        let output = self.output(operator)?;
        self.count_products(inputs[0], inputs[1])?;
        let (shape, weight) = (self.g.shape(inputs[0]), self.g.shape(inputs[1]));
        let width = weight.last().copied().unwrap_or(1);
        let flat = vec![shape.iter().product::<usize>() / width, width];
        if keep_num_dims || shape == flat {
            return self.emit(Linear, &inputs, output);
        }
        inputs[0] = self.step(Reshape { shape: flat }, &inputs[..1], output, Some(inputs[0]))?;
        self.emit(Linear, &inputs, output)
    }

    /// Multiplications are counted like elements, a thousandth each: a small file can ask for many.
    fn count_products(&mut self, x: ValueId, weight: ValueId) -> Result<(), Misfit> {
        let rows = self.g.shape(x).iter().rev().skip(1).map(|&n| n as u64).product::<u64>();
        let weight = self.g.shape(weight).iter().map(|&n| n as u64).product::<u64>();
        self.work(rows.saturating_mul(weight) / 1000)
    }

    fn batch_matmul(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let Options::BatchMatMul { adjoint_lhs: false, adjoint_rhs, .. } = operator.options else {
            let found = told(&operator.options);
            return Err(format!("adjoint_lhs false is executed, found {found}"));
        };
        let inputs = self.operands(operator, 2)?;
        let output = self.output(operator)?;
        let columns = self.g.shape(inputs[1]).iter().rev().take(2).map(|&n| n as u64);
        let columns = columns.fold(1_u64, u64::saturating_mul);
        let rows = self.g.shape(inputs[0]).iter().rev().skip(1).map(|&n| n as u64);
        let rows = rows.fold(1_u64, u64::saturating_mul);
        self.work(rows.saturating_mul(columns) / 1000)?;
        self.emit(MatMul { transpose_rhs: adjoint_rhs }, &inputs, output)
    }

    /// A convolution whose window is the whole picture, or one pixel, is a linear layer.
    fn conv_2d(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let Options::Conv2d {
            padding,
            stride_w,
            stride_h,
            fused_activation: Activation::None,
            dilation_w_factor: 1,
            dilation_h_factor: 1,
            ..
        } = operator.options
        else {
            return Err("no activation and no dilation is executed".into());
        };
        let inputs = self.operands(operator, 2)?;
        let output = self.output(operator)?;
        let (x, w) = (self.g.shape(inputs[0]).to_vec(), self.g.shape(inputs[1]).to_vec());
        let ([n, h, wide, c], [out, kh, kw, kc]) = (&x[..], &w[..]) else {
            return Err(format!("expected rank 4, found {x:?} and {w:?}"));
        };
        let whole = kh == h && kw == wide && padding == Padding::Valid;
        let pixel = *kh == 1 && *kw == 1 && stride_w == 1 && stride_h == 1;
        if kc != c || !(whole || pixel) {
            return Err(format!(
                "a window of one pixel or the whole picture is executed, found {w:?} over {x:?}"
            ));
        }
        let (rows, width) = if whole { (*n, h * wide * c) } else { (n * h * wide, *c) };
        self.work((rows as u64).saturating_mul((width * out) as u64) / 1000)?;
        let flat = Reshape { shape: vec![rows, width] };
        let mut operands = vec![self.step(flat, &inputs[..1], output, Some(inputs[0]))?];
        let matrix = Reshape { shape: vec![*out, width] };
        operands.push(self.step(matrix, &inputs[1..2], output, Some(inputs[1]))?);
        if let Some(&bias) = operator.inputs.get(2).filter(|&&bias| bias != -1) {
            operands.push(self.operand(bias)?);
        }
        let y = self.step(Linear, &operands, output, None)?;
        self.same_grid(y, output)?;
        let shape = self.tensor(output)?;
        let shape = self.shape(shape)?;
        self.emit(Reshape { shape }, &[y], output)
    }

    fn gather(&mut self, operator: &Operator) -> Result<(), Misfit> {
        if !matches!(operator.options, Options::Gather { axis: 0, batch_dims: 0 }) {
            let found = told(&operator.options);
            return Err(format!("axis 0 without batches is executed, found {found}"));
        }
        let inputs = self.operands(operator, 2)?;
        if !self.g.is_index(inputs[1]) {
            let expected = "an integer input of the graph, or positions that TOPK_V2 finds";
            return Err(format!("its indices must be {expected}"));
        }
        let (rows, most) = (self.g.shape(inputs[0]).first().copied(), self.most.get(&inputs[1]));
        if most.is_some_and(|&most| rows.is_none_or(|rows| rows < most)) {
            return Err(format!("its table has {rows:?} rows, its indices go up to {most:?}"));
        }
        let output = self.output(operator)?;
        self.emit(Gather, &inputs, output)
    }

    /// Positions of the greatest; their values, the first result, may not be read.
    fn top_k(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let ([x, k], [values, output]) = (&operator.inputs[..], &operator.outputs[..]) else {
            return Err("expected 2 inputs and 2 outputs".into());
        };
        let mut read = self.file.operators.iter().flat_map(|op| &op.inputs);
        if self.file.outputs.contains(values) || read.any(|index| index == values) {
            return Err("positions are executed, but the values, output 0, are read".into());
        }
        let k = match self.integers(*k)?[..] {
            [k] => usize::try_from(k).map_err(|_| format!("the {k} greatest"))?,
            _ => return Err("expected one number of greatest elements".into()),
        };
        let x = self.operand(*x)?;
        let most = self.g.shape(x).last().copied().unwrap_or(0);
        self.emit(TopK { k }, &[x], *output)?;
        let slot = usize::try_from(*output).unwrap_or(usize::MAX);
        self.most.extend(self.values.get(slot).copied().flatten().map(|id| (id, most)));
        Ok(())
    }

    /// The same elements under another grid.
    fn copy(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let x = self.operands(operator, 1)?[0];
        let output = self.output(operator)?;
        let shape = self.g.shape(x).to_vec();
        self.emit(Reshape { shape }, &[x], output)
    }

    pub(super) fn transpose(&mut self, operator: &Operator) -> Result<(), Misfit> {
        let [x, perm] = operator.inputs[..] else { return Err("expected 2 inputs".into()) };
        let perm = self.integers(perm)?;
        let x = self.operand(x)?;
        let output = self.output(operator)?;
        let perm = perm.iter().map(|&p| usize::try_from(p).map_err(|_| format!("axis {p}")));
        let perm = perm.collect::<Result<Vec<_>, _>>()?;
        self.emit(Transpose { perm }, &[x], output)
    }
}

/// The options of an operator in words.
fn told(options: &Options) -> String {
    let fields = options.fields();
    let field = |(name, value): &(&str, serde_json::Value)| format!("{name}={value}");
    fields.iter().map(field).collect::<Vec<_>>().join(" ")
}

/// Refuses activations fused into an operator.
fn unfused(operator: &Operator) -> Result<(), Misfit> {
    match operator.options {
        Options::Add { fused_activation, .. }
        | Options::Sub { fused_activation, .. }
        | Options::Mul { fused_activation }
        | Options::Concatenation { fused_activation, .. }
        | Options::FullyConnected { fused_activation, .. }
            if fused_activation != Activation::None =>
        {
            Err(format!("no fused activation is executed, found {fused_activation}"))
        }
        _ => Ok(()),
    }
}
