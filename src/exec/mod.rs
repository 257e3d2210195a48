//! Runs a graph: a stage at a time, freeing dead values, showing every value to a tap.
//!
//! The executor must not know algorithms or files: weights arrive as tensors, and what a tap does
//! with a value (observe it, quantize it) is the tap's business.

mod rows;
mod spool;

pub use rows::common as rows_on;
pub use spool::{Gait, Outline, Room, Spool, SpoolError};

pub(crate) use spool::{AHEAD, nameless};

use crate::graph::{Graph, Node, Source, ValueId};
use crate::ops::Op;
use crate::quant::QuantParams;
use crate::tensor::{Finish, Par, Products, Run, Steps, Tensor};
use rayon::prelude::*;
use smallvec::SmallVec;
use std::ops::Range;

/// One for each operand of a node, which has seldom more than three.
type Operands<T> = SmallVec<[T; 4]>;

/// Sees values as they are produced and may change them: calibration observes, a quantized run
/// rounds to the grid.
pub trait Tap {
    /// Called once for every caller's input and every operator's output, in execution order, unless
    /// [`finish`](Tap::finish) does. Of a routed node it sees the rows that count, `[1, rows, width]`,
    /// and nothing where there is none.
    fn visit(&mut self, id: ValueId, value: &mut Tensor);

    /// What to do instead with every piece of an operator's output, as soon as there is one: a pass
    /// over memory less. `None`: the value is to be visited.
    fn finish(&mut self, id: ValueId) -> Option<Box<Finish<'_>>> {
        let _ = id;
        None
    }

    /// Whether every value that has a grid in the graph is on it when operators read it.
    fn on_grids(&self) -> bool {
        false
    }

    /// What [`visit`](Tap::visit) is to the others for a value of a routed node: `rows` are the
    /// positions of its rows among all.
    fn visit_rows(&mut self, id: ValueId, value: &mut Tensor, rows: &[usize]) {
        let _ = rows;
        self.visit(id, value);
    }
}

/// A tap that looks away: the float run.
pub struct Float;

impl Tap for Float {
    fn visit(&mut self, _: ValueId, _: &mut Tensor) {}
}

/// The checkpoint tensors of the stages at hand, by value. Constants stay in the graph.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: Vec<Option<Tensor>>,
    /// What they were rounded to.
    grids: Vec<Option<QuantParams>>,
}

impl Weights {
    /// None yet.
    pub fn none(graph: &Graph) -> Weights {
        let count = graph.values.len();
        Weights { tensors: vec![None; count], grids: vec![None; count] }
    }

    /// Tensors on the grids that an annotated graph gives them.
    pub fn rounded(graph: &Graph, tensors: Vec<(ValueId, Tensor)>) -> Weights {
        let mut weights = Weights::none(graph);
        for (id, tensor) in tensors {
            weights.set_rounded(graph, id, tensor);
        }
        weights
    }

    /// Puts a tensor in.
    pub fn set(&mut self, id: ValueId, tensor: Tensor) {
        self.tensors[id.index()] = Some(tensor);
        self.grids[id.index()] = None;
    }

    /// Puts a tensor in that is on the grid that an annotated graph gives it, if there is one: beside
    /// activations on grids its products may be computed in integers.
    pub fn set_rounded(&mut self, graph: &Graph, id: ValueId, tensor: Tensor) {
        self.tensors[id.index()] = Some(tensor);
        self.grids[id.index()].clone_from(&graph.value(id).qparams);
    }

    /// The same tensors, multiplied as `products` says; payloads are shared.
    pub fn with_products(&self, products: Products) -> Weights {
        let tensors = self.tensors.iter().cloned();
        let tensors = tensors.map(|t| t.map(|t| t.with_products(products))).collect();
        Weights { tensors, grids: self.grids.clone() }
    }

    /// The tensor, if present.
    pub fn get(&self, id: ValueId) -> Option<&Tensor> {
        self.tensors[id.index()].as_ref()
    }

    /// Packs the matrices that these nodes multiply by, side by side, as a run with values `on_grids`
    /// or without wants them. Left to the first samples, which run in step, it is one thread's work while
    /// the others wait, matrix after matrix.
    pub fn pack(&self, graph: &Graph, nodes: Range<usize>, on_grids: bool) {
        let linear = |node: &&Node| matches!(node.op, Op::Linear(_)) && node.routed.is_none();
        let nodes: Vec<&Node> = graph.nodes[nodes].iter().filter(linear).collect();
        nodes.par_iter().with_max_len(1).for_each(|node| {
            if let Some(matrix) = self.get(node.inputs[1]) {
                matrix.pack(if on_grids { steps(graph, node, self) } else { None });
            }
        });
    }
}

