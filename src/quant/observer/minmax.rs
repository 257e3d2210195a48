//! The exact extremes, per tensor or per channel.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::{Merge, MergeError, Observer};
use crate::quant::affine::Channels;
use crate::quant::{Grain, NoRange, Range, kernel};

/// Channels whose run of values is shorter than this are folded a row at a time.
const SHORT_RUN: usize = 32;

/// Keeps the smallest and the largest value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct MinMax {
    grain: Grain,
    /// Empty until the first batch tells how many channels there are. Not `Range`, because the
    /// identity of the fold is infinite and JSON has no infinities.
    low: Vec<Option<f32>>,
    high: Vec<Option<f32>>,
    non_finite: bool,
}

/// Extremes as read, before anything is believed.
#[derive(Deserialize)]
struct Stored {
    grain: Grain,
    low: Vec<Option<f32>>,
    high: Vec<Option<f32>>,
    non_finite: bool,
}

impl TryFrom<Stored> for MinMax {
    type Error = &'static str;

    fn try_from(Stored { grain, low, high, non_finite }: Stored) -> Result<MinMax, &'static str> {
        let ordered = |(low, high): (&Option<f32>, &Option<f32>)| match (low, high) {
            (Some(low), Some(high)) => low <= high,
            (low, high) => low.is_none() && high.is_none(),
        };
        match low.len() == high.len() && low.iter().zip(&high).all(ordered) {
            true => Ok(MinMax { grain, low, high, non_finite }),
            false => Err("extremes have as many upper as lower ends, none below its lower one"),
        }
    }
}

impl MinMax {
    /// One range for each part that `grain` makes.
    pub fn new(grain: Grain) -> MinMax {
        MinMax { grain, low: Vec::new(), high: Vec::new(), non_finite: false }
    }

    /// Observes by pieces: where there is one range, it does not matter what lies where.
    pub fn piecewise(&mut self) -> Option<impl Fn(&[f32]) + Sync + '_> {
        if self.grain != Grain::Tensor {
            return None;
        }
        self.resize(1);
        // What is known is looked at without the lock: it only grows, and after a few pieces hardly
        // ever.
        let known = [self.low[0].unwrap_or(f32::INFINITY), self.high[0].unwrap_or(-f32::INFINITY)];
        let [low, high] = known.map(|end| AtomicU32::new(end.to_bits()));
        let observer = Mutex::new(self);
        Some(move |piece: &[f32]| {
            let found = kernel::extremes(piece);
            let end = |known: &AtomicU32| f32::from_bits(known.load(Relaxed));
            if found.finite() && found.min >= end(&low) && found.max <= end(&high) {
                return;
            }
            let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
            observer.non_finite |= !found.finite();
            observer.fold(0, found.min, found.max);
            for (known, end) in [(&low, observer.low[0]), (&high, observer.high[0])] {
                end.iter().for_each(|end| known.store(end.to_bits(), Relaxed));
            }
        })
    }

    fn fold(&mut self, channel: usize, min: f32, max: f32) {
        if min <= max {
            let low = &mut self.low[channel];
            *low = Some(low.map_or(min, |low| low.min(min)));
            let high = &mut self.high[channel];
            *high = Some(high.map_or(max, |high| high.max(max)));
        }
    }

    fn resize(&mut self, channels: usize) {
        if self.low.is_empty() {
            self.low = vec![None; channels];
            self.high = vec![None; channels];
        }
        assert_eq!(self.low.len(), channels, "a site keeps its channels");
    }
}

impl Observer for MinMax {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], _: u64) {
        let channels = Channels::around(shape, self.grain);
        assert_eq!(channels.outer * channels.count * channels.run, data.len(), "fills {shape:?}");
        self.resize(channels.count);
        if channels.run >= SHORT_RUN || channels.outer == 1 || channels.count == 1 {
            channels.for_each_run(|channel, run| {
                let found = kernel::extremes(&data[run]);
                self.non_finite |= !found.finite();
                self.fold(channel, found.min, found.max);
            });
            return;
        }
        let width = channels.count * channels.run;
        let mut low = vec![f32::INFINITY; width];
        let mut high = vec![f32::NEG_INFINITY; width];
        let mut magnitude = 0;
        for row in data.chunks_exact(width.max(1)) {
            kernel::extremes_row(row, &mut low, &mut high, &mut magnitude);
        }
        self.non_finite |= magnitude >= f32::INFINITY.to_bits();
        for (at, (&low, &high)) in low.iter().zip(&high).enumerate() {
            self.fold(at / channels.run, low, high);
        }
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        if self.non_finite {
            return Err(NoRange::NonFinite);
        }
        if self.low.is_empty() {
            return Err(NoRange::Unseen);
        }
        let pairs = self.low.iter().zip(&self.high);
        pairs
            .map(|(low, high)| Some(Range::new((*low)?, (*high)?)))
            .map(|range| range.ok_or(NoRange::Unseen))
            .collect()
    }
}

impl Merge for MinMax {
    fn merge(&mut self, other: &MinMax) -> Result<(), MergeError> {
        let describe = |m: &MinMax| format!("min-max {}, {} channels", m.grain, m.low.len());
        let sizes_differ = self.low.len() != other.low.len();
        if self.grain != other.grain
            || (sizes_differ && !self.low.is_empty() && !other.low.is_empty())
        {
            return Err(MergeError::new(describe(self), describe(other)));
        }
        self.non_finite |= other.non_finite;
        if !other.low.is_empty() {
            self.resize(other.low.len());
        }
        for (channel, (low, high)) in other.low.iter().zip(&other.high).enumerate() {
            if let (Some(low), Some(high)) = (low, high) {
                self.fold(channel, *low, *high);
            }
        }
        Ok(())
    }
}
