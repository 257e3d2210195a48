//! Losses that were measured, in a file beside the result: after an interruption only the others are.

use super::super::save::save_with;
use super::super::unfinished::{LOSSES, losses_of, sync_folder};
use super::super::{Error, Means, Prompt, Recipe, sharing};
use crate::checkpoint::Checkpoint;
use crate::cluster::Origin;
use crate::dataset::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Whose losses these are.
    origin: Origin,
    /// The bits of each, by what was rounded: text would not give all of them back.
    losses: BTreeMap<String, u64>,
}

/// The losses of one budget.
pub(super) struct Memo {
    /// Where they are put down, and how often, if they are.
    place: Option<(PathBuf, Duration)>,
    state: Mutex<State>,
}

struct State {
    kept: Option<Kept>,
    /// When they were put down last, and whether there are others.
    since: Instant,
    fresh: bool,
}

impl Memo {
    /// Those that an earlier run of the same job has left. A file that is damaged is none.
    ///
    /// # Errors
    /// Losses of another job.
    pub(super) fn open(
        (checkpoint, calib): (&Checkpoint, &[Sample]),
        (recipe, prompt): (&Recipe, &Prompt),
        what: &str,
    ) -> Result<Memo, Error> {
        let state = |kept| Mutex::new(State { kept, since: Instant::now(), fresh: false });
        let Means { folder: Some(folder), durable: Some(durable), .. } = &recipe.means else {
            return Ok(Memo { place: None, state: state(None) });
        };
        let place = (&prompt.layout, &recipe.fixed.prefix[..]);
        let origin = sharing::origin(checkpoint, calib, place, &recipe.numerics().text())?;
        let path = losses_of(folder).join(format!("{what}.{LOSSES}"));
        let known = fs::read_to_string(&path).ok().filter(|_| !durable.fresh);
        let known = known.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        if let Some((field, found, expected)) =
            known.as_ref().and_then(|known| known.origin.difference(&origin))
        {
            let path = path.display().to_string();
            return Err(Error::OtherJob { path, field, found, expected });
        }
        let losses = known.map_or_else(BTreeMap::new, |known| known.losses);
        let place = Some((path, durable.every));
        Ok(Memo { place, state: state(Some(Kept { origin, losses })) })
    }

    /// The loss of what `key` names, measured if nobody knows it.
    ///
    /// # Errors
    /// Those of `measure`; a file that cannot be written.
    pub(super) fn loss(
        &self,
        key: String,
        measure: impl FnOnce() -> Result<f64, Error>,
    ) -> Result<f64, Error> {
        let known = |state: &State| state.kept.as_ref()?.losses.get(&key).copied();
        if let Some(bits) = known(&self.state()) {
            return Ok(f64::from_bits(bits));
        }
        let measured = measure();
        let mut state = self.state();
        if let (Ok(loss), Some(kept)) = (&measured, &mut state.kept) {
            kept.losses.insert(key, loss.to_bits());
            state.fresh = true;
        }
        self.put(&mut state, measured.is_err())?;
        measured
    }

    /// Puts them down if that is due, or the job is about to end.
    fn put(&self, state: &mut State, end: bool) -> Result<(), Error> {
        let (Some((path, every)), Some(kept)) = (&self.place, &state.kept) else { return Ok(()) };
        if !state.fresh || !end && state.since.elapsed() < *every {
            return Ok(());
        }
        let failed = |source: io::Error| Error::Write { path: path.display().to_string(), source };
        let text = serde_json::to_string(kept).expect("invariant: text is JSON");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
            save_with(path, |out| out.write_all(text.as_bytes()).map_err(failed))?;
            sync_folder(folder);
        }
        (state.since, state.fresh) = (Instant::now(), false);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