/// How long each value of a graph lives. Made once, used for every sample.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    last_use: Vec<usize>,
    /// Values of routed nodes that are kept by their rows: all their readers are of the same route.
    by_rows: Vec<bool>,
    /// Of each node, the value whose place its output can take.
    passed_on: Vec<Option<ValueId>>,
}

impl Lifetimes {
    /// The node that reads each value last; outputs live on.
    pub fn of(graph: &Graph) -> Lifetimes {
        let mut last_use = vec![0; graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            for input in node.inputs.iter().chain(&node.routed) {
                last_use[input.index()] = n;
            }
        }
        for output in &graph.outputs {
            last_use[output.index()] = usize::MAX;
        }
        let mut by_rows = vec![false; graph.values.len()];
        for node in graph.nodes.iter().filter(|node| node.routed.is_some()) {
            by_rows[node.output.index()] = last_use[node.output.index()] != usize::MAX;
        }
        for node in &graph.nodes {
            for input in &node.inputs {
                if let Source::Node(n) = graph.value(*input).source
                    && graph.nodes[n].routed != node.routed
                {
                    by_rows[input.index()] = false;
                }
            }
        }
        let passed_on = (0..graph.nodes.len()).map(|n| passed_on(graph, &last_use, n)).collect();
        Lifetimes { last_use, by_rows, passed_on }
    }

    /// Whether node `n` is the last to read a value that it reads.
    pub fn ends(&self, id: ValueId, n: usize) -> bool {
        self.last_use[id.index()] == n
    }

    /// The value whose place in memory the output of node `n` can take: its first operand, if nobody
    /// reads it later.
    pub fn passed_on(&self, n: usize) -> Option<ValueId> {
        self.passed_on[n]
    }
}

/// The first operand of node `n`, if the node is the last to read it, reads it once and can write its
/// output over it.
fn passed_on(graph: &Graph, last_use: &[usize], n: usize) -> Option<ValueId> {
    let node = &graph.nodes[n];
    let (&first, rest) = node.inputs.split_first()?;
    let computed = matches!(graph.value(first).source, Source::Input | Source::Node(_));
    if !computed || last_use[first.index()] != n || rest.contains(&first) || node.routed.is_some() {
        return None;
    }
    let shapes: Vec<&[usize]> = node.inputs.iter().map(|id| &graph.value(*id).shape[..]).collect();
    node.op.def().in_place(&shapes).then_some(first)
}

/// The live activations of one sample on its way through the stages.
#[derive(Clone, Debug)]
pub struct Stream {
    live: Vec<Option<Tensor>>,
}

impl Stream {
    /// Starts a sample: `inputs` in the order of `graph.inputs`, each shown to the tap.
    pub fn start(graph: &Graph, inputs: Vec<Tensor>, tap: &mut dyn Tap) -> Stream {
        assert_eq!(inputs.len(), graph.inputs.len(), "one tensor an input");
        let mut live = vec![None; graph.values.len()];
        for (&id, mut tensor) in graph.inputs.iter().zip(inputs) {
            assert_eq!(tensor.shape(), graph.value(id).shape, "input {}", graph.value(id).name);
            tap.visit(id, &mut tensor);
            live[id.index()] = Some(tensor);
        }
        Stream { live }
    }

    /// A live value: an output of the stages run so far that is still needed.
    pub fn get(&self, id: ValueId) -> Option<&Tensor> {
        self.live[id.index()].as_ref()
    }

    /// The rows of a live value that count on `route`, and on that of `other` if given, side by side.
    pub fn rows(
        &self,
        lifetimes: &Lifetimes,
        id: ValueId,
        routes: [&Tensor; 2],
    ) -> Option<Vec<f32>> {
        let x = self.get(id)?;
        let (own, both) = (rows::chosen(routes[0]), rows::common(routes));
        Some(match lifetimes.by_rows[id.index()] {
            true => {
                let kept: Vec<usize> =
                    (0..own.len()).filter(|&i| both.binary_search(&own[i]).is_ok()).collect();
                rows::gathered(x, &kept).into_data()
            }
            false => rows::gathered(x, &both).into_data(),
        })
    }

