//! Numbers that took long to find before the job proper, in a file beside the result: losses that
//! budgets have measured, scales that were fitted. After an interruption only the others are sought.

use super::super::files::{save_with, sync_folder};
use super::super::{Error, Means, Progress, Prompt, Recipe, go_on, sharing};
use super::{MEASURED, folder_of};
use crate::algo::Recall;
use crate::checkpoint::{Checkpoint, read_within};
use crate::cluster::Origin;
use crate::dataset::Sample;
use crate::tensor::{Held, Lock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The longest file of numbers believed, in bytes.
const NUMBERS_MAX: u64 = 1 << 30;

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Whose numbers these are.
    origin: Origin,
    /// The bits of each, by what they were found for: text would not give all of them back.
    numbers: BTreeMap<String, Vec<u64>>,
}

/// What was found for one purpose.
pub(in super::super) struct Memo {
    /// Where they are put down, and how often, if they are.
    place: Option<(PathBuf, Duration)>,
    state: Lock<State>,
}

struct State {
    kept: Option<Kept>,
    /// When they were put down last, and whether there are others.
    since: Instant,
    fresh: bool,
}

impl State {
    fn of(kept: Option<Kept>) -> Lock<State> {
        Lock::new(State { kept, since: Instant::now(), fresh: false })
    }
}

impl Memo {
    /// Nothing is known, and nothing put down.
    pub(in super::super) fn none() -> Memo {
        Memo { place: None, state: State::of(None) }
    }

    /// Those that an earlier run of the same job has left. A file that is damaged is none.
    ///
    /// # Errors
    /// Numbers of another job.
    pub(in super::super) fn open(
        (checkpoint, calib): (&Checkpoint, &[Sample]),
        (recipe, prompt): (&Recipe, &Prompt),
        what: &str,
    ) -> Result<Memo, Error> {
        let Means { folder: Some(folder), durable: Some(durable), .. } = &recipe.means else {
            return Ok(Memo::none());
        };
        let place = (&prompt.layout, &recipe.fixed.prefix[..]);
        let origin = sharing::origin(checkpoint, calib, place, &recipe.numerics().text())?;
        let folder = folder_of(folder);
        let path = folder.join(format!("{what}.{MEASURED}"));
        let known = read_within(&path, NUMBERS_MAX).ok().filter(|_| !durable.fresh);
        let known = known.and_then(|json| serde_json::from_slice::<Kept>(&json).ok());
        if let Some((field, found, expected)) =
            known.as_ref().and_then(|known| known.origin.difference(&origin))
        {
            let path = path.display().to_string();
            return Err(Error::OtherJob { path, field, found, expected });
        }
        let numbers = known.map_or_else(BTreeMap::new, |known| known.numbers);
        let place = Some((path, durable.every));
        Ok(Memo { place, state: State::of(Some(Kept { origin, numbers })) })
    }

    /// The loss of what `key` names, measured if nobody knows it.
    ///
    /// # Errors
    /// Those of `measure`; a file that cannot be written.
    pub(in super::super) fn loss(
        &self,
        key: String,
        measure: impl FnOnce() -> Result<f64, Error>,
    ) -> Result<f64, Error> {
        if let Some(&[loss]) = self.known(&key).as_deref() {
            return Ok(loss);
        }
        match measure() {
            Ok(loss) => self.note(key, &[loss]).map(|()| loss),
            Err(error) => self.put(&mut self.state(), true).and(Err(error)),
        }
    }

    fn known(&self, key: &str) -> Option<Vec<f64>> {
        let state = self.state();
        let bits = state.kept.as_ref()?.numbers.get(key)?;
        Some(bits.iter().map(|bits| f64::from_bits(*bits)).collect())
    }

    fn note(&self, key: String, numbers: &[f64]) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(kept) = &mut state.kept {
            kept.numbers.insert(key, numbers.iter().map(|x| x.to_bits()).collect());
            state.fresh = true;
        }
        self.put(&mut state, false)
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
            save_with(path, |out| out.write_all(text.as_bytes()).map_err(failed))?;
            sync_folder(folder);
        }
        (state.since, state.fresh) = (Instant::now(), false);
        Ok(())
    }

    fn state(&self) -> Held<'_, State> {
        self.state.hold()
    }
}

/// Scales that are fitted before the job.
pub(in super::super) struct Fits<'a> {
    pub(in super::super) memo: &'a Memo,
    pub(in super::super) progress: &'a dyn Progress,
}

impl Recall<Error> for Fits<'_> {
    fn known(&self, key: &str) -> Option<Vec<f64>> {
        self.memo.known(key)
    }

    fn note(&self, key: String, numbers: &[f64]) -> Result<(), Error> {
        self.memo.note(key, numbers)?;
        let stopped = go_on(self.progress, || "while fitting scales".into());
        stopped.or_else(|stopped| self.memo.put(&mut self.memo.state(), true).and(Err(stopped)))
    }
}
