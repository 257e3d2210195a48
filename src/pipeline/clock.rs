//! How long the phases of a job take.

use std::time::Instant;

/// Seconds by phase, since the last one ended.
pub(super) struct Clock {
    last: Instant,
    /// In the order in which they first ended.
    pub(super) laps: Vec<(&'static str, f64)>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { last: Instant::now(), laps: Vec::new() }
    }

    /// The phase ends.
    pub(super) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        match self.laps.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name, seconds)),
        }
        self.last = now;
    }

    /// There was nothing to do in this phase.
    pub(super) fn forget(&mut self, name: &str) {
        self.laps.retain(|(known, _)| *known != name);
    }
}
