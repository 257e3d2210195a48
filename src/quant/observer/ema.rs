//! The moving average of batch extremes.

use serde::{Deserialize, Serialize};

use super::{MinMax, Observer};
use crate::quant::{Grain, NoRange, Range};

/// Averages the extremes of batches: `momentum * old + (1 - momentum) * new`, each end by itself;
/// the first batch initialises.
///
/// The result depends on the order of the batches, so this is no [`Merge`](super::Merge): offered
/// because TICO's users have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ema {
    momentum: f32,
    grain: Grain,
    ranges: Vec<Range>,
    non_finite: bool,
}

impl Ema {
    /// The averages of one range for each part that `grain` makes. None unless
    /// `0 < momentum < 1`.
    pub fn new(momentum: f32, grain: Grain) -> Option<Ema> {
        let legal = momentum > 0.0 && momentum < 1.0;
        legal.then(|| Ema { momentum, grain, ranges: Vec::new(), non_finite: false })
    }
}

impl Observer for Ema {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], _: u64) {
        let mut batch = MinMax::new(self.grain);
        batch.observe(data, shape);
        match batch.ranges() {
            Err(NoRange::Unseen) => {}
            Err(_) => self.non_finite = true,
            Ok(new) if self.ranges.is_empty() => self.ranges = new,
            Ok(new) => {
                let m = self.momentum;
                for (old, new) in self.ranges.iter_mut().zip(new) {
                    old.min = m * old.min + (1.0 - m) * new.min;
                    old.max = m * old.max + (1.0 - m) * new.max;
                }
            }
        }
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        if self.non_finite {
            Err(NoRange::NonFinite)
        } else if self.ranges.is_empty() {
            Err(NoRange::Unseen)
        } else {
            Ok(self.ranges.clone())
        }
    }
}
