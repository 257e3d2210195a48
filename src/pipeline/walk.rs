//! Takes samples through their graph, several of one length at a time.

use super::{Error, Prompt, prompt};
use crate::calibrate::quantize_constants;
use crate::dataset::Sample;
use crate::exec::{Lifetimes, Stream, Tap, Weights};
use crate::graph::Graph;
use crate::layout::Layout;
use crate::tensor::{Par, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Elements of one hidden state of a lane: small enough that a lane's activations stay in a core's
/// own cache, large enough that an operator's fixed cost does not count.
const LANE_ELEMENTS: usize = 1 << 16;

/// Samples of one length that run together as the batch of one graph.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Sequence length.
    pub(super) len: usize,
    /// Positions in the list of samples.
    pub(super) samples: Vec<usize>,
}

/// Groups samples into lanes; `len` gives the length each runs at, `width` the hidden size.
pub(super) fn lanes(samples: &[Sample], len: impl Fn(&Sample) -> usize, width: usize) -> Vec<Lane> {
    let mut by_len: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, sample) in samples.iter().enumerate() {
        by_len.entry(len(sample)).or_default().push(i);
    }
    let share = samples.len().div_ceil(rayon::current_num_threads()).max(1);
    let mut lanes = Vec::new();
    for (len, members) in by_len {
        let batch = (LANE_ELEMENTS / (len * width).max(1)).clamp(1, share);
        // Equal parts: a rest of one would cost a graph of its own.
        let parts = members.len().div_ceil(batch);
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

/// The graph of each (length, batch); they differ in shapes and constants only.
pub(super) fn variants(
    lanes: &[Lane],
    build: impl Fn(Layout, usize) -> Result<Graph, Error>,
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

    /// Runs all stages; the first output of each sample, `[seq, width]` each.
    pub(super) fn walk(
        &self,
        graph: &Graph,
        samples: &[Sample],
        weights: &Weights,
        tap: &mut dyn Tap,
        par: Par,
    ) -> Result<Vec<Tensor>, Error> {
        let members: Vec<&Sample> = self.samples.iter().map(|&i| &samples[i]).collect();
        let inputs = prompt::inputs(graph, &members)?;
        let lifetimes = Lifetimes::of(graph);
        let mut stream = Stream::start(graph, inputs, tap);
        stream.run(graph, 0..graph.nodes.len(), weights, &lifetimes, tap, par);
        let output = stream.get(graph.outputs[0]).expect("invariant: outputs live on");
        let shape = &output.shape()[1..];
        let rows = output.data().chunks_exact(shape.iter().product());
        Ok(rows.map(|row| Tensor::written(shape, |out| out.copy_from_slice(row))).collect())
    }
}

/// Runs `walk` on every lane: side by side if `free` and there are enough lanes, else one after the
/// other with all threads in each. Results are in the order of the samples.
pub(super) fn each_lane<T: Send>(
    lanes: &[Lane],
    free: bool,
    walk: impl Fn(&Lane, Par) -> Result<Vec<T>, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let parts: Vec<Result<Vec<T>, Error>> = if !free || lanes.len() < rayon::current_num_threads() {
        lanes.iter().map(|lane| walk(lane, Par::All)).collect()
    } else {
        lanes.par_iter().map(|lane| walk(lane, Par::Seq)).collect()
    };
    let mut slots: Vec<(usize, T)> = Vec::new();
    for (lane, part) in lanes.iter().zip(parts) {
        slots.extend(lane.samples.iter().copied().zip(part?));
    }
    slots.sort_unstable_by_key(|(i, _)| *i);
    Ok(slots.into_iter().map(|(_, value)| value).collect())
}

/// One lane a sample, in order: for observers that count batches.
pub(super) fn one_by_one(samples: &[Sample]) -> Vec<Lane> {
    let lane =
        |(i, sample): (usize, &Sample)| Lane { len: sample.input_ids.len(), samples: vec![i] };
    samples.iter().enumerate().map(lane).collect()
}
