//! Builds graphs. Model code reads like the paper: methods return values, not `Result`s; the first
//! error is kept with its place and [`Builder::finish`] returns it.

use super::{Edit, Graph, Kind, Node, Param, Source, Stage, Value, ValueId};
use crate::ops::{
    Binary, BinaryKind, Concat, Gather, Linear, MatMul, Mean, Op, OutputRule, Reshape, RmsNorm,
    Slice, Softmax, Transpose, Unary, UnaryKind,
};
use crate::tensor::Tensor;
use std::collections::HashMap;

/// The first thing that did not fit while a graph was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct BuildError {
    /// Scope path of the operator.
    pub place: String,
    /// What did not fit.
    pub message: String,
}

/// Builds one [`Graph`], scope by scope.
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    names: HashMap<String, ValueId>,
    route: Option<ValueId>,
    error: Option<BuildError>,
}

impl Builder {
    /// An empty graph called `name`.
    pub fn new(name: &str) -> Builder {
        let graph = Graph {
            name: name.into(),
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            stages: Vec::new(),
        };
        Builder { graph, scope: Vec::new(), names: HashMap::new(), route: None, error: None }
    }

    /// Builds inside a scope; an empty name adds nothing to the path.
    pub fn scope<T>(&mut self, name: &str, build: impl FnOnce(&mut Builder) -> T) -> T {
        self.scope.push(name.into());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// Builds a stage; stages do not nest. The scope path is unchanged.
    pub fn stage<T>(&mut self, name: &str, build: impl FnOnce(&mut Builder) -> T) -> T {
        let start = self.graph.nodes.len();
        let result = build(self);
        let nodes = start..self.graph.nodes.len();
        if self.graph.stages.last().is_some_and(|last| last.nodes.end > start) {
            self.fail(name, "stages do not nest".into());
        }
        self.graph.stages.push(Stage { name: name.into(), nodes });
        result
    }

    /// Builds nodes of which only those rows count where `route` `[..., 1]` is not zero, since the
    /// results are multiplied by it in the end. Their operands are such results, or lie along the
    /// same rows.
    pub fn routed<T>(&mut self, route: ValueId, build: impl FnOnce(&mut Builder) -> T) -> T {
        let outer = self.route.replace(route);
        let result = build(self);
        self.route = outer;
        result
    }

    /// Scope path of `name`.
    pub fn path(&self, name: &str) -> String {
        let parts = self.scope.iter().map(String::as_str).chain([name]);
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    fn fail(&mut self, name: &str, message: String) {
        let place = self.path(name);
        self.error.get_or_insert(BuildError { place, message });
    }

    fn value(&mut self, name: String, shape: Vec<usize>, kind: Kind, source: Source) -> ValueId {
        let id = ValueId::new(self.graph.values.len());
        if self.names.insert(name.clone(), id).is_some() {
            let message = "two values have this name".into();
            self.error.get_or_insert(BuildError { place: name.clone(), message });
        }
        self.graph.values.push(Value { name, shape, kind, source, qparams: None });
        id
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.graph.value(id).shape
    }

    /// Whether a value is an input of indices.
    pub fn is_index(&self, id: ValueId) -> bool {
        self.graph.value(id).kind == Kind::Index
    }

    /// A value the caller hands in; its name ignores the scope.
    pub fn input(&mut self, name: &str, shape: impl Into<Vec<usize>>, kind: Kind) -> ValueId {
        let id = self.value(name.into(), shape.into(), kind, Source::Input);
        self.graph.inputs.push(id);
        id
    }

    /// A constant known while building.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let shape = tensor.shape().to_vec();
        self.value(self.path(name), shape, Kind::Real, Source::Const(tensor))
    }

    /// A checkpoint tensor of this scope, as stored.
    pub fn param(&mut self, name: &str, shape: impl Into<Vec<usize>>) -> ValueId {
        let shape = shape.into();
        let key = self.path(name);
        self.param_as(name, shape.clone(), Param { key, stored_shape: shape, edits: Vec::new() })
    }

    /// A checkpoint tensor under another name or shape, or with edits.
    pub fn param_as(&mut self, name: &str, shape: Vec<usize>, param: Param) -> ValueId {
        let resizes =
            |e: &Edit| matches!(e, Edit::InterpolatePositions { .. } | Edit::Matrix { .. });
        let resized = param.edits.iter().any(resizes);
        if !resized
            && shape.iter().product::<usize>() != param.stored_shape.iter().product::<usize>()
        {
            self.fail(name, format!("{:?} does not reshape to {shape:?}", param.stored_shape));
        }
        self.value(self.path(name), shape, Kind::Real, Source::Param(param))
    }

    /// Appends an operator whose output is called `name` in this scope.
    pub fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let op = op.into();
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = op.def().shape(&shapes).unwrap_or_else(|message| {
            self.fail(name, format!("{}: {message}", op.name().to_lowercase()));
            Vec::new()
        });
        let source = Source::Node(self.graph.nodes.len());
        let kind = match op.def().rule() {
            OutputRule::Indices => Kind::Index,
            _ => Kind::Real,
        };
        let output = self.value(self.path(name), shape, kind, source);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), output, routed: self.route });
        output
    }

    /// `name.weight` `[out, in]` and, if `bias`, `name.bias` `[out]` applied to x `[..., in]`.
    pub fn linear(&mut self, name: &str, x: ValueId, out: usize, bias: bool) -> ValueId {
        self.linear_edited(name, x, out, bias, &[])
    }

    /// As [`Builder::linear`], with edits folded into weight and bias.
    pub fn linear_edited(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        bias: bool,
        edits: &[Edit],
    ) -> ValueId {
        let width = self.shape(x).last().copied().unwrap_or(0);
        let operands = self.scope(name, |g| {
            let mut read = |local: &str, shape: Vec<usize>| {
                let param =
                    Param { key: g.path(local), stored_shape: shape.clone(), edits: edits.into() };
                g.param_as(local, shape, param)
            };
            let mut operands = vec![x, read("weight", vec![out, width])];
            operands.extend(bias.then(|| read("bias", vec![out])));
            operands
        });
        self.push(name, Linear, &operands)
    }

    /// RMSNorm with `name.weight`, whose values are multiplied by `factor`.
    pub fn rms_norm(&mut self, name: &str, x: ValueId, epsilon: f32, factor: f32) -> ValueId {
        let width = self.shape(x).last().copied().unwrap_or(0);
        let gamma = self.scope(name, |g| {
            let edit = Edit::ScaleRows { rows: 0..width, factor };
            let edits = if factor == 1.0 { vec![] } else { vec![edit] };
            let param = Param { key: g.path("weight"), stored_shape: vec![width], edits };
            g.param_as("weight", vec![width], param)
        });
        self.push(name, RmsNorm { epsilon }, &[x, gamma])
    }

    /// LayerNorm as x − mean, RMSNorm, + β: exact, and nothing but the mean is ever smaller than
    /// the data it comes from, so a coarse grid does not lose the variance.
    pub fn layer_norm(&mut self, name: &str, x: ValueId, epsilon: f32) -> ValueId {
        let width = self.shape(x).last().copied().unwrap_or(0);
        let (scaled, beta) = self.scope(name, |g| {
            let mean = g.push("mean", Mean, &[x]);
            let centered = g.push("centered", Binary { kind: BinaryKind::Sub }, &[x, mean]);
            let gamma = g.param("weight", [width]);
            let scaled = g.push("affine_mul", RmsNorm { epsilon }, &[centered, gamma]);
            (scaled, g.param("bias", [width]))
        });
        self.add(name, scaled, beta)
    }

    /// a + b
    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.push(name, Binary { kind: BinaryKind::Add }, &[a, b])
    }

    /// a · b, elementwise
    pub fn mul(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.push(name, Binary { kind: BinaryKind::Mul }, &[a, b])
    }

    /// Batched a · b
    pub fn matmul(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.push(name, MatMul { transpose_rhs: false }, &[a, b])
    }

    /// Batched a · bᵀ
    pub fn matmul_nt(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.push(name, MatMul { transpose_rhs: true }, &[a, b])
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, name: &str, x: ValueId) -> ValueId {
        self.push(name, Softmax, &[x])
    }

    /// A function of each element.
    pub fn unary(&mut self, name: &str, kind: UnaryKind, x: ValueId) -> ValueId {
        self.push(name, Unary { kind }, &[x])
    }

    /// Rows of `table` at `ids`.
    pub fn gather(&mut self, name: &str, table: ValueId, ids: ValueId) -> ValueId {
        self.push(name, Gather, &[table, ids])
    }

    /// The same elements under another shape; `x` itself if that is its shape.
    pub fn reshape(&mut self, name: &str, x: ValueId, shape: impl Into<Vec<usize>>) -> ValueId {
        let shape = shape.into();
        if self.shape(x) == shape { x } else { self.push(name, Reshape { shape }, &[x]) }
    }

    /// Axes in another order.
    pub fn transpose(&mut self, name: &str, x: ValueId, perm: impl Into<Vec<usize>>) -> ValueId {
        self.push(name, Transpose { perm: perm.into() }, &[x])
    }

    /// `len` indices of `axis` from `start`; `x` itself if that is all of it.
    pub fn slice(
        &mut self,
        name: &str,
        x: ValueId,
        axis: usize,
        start: usize,
        len: usize,
    ) -> ValueId {
        let mut size = self.shape(x).to_vec();
        if start == 0 && size.get(axis) == Some(&len) {
            return x;
        }
        let mut begin = vec![0; size.len()];
        if axis < size.len() {
            (begin[axis], size[axis]) = (start, len);
        }
        self.push(name, Slice { begin, size }, &[x])
    }

    /// Joins along `axis`; a single part stays itself.
    pub fn concat(&mut self, name: &str, parts: &[ValueId], axis: usize) -> ValueId {
        match parts {
            [one] => *one,
            _ => self.push(name, Concat { axis }, parts),
        }
    }

    /// The graph, or the first thing that did not fit.
    ///
    /// # Errors
    /// [`BuildError`] with the scope path of the operator and the shapes.
    pub fn finish(mut self, outputs: &[ValueId]) -> Result<Graph, BuildError> {
        match self.error {
            Some(error) => Err(error),
            None => {
                self.graph.outputs = outputs.to_vec();
                Ok(self.graph)
            }
        }
    }
}
