//! What one sample feeds a layer: here, or on its way to other processes.

use super::session::Target;
use super::{Moments, Pair, Roots, Streams};
use crate::calibrate::Emphasis;
use crate::cluster::{ClusterError, Crew, gather};
use crate::graph::ValueId;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The rows of a layer's input in one sample, and of the stream that its output is added to.
#[derive(Serialize, Deserialize)]
pub(super) struct Intake<'a> {
    /// Extents of a row of the input, and of the stream; 0 where there is none.
    widths: [usize; 2],
    seen: Cow<'a, [f32]>,
    /// What the float network feeds it; none where nobody asks.
    wanted: Option<Cow<'a, [f32]>>,
    /// The stream in the float and in the quantized network.
    streams: Option<[Cow<'a, [f32]>; 2]>,
    roots: Roots,
}

impl<'a> Intake<'a> {
    /// Of the sample whose values are `pair`, which stands before the layer.
    pub(super) fn of(
        pair: &Pair<'a>,
        layer: &Target,
        asked: Streams,
        emphasis: &Emphasis,
    ) -> Intake<'a> {
        let live = "invariant: the input of a layer about to run is live";
        let two = asked >= Streams::Both;
        let width = |id: ValueId| pair.shape(id).last().copied().unwrap_or(0);
        if let Some(route) = layer.routed {
            let [seen, wanted] = pair.rows(layer.input, route, two).expect(live).map(Cow::Owned);
            let roots = emphasis.times().and_then(|_| emphasis.roots(pair.positions(route, two)));
            let (widths, wanted) = ([width(layer.input), 0], two.then_some(wanted));
            return Intake { widths, seen, wanted, streams: None, roots };
        }
        let seen = Cow::Borrowed(pair.seen.get(layer.input).expect(live).data());
        let wanted = two.then(|| Cow::Borrowed(pair.wanted.get(layer.input).expect(live).data()));
        let roots = emphasis.times().and_then(|_| {
            emphasis.roots(pair.tokens().of_rows(layer.input, pair.shape(layer.input)))
        });
        let residual = layer.residual.filter(|_| asked == Streams::Drift);
        let streams = residual.and_then(|id| {
            let streams = [pair.wanted.get(id)?, pair.seen.get(id)?];
            Some(streams.map(Tensor::data).map(Cow::Borrowed))
        });
        let out = residual.filter(|_| streams.is_some()).map_or(0, width);
        Intake { widths: [width(layer.input), out], seen, wanted, streams, roots }
    }

    /// For another process.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("invariant: rows are plain data")
    }

    fn from_bytes(bytes: &[u8]) -> Result<Intake<'static>, ClusterError> {
        postcard::from_bytes(bytes).map_err(|error| malformed(error.to_string()))
    }

    /// Extent of a row of the input.
    pub(super) fn width(&self) -> usize {
        self.widths[0]
    }
}

/// Adds what samples feed a layer, in their order.
pub(super) fn add(moments: &mut Moments, samples: &[Intake<'_>]) {
    let rows: Vec<(&[f32], &[f32])> = samples
        .iter()
        .map(|sample| {
            (&sample.seen[..], sample.wanted.as_ref().map_or(&sample.seen[..], |x| &x[..]))
        })
        .collect();
    let roots: Vec<Roots> = samples.iter().map(|sample| sample.roots.clone()).collect();
    moments.add_weighed(&rows, &roots);
    let streams: Option<Vec<[&[f32]; 3]>> = samples
        .iter()
        .map(|sample| {
            let [float, quantized] = sample.streams.as_ref()?;
            Some([&sample.seen[..], &float[..], &quantized[..]])
        })
        .collect();
    if let (Some(streams), Some(first)) = (streams, samples.first()) {
        moments.add_drift(&streams, first.widths[1], &roots);
    }
}

/// Moments over the samples of all processes, of which this one has `own`; with products of `two`
/// streams if asked. Bits are those of one process: a sample at a time goes to all, in the order of
/// samples; each process adds up its own tiles over all of them, then tiles go to all.
///
/// # Errors
/// Bytes that another version of this program sent.
pub(super) fn together(
    crew: &dyn Crew,
    own: Vec<Vec<u8>>,
    two: bool,
) -> Result<Moments, ClusterError> {
    let [rank, of] = [crew.rank(), crew.size()];
    let counts = gather(crew, (own.len() as u64).to_le_bytes().to_vec());
    let mut own = own.into_iter();
    let mut moments: Option<Moments> = None;
    for (from, count) in counts.iter().enumerate() {
        let count = count[..].try_into().map_err(|_| malformed("no count".into()))?;
        for _ in 0..u64::from_le_bytes(count) {
            let mine = if from == rank { own.next() } else { None };
            let intake = Intake::from_bytes(&crew.spread(from, mine.unwrap_or_default()))?;
            let (width, part) = (intake.width(), [rank, of]);
            let new = || Moments::part(width, two, part);
            add(moments.get_or_insert_with(new), &[intake]);
        }
    }
    let mut moments = moments.unwrap_or_else(|| Moments::new(0, two));
    for from in 0..of {
        let mine = if from == rank { moments.tiles() } else { Vec::new() };
        let tiles = crew.spread(from, mine);
        moments.put(&tiles, [from, of]).ok_or_else(|| malformed("tiles of other sums".into()))?;
    }
    Ok(moments)
}

fn malformed(found: String) -> ClusterError {
    ClusterError::Malformed { field: "message", found, expected: "one of this version".into() }
}
