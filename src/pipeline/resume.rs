//! What a rerun of a job takes from the one before, and what it puts down for the next.

use super::legs::Legs;
use super::unfinished::Unfinished;
use super::walk::{Lane, Walk};
use super::{Error, Means, Prepared, Prompt, Reached, Recipe, Trouble, halt, sharing};
use crate::algo::{Rounding, Session, Streams};
use crate::calibrate::Statistics;
use crate::checkpoint::Checkpoint;
use crate::cluster::{Collected, Rows};
use crate::dataset::Sample;
use crate::exec::Spool;

/// The nodes that float and quantized streams have reached, and the streams.
pub(super) type Standing = ([Option<usize>; 2], Spool);

impl<'a> Prepared<'a> {
    /// Where streams are put down: a job that walks once has none between two legs.
    pub(super) fn durable_walk(&self) -> Option<&Unfinished<'a>> {
        self.unfinished.as_ref().filter(|_| !self.legs.whole())
    }

    /// Where an earlier run has left the calibration and the evaluation samples, in both networks,
    /// if it has put down all that was rounded on the way.
    pub(super) fn standing(&self, lanes: [&[Lane]; 2]) -> Option<[Standing; 2]> {
        let unfinished = self.durable_walk()?;
        let found = halt::read(unfinished, &lanes, (&self.legs, &self.room))?;
        let seen = found.groups.first()?.0[1]?;
        let (plan, float, rounding) = (&self.plan, &self.floats.all, self.rounding.as_ref());
        let weights = Session { plan, nodes: 0..seen, float, rounding }.weights(&self.graph);
        let mut names = weights.iter().map(|id| self.graph.value(*id).name.clone());
        let all = found.observed.is_none() && unfinished.knows(&mut names);
        found.groups.try_into().ok().filter(|_| all)
    }

    /// What [`Prepared::observe`] gives, from an earlier run if there was one.
    pub(super) fn observed(&self, walk: &Walk<'_>) -> Result<Option<(Statistics, Reached)>, Error> {
        let known = |unfinished: &Unfinished<'_>| unfinished.statistics(&self.plan, &self.graph);
        let Some(statistics) = self.unfinished.as_ref().and_then(known) else { return Ok(None) };
        let products = self.recipe.products;
        Ok(Some((statistics, Reached { spool: self.spool(walk), node: None, products })))
    }

    /// Puts down statistics of all rows.
    pub(super) fn put_statistics(&self, statistics: &Statistics, rows: usize) -> Result<(), Error> {
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        // The moving average is not put down: it is observed again.
        if !self.plan.mergeable() {
            return Ok(());
        }
        unfinished.put_statistics(|origin| {
            let seen_by = (&self.graph, statistics.clone());
            Ok(Collected::new(origin, Rows::new(0..rows, rows), &self.plan, seen_by)?)
        })
    }
}

/// Whether rounded layers are put down: rounding to nearest in memory takes no longer than reading
/// what it would have put down.
pub(super) fn worthwhile(legs: &Legs, rounding: &dyn Rounding) -> bool {
    !legs.whole() || rounding.streams() > Streams::Neither
}

/// Where the job puts finished work down, and what an earlier run has left there.
pub(super) fn unfinished<'a>(
    checkpoint: &'a Checkpoint,
    calib: &'a [Sample],
    recipe: &'a Recipe,
    (prompt, trouble): (&Prompt, &Trouble),
) -> Result<Option<Unfinished<'a>>, Error> {
    let Means { folder: Some(folder), durable: Some(durable), .. } = &recipe.means else {
        return Ok(None);
    };
    let layout = prompt.layout.clone();
    let origin = move || {
        let place = (&layout, &recipe.fixed.prefix[..]);
        sharing::origin(checkpoint, calib, place, &recipe.numerics().text())
    };
    Unfinished::open(folder, *durable, trouble, origin).map(Some)
}
