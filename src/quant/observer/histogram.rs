//! Counts of values by the upper half of their f32 pattern: a bucket is a bf16 number.
//!
//! Such buckets need no edges to be chosen beforehand and are at most 2^-7 of their value wide, so
//! histograms of any two shards add up exactly.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Merge, MergeError, MinMax, Observer};
use crate::quant::affine::Channels;
use crate::quant::{Grain, NoRange, Range};

/// Buckets that share sign and exponent.
const PAGE: usize = 128;
/// Signs and exponents.
const PAGES: usize = 512;

/// Bytes of a histogram of a tensor, about: values of every size from some to a millionth of that.
pub(super) const BYTES: u64 = (PAGES * size_of::<Option<Vec<u64>>>() + 32 * PAGE * 8) as u64;

/// How many values fell into each bucket. Pages of unused exponents are not stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Histogram {
    /// By sign and exponent, the upper nine bits.
    pages: Vec<Option<Vec<u64>>>,
}

/// A histogram as read, before anything is believed.
#[derive(Deserialize)]
struct Stored {
    pages: Vec<Option<Vec<u64>>>,
}

impl TryFrom<Stored> for Histogram {
    type Error = &'static str;

    fn try_from(Stored { pages }: Stored) -> Result<Histogram, &'static str> {
        let fits = pages.iter().flatten().all(|page| page.len() == PAGE);
        let finite = pages.iter().skip(255).step_by(256).all(Option::is_none);
        match matches!(pages.len(), 0 | PAGES) && fits && finite {
            true => Ok(Histogram { pages }),
            false => Err("a histogram has 512 pages of 128 buckets, none for what is not finite"),
        }
    }
}

/// A bucket that holds something: its ends and its count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Number of values.
    pub count: u64,
}

impl Histogram {
    /// Counts the finite values of `data`, each so many times.
    pub fn add(&mut self, data: &[f32], times: u64) {
        if self.pages.is_empty() {
            self.pages.resize(PAGES, None);
        }
        for x in data {
            let bucket = (x.to_bits() >> 16) as usize;
            let (page, slot) = (bucket / PAGE, bucket % PAGE);
            if page % 256 != 255 {
                self.pages[page].get_or_insert_with(|| vec![0; PAGE])[slot] += times;
            }
        }
    }

    /// Adds the counts of another shard.
    pub fn merge(&mut self, other: &Histogram) {
        if self.pages.is_empty() {
            self.pages.clone_from(&other.pages);
            return;
        }
        for (page, other) in self.pages.iter_mut().zip(&other.pages) {
            let Some(other) = other else { continue };
            let page = page.get_or_insert_with(|| vec![0; PAGE]);
            for (count, other) in page.iter_mut().zip(other) {
                *count = count.saturating_add(*other);
            }
        }
    }

    /// The buckets that hold something, in ascending order, cut to the exact `extremes`.
    pub fn buckets(&self, extremes: Range) -> Vec<Bucket> {
        let slots = |page: usize| {
            let counts = self.pages.get(page).and_then(Option::as_deref).unwrap_or(&[]);
            counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(slot, count)| {
                let bits = ((page * PAGE + slot) as u32) << 16;
                // the pattern above ends the bucket, also across exponents
                let ends = [bits, bits + 0x1_0000].map(|bits| f64::from(f32::from_bits(bits)));
                (ends[0], if ends[1].is_finite() { ends[1] } else { ends[0] }, *count)
            })
        };
        let (min, max) = (f64::from(extremes.min), f64::from(extremes.max));
        let bucket = |a: f64, b: f64, count| {
            let low = a.min(b).clamp(min, max);
            Bucket { low, high: a.max(b).clamp(low, max), count }
        };
        let mut negative: Vec<Bucket> =
            (256..512).flat_map(slots).map(|(a, b, n)| bucket(a, b, n)).collect();
        negative.reverse();
        negative.extend((0..256).flat_map(slots).map(|(a, b, n)| bucket(a, b, n)));
        negative
    }
}

/// One histogram per tensor or per channel, and the exact extremes.
///
/// Memory grows with the number of channels: some kilobytes each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histograms {
    grain: Grain,
    extremes: MinMax,
    channels: Vec<Histogram>,
}

impl Histograms {
    /// One histogram for each part that `grain` makes.
    pub fn new(grain: Grain) -> Histograms {
        Histograms { grain, extremes: MinMax::new(grain), channels: Vec::new() }
    }

    /// Folds in one batch; see [`Observer::observe_times`].
    pub fn observe(&mut self, data: &[f32], shape: &[usize], times: u64) {
        self.extremes.observe(data, shape);
        let channels = Channels::around(shape, self.grain);
        self.channels.resize(channels.count, Histogram::default());
        channels.for_each_run(|channel, run| self.channels[channel].add(&data[run], times));
    }

    /// What [`Histograms::ranges`] would give after this batch alone, at the memory of one channel a
    /// thread. For weights, which may have a grid for every few numbers.
    pub fn once(
        &self,
        data: &[f32],
        shape: &[usize],
        choose: impl Fn(Range, &[Bucket]) -> Range + Sync,
    ) -> Result<Vec<Range>, NoRange> {
        let mut extremes = MinMax::new(self.grain);
        extremes.observe(data, shape);
        let channels = Channels::around(shape, self.grain);
        let choose = |(channel, range)| {
            let mut histogram = Histogram::default();
            for outer in 0..channels.outer {
                let start = (outer * channels.count + channel) * channels.run;
                histogram.add(&data[start..start + channels.run], 1);
            }
            choose(range, &histogram.buckets(range))
        };
        Ok(extremes.ranges()?.into_par_iter().enumerate().map(choose).collect())
    }

    /// Joins the counts of another shard of the same tensor.
    pub fn merge(&mut self, other: &Histograms) -> Result<(), MergeError> {
        self.extremes.merge(&other.extremes)?;
        if self.channels.is_empty() {
            self.channels.clone_from(&other.channels);
            return Ok(());
        }
        for (channel, other) in self.channels.iter_mut().zip(&other.channels) {
            channel.merge(other);
        }
        Ok(())
    }

    /// What `choose` makes of the exact range and the buckets of each channel.
    pub fn ranges(
        &self,
        choose: impl Fn(Range, &[Bucket]) -> Range,
    ) -> Result<Vec<Range>, NoRange> {
        let extremes = self.extremes.ranges()?;
        let pairs = extremes.iter().zip(&self.channels);
        Ok(pairs.map(|(&range, channel)| choose(range, &channel.buckets(range))).collect())
    }
}
