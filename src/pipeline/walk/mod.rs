//! How samples go through their graph: several of one length as one lane, leg by leg (`legs.rs`), in
//! float while sites are observed (`calibration.rs`), then quantized while weights are rounded
//! (`rounding.rs`) and outputs compared (`evaluation.rs`). `floats.rs` and `codes.rs` hold the weights.

mod calibration;
mod codes;
mod evaluation;
mod floats;
mod legs;
mod rounding;

pub(super) use calibration::Observation;
pub(super) use codes::{Codes, StoredCodes};
pub(super) use evaluation::{EXAMPLE, Travellers};
pub(super) use floats::{Floats, read};
pub(super) use legs::Legs;
pub(super) use rounding::{Conversion, Converted, rewrite, suits, unmasked};

use super::{Error, Prompt, prompt};
use crate::algo::{self, Pairs};
use crate::calibrate::quantize_constants;
use crate::dataset::Sample;
use crate::exec::{Gait, Lifetimes, Spool};
use crate::graph::Graph;
use crate::layout::Layout;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

/// Elements of a hidden state up to which samples share a lane: a longer one makes up for an operator's
/// fixed cost by itself and stays nearer to the core.
const LANE_ELEMENTS: usize = 1 << 12;

/// Samples of one length that run together as the batch of one graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Sequence length.
    pub(super) len: usize,
    /// Positions in the list of samples.
    pub(super) samples: Vec<usize>,
}

/// Samples of a lane, of samples of the greatest length: at most so many, if lanes are free.
pub(super) fn batch(samples: &[Sample], width: usize) -> usize {
    let len = samples.iter().map(|sample| sample.input_ids.len()).max().unwrap_or(1);
    widest(samples.len(), len * width)
}

/// How many of `samples` samples may share a lane if a hidden state of one has so many elements: no
/// more than leave every thread a lane.
fn widest(samples: usize, elements: usize) -> usize {
    let share = samples.div_ceil(rayon::current_num_threads()).max(1);
    (LANE_ELEMENTS / elements.max(1)).clamp(1, share)
}

/// Groups samples into lanes; `len` gives the length each runs at, `width` the hidden size.
pub(super) fn lanes(samples: &[Sample], len: impl Fn(&Sample) -> usize, width: usize) -> Vec<Lane> {
    let mut by_len: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, sample) in samples.iter().enumerate() {
        by_len.entry(len(sample)).or_default().push(i);
    }
    let mut lanes = Vec::new();
    for (len, members) in by_len {
        // Equal parts: a rest of one would cost a graph of its own.
        let parts = members.len().div_ceil(widest(samples.len(), len * width));
        let batch = members.len().div_ceil(parts);
        lanes.extend(members.chunks(batch).map(|part| Lane { len, samples: part.to_vec() }));
    }
    lanes
}

/// The lanes of calibration samples, each at its own length; single, and in order, if an observer
/// counts batches.
pub(super) fn calibration_lanes(samples: &[Sample], mergeable: bool, width: usize) -> Vec<Lane> {
    match mergeable {
        true => lanes(samples, |sample| sample.input_ids.len(), width),
        false => one_by_one(samples),
    }
}

/// The graph of each (length, batch) among `lanes`.
pub(super) type Variants = BTreeMap<(usize, usize), Graph>;

/// The variants with the annotations of `graph`, constants rounded.
pub(super) fn annotated(mut variants: Variants, graph: &Graph) -> Variants {
    for variant in variants.values_mut() {
        variant.annotate_like(graph);
        quantize_constants(variant);
    }
    variants
}

/// Samples in lanes, and the float graph of each lane's shape.
pub(super) struct Walk<'a> {
    pub(super) samples: &'a [Sample],
    pub(super) lanes: Vec<Lane>,
    pub(super) float: Variants,
    lifetimes: BTreeMap<(usize, usize), Lifetimes>,
}

