//! Where the samples of a job in several legs stand between two of them, as a file: numbers of all
//! live values, then what they are. A rerun reads them from there when it is their turn.

use super::super::walk::{Lane, Legs, Walk};
use super::{Unfinished, unit};
use crate::calibrate::Parts;
use crate::cluster;
use crate::exec::{Outline, Room, Spool};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// Samples that stand at one place, the nodes that the float streams and the quantized ones have
/// reached, and the streams.
pub(in super::super) type Group<'a> = (&'a Walk<'a>, [Option<usize>; 2], &'a Spool);

/// What is known of the streams.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Statistics of the legs so far; none in the quantized run.
    observed: Option<Parts>,
    groups: Vec<Standing>,
}

#[derive(Serialize, Deserialize)]
struct Standing {
    /// Fingerprint of the samples: a job is the same whatever it is evaluated on.
    samples: u64,
    lanes: Vec<Lane>,
    at: [Option<usize>; 2],
    streams: Vec<Vec<Outline>>,
}

/// Writes the streams of all groups.
pub(in super::super) fn write(
    observed: Option<Parts>,
    groups: &[Group<'_>],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut head = Head { observed, groups: Vec::new() };
    for (walk, at, spool) in groups {
        spool.write_to(out)?;
        let (samples, lanes) = (cluster::of_samples(walk.samples), walk.lanes.clone());
        head.groups.push(Standing { samples, lanes, at: *at, streams: spool.outlines() });
    }
    unit::close(&head, out)
}

/// What a rerun finds.
pub(in super::super) struct Found {
    pub(in super::super) observed: Option<Parts>,
    /// Of each group the nodes that were reached, and the streams.
    pub(in super::super) groups: Vec<([Option<usize>; 2], Spool)>,
}

/// The streams of an earlier run whose samples and lanes were these; none if there are none, if they
/// are cut, or if no leg begins where they stand: then all walk from the start.
pub(in super::super) fn read(
    unfinished: &Unfinished<'_>,
    walks: &[&Walk<'_>],
    (legs, room): (&Legs, &Arc<Room>),
) -> Option<Found> {
    let path = unfinished.halted()?;
    let mut file = File::open(&path).ok()?;
    let (head, len): (Head, u64) = unit::list(&mut file).ok()??;
    let same = |(group, walk): (&Standing, &&Walk<'_>)| {
        group.lanes == walk.lanes && group.samples == cluster::of_samples(walk.samples)
    };
    if head.groups.len() != walks.len() || !head.groups.iter().zip(walks).all(same) {
        return None;
    }
    let border =
        |at: &Option<usize>| at.is_none_or(|at| legs.nodes.iter().any(|nodes| nodes.start == at));
    let (mut found, mut start) = (Vec::new(), 0);
    for Standing { at, streams, .. } in head.groups {
        let bytes = streams.iter().flatten().map(Outline::bytes).sum::<u64>();
        if !at.iter().all(border) {
            return None;
        }
        let file = File::open(&path).ok()?;
        found.push((at, Spool::restored(file, start, streams, Arc::clone(room))));
        start += bytes;
    }
    (start == len).then_some(Found { observed: head.observed, groups: found })
}
