//! Which values need statistics, and which share one grid.
//!
//! Nobody places observers by hand: every real value is quantized, and the operators' rules say
//! which values move unchanged and therefore share one `QuantParams`. A class is the set of values
//! tied in that way; statistics are kept once a class.

use crate::graph::{Graph, Kind, Source, ValueId};
use crate::ops::{Op, Operand, OutputRule};
use crate::quant::Range;

/// What a value is to quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Integers by nature: no grid.
    Index,
    /// Data, or a constant among data: shares the grid of its class.
    Activation {
        /// Position in [`Sites::classes`].
        class: usize,
    },
    /// A matrix of weights: its own grid, one scale an output channel (axis 0).
    Weight,
    /// A gain of a norm: its own grid, per tensor.
    Gain,
    /// A bias: its scale is that of `input` times that of `weight`.
    Bias {
        /// The data that meets the weight.
        input: ValueId,
        /// The weight.
        weight: ValueId,
    },
}

/// Values that share one grid.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// Ascending; the first is what the class is called after.
    pub members: Vec<ValueId>,
    /// Members whose statistics are not implied by those of another member.
    pub observed: Vec<ValueId>,
    /// What the operators know of the range beforehand.
    pub pinned: Option<Range>,
    /// Whether a softmax reads a member: then what lies far below the maximum is of no weight.
    pub softmax_logits: bool,
}

/// Every value's site, and the classes.
#[derive(Clone, Debug)]
pub struct Sites {
    /// By value.
    pub sites: Vec<Site>,
    /// In the order of their first members.
    pub classes: Vec<Class>,
    /// By value, the class that it is observed for.
    observed: Vec<Option<usize>>,
}

impl Sites {
    /// Reads the sites off the graph.
    pub fn of(graph: &Graph) -> Sites {
        let mut sites = vec![None; graph.values.len()];
        for node in &graph.nodes {
            for (position, &id) in node.inputs.iter().enumerate() {
                let is_param = matches!(graph.value(id).source, Source::Param(_));
                let site = match node.op.def().operand(position) {
                    Operand::Weight if is_param => Site::Weight,
                    Operand::Gain if is_param => Site::Gain,
                    Operand::Bias => Site::Bias { input: node.inputs[0], weight: node.inputs[1] },
                    _ => continue,
                };
                sites[id.index()] = Some(site);
            }
        }
        let (of, classes) = classes(graph, &sites);
        let site = |id: ValueId| match (sites[id.index()], graph.value(id).kind) {
            (Some(site), _) => site,
            (None, Kind::Index) => Site::Index,
            (None, Kind::Real) => Site::Activation { class: of[id.index()] },
        };
        let mut observed = vec![None; graph.values.len()];
        for (i, class) in classes.iter().enumerate() {
            class.observed.iter().for_each(|id| observed[id.index()] = Some(i));
        }
        Sites { sites: graph.ids().map(site).collect(), classes, observed }
    }

    /// The site of a value.
    pub fn site(&self, id: ValueId) -> Site {
        self.sites[id.index()]
    }

    /// The class that a value is observed for.
    pub fn observed(&self, id: ValueId) -> Option<usize> {
        self.observed[id.index()]
    }
}

/// Joins values along the operators that move without changing: class of each value, and classes.
fn classes(graph: &Graph, sites: &[Option<Site>]) -> (Vec<usize>, Vec<Class>) {
    let mut parent: Vec<usize> = (0..graph.values.len()).collect();
    fn root(parent: &mut [usize], mut at: usize) -> usize {
        while parent[at] != at {
            parent[at] = parent[parent[at]];
            at = parent[at];
        }
        at
    }
    for node in &graph.nodes {
        let tied = match node.op.def().rule() {
            OutputRule::SameAsInputs => &node.inputs[..],
            OutputRule::ObserveLike { operand } => &node.inputs[operand..=operand],
            OutputRule::Observe | OutputRule::Indices | OutputRule::Pinned { .. } => &[],
        };
        for input in tied {
            let a = root(&mut parent, input.index());
            let b = root(&mut parent, node.output.index());
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut of = vec![usize::MAX; graph.values.len()];
    let mut classes: Vec<Class> = Vec::new();
    for id in graph.ids() {
        if graph.value(id).kind == Kind::Index || sites[id.index()].is_some() {
            continue;
        }
        let root = root(&mut parent, id.index());
        if of[root] == usize::MAX {
            of[root] = classes.len();
            classes.push(Class::default());
        }
        of[id.index()] = of[root];
        join(graph, &mut classes[of[root]], id);
    }
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Softmax(_))) {
        classes[of[node.inputs[0].index()]].softmax_logits = true;
    }
    (of, classes)
}

fn join(graph: &Graph, class: &mut Class, id: ValueId) {
    class.members.push(id);
    let rule = match graph.value(id).source {
        Source::Node(n) => graph.nodes[n].op.def().rule(),
        Source::Input | Source::Param(_) | Source::Const(_) => OutputRule::Observe,
    };
    match rule {
        OutputRule::Observe | OutputRule::ObserveLike { .. } => class.observed.push(id),
        OutputRule::SameAsInputs | OutputRule::Indices => {}
        OutputRule::Pinned { min, max } => {
            let range = Range::new(min, max);
            class.pinned = Some(class.pinned.map_or(range, |known| known.union(range)));
        }
    }
}