impl<'a> Walk<'a> {
    /// Builds the graphs and makes sure that all samples fit them.
    ///
    /// # Errors
    /// A sample whose tensors do not have the graph's shapes.
    pub(super) fn new(
        samples: &'a [Sample],
        lanes: Vec<Lane>,
        build: &dyn Fn(Layout, usize) -> Result<Graph, Error>,
        prompt: &Prompt,
    ) -> Result<Walk<'a>, Error> {
        let float = variants(&lanes, build, prompt)?;
        let lifetimes = float.iter().map(|(shape, graph)| (*shape, Lifetimes::of(graph))).collect();
        let walk = Walk { samples, lanes, float, lifetimes };
        for (i, lane) in walk.lanes.iter().enumerate() {
            prompt::check(walk.graph(i), &walk.members(lane))?;
        }
        Ok(walk)
    }

    /// The float graph of a lane.
    pub(super) fn graph(&self, lane: usize) -> &Graph {
        &self.float[&self.lanes[lane].shape()]
    }

    /// How long the values of a lane's graph live.
    pub(super) fn lifetimes(&self, lane: usize) -> &Lifetimes {
        &self.lifetimes[&self.lanes[lane].shape()]
    }

    /// The inputs of a lane's graph.
    pub(super) fn inputs(&self, lane: usize) -> Vec<Tensor> {
        prompt::inputs(self.graph(lane), &self.members(&self.lanes[lane]))
    }

    fn members(&self, lane: &Lane) -> Vec<&'a Sample> {
        lane.samples.iter().map(|&i| &self.samples[i]).collect()
    }

    /// The lanes with both graphs of each, at their start; or with the streams in `spool`, which have
    /// reached the nodes `at`: those of the float network, then those of the quantized one.
    pub(super) fn pairs<'p>(
        &'p self,
        quantized: &'p Variants,
        spool: Spool,
        at: [Option<usize>; 2],
    ) -> Pairs<'p> {
        let lane = |(shape, float): (&(usize, usize), &'p Graph)| {
            let lane = algo::Lane::new(float, &quantized[shape], &self.lifetimes[shape]);
            (*shape, Arc::new(lane))
        };
        let shapes: BTreeMap<_, _> = self.float.iter().map(lane).collect();
        let lanes = self.lanes.iter().map(|lane| Arc::clone(&shapes[&lane.shape()])).collect();
        Pairs::new(lanes, |lane| self.inputs(lane), spool, at)
    }

    /// Side by side if that is allowed, there are enough lanes and memory holds as many of them as
    /// there are threads; else one after the other with all threads in each.
    pub(super) fn gait(&self, legs: &Legs, nodes: &Range<usize>, free: bool) -> Gait {
        let threads = rayon::current_num_threads();
        let fits = |graph| legs.side_by_side(graph, nodes.clone(), threads as u64);
        match free && self.lanes.len() >= threads && self.float.values().all(fits) {
            true => Gait::SideBySide,
            false => Gait::OneByOne,
        }
    }

    /// What was found for every sample of every lane, in the order of the samples.
    pub(super) fn in_order<T>(&self, found: Vec<Vec<T>>) -> Vec<T> {
        let places = self.lanes.iter().flat_map(|lane| lane.samples.iter().copied());
        let mut slots: Vec<(usize, T)> = places.zip(found.into_iter().flatten()).collect();
        slots.sort_unstable_by_key(|(i, _)| *i);
        slots.into_iter().map(|(_, value)| value).collect()
    }
}

/// The graph of each (length, batch); they differ in shapes and constants only.
fn variants(
    lanes: &[Lane],
    build: &dyn Fn(Layout, usize) -> Result<Graph, Error>,
    prompt: &Prompt,
) -> Result<Variants, Error> {
    let mut variants = Variants::new();
    for lane in lanes {
        if let Entry::Vacant(slot) = variants.entry(lane.shape()) {
            let layout = prompt.layout.clone().with_seq_len(lane.len)?;
            slot.insert(build(layout, lane.samples.len())?);
        }
    }
    Ok(variants)
}

impl Lane {
    /// Which variant it runs on.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.len, self.samples.len())
    }
}

/// One lane a sample, in order: for observers that count batches.
pub(super) fn one_by_one(samples: &[Sample]) -> Vec<Lane> {
    let lane =
        |(i, sample): (usize, &Sample)| Lane { len: sample.input_ids.len(), samples: vec![i] };
    samples.iter().enumerate().map(lane).collect()
}