    /// The rows that count of those live values which are kept whole.
    fn gathered(
        &self,
        ids: &[ValueId],
        lifetimes: &Lifetimes,
        rows: &[usize],
    ) -> Operands<Option<Tensor>> {
        let gathered = |id: &ValueId| {
            let whole = self.get(*id).filter(|_| !lifetimes.by_rows[id.index()])?;
            Some(rows::gathered(whole, rows))
        };
        ids.iter().map(gathered).collect()
    }

    /// What a node reads: what was gathered of a value, or all of it.
    fn operands<'s>(
        &'s self,
        graph: &'s Graph,
        ids: &[ValueId],
        weights: &'s Weights,
        gathered: &'s [Option<Tensor>],
    ) -> Operands<&'s Tensor> {
        let operand = |(i, &id): (usize, &ValueId)| match (gathered.get(i), &graph.value(id).source)
        {
            (Some(Some(rows)), _) => rows,
            (_, Source::Input | Source::Node(_)) => {
                self.get(id).expect("invariant: live until its last reader ran")
            }
            (_, Source::Param(_)) => weights.get(id).expect("invariant: weights were loaded"),
            (_, Source::Const(tensor)) => tensor,
        };
        ids.iter().enumerate().map(operand).collect()
    }

    /// Runs some nodes; values that nothing later needs are freed on the way.
    pub fn run(
        &mut self,
        graph: &Graph,
        nodes: Range<usize>,
        weights: &Weights,
        lifetimes: &Lifetimes,
        tap: &mut dyn Tap,
        par: Par,
    ) {
        for n in nodes {
            let node = &graph.nodes[n];
            let rows = node.routed.and_then(|route| self.get(route)).map(rows::chosen);
            let mut first = lifetimes.passed_on(n).and_then(|id| self.live[id.index()].take());
            let inputs = &node.inputs[usize::from(first.is_some())..];
            let gathered = match &rows {
                Some(rows) => self.gathered(inputs, lifetimes, rows),
                None => Operands::new(),
            };
            let operands = self.operands(graph, inputs, weights, &gathered);
            let empty = rows.as_ref().is_some_and(Vec::is_empty);
            let out = if empty {
                let width = graph.value(node.output).shape.last().copied().unwrap_or(0);
                Tensor::full([1, 0, width], 0.0)
            } else {
                let op = node.op.def();
                let on_grids = tap.on_grids() && matches!(node.op, Op::Linear(_));
                let steps = if on_grids { steps(graph, node, weights) } else { None };
                let mut eval = |run: Run<'_>| match first.take() {
                    Some(first) => op.eval_over(first, &operands, run.on_grids(steps)),
                    None => op.eval(&operands, run.on_grids(steps)),
                };
                let finish = if rows.is_none() { tap.finish(node.output) } else { None };
                let finished = finish.map(|finish| eval(Run::new(par, &*finish)));
                finished.unwrap_or_else(|| {
                    let mut out = eval(par.into());
                    match &rows {
                        Some(rows) => tap.visit_rows(node.output, &mut out, rows),
                        None => tap.visit(node.output, &mut out),
                    }
                    out
                })
            };
            drop(operands);
            let out = match rows {
                Some(rows) if !lifetimes.by_rows[node.output.index()] => {
                    rows::spread(&out, &rows, &graph.value(node.output).shape)
                }
                _ => out,
            };
            for &id in node.inputs.iter().chain(&node.routed) {
                if lifetimes.ends(id, n) {
                    self.live[id.index()] = None;
                }
            }
            self.live[node.output.index()] = Some(out);
        }
    }
}

/// What the grids of a node's first two operands say of their numbers.
fn steps<'a>(graph: &'a Graph, node: &Node, weights: &'a Weights) -> Option<[Steps<'a>; 2]> {
    let &[left, right, ..] = &node.inputs[..] else { return None };
    let grid = |id: ValueId| match graph.value(id).source {
        Source::Param(_) => weights.grids[id.index()].as_ref(),
        _ => graph.value(id).qparams.as_ref(),
    };
    Some([grid(left)?.steps()?, grid(right)?.steps()?])
}

/// Runs the whole graph on one sample and returns its outputs.
pub fn run(
    graph: &Graph,
    inputs: &[Tensor],
    weights: &Weights,
    tap: &mut dyn Tap,
    par: Par,
) -> Vec<Tensor> {
    let lifetimes = Lifetimes::of(graph);
    let mut stream = Stream::start(graph, inputs.to_vec(), tap);
    stream.run(graph, 0..graph.nodes.len(), weights, &lifetimes, tap, par);
    let output = |id: &ValueId| stream.get(*id).cloned().expect("invariant: outputs live on");
    graph.outputs.iter().map(output).collect()
}
