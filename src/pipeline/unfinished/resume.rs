//! What a rerun of a job takes from the one before, and what it puts down for the next.

use super::super::walk::{Legs, Walk};
use super::super::{Error, Means, Prepared, Progress, Prompt, Reached, Recipe, Trouble, sharing};
use super::{Unfinished, halt};
use crate::algo::{Rounding, Session, Streams};
use crate::calibrate::Statistics;
use crate::checkpoint::Checkpoint;
use crate::cluster::{Collected, Rows};
use crate::dataset::Sample;
use crate::exec::Spool;
use std::sync::Arc;

/// The nodes that float and quantized streams have reached, and the streams.
pub(super) type Standing = ([Option<usize>; 2], Spool);

impl<'a> Prepared<'a> {
    /// Where streams are put down: a job that walks once has none between two legs.
    pub(in super::super) fn durable_walk(&self) -> Option<&Unfinished<'a>> {
        self.unfinished.as_deref().filter(|_| !self.legs.whole())
    }

    /// Where an earlier run has left the calibration and the evaluation samples, in both networks,
    /// if it has put down all that was rounded on the way.
    pub(in super::super) fn standing(&self, walks: [&Walk<'_>; 2]) -> Option<[Standing; 2]> {
        let unfinished = self.durable_walk()?;
        let found = halt::read(unfinished, &walks, (&self.legs, &self.room))?;
        let seen = found.groups.first()?.0[1]?;
        let (plan, float, rounding) = (&self.plan, &self.floats.all, self.rounding.as_ref());
        let weights = Session { plan, nodes: 0..seen, float, rounding }.weights(&self.graph);
        let mut names = weights.iter().map(|id| self.graph.value(*id).name.clone());
        let all = found.observed.is_none() && unfinished.knows(&mut names);
        found.groups.try_into().ok().filter(|_| all)
    }

    /// What [`Prepared::observe`] gives, from an earlier run if there was one, else put down for the
    /// next; `walk` has all rows.
    pub(in super::super) fn observed(
        &self,
        walk: &Walk<'_>,
        progress: &dyn Progress,
    ) -> Result<(Statistics, Reached), Error> {
        let known = |unfinished: &Unfinished<'_>| unfinished.statistics(&self.plan, &self.graph);
        if let Some(statistics) = self.unfinished.as_deref().and_then(known) {
            let products = self.recipe.products;
            return Ok((statistics, Reached { spool: self.spool(walk), node: None, products }));
        }
        let (statistics, reached) = self.observe(walk, progress)?;
        self.plan.unseen_experts(&self.graph, &statistics)?;
        self.put_statistics(&statistics, walk.samples.len())?;
        Ok((statistics, reached))
    }

    /// What `end` makes of the job.
    ///
    /// # Errors
    /// Those of `end`.
    pub(in super::super) fn ended<T>(
        self,
        end: impl FnOnce(Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (unfinished, fits) = (self.unfinished.clone(), self.recipe.algo.fits());
        settled((unfinished.as_deref(), fits), end(self))
    }

    /// Puts down statistics of all rows.
    fn put_statistics(&self, statistics: &Statistics, rows: usize) -> Result<(), Error> {
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

/// `result`; of an error that every rerun would meet nothing stays, as it would only stand in the way
/// of the recipe or the rows that mend it.
pub(in super::super) fn settled<T>(
    (unfinished, fits): (Option<&Unfinished<'_>>, bool),
    result: Result<T, Error>,
) -> Result<T, Error> {
    if let (Err(error), Some(unfinished)) = (&result, unfinished)
        && error.recurs()
    {
        // That it failed matters more than what could not be removed.
        let _ = unfinished.abandon(fits);
    }
    result
}

/// Whether rounded layers are put down: rounding to nearest in memory takes no longer than reading
/// what it would have put down.
pub(in super::super) fn worthwhile(legs: &Legs, rounding: &dyn Rounding) -> bool {
    !legs.whole() || rounding.streams() > Streams::Neither
}

/// Where the job puts finished work down, and what an earlier run has left there.
pub(in super::super) fn unfinished<'a>(
    checkpoint: &'a Checkpoint,
    calib: &'a [Sample],
    recipe: &'a Recipe,
    (prompt, trouble): (&Prompt, &Trouble),
) -> Result<Option<Arc<Unfinished<'a>>>, Error> {
    let Means { folder: Some(folder), durable: Some(durable), .. } = &recipe.means else {
        return Ok(None);
    };
    let layout = prompt.layout.clone();
    let origin = move || {
        let place = (&layout, &recipe.fixed.prefix[..]);
        sharing::origin(checkpoint, calib, place, &recipe.numerics().text())
    };
    Unfinished::open(folder, *durable, trouble, origin).map(|open| Some(Arc::new(open)))
}
