//! What a job has finished, in a folder beside its result: a rerun of the same command goes on from
//! it, however the run before ended. The folder is gone when the job has ended, and when it has failed as
//! every rerun would.
//!
//! | file | what |
//! |---|---|
//! | `job.lock` | locked while somebody works there, from the start (`files/claim.rs`) |
//! | `job.json` | whose work it is: an [`Origin`] |
//! | `observed.stats` | statistics of all calibration rows |
//! | `walk.streams` | where the samples stand between two legs (`halt.rs`) |
//! | `N.codes` | grids, integers and notes of some rounded layers (`unit.rs`) |
//! | `weights.measured`, `values.measured`, `scales.measured` | what budgets and fits have found before (`memo.rs`) |
//!
//! Each file is written beside its name, synced and renamed. What takes less than a moment is not put
//! down, so that a short job leaves no trace.

pub(super) mod halt;
mod memo;
pub(super) mod resume;
mod unit;

pub(super) use memo::{Fits, Memo};

use super::files::{save_with, sync_folder};
use super::{Error, Trouble, read_statistics};
use crate::algo::Note;
use crate::calibrate::{Plan, Statistics};
use crate::cluster::{Collected, Origin};
use crate::graph::Graph;
use crate::quant::QuantParams;
use crate::tensor::{Held, Lock, Tensor};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use unit::{Entry, Unit};

/// Its name in the folder of the result.
const FOLDER: &str = "unfinished";
const JOB: &str = "job.json";
const OBSERVED: &str = "observed.stats";
const STREAMS: &str = "walk.streams";
const CODES: &str = "codes";
/// The end of the names of what was found before the job proper.
pub(super) const MEASURED: &str = "measured";
/// What is fitted to the samples, as part of a name that ends so.
pub(super) const SCALES: &str = "scales";
/// Putting streams down may take so much of the time, as one part in so many.
const STREAMS_SHARE: u32 = 20;

/// Whether and how often finished work is put down, in a folder that the process has claimed
/// ([`Claim`](super::Claim)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Work that took so long is put down at once; an interruption costs no more than that and the
    /// layer under way.
    pub every: Duration,
    /// Whether what an interrupted run has left is thrown away.
    pub fresh: bool,
}

/// Whether there is work in `out` that a rerun could go on from.
pub fn is_unfinished(out: &Path) -> bool {
    let folder = out.join(FOLDER);
    folder.join(JOB).exists()
        || with_extension(&folder, MEASURED).is_ok_and(|some| !some.is_empty())
}

/// Where that of the job with this result is.
pub(super) fn folder_of(out: &Path) -> PathBuf {
    out.join(FOLDER)
}

/// The unfinished work of one job.
pub(super) struct Unfinished<'a> {
    folder: PathBuf,
    every: Duration,
    make_origin: Box<dyn Fn() -> Result<Origin, Error> + Send + Sync + 'a>,
    /// Made at most once: it reads pages of all tensors and all samples.
    origin: OnceLock<Origin>,
    /// What came of rows that could not be read is not put down.
    trouble: Trouble,
    state: Lock<State>,
}

struct State {
    /// Whether `job.json` says that this is ours; not while nothing was put down.
    begun: bool,
    /// Layers by the name of their weight, of this run and those before.
    layers: BTreeMap<String, (Unit, Entry)>,
    /// Those that are not durable yet.
    fresh: Vec<unit::Layer>,
    /// The number of the next unit.
    next: usize,
    /// When something was put down last.
    since: Instant,
    /// When streams were put down last, and how long that took.
    halted: (Instant, Duration),
}

