//! Attention logits: only what softmax can tell apart is worth a step.

use serde::{Deserialize, Serialize};

use super::{Merge, MergeError, Observer};
use crate::quant::{NoRange, Range, kernel};

/// Keeps `[least row maximum - margin, largest value]` of masked attention logits, rows on the last
/// axis.
///
/// After softmax a logit that lies more than `margin` below its row's maximum weighs less than
/// `e^-margin` against it. Whatever saturates at the lower end of this range lies at least that
/// far below the maximum of *every* row, so it still weighs less than `e^-margin` after saturating:
/// the mask's fill value, often -120 or less, no longer decides the step. A margin of 16 keeps
/// weights down to 1.1e-7, below half a step of int16.
///
/// A row that is masked throughout has the fill value for its maximum and widens the range to it; one
/// masked by infinities is refused like any other infinity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoftmaxLogits {
    margin: f32,
    /// Smallest maximum of a row, and the largest of all.
    peaks: Option<Range>,
    non_finite: bool,
}

impl SoftmaxLogits {
    /// None unless `margin` is positive and finite.
    pub fn new(margin: f32) -> Option<SoftmaxLogits> {
        let legal = margin > 0.0 && margin.is_finite();
        legal.then_some(SoftmaxLogits { margin, peaks: None, non_finite: false })
    }

    fn fold(&mut self, peaks: Range) {
        self.peaks = Some(self.peaks.map_or(peaks, |seen| seen.union(peaks)));
    }
}

impl Observer for SoftmaxLogits {
    fn observe_times(&mut self, data: &[f32], shape: &[usize], _: u64) {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "data fills {shape:?}");
        let width = shape.last().copied().unwrap_or(1);
        if data.is_empty() {
            return;
        }
        let found = kernel::peaks(data, width);
        self.non_finite |= !found.finite();
        self.fold(Range::new(found.min, found.max));
    }

    fn ranges(&self) -> Result<Vec<Range>, NoRange> {
        if self.non_finite {
            return Err(NoRange::NonFinite);
        }
        let peaks = self.peaks.ok_or(NoRange::Unseen)?;
        Ok(vec![Range::new(peaks.min - self.margin, peaks.max)])
    }
}

impl Merge for SoftmaxLogits {
    fn merge(&mut self, other: &SoftmaxLogits) -> Result<(), MergeError> {
        if self.margin != other.margin {
            let describe = |s: &SoftmaxLogits| format!("softmax logits of margin {}", s.margin);
            return Err(MergeError::new(describe(self), describe(other)));
        }
        self.non_finite |= other.non_finite;
        if let Some(peaks) = other.peaks {
            self.fold(peaks);
        }
        Ok(())
    }
}
