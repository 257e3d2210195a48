//! Calibration in several processes: each observes a share of the rows, one goes on from what all
//! have seen.

use super::files::{check_folder, save_with};
use super::stages::made_from;
use super::walk::Walk;
use super::{Error, Outcome, Prepared, Progress, Reached, Recipe, finish};
use crate::algo::Streams;
use crate::calibrate::CalibrateError;
use crate::checkpoint::{Checkpoint, read_marked};
use crate::cluster::{self, Collected, Crew, Origin, Rows, Share};
use crate::dataset::Sample;
use crate::layout::Layout;
use crate::tensor::Products;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

/// The longest file of statistics believed, in bytes.
const STATISTICS_MAX: u64 = 4 << 30;
/// Calibration rows that the quantized model is compared on where others have observed them.
const COMPARED: usize = 8;

/// A job whose observing is shared out.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// All calibration rows: the layout and the fingerprint are those of all.
    pub calib: &'a [Sample],
    /// Rows with answers; of a share only their lengths matter.
    pub eval: &'a [Sample],
    /// What the user wants.
    pub recipe: &'a Recipe,
    /// The same as text: what must be equal in all processes.
    pub effective: &'a str,
}

/// Statistics that were observed elsewhere, and the file they come from.
pub struct Known {
    /// For errors.
    pub file: String,
    /// Of all rows, once they are used.
    pub collected: Collected,
}

/// Observes the calibration rows of `share`; also which they are, from 0.
///
/// # Errors
/// Those of [`super::quantize`]; an observer that depends on the order of rows; fewer rows than
/// shares.
pub fn observe(
    job: &Shared<'_>,
    share: Share,
    progress: &dyn Progress,
) -> Result<(Collected, Range<usize>), Error> {
    let rows = share.rows(job.calib.len())?;
    let prepared = Prepared::new(job.checkpoint, job.calib, job.eval, job.recipe, progress)?;
    let (collected, ..) = job.observed(&prepared, rows.clone(), progress)?;
    Ok((collected, rows))
}

