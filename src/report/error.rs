//! How far a quantized output is from the float one.

use serde::Serialize;

/// Distances between a float reference and its quantized counterpart, accumulated over samples in
/// f64 in a fixed order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorSummary {
    count: u64,
    abs: f64,
    square: f64,
    dot: f64,
    reference_square: f64,
    quantized_square: f64,
    abs_max: f64,
    min: f64,
    max: f64,
    peir: f64,
}

/// The figures of an [`ErrorSummary`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorFigures {
    /// Mean of |float − quantized|.
    pub mean_abs_diff: f64,
    /// Greatest |float − quantized|.
    pub max_abs_diff: f64,
    /// Peak error to interval ratio, the greatest over samples: max |float − quantized| over
    /// (max float − min float).
    pub peir: f64,
    /// Mean of (float − quantized)².
    pub mse: f64,
    /// Signal to quantization noise ratio in dB; absent if there is no noise.
    pub sqnr_db: Option<f64>,
    /// Cosine similarity.
    pub cosine: f64,
}

impl ErrorSummary {
    /// Adds one sample: equally long slices.
    pub fn add(&mut self, float: &[f32], quantized: &[f32]) {
        let mut sample =
            ErrorSummary { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Default::default() };
        for (&f, &q) in float.iter().zip(quantized) {
            let (f, q) = (f64::from(f), f64::from(q));
            let diff = (f - q).abs();
            sample.abs += diff;
            sample.square += diff * diff;
            sample.dot += f * q;
            sample.reference_square += f * f;
            sample.quantized_square += q * q;
            sample.abs_max = greater(sample.abs_max, diff);
            sample.min = sample.min.min(f);
            sample.max = sample.max.max(f);
        }
        let interval = sample.max - sample.min;
        sample.peir = sample.abs_max / if interval > 0.0 { interval } else { 1.0 };
        sample.count = float.len() as u64;
        self.merge(&sample);
    }

    /// Joins two parts of one set of samples.
    pub fn merge(&mut self, other: &ErrorSummary) {
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        self.count += other.count;
        self.abs += other.abs;
        self.square += other.square;
        self.dot += other.dot;
        self.reference_square += other.reference_square;
        self.quantized_square += other.quantized_square;
        self.abs_max = greater(self.abs_max, other.abs_max);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.peir = greater(self.peir, other.peir);
    }

    /// The figures; none before the first sample.
    pub fn figures(&self) -> Option<ErrorFigures> {
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        let norm = (self.reference_square * self.quantized_square).sqrt();
        Some(ErrorFigures {
            mean_abs_diff: self.abs / count,
            max_abs_diff: self.abs_max,
            peir: self.peir,
            mse: self.square / count,
            sqnr_db: (self.square != 0.0)
                .then(|| 10.0 * (self.reference_square / self.square).log10()),
            cosine: if norm == 0.0 { 1.0 } else { self.dot / norm },
        })
    }
}

/// Unlike `max`, this keeps a NaN.
fn greater(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests;
