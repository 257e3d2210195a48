//! Which tensors are rounded, and how.

use super::super::Error;
use super::super::estimate::SMALL;
use crate::algo::rtn::Rtn;
use crate::algo::{Rounding, first_readers};
use crate::calibrate::{CalibrateError, Plan, Site};
use crate::checkpoint::Checkpoint;
use crate::graph::{Graph, Param, ValueId};
use crate::lower;
use crate::quant::{DType, Decision, Grain, ObserverSpec, ParamsError, QuantParams};
use std::collections::{BTreeMap, HashMap};

/// Elements of rows that are rounded together: 256 KiB of them as f32 stay near their core.
const TOGETHER: usize = 1 << 16;

/// How the rows of a tensor are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A few at a time, each on a grid that is chosen for it alone; or in float.
    ByRows,
    /// A few at a time, on one grid for all, which needs their extremes first.
    Extremes,
    /// All at once: a rewrite or the grid looks at more than a row.
    Whole,
}

/// A tensor of the file that is made of a tensor of the checkpoint.
pub(super) struct Job<'a> {
    /// The values that it is; several where weights are tied.
    pub(super) ids: Vec<ValueId>,
    pub(super) name: &'a str,
    pub(super) param: &'a Param,
    pub(super) shape: &'a [usize],
    pub(super) decision: Decision,
    pub(super) way: Way,
    pub(super) rounding: &'a dyn Rounding,
}

/// All of them, in graph order.
pub(super) struct Jobs<'a> {
    pub(super) all: Vec<Job<'a>>,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) graph: &'a Graph,
    pub(super) plan: &'a Plan,
    numbers: HashMap<ValueId, usize>,
}

/// Some rows of a job's tensor.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) job: usize,
    pub(super) rows: std::ops::Range<usize>,
}

impl<'a> Jobs<'a> {
    /// Every weight that gets a grid, and every large one that stays float.
    ///
    /// # Errors
    /// A weight on a grid that the format cannot express.
    pub(super) fn of(
        checkpoint: &'a Checkpoint,
        graph: &'a Graph,
        plan: &'a Plan,
        rounding: &'a dyn Rounding,
    ) -> Result<Jobs<'a>, Error> {
        let linear: Vec<ValueId> = first_readers(graph, plan)
            .into_iter()
            .map(|node| graph.nodes[node].inputs[1])
            .collect();
        let mut all: Vec<Job<'a>> = Vec::new();
        let mut numbers = HashMap::new();
        let mut tied: HashMap<&str, Vec<usize>> = HashMap::new();
        for (id, param) in graph.params() {
            let value = graph.value(id);
            let weight = plan.sites.site(id) == Site::Weight;
            let decision = plan.weight_decision(id).filter(|_| weight).copied();
            let decision = decision.unwrap_or(Decision::Float);
            lower::check(&value.name, &decision, true)?;
            let elements: usize = value.shape.iter().product();
            if (decision == Decision::Float && elements <= SMALL) || value.shape.is_empty() {
                continue;
            }
            // Of values that read one tensor, those that get one grid are one tensor of the file.
            let same = tied.entry(&param.key).or_default();
            let rounding = if linear.contains(&id) { rounding } else { &Rtn {} };
            let equal = |job: &Job<'_>| {
                (job.param, job.shape, job.decision) == (param, &value.shape[..], decision)
                    && job.rounding.to_nearest() == rounding.to_nearest()
            };
            let number = match same.iter().find(|&&number| equal(&all[number])) {
                Some(&number) => number,
                None => {
                    let way = way(param, &value.shape, &decision, rounding);
                    let (name, shape) = (&value.name[..], &value.shape[..]);
                    let ids = Vec::new();
                    all.push(Job { ids, name, param, shape, decision, way, rounding });
                    same.push(all.len() - 1);
                    all.len() - 1
                }
            };
            all[number].ids.push(id);
            numbers.insert(id, number);
        }
        Ok(Jobs { all, checkpoint, graph, plan, numbers })
    }

    /// The job that a value is made by.
    pub(super) fn number(&self, id: ValueId) -> Option<usize> {
        self.numbers.get(&id).copied()
    }

    /// What threads take, one after the other.
    pub(super) fn units(&self) -> Vec<Unit> {
        let units = |(job, of): (usize, &Job<'a>)| {
            let rows = of.shape[0];
            let step = match of.way {
                Way::Whole => rows,
                // An even number, so that only the last may end within a byte.
                _ => (TOGETHER / of.width().max(1)).next_multiple_of(2).max(2),
            };
            let first = (0..rows).step_by(step.max(1));
            first.map(move |first| Unit { job, rows: first..rows.min(first + step) })
        };
        self.all.iter().enumerate().flat_map(units).collect()
    }

    /// How many tensors and elements have integers of 4, 8 and 16 bits.
    pub(super) fn integers(&self) -> Vec<(usize, usize, u64)> {
        let mut by_bits: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
        for job in self.all.iter().filter(|job| job.dtype().is_some()) {
            let (tensors, elements) = by_bits.entry(job.bits()).or_default();
            *tensors += 1;
            *elements += job.shape.iter().product::<usize>() as u64;
        }
        by_bits.into_iter().map(|(bits, (tensors, elements))| (bits, tensors, elements)).collect()
    }

    /// Bytes of the tensors that are read, as the checkpoint has them.
    pub(super) fn read(&self) -> u64 {
        let mut keys: Vec<&str> = self.all.iter().map(|job| &job.param.key[..]).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| Some(self.checkpoint.raw(key).ok()?.0.len() as u64)).sum()
    }
}