impl<'a> Shared<'a> {
    /// What `prepared` sees of some rows, with the job that they are of, and how far they are then.
    fn observed(
        &self,
        prepared: &Prepared<'_>,
        rows: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<(Collected, Origin, (Walk<'a>, Reached)), Error> {
        if let Some(name) = prepared.plan.ordered(&prepared.graph) {
            return Err(CalibrateError::Ordered { name: name.into() }.into());
        }
        let walk = prepared.calibration(&self.calib[rows.clone()])?;
        let (statistics, reached) = prepared.observe(&walk, progress)?;
        let (origin, seen) = (self.origin(prepared)?, Rows::new(rows, self.calib.len()));
        let seen_by = (&prepared.graph, statistics);
        let collected = Collected::new(origin.clone(), seen, &prepared.plan, seen_by)?;
        Ok((collected, origin, (walk, reached)))
    }

    fn origin(&self, prepared: &Prepared<'_>) -> Result<Origin, Error> {
        let place = (&prepared.prompt.layout, &self.recipe.fixed.prefix[..]);
        origin(self.checkpoint, self.calib, place, self.effective)
    }

    /// The whole job by several processes that meet at every layer: the same graph and weights as
    /// [`super::quantize`] gives, in all of them. Each takes its share of the rows through the networks
    /// and compares on it; the first one judges the answers.
    ///
    /// # Errors
    /// Those of [`super::quantize`] and of [`observe`]; processes that do different jobs.
    pub fn together(&self, crew: &dyn Crew, progress: &dyn Progress) -> Result<Outcome, Error> {
        let share = Share::new(crew.rank() + 1, crew.size());
        let share = share.expect("invariant: a rank is below the number of processes");
        let rows = share.rows(self.calib.len())?;
        let own = &self.calib[rows.clone()];
        let Shared { checkpoint, calib, eval, recipe, .. } = *self;
        let mut prepared = Prepared::new(checkpoint, calib, eval, recipe, progress)?;
        prepared.crew = crew;
        let (collected, origin, (walk, reached)) = self.observed(&prepared, rows, progress)?;
        let mut all: Option<Collected> = None;
        for bytes in cluster::gather(crew, collected.to_bytes()) {
            let part = Collected::from_bytes(&bytes)?;
            match &mut all {
                Some(all) => all.merge(&part)?,
                None => all = Some(part),
            }
        }
        let all = all.unwrap_or(collected);
        let statistics = all.statistics(&origin, &prepared.plan, &prepared.graph)?;
        let eval = if crew.rank() == 0 { self.eval } else { &[] };
        finish(prepared, (walk, reached), statistics, [own, eval], progress)
    }

    /// Goes on from statistics that were observed elsewhere: the same graph and weights as
    /// [`super::quantize`] gives. Compares on a few rows only, since observing was to be spared.
    ///
    /// # Errors
    /// Those of [`super::quantize`]; statistics of another job or not of all rows.
    pub fn quantize(&self, known: Known, progress: &dyn Progress) -> Result<Outcome, Error> {
        let Shared { checkpoint, calib, eval, recipe, .. } = *self;
        let prepared = Prepared::new(checkpoint, calib, eval, recipe, progress)?;
        let origin = self.origin(&prepared)?;
        let statistics = known
            .collected
            .statistics(&origin, &prepared.plan, &prepared.graph)
            .map_err(|source| Error::Statistics { path: known.file, source })?;
        let compared = match prepared.rounding.streams() {
            Streams::Neither => COMPARED.min(self.calib.len()),
            // The rounding takes all of them through the network.
            Streams::Seen | Streams::Both | Streams::Drift => self.calib.len(),
        };
        prepared.ended(|prepared| {
            let walk = prepared.calibration(&self.calib[..compared])?;
            let (spool, products) = (prepared.spool(&walk), Products::F32);
            let reached = Reached { spool, node: None, products };
            finish(prepared, (walk, reached), statistics, [self.calib, self.eval], progress)
        })
    }
}

/// What makes statistics those of one job; the recipe as text.
pub(super) fn origin(
    checkpoint: &Checkpoint,
    calib: &[Sample],
    (layout, prefix): (&Layout, &[u32]),
    recipe: &str,
) -> Result<Origin, Error> {
    let span =
        |span: &crate::layout::VisualSpan| format!(", {:?} at {}", span.grid_thw, span.start);
    let spans: String = layout.spans().iter().map(span).collect();
    Ok(Origin {
        version: env!("CARGO_PKG_VERSION").into(),
        checkpoint: made_from(checkpoint)?,
        recipe: recipe.into(),
        layout: format!("{} tokens{spans} after {prefix:?}", layout.seq_len()),
        calibration: format!("{:016x}", cluster::of_samples(calib)),
    })
}

/// Writes statistics to `path`.
///
/// # Errors
/// A file that cannot be written.
pub fn write_statistics(collected: &Collected, path: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        check_folder(folder)?;
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let bytes = collected.to_bytes();
    save_with(path, |out| out.write_all(&bytes).map_err(failed))?;
    Ok(bytes.len() as u64)
}

/// Reads what [`write_statistics`] wrote.
///
/// # Errors
/// A file that cannot be read, is too long, cut, damaged or of another version.
pub fn read_statistics(path: &Path) -> Result<Known, Error> {
    let file = path.display().to_string();
    let unreadable = |source| Error::ReadStatistics { path: file.clone(), source };
    let bytes = read_marked(path, cluster::MAGIC, STATISTICS_MAX).map_err(unreadable)?;
    match Collected::from_bytes(&bytes) {
        Ok(collected) => Ok(Known { file, collected }),
        Err(source) => Err(Error::Statistics { path: file, source }),
    }
}

impl Known {
    /// Joins the statistics of `other`.
    ///
    /// # Errors
    /// What does not fit, with the name of the other file.
    pub fn merge(&mut self, other: &Known) -> Result<(), Error> {
        let failed = |source| Error::Statistics { path: other.file.clone(), source };
        self.collected.merge(&other.collected).map_err(failed)
    }

    /// Whether no row is missing.
    ///
    /// # Errors
    /// Those that are.
    pub fn complete(&self) -> Result<(), Error> {
        Ok(self.collected.rows().complete()?)
    }
}
