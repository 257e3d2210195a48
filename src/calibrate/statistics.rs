//! What calibration sees, and the taps that see it.

use super::{CalibrateError, Plan, meeting, spread};
use crate::exec::Tap;
use crate::graph::{Graph, ValueId};
use crate::quant::{self, AnyObserver, Merge, MergeError, Observer, QuantParams};
use crate::tensor::{Finish, Tensor};

/// One observer a class, where the class is to be observed.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub(super) classes: Vec<Option<AnyObserver>>,
}

impl Statistics {
    /// Nothing seen yet.
    pub fn new(plan: &Plan) -> Statistics {
        let observer = |(class, decision): (&super::Class, &quant::Decision)| {
            if class.observed.is_empty() { None } else { decision.observer() }
        };
        Statistics { classes: plan.sites.classes.iter().zip(&plan.classes).map(observer).collect() }
    }

    /// About how many bytes they are once samples were shown.
    pub fn bytes(plan: &Plan, graph: &Graph) -> u64 {
        let of = |(class, decision): (&super::Class, &quant::Decision)| match decision {
            quant::Decision::Affine { scheme, observer, .. } => {
                let shape = &graph.value(*class.observed.first()?).shape;
                Some(scheme.grain.grids(shape)? as u64 * observer.bytes())
            }
            _ => None,
        };
        plan.sites.classes.iter().zip(&plan.classes).filter_map(of).sum()
    }

    /// What is shown from now on is of this sample: averages are over samples.
    pub fn begin(&mut self, sample: usize) {
        self.classes.iter_mut().flatten().for_each(|observer| observer.begin(Some(sample)));
    }

    /// Shows one value of a class.
    pub fn observe(&mut self, class: usize, value: &Tensor) {
        if let Some(observer) = &mut self.classes[class] {
            observer.observe(value.data(), value.shape());
        }
    }

    /// Joins the statistics of other samples of the same plan.
    ///
    /// # Errors
    /// If the two were made for different plans, or an observer depends on order.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), CalibrateError> {
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            match (mine, theirs) {
                (Some(AnyObserver::Mergeable(a)), Some(AnyObserver::Mergeable(b))) => a.merge(b)?,
                (None, None) => {}
                _ => {
                    let (one, other) = ("an ordered observer".into(), "a mergeable one".into());
                    return Err(MergeError { one, other }.into());
                }
            }
        }
        Ok(())
    }
}

/// The tap of a calibrating run: the values pass unchanged.
pub struct Observing<'a> {
    /// Which class each value belongs to.
    pub plan: &'a Plan,
    /// Where it is noted.
    pub statistics: &'a mut Statistics,
}

impl Tap for Observing<'_> {
    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        if let Some(class) = self.plan.sites.observed(id) {
            self.statistics.observe(class, value);
        }
    }

    fn finish(&mut self, id: ValueId) -> Option<Box<Finish<'_>>> {
        let class = self.plan.sites.observed(id)?;
        let see = self.statistics.classes[class].as_mut()?.piecewise()?;
        Some(Box::new(move |_, piece| see(piece)))
    }
}

/// The tap of a quantized run: every annotated value is rounded to its grid.
pub struct Quantizing<'a> {
    /// The annotated graph.
    pub graph: &'a Graph,
    /// Whether a value moved unchanged from one on the same grid; rounding again changes nothing.
    moved: Vec<bool>,
    /// By value, the wider grid that its operator computes on, where grids of several dtypes meet.
    wide: Vec<Option<QuantParams>>,
}

impl Quantizing<'_> {
    /// For an annotated graph that is to be lowered: it computes what its file will say.
    pub fn of(graph: &Graph) -> Quantizing<'_> {
        let mut quantizing = Quantizing::of_file(graph);
        for node in &graph.nodes {
            let dtype = meeting(graph, node);
            quantizing.wide[node.output.index()] =
                dtype.and_then(|dtype| spread(graph, node.output, dtype));
        }
        quantizing
    }

    /// For the graph of a file, whose operators say all that is rounded.
    pub fn of_file(graph: &Graph) -> Quantizing<'_> {
        let mut moved = vec![false; graph.values.len()];
        for node in &graph.nodes {
            let mine = &graph.value(node.output).qparams;
            let same = |id: &ValueId| graph.value(*id).qparams == *mine;
            // MX cuts every view into blocks of its own.
            moved[node.output.index()] = node.op.def().rule()
                == crate::ops::OutputRule::SameAsInputs
                && mine.as_ref().is_some_and(QuantParams::is_per_tensor)
                && node.inputs.iter().all(same);
        }
        Quantizing { graph, moved, wide: vec![None; graph.values.len()] }
    }

    /// What a value is to be rounded to.
    fn grid(&self, id: ValueId) -> Option<&QuantParams> {
        self.graph.value(id).qparams.as_ref().filter(|_| !self.moved[id.index()])
    }
}

impl Tap for &Quantizing<'_> {
    fn finish(&mut self, id: ValueId) -> Option<Box<Finish<'_>>> {
        let snap = quant::snap(self.grid(id)?)?;
        Some(match self.wide[id.index()].as_ref().and_then(quant::snap) {
            Some(first) => Box::new(move |_, piece| {
                first(piece);
                snap(piece);
            }),
            None => Box::new(move |_, piece| snap(piece)),
        })
    }

    fn on_grids(&self) -> bool {
        true
    }

    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        let wide = self.wide[id.index()].as_ref();
        wide.into_iter().chain(self.grid(id)).for_each(|params| quant::round(params, value));
    }
}
