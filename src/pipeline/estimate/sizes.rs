//! Bytes of the files that a job writes, from its graph and what the policy wants of every tensor.

use super::super::Error;
use crate::algo::Streams;
use crate::calibrate::{Plan, Site};
use crate::circle::Payloads;
use crate::graph::{Graph, Kind, Param, ValueId};
use crate::quant::{Decision, Grain};
use serde::Serialize;
use std::collections::HashMap;

/// Bytes of a tensor's tables beside its name, and of an operator with its operands.
const TENSOR: u64 = 132;
const OPERATOR: u64 = 88;
/// Bytes of a grid: its table, and for each channel an f32 scale and an i64 zero point.
const GRID: u64 = 40;
const CHANNEL: u64 = 12;
/// Bytes of a FlatBuffer, and so of a file that holds its payloads inside.
const INLINE_MAX: u64 = (1 << 31) - 1;

/// A file that a job would write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// Its name in OUT.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl FileSize {
    /// Whether the format can hold it.
    pub(super) fn fits(&self, payloads: Payloads) -> bool {
        payloads == Payloads::Appended || self.size <= INLINE_MAX
    }

    /// # Errors
    /// A file that the format cannot hold.
    pub(super) fn check(&self, payloads: Payloads, staged: bool) -> Result<(), Error> {
        if self.fits(payloads) {
            return Ok(());
        }
        let out = if staged { "--buffers external" } else { "--buffers external or --stages" };
        Err(Error::FileSize { name: self.name.clone(), size: self.size, most: INLINE_MAX, out })
    }
}

/// By value, whether an earlier value of the graph has the same stored tensor.
fn again(graph: &Graph) -> Vec<bool> {
    let mut again = vec![false; graph.values.len()];
    let mut seen: HashMap<&str, Vec<&Param>> = HashMap::new();
    for (id, param) in graph.params() {
        let same = seen.entry(&param.key).or_default();
        again[id.index()] = same.contains(&param);
        same.push(param);
    }
    again
}

/// What every tensor of the job's graph is written as; other graphs find theirs by name.
pub(in super::super) struct Sizes<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    ids: HashMap<&'a str, ValueId>,
    /// Whether linear layers of few bits are rounded by their inputs, so that two that read one
    /// stored tensor differ.
    apart: bool,
    /// Values of a stored tensor that an earlier value has already.
    again: Vec<bool>,
}

impl<'a> Sizes<'a> {
    /// Of the graph under its plan.
    pub(in super::super) fn of(graph: &'a Graph, plan: &'a Plan, streams: Streams) -> Sizes<'a> {
        let ids = graph.ids().map(|id| (graph.value(id).name.as_str(), id)).collect();
        Sizes { graph, plan, ids, apart: streams >= Streams::Seen, again: again(graph) }
    }

    /// Whether the quantized file holds no equal tensor before: tied weights are written once.
    pub(super) fn first(&self, id: ValueId) -> bool {
        !self.again[id.index()] || self.differs(id)
    }

    /// Whether it is rounded otherwise than its twin.
    fn differs(&self, id: ValueId) -> bool {
        self.apart && self.quantized(id).0 <= 8
    }

    /// Bytes of a graph in float and quantized; `name` gives the name that a value has in the job's
    /// graph.
    pub(in super::super) fn file(&self, graph: &Graph, name: &dyn Fn(&str) -> String) -> [u64; 2] {
        let again = again(graph);
        let mut total = [OPERATOR * graph.nodes.len() as u64; 2];
        for id in graph.ids() {
            let value = graph.value(id);
            let elements = value.shape.iter().product::<usize>() as u64;
            let held = value.is_constant();
            let known = self.ids.get(name(&value.name).as_str());
            let (bits, grid) = match (value.kind, known) {
                (Kind::Index, _) => (64, 0),
                (Kind::Real, Some(&known)) => self.quantized(known),
                (Kind::Real, None) => (16, 0),
            };
            let tables = TENSOR + value.name.len() as u64;
            let float = if value.kind == Kind::Index { 64 } else { 32 };
            let payload = |bits: u64| if held { (elements * bits).div_ceil(8) + 8 } else { 0 };
            let tied = again[id.index()];
            if !tied {
                total[0] += tables + payload(float);
            }
            if !tied || known.is_some_and(|id| self.differs(*id)) {
                total[1] += tables + payload(bits) + grid;
            }
        }
        total
    }

    /// Bits of an element, and bytes of the grid.
    pub(super) fn quantized(&self, id: ValueId) -> (u64, u64) {
        let value = self.graph.value(id);
        let channels =
            |grain: Grain| GRID + CHANNEL * grain.grids(&value.shape).unwrap_or(1) as u64;
        let of = |decision: Option<&Decision>| match decision {
            Some(Decision::Affine { dtype, scheme, .. }) => {
                (dtype.stored_bits().min(16) as u64, channels(scheme.grain))
            }
            Some(Decision::Mx { .. } | Decision::Float) | None => (32, 0),
        };
        match self.plan.sites.site(id) {
            Site::Index => (64, 0),
            Site::Weight | Site::Gain | Site::Activation { .. } => of(self.plan.decision(id)),
            // An accumulator of 8-bit kernels has 32 bits, of others 64; its scales are the weight's.
            Site::Bias { input, .. } => {
                let wide = match self.plan.sites.site(input) {
                    Site::Activation { class } => of(self.plan.class_decision(class)).0 > 8,
                    _ => true,
                };
                (if wide { 64 } else { 32 }, channels(Grain::Axis(0)))
            }
        }
    }
}
