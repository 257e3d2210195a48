//! Rows of the checkpoint become rows of the file, by as many threads as there are.

use super::super::{Error, Progress, go_on};
use super::file::Sheet;
use super::jobs::{Job, Jobs, Unit, Way};
use crate::algo::{Layer, SessionError};
use crate::checkpoint;
use crate::circle::{Model, Place, Placed};
use crate::quant::{self, Decision, Grain, MinMax, Observer, QuantParams, Range};
use crate::tensor::{self, Tensor};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where a job's payload lies: its buffer, and the place of that.
struct Target {
    buffer: usize,
    place: Place,
}

impl Jobs<'_> {
    /// Makes all tensors and puts every payload of `model` in its place. By job: index of its buffer,
    /// and its grid.
    ///
    /// # Errors
    /// The first thing that went wrong, by its place in the graph; a wish to stop.
    pub(super) fn fill(
        &self,
        sheet: &Sheet<'_>,
        (model, placed): (&Model, &Placed),
        progress: &dyn Progress,
    ) -> Result<Vec<(usize, Option<QuantParams>)>, Error> {
        let targets = self.targets(model, placed);
        let ours = |buffer: usize| targets.iter().any(|target| target.buffer == buffer);
        for place in placed.places() {
            if let Some(count) = place.count {
                sheet.put(place.data - count.len() as u64, &count)?;
            }
            if !ours(place.buffer) {
                sheet.stream(place.data, &model.buffers[place.buffer])?;
            }
        }
        let units = self.units();
        let ranges = self.ranges(&units)?;
        progress.begin("round", units.len());
        let round = |number: usize, unit: &Unit| {
            go_on(progress, || format!("in {}", self.all[unit.job].name))?;
            let (bytes, grid) = self.made(unit, ranges[unit.job])?;
            let job = &self.all[unit.job];
            let start = (unit.rows.start * job.width() * job.bits() / 8) as u64;
            sheet.put(targets[unit.job].place.data + start, &bytes)?;
            progress.step();
            Ok((number, grid))
        };
        let found = sheet.meanwhile(|| each(&units, round))?;
        let mut grids: Vec<Option<QuantParams>> = vec![None; self.all.len()];
        for (number, grid) in found {
            join(&mut grids[units[number].job], grid);
        }
        Ok(targets.iter().map(|target| target.buffer).zip(grids).collect())
    }

    /// By job. Of tied weights the file has one tensor, under the name of one of them.
    fn targets(&self, model: &Model, placed: &Placed) -> Vec<Target> {
        let tensors = model.subgraphs[0].tensors.iter();
        let buffers: HashMap<&str, usize> =
            tensors.map(|tensor| (&tensor.name[..], tensor.buffer as usize)).collect();
        let places: HashMap<usize, Place> =
            placed.places().iter().map(|place| (place.buffer, *place)).collect();
        let target = |job: &Job<'_>| {
            let mut names = job.ids.iter().map(|&id| &self.graph.value(id).name[..]);
            let buffer = names.find_map(|name| buffers.get(name).copied());
            let buffer = buffer.expect("invariant: every value that is read has a tensor");
            Target { buffer, place: places[&buffer] }
        };
        self.all.iter().map(target).collect()
    }

    /// The extremes of the tensors with one grid, by job.
    fn ranges(&self, units: &[Unit]) -> Result<Vec<Option<Range>>, Error> {
        let one_grid = |unit: &&Unit| self.all[unit.job].way == Way::Extremes;
        let units: Vec<Unit> = units.iter().filter(one_grid).cloned().collect();
        let found = each(&units, |number, unit| {
            let (job, rows) = (&self.all[unit.job], self.rows(unit)?);
            let mut observer = MinMax::new(Grain::Tensor);
            observer.observe(rows.data(), rows.shape());
            Ok((number, observer.range().map_err(|why| job.blamed(why.into()))?))
        })?;
        let mut ranges: Vec<Option<Range>> = vec![None; self.all.len()];
        for (number, range) in found {
            let known = &mut ranges[units[number].job];
            *known = Some(known.map_or(range, |known| known.union(range)));
        }
        Ok(ranges)
    }

    /// Rows as the file has them, and their grid; `range` is that of the whole tensor where one grid
    /// serves it.
    fn made(
        &self,
        unit: &Unit,
        range: Option<Range>,
    ) -> Result<(Vec<u8>, Option<QuantParams>), Error> {
        let (job, rows) = (&self.all[unit.job], self.rows(unit)?);
        let grid = match range {
            Some(range) => job.decision.params(&[range]).map_err(|why| job.blamed(why))?,
            None => self.plan.weight_grid(job.ids[0], job.name, &rows)?,
        };
        let grid = grid.filter(|_| job.decision != Decision::Float);
        let Some(grid) = grid else { return Ok((tensor::le_bytes(rows.data()), None)) };
        if job.rounding.to_nearest() {
            return Ok((quant::packed(&grid, rows.shape(), rows.data()), Some(grid)));
        }
        let layer = Layer { weight: &rows, decision: &job.decision, grid: &grid, moments: None };
        let rounded = job.rounding.round(&layer);
        let failed = |source| SessionError::Layer { name: job.name.into(), source };
        let rounded = rounded.map_err(failed)?;
        let bytes = quant::packed(&rounded.grid, rows.shape(), rounded.weight.data());
        Ok((bytes, Some(rounded.grid)))
    }

    /// The rows of a unit in float, after the rewrites.
    fn rows(&self, unit: &Unit) -> Result<Tensor, checkpoint::Error> {
        let job = &self.all[unit.job];
        let read = |key: &str, shape: &[usize], part| self.checkpoint.read_part(key, shape, part);
        if job.way == Way::Whole {
            return job.param.load(job.shape, &read);
        }
        let mut shape = job.shape.to_vec();
        shape[0] = unit.rows.len();
        let (key, first) = (&job.param.key, unit.rows.start);
        let mut rows =
            Tensor::try_written(shape, |out| self.checkpoint.read_into(key, first, out))?;
        job.param.edit_rows(&mut rows, first, &read)?;
        if !tensor::all_finite(rows.data()) {
            // Read as a whole, it is refused with its file and the element.
            job.param.load(job.shape, &read)?;
        }
        Ok(rows)
    }
}

/// Appends the grid of the next rows.
fn join(grid: &mut Option<QuantParams>, next: Option<QuantParams>) {
    match (&mut *grid, next) {
        (
            Some(QuantParams::Affine { scale, zero_point, grain: Grain::Axis(0), .. }),
            Some(QuantParams::Affine { scale: more, zero_point: zeros, .. }),
        ) => {
            scale.extend(more);
            zero_point.extend(zeros);
        }
        (None, next) => *grid = next,
        (Some(_), _) => {}
    }
}

/// Does `work` on every unit, given its number: all threads take the next, so that files are read
/// and written about in order. The results in the order of the units; of several errors the first.
fn each<T: Send>(
    units: &[Unit],
    work: impl Fn(usize, &Unit) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let done: Vec<Vec<(usize, T)>> = rayon::broadcast(|_| {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = units.get(number) else { return done };
            match work(number, unit) {
                Ok(result) => done.push((number, result)),
                Err(error) => {
                    next.store(units.len(), Ordering::Relaxed);
                    let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(other, _)| number < *other) {
                        *first = Some((number, error));
                    }
                }
            }
        }
    });
    if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done: Vec<(usize, T)> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
