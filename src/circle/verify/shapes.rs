//! Shapes: what the operands, constants and options of an operator make of its results.

use super::super::model::{Model, Operator, SubGraph, Tensor};
use super::super::operator::BuiltinOperator;
use super::super::options::Options;
use super::super::types::Padding;
use super::Report;

/// Bytes of the longest constant that is read: axes and extents of any tensor that a runtime takes.
const BYTES_MAX: usize = 1 << 12;

pub(in super::super) type Shape = Vec<i64>;

/// Something that follows from the file; `Err(None)` where it does not, `Err(Some)` where the file
/// contradicts itself.
pub(in super::super) type Said<T> = std::result::Result<T, Option<String>>;

/// One operator among its tensors.
struct Place<'a> {
    model: &'a Model,
    graph: &'a SubGraph,
    op: &'a Operator,
}

pub(super) fn check(
    model: &Model,
    graph: &SubGraph,
    builtin: BuiltinOperator,
    op: &Operator,
    place: &str,
    report: &mut Report,
) {
    let found: Said<Vec<Shape>> =
        op.outputs.iter().map(|&t| extents(graph.tensor(t).ok_or(None)?)).collect();
    let Ok(found) = found else { return };
    match (Place { model, graph, op }).results(builtin, Some(&found)) {
        Ok(expected) => {
            let pairs = found.iter().zip(expected).enumerate();
            for (k, (found, expected)) in pairs.filter(|(_, (found, expected))| *found != expected)
            {
                report.error(place, format!("output {k} is {found:?}, expected {expected:?}"));
            }
        }
        Err(Some(message)) => report.error(place, message),
        Err(None) => {}
    }
}

/// The shapes of an operator's results, where they follow from static shapes and constants.
pub(in super::super) fn results(
    model: &Model,
    graph: &SubGraph,
    op: &Operator,
) -> Said<Vec<Shape>> {
    Place { model, graph, op }.results(model.builtin(op).ok_or(None)?, None)
}

/// The shape of a tensor, where it is static.
fn extents(tensor: &Tensor) -> Said<Shape> {
    let dynamic = tensor.shape_signature.iter().flatten().chain(&tensor.shape).any(|&n| n < 0);
    if dynamic { Err(None) } else { Ok(tensor.shape.iter().map(|&n| n.into()).collect()) }
}

fn elements(shape: &[i64]) -> i64 {
    shape.iter().fold(1, |count, &n| count.saturating_mul(n))
}

fn axis(axis: i64, shape: &[i64]) -> Said<usize> {
    let resolved = if axis < 0 { axis.saturating_add(rank(shape)) } else { axis };
    let valid = usize::try_from(resolved).ok().filter(|&axis| axis < shape.len());
    valid.ok_or_else(|| Some(format!("axis {axis}, {shape:?} has {}", shape.len())))
}