impl<'a> Unfinished<'a> {
    /// What is in `out` from an earlier run of the same job.
    ///
    /// # Errors
    /// The work of another job; files that cannot be read.
    pub(super) fn open(
        out: &Path,
        durable: Durable,
        trouble: &Trouble,
        origin: impl Fn() -> Result<Origin, Error> + Send + Sync + 'a,
    ) -> Result<Unfinished<'a>, Error> {
        let folder = out.join(FOLDER);
        let (mut begun, known) = (false, OnceLock::new());
        let mut units = Vec::new();
        let job = folder.join(JOB);
        if durable.fresh && job.exists() {
            clear(&folder)?;
        } else if job.exists() {
            units = unit_files(&folder)?;
            let origin = origin()?;
            match same(&job, known.get_or_init(|| origin)) {
                Ok(()) => begun = true,
                // Killed before anything was finished: nothing is lost.
                Err(_) if units.is_empty() && !holds_more(&folder) => clear(&folder)?,
                Err(other) => return Err(other),
            }
        }
        let next = units.last().map_or(0, |(number, _)| number + 1);
        let mut layers = BTreeMap::new();
        for (_, path) in units {
            // One that is damaged does not count: its layers are rounded again.
            let Some((unit, list)) = Unit::open(&path)? else { continue };
            layers.extend(list.into_iter().map(|e| (e.name.clone(), (unit.clone(), e))));
        }
        let (now, fresh) = (Instant::now(), Vec::new());
        let halted = (now, Duration::ZERO);
        let state = Lock::new(State { begun, layers, fresh, next, since: now, halted });
        let (every, trouble) = (durable.every, trouble.clone());
        let (make_origin, origin) = (Box::new(origin), known);
        Ok(Unfinished { folder, every, make_origin, origin, trouble, state })
    }

    /// Whose work this is.
    fn origin(&self) -> Result<&Origin, Error> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin);
        }
        let origin = (self.make_origin)()?;
        Ok(self.origin.get_or_init(|| origin))
    }

    /// The statistics that an earlier run has observed; none if they must be observed again.
    pub(super) fn statistics(&self, plan: &Plan, graph: &Graph) -> Option<Statistics> {
        self.state().begun.then_some(())?;
        let known = read_statistics(&self.folder.join(OBSERVED)).ok()?;
        known.collected.statistics(self.origin().ok()?, plan, graph).ok()
    }

    /// Puts statistics down, if observing took a moment.
    pub(super) fn put_statistics(
        &self,
        collect: impl FnOnce(Origin) -> Result<Collected, Error>,
    ) -> Result<(), Error> {
        self.trouble.check()?;
        let mut state = self.state();
        if state.since.elapsed() < self.every {
            return Ok(());
        }
        self.begin(&mut state)?;
        let (path, bytes) =
            (self.folder.join(OBSERVED), collect(self.origin()?.clone())?.to_bytes());
        save_with(&path, |out| out.write_all(&bytes).map_err(failed(&path)))?;
        sync_folder(&self.folder);
        state.since = Instant::now();
        Ok(())
    }

    /// The streams that an earlier run, or this one, has put down last.
    pub(super) fn halted(&self) -> Option<PathBuf> {
        self.state().begun.then_some(())?;
        Some(self.folder.join(STREAMS)).filter(|path| path.exists())
    }

    /// Puts streams down, and all that led there, if it is time again. Where the disk has no room for
    /// that, a rerun walks.
    pub(super) fn put_streams(
        &self,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.trouble.check()?;
        let mut state = self.state();
        let (last, took) = state.halted;
        if last.elapsed() < self.every.max(took * STREAMS_SHARE) {
            return Ok(());
        }
        self.seal_in(&mut state)?;
        self.begin(&mut state)?;
        let (begun, path) = (Instant::now(), self.folder.join(STREAMS));
        let put = save_with(&path, |out| write(out).map_err(failed(&path)));
        match put {
            Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {}
            put => put?,
        }
        sync_folder(&self.folder);
        state.halted = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// Whether all of these weights are put down.
    pub(super) fn knows(&self, mut names: impl Iterator<Item = String>) -> bool {
        let state = self.state();
        names.all(|name| state.layers.contains_key(&name))
    }

    /// Grid, values and notes of a weight that an earlier run has rounded.
    pub(super) fn known(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Option<(QuantParams, Tensor, Vec<Note>)> {
        let (unit, entry) = self.state().layers.get(name).cloned()?;
        match unit.load(&entry).zip(entry.notes()).filter(|_| entry.shape == shape) {
            Some((tensor, notes)) => Some((entry.grid, tensor, notes)),
            None => {
                self.state().layers.remove(name);
                None
            }
        }
    }

    /// The same as rows that are read when asked for, also of this run.
    pub(super) fn made(&self, name: &str) -> Result<Option<Tensor>, Error> {
        let mut state = self.state();
        if state.fresh.iter().any(|(fresh, ..)| fresh == name) {
            self.seal_in(&mut state)?;
        }
        Ok(state.layers.get(name).map(|(unit, entry)| unit.made(entry, &self.trouble)))
    }

    /// Takes a rounded weight, and puts it down with others as soon as they took a moment. What is no
    /// matrix is rounded again if need be.
    pub(super) fn put(
        &self,
        (name, tensor, grid, notes): (&str, &Tensor, &QuantParams, &[Note]),
    ) -> Result<(), Error> {
        self.trouble.check()?;
        let mut state = self.state();
        if tensor.shape().len() != 2 || state.layers.contains_key(name) {
            return Ok(());
        }
        state.fresh.push((name.into(), tensor.clone(), grid.clone(), notes.into()));
        if state.since.elapsed() >= self.every { self.seal_in(&mut state) } else { Ok(()) }
    }

    /// Makes durable all that was put.
    pub(super) fn seal(&self) -> Result<(), Error> {
        self.trouble.check()?;
        self.seal_in(&mut self.state())
    }

    fn seal_in(&self, state: &mut State) -> Result<(), Error> {
        if !state.fresh.is_empty() {
            self.begin(state)?;
            let path = self.folder.join(format!("{}.{CODES}", state.next));
            unit::write(&state.fresh, &path)?;
            sync_folder(&self.folder);
            state.next += 1;
            state.fresh.clear();
            if let Some((unit, list)) = Unit::open(&path)? {
                let entries = list.into_iter().map(|e| (e.name.clone(), (unit.clone(), e)));
                state.layers.extend(entries);
            }
        }
        state.since = Instant::now();
        Ok(())
    }

    /// Says whose work this is, with the first thing that is put there.
    fn begin(&self, state: &mut State) -> Result<(), Error> {
        if state.begun {
            return Ok(());
        }
        clear_files(&self.folder)?;
        let path = self.folder.join(JOB);
        let text = serde_json::to_string_pretty(self.origin()?).expect("invariant: text is JSON");
        save_with(&path, |out| out.write_all(text.as_bytes()).map_err(failed(&path)))?;
        sync_folder(&self.folder);
        state.begun = true;
        Ok(())
    }

    /// Lets go of it; the folder stays until [`Remains::clear`].
    pub(super) fn remains(&self) -> Remains {
        let (folder, begun) = (self.folder.clone(), std::mem::take(&mut self.state().begun));
        Remains { folder, begun }
    }

    /// Throws away what only the same job could go on from, where that always fails, with the scales that
    /// it has `fitted`. What budgets have measured stays, for another budget.
    pub(super) fn abandon(&self, fitted: bool) -> Result<(), Error> {
        // Perhaps it failed only because of what could not be read.
        if self.trouble.check().is_err() {
            return Ok(());
        }
        if fitted {
            let _ = fs::remove_file(self.folder.join(format!("{SCALES}.{MEASURED}")));
        }
        self.remains().clear_job()
    }

    fn state(&self) -> Held<'_, State> {
        self.state.hold()
    }
}