/// What a grid and the rewrites of a tensor need to see together.
fn way(param: &Param, shape: &[usize], decision: &Decision, rounding: &dyn Rounding) -> Way {
    let alone = param.by_rows(shape);
    match decision {
        Decision::Float if alone => Way::ByRows,
        Decision::Affine { scheme, .. } if alone && scheme.grain == Grain::Axis(0) => Way::ByRows,
        Decision::Affine { scheme, observer: ObserverSpec::MinMax, .. }
            if alone && scheme.grain == Grain::Tensor && rounding.to_nearest() =>
        {
            Way::Extremes
        }
        _ => Way::Whole,
    }
}

impl Job<'_> {
    /// Elements of a row.
    pub(super) fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// An error with the tensor's name.
    pub(super) fn blamed(&self, source: ParamsError) -> CalibrateError {
        CalibrateError::Params { name: self.name.into(), source }
    }

    pub(super) fn dtype(&self) -> Option<DType> {
        match self.decision {
            Decision::Affine { dtype, .. } => Some(dtype),
            Decision::Mx { .. } | Decision::Float => None,
        }
    }

    /// Bits of an element in the file.
    pub(super) fn bits(&self) -> usize {
        self.dtype().map_or(32, DType::stored_bits)
    }

    /// Bytes of all elements in the file.
    pub(super) fn bytes(&self) -> u64 {
        (self.shape.iter().product::<usize>() as u64 * self.bits() as u64).div_ceil(8)
    }

    /// A grid of the form that the tensor will get, with vectors like no other's: whatever vectors
    /// turn out to be equal, the tables with the real ones are no longer. None for float.
    pub(super) fn stand_in(&self, number: usize) -> Option<QuantParams> {
        let Decision::Affine { dtype, scheme, .. } = self.decision else { return None };
        let count = scheme.grain.grids(self.shape).unwrap_or(1);
        let (mut scale, mut zero_point) = (vec![1.0; count], vec![0; count]);
        if let Some(scale) = scale.first_mut() {
            *scale = f32::from_bits(u32::try_from(number).unwrap_or(u32::MAX));
        }
        if let (false, Some(zero)) = (scheme.symmetric, zero_point.first_mut()) {
            *zero = i32::try_from(number).unwrap_or(i32::MAX).saturating_add(1);
        }
        Some(QuantParams::Affine { dtype, scale, zero_point, grain: scheme.grain })
    }
}