fn rank(shape: &[i64]) -> i64 {
    i64::try_from(shape.len()).unwrap_or(i64::MAX)
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Said<()> {
    if holds { Ok(()) } else { Err(Some(message())) }
}

/// The shape that both broadcast to.
fn broadcast(a: &[i64], b: &[i64]) -> Said<Shape> {
    let rank = a.len().max(b.len());
    let at = |shape: &[i64], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let wider = |i| match (at(a, i), at(b, i)) {
        (1, n) | (n, 1) => Ok(n),
        (n, m) if n == m => Ok(n),
        _ => Err(Some(format!("operands {a:?} and {b:?} do not broadcast"))),
    };
    (0..rank).map(wider).collect()
}

impl Place<'_> {
    fn tensor(&self, k: usize) -> Said<&Tensor> {
        self.op.inputs.get(k).and_then(|&t| self.graph.tensor(t)).ok_or(None)
    }

    fn shape(&self, k: usize) -> Said<Shape> {
        extents(self.tensor(k)?)
    }

    /// The integers of an operand that is a constant.
    fn integers(&self, k: usize) -> Said<Vec<i64>> {
        let tensor = self.tensor(k)?;
        let bytes = self.model.constant(tensor).filter(|_| !tensor.is_variable);
        let short = bytes.is_some_and(|bytes| bytes.len() <= BYTES_MAX);
        if short { self.model.integers(tensor).ok_or(None) } else { Err(None) }
    }

    /// By what is `found`, where loaders may differ.
    fn results(&self, builtin: BuiltinOperator, found: Option<&[Shape]>) -> Said<Vec<Shape>> {
        use BuiltinOperator::*;
        let one = match builtin {
            Neg | Rsqrt | Sqrt | Sin | Cos | Exp | Log | Abs | Logistic | Tanh | Relu | Relu6
            | Gelu | Softmax | Quantize | Dequantize | Cast | Square | LogSoftmax | HardSwish
            | Cumsum | RmsNorm => self.shape(0),
            Add | Sub | Mul | Div | Pow | Maximum | Minimum | SquaredDifference => {
                broadcast(&self.shape(0)?, &self.shape(1)?)
            }
            BroadcastTo => broadcast(&self.shape(0)?, &self.integers(1)?),
            Split => return self.split(self.op.outputs.len()),
            SplitV => return self.split_v(self.op.outputs.len()),
            Reshape => self.reshape(found.and_then(|found| found.first())),
            ExpandDims => self.expand_dims(),
            Squeeze => self.squeeze(),
            Transpose => self.transpose(),
            Slice => self.slice(),
            StridedSlice => self.strided_slice(),
            Concatenation => self.concatenation(),
            Gather => self.gather(),
            Pad | PadV2 => self.pad(),
            Mean | Sum => self.reduce(),
            FullyConnected => self.fully_connected(),
            BatchMatmul => self.batch_matmul(),
            Conv2d | DepthwiseConv2d => self.convolution(),
            TopkV2 => return self.top_k(),
            _ => return Err(None),
        };
        one.map(|shape| vec![shape])
    }

    /// By the option and by the operand, since loaders differ in which they read.
    fn reshape(&self, found: Option<&Shape>) -> Said<Shape> {
        let x = self.shape(0)?;
        let count = elements(&x);
        let option = match &self.op.options {
            Options::Reshape { new_shape } if !new_shape.is_empty() => {
                Some(new_shape.iter().map(|&n| n.into()).collect())
            }
            _ => None,
        };
        for list in option.into_iter().chain(self.integers(1).ok()) {
            let list: Vec<i64> = list;
            let known: Vec<i64> = list.iter().copied().filter(|&n| n != -1).collect();
            let rest = count.checked_div(elements(&known)).unwrap_or(0);
            let shape: Shape = list.iter().map(|&n| if n == -1 { rest } else { n }).collect();
            let fits = list.len() - known.len() <= 1 && elements(&shape) == count;
            ensure(fits && known.iter().all(|&n| n >= 0), || {
                let held = elements(&shape);
                format!("new_shape {list:?} holds {held} elements, expected the {count} of {x:?}")
            })?;
            if found != Some(&shape) {
                return Ok(shape);
            }
        }
        let found = found.ok_or(None)?;
        let held = elements(found);
        ensure(held == count, || {
            format!("output 0 is {found:?} of {held} elements, expected the {count} of {x:?}")
        })?;
        Err(None)
    }

    fn expand_dims(&self) -> Said<Shape> {
        let (mut x, at) = (self.shape(0)?, *self.integers(1)?.first().ok_or(None)?);
        let at = axis(at, &[&x[..], &[1]].concat())?;
        x.insert(at, 1);
        Ok(x)
    }

    fn squeeze(&self) -> Said<Shape> {
        let Options::Squeeze { squeeze_dims } = &self.op.options else { return Err(None) };
        let x = self.shape(0)?;
        let axes = squeeze_dims.iter().map(|&a| axis(a.into(), &x)).collect::<Said<Vec<_>>>()?;
        ensure(axes.iter().all(|&i| x[i] == 1), || {
            format!("squeeze_dims {squeeze_dims:?} of {x:?}, expected axes of extent 1")
        })?;
        let goes = |i: usize| if axes.is_empty() { x[i] == 1 } else { axes.contains(&i) };
        Ok((0..x.len()).filter(|&i| !goes(i)).map(|i| x[i]).collect())
    }

    fn transpose(&self) -> Said<Shape> {
        let (x, perm) = (self.shape(0)?, self.integers(1)?);
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        let order = format!("perm {perm:?} is no order of the axes of {x:?}");
        ensure(sorted.into_iter().eq(0..rank(&x)), || order)?;
        perm.iter().map(|&p| axis(p, &x).map(|p| x[p])).collect()
    }

    fn slice(&self) -> Said<Shape> {
        let (x, begin, size) = (self.shape(0)?, self.integers(1)?, self.integers(2)?);
        ensure([begin.len(), size.len()] == [x.len(); 2], || {
            format!("begin {begin:?} and size {size:?} for the axes of {x:?}")
        })?;
        let part = |(&extent, (&begin, &size)): (&i64, (&i64, &i64))| {
            let size = if size == -1 { extent.saturating_sub(begin) } else { size };
            let inside = begin >= 0 && size >= 0 && begin.saturating_add(size) <= extent;
            ensure(inside, || format!("{size} from {begin} are not within {extent} of {x:?}"))?;
            Ok(size)
        };
        x.iter().zip(begin.iter().zip(&size)).map(part).collect()
    }

    /// What lies outside is cut off, as runtimes do, but for an axis that is dropped.
    fn strided_slice(&self) -> Said<Shape> {
        let Options::StridedSlice {
            begin_mask,
            end_mask,
            ellipsis_mask: 0,
            new_axis_mask: 0,
            shrink_axis_mask,
            offset: false,
        } = self.op.options
        else {
            return Err(None);
        };
        let (x, begin) = (self.shape(0)?, self.integers(1)?);
        let (end, strides) = (self.integers(2)?, self.integers(3)?);
        let listed = begin.len();
        ensure([end.len(), strides.len()] == [listed; 2] && listed <= x.len(), || {
            format!("begin {begin:?}, end {end:?}, strides {strides:?} for the axes of {x:?}")
        })?;
        if listed > 31 {
            return Err(None);
        }
        let mut shape = Shape::new();
        for (i, &extent) in x[..listed].iter().enumerate() {
            let masked = |mask: i32| mask >> i & 1 == 1;
            let from_end = |at: i64| if at < 0 { at.saturating_add(extent) } else { at };
            let (first, last, stride) = (from_end(begin[i]), from_end(end[i]), strides[i]);
            ensure(stride != 0, || format!("strides {strides:?}, expected none of 0"))?;
            if masked(shrink_axis_mask) {
                ensure((0..extent).contains(&first) || masked(begin_mask), || {
                    format!("begin {} is not within axis {i} of {x:?}", begin[i])
                })?;
                continue;
            }
            let (low, high) = if stride > 0 { (0, extent) } else { (-1, extent - 1) };
            let (all, none) = if stride > 0 { (low, high) } else { (high, low) };
            let first = if masked(begin_mask) { all } else { first.clamp(low, high) };
            let last = if masked(end_mask) { none } else { last.clamp(low, high) };
            let span = if stride > 0 { last - first } else { first - last };
            let step = stride.saturating_abs();
            shape.push(span.max(0).saturating_add(step - 1) / step);
        }
        Ok([&shape[..], &x[listed..]].concat())
    }

    fn concatenation(&self) -> Said<Shape> {
        let Options::Concatenation { axis: along, .. } = self.op.options else { return Err(None) };
        let shapes = (0..self.op.inputs.len()).map(|k| self.shape(k)).collect::<Said<Vec<_>>>()?;
        let mut shape = shapes.first().ok_or(None)?.clone();
        let along = axis(along.into(), &shape)?;
        shape[along] = 0;
        for (k, part) in shapes.iter().enumerate() {
            let mut rest = part.clone();
            let extent = rest.get_mut(along).map(std::mem::take);
            let total = shape[along];
            shape[along] = 0;
            ensure(rest == shape, || {
                format!("operand {k} is {part:?}, the first {:?}, along axis {along}", shapes[0])
            })?;
            shape[along] = total.saturating_add(extent.unwrap_or(0));
        }
        Ok(shape)
    }

    fn gather(&self) -> Said<Shape> {
        let Options::Gather { axis: along, batch_dims } = self.op.options else { return Err(None) };
        let (x, positions) = (self.shape(0)?, self.shape(1)?);
        let along = axis(along.into(), &x)?;
        let batch = usize::try_from(batch_dims).ok().filter(|&n| n <= along.min(positions.len()));
        let batch = batch.ok_or_else(|| {
            Some(format!("batch_dims {batch_dims} of {x:?} at {positions:?}, axis {along}"))
        })?;
        let outside = |at: &&i64| !(0..x[along]).contains(*at);
        if let Some(at) = self.integers(1).unwrap_or_default().iter().find(outside) {
            return Err(Some(format!("position {at} is not within axis {along} of {x:?}")));
        }
        Ok([&x[..along], &positions[batch..], &x[along + 1..]].concat())
    }

    fn pad(&self) -> Said<Shape> {
        let (x, amounts) = (self.shape(0)?, self.integers(1)?);
        let (pairs, _) = amounts.as_chunks::<2>();
        ensure(pairs.len() * 2 == amounts.len() && pairs.len() == x.len(), || {
            format!("paddings {amounts:?} for the axes of {x:?}")
        })?;
        ensure(amounts.iter().all(|&n| n >= 0), || {
            format!("paddings {amounts:?}, expected 0 or more")
        })?;
        let padded = |(n, [a, b]): (&i64, &[i64; 2])| n.saturating_add(*a).saturating_add(*b);
        Ok(x.iter().zip(pairs).map(padded).collect())
    }

    fn reduce(&self) -> Said<Shape> {
        let Options::Reducer { keep_dims } = self.op.options else { return Err(None) };
        let (x, axes) = (self.shape(0)?, self.integers(1)?);
        // To the peer no axis means all of them, to others none.
        if axes.is_empty() {
            return Err(None);
        }
        let axes = axes.iter().map(|&a| axis(a, &x)).collect::<Said<Vec<_>>>()?;
        let left = x.iter().enumerate().filter(|(i, _)| keep_dims || !axes.contains(i));
        Ok(left.map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect())
    }

    fn split(&self, parts: usize) -> Said<Vec<Shape>> {
        let (x, parts) = (self.shape(1)?, i64::try_from(parts).unwrap_or(i64::MAX));
        let along = axis(*self.integers(0)?.first().ok_or(None)?, &x)?;
        let equal = parts > 0 && x[along] % parts == 0;
        ensure(equal, || {
            format!("{parts} equal parts of the {} of axis {along} of {x:?}", x[along])
        })?;
        Ok((0..parts).map(|_| with(&x, along, x[along] / parts)).collect())
    }

    fn split_v(&self, parts: usize) -> Said<Vec<Shape>> {
        let (x, sizes) = (self.shape(0)?, self.integers(1)?);
        let along = axis(*self.integers(2)?.first().ok_or(None)?, &x)?;
        let open = sizes.iter().filter(|&&n| n == -1).count();
        let known =
            sizes.iter().filter(|&&n| n != -1).fold(0, |sum: i64, n| sum.saturating_add(*n));
        let rest = x[along].saturating_sub(known);
        let whole = open <= 1 && rest >= 0 && (open == 1 || rest == 0);
        ensure(whole && sizes.len() == parts && sizes.iter().all(|&n| n >= -1), || {
            format!(
                "sizes {sizes:?} for {parts} parts of the {} of axis {along} of {x:?}",
                x[along]
            )
        })?;
        Ok(sizes.iter().map(|&n| with(&x, along, if n == -1 { rest } else { n })).collect())
    }

    fn fully_connected(&self) -> Said<Shape> {
        let Options::FullyConnected { keep_num_dims, weights_format: 0, .. } = self.op.options
        else {
            return Err(None);
        };
        let (x, w) = (self.shape(0)?, self.shape(1)?);
        let [out, width] = w[..] else {
            return Err(Some(format!("weights {w:?}, expected 2 axes")));
        };
        let rows = elements(&x).checked_div(width).unwrap_or(0);
        let fits =
            if keep_num_dims { x.last() == Some(&width) } else { rows * width == elements(&x) };
        ensure(fits, || format!("weights {w:?} for rows of {width}, found {x:?}"))?;
        if let Ok(bias) = self.shape(2) {
            ensure(elements(&bias) == out, || {
                format!("a bias {bias:?}, expected {out} elements for weights {w:?}")
            })?;
        }
        Ok(if keep_num_dims { with(&x, x.len() - 1, out) } else { vec![rows, out] })
    }

    /// Whatever the depth, the last axis of a depthwise kernel counts the results.
    fn convolution(&self) -> Said<Shape> {
        let (Options::Conv2d {
            padding,
            stride_h,
            stride_w,
            dilation_h_factor,
            dilation_w_factor,
            ..
        }
        | Options::DepthwiseConv2d {
            padding,
            stride_h,
            stride_w,
            dilation_h_factor,
            dilation_w_factor,
            ..
        }) = self.op.options
        else {
            return Err(None);
        };
        let depthwise = matches!(self.op.options, Options::DepthwiseConv2d { .. });
        let (x, w) = (self.shape(0)?, self.shape(1)?);
        let (&[n, h, wide, depth], &[first, kh, kw, last]) = (&x[..], &w[..]) else {
            return Err(Some(format!("a kernel {w:?} over {x:?}, expected 4 axes each")));
        };
        let (out, fits) = match depthwise {
            true => (last, depth > 0 && last % depth == 0),
            false => (first, last > 0 && depth % last == 0),
        };
        ensure(fits, || format!("a kernel {w:?} over the {depth} channels of {x:?}"))?;
        if let Ok(bias) = self.shape(2) {
            ensure(elements(&bias) == out, || {
                format!("a bias {bias:?}, expected {out} elements for weights {w:?}")
            })?;
        }
        let mut shape = vec![n, h, wide, out];
        let axes =
            [(kh, stride_h, dilation_h_factor), (kw, stride_w, dilation_w_factor)].into_iter();
        for (extent, (kernel, stride, dilation)) in shape[1..].iter_mut().zip(axes) {
            let reach = match padding {
                Padding::Same => 1,
                Padding::Valid => (kernel - 1).saturating_mul(dilation.into()).saturating_add(1),
                Padding::Unknown(_) => return Err(None),
            };
            // A stride that no one means has a warning.
            if stride < 1 || dilation < 1 {
                return Err(None);
            }
            *extent = (*extent - reach).saturating_add(stride.into()).max(0) / i64::from(stride);
        }
        Ok(shape)
    }

    fn top_k(&self) -> Said<Vec<Shape>> {
        let (mut x, k) = (self.shape(0)?, *self.integers(1)?.first().ok_or(None)?);
        let last = x.last_mut().ok_or(None)?;
        ensure((0..=*last).contains(&k), || format!("the {k} greatest of {last}"))?;
        *last = k;
        Ok(vec![x.clone(), x])
    }

    fn batch_matmul(&self) -> Said<Shape> {
        let Options::BatchMatMul { adjoint_lhs, adjoint_rhs, .. } = self.op.options else {
            return Err(None);
        };
        let (mut a, mut b) = (self.shape(0)?, self.shape(1)?);
        let rank = a.len();
        // Of unequal ranks there is a warning.
        if rank < 2 || rank != b.len() {
            return Err(None);
        }
        for (shape, adjoint) in [(&mut a, adjoint_lhs), (&mut b, adjoint_rhs)] {
            if adjoint {
                shape.swap(rank - 1, rank - 2);
            }
        }
        ensure(a[rank - 1] == b[rank - 2], || {
            let (rows, columns) = (b[rank - 2], a[rank - 1]);
            format!("{a:?} times {b:?}: the second has {rows} rows, expected {columns}")
        })?;
        let batch = broadcast(&a[..rank - 2], &b[..rank - 2])?;
        Ok([&batch[..], &[a[rank - 2], b[rank - 1]]].concat())
    }
}

/// The shape with another extent of one axis.
fn with(shape: &[i64], axis: usize, extent: i64) -> Shape {
    let mut shape = shape.to_vec();
    shape[axis] = extent;
    shape
}