/// The folder of a job whose result is not written yet.
#[derive(Debug)]
pub(super) struct Remains {
    folder: PathBuf,
    begun: bool,
}

impl Remains {
    /// Removes it: the job has ended.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for path in with_extension(&self.folder, MEASURED)? {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        self.clear_job()
    }

    /// Removes all but what was measured before the job proper.
    fn clear_job(&self) -> Result<(), Error> {
        if self.begun { clear(&self.folder) } else { Ok(()) }
    }
}

/// Refuses the work of another job than `path` says.
fn same(path: &Path, expected: &Origin) -> Result<(), Error> {
    let unreadable = |source| Error::ReadUnfinished { path: path.display().to_string(), source };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let refuse = |field, found, expected| {
        Err(Error::OtherJob { path: path.display().to_string(), field, found, expected })
    };
    let found: Origin = match serde_json::from_str(&text) {
        Ok(origin) => origin,
        Err(error) => return refuse("origin", error.to_string(), "that of a job".into()),
    };
    match found.difference(expected) {
        None => Ok(()),
        Some((field, found, expected)) => refuse(field, found, expected),
    }
}

/// Whether there is more than units.
fn holds_more(folder: &Path) -> bool {
    [OBSERVED, STREAMS].iter().any(|name| folder.join(name).exists())
}

/// The files of units with their numbers, ascending.
fn unit_files(folder: &Path) -> Result<Vec<(usize, PathBuf)>, Error> {
    let number = |path: PathBuf| Some((path.file_stem()?.to_str()?.parse().ok()?, path));
    let mut units: Vec<_> = with_extension(folder, CODES)?.into_iter().filter_map(number).collect();
    units.sort_unstable();
    Ok(units)
}

/// The files whose names end so; none where there is no folder.
fn with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = if folder.exists() { listed(folder)? } else { Vec::new() };
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    Ok(files)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    entries.map(|entry| Ok(entry.map_err(failed(folder))?.path())).collect()
}

/// Removes our files from the folder.
fn clear(folder: &Path) -> Result<(), Error> {
    clear_files(folder)?;
    let job = folder.join(JOB);
    fs::remove_file(&job).map_err(failed(&job))
}

/// All but `job.json`, which goes last: without it the others mean nothing.
fn clear_files(folder: &Path) -> Result<(), Error> {
    let units = unit_files(folder)?.into_iter().map(|(_, path)| path);
    let others = [OBSERVED, STREAMS].map(|name| folder.join(name)).into_iter();
    for path in units.chain(others.filter(|path| path.exists())) {
        fs::remove_file(&path).map_err(failed(&path))?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Write { path: path.clone(), source }
}
