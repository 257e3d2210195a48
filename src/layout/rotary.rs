//! Rotary tables of the text decoder (RoFormer, and its scalings), with Qwen's three-axis variant.
//!
//! Angles are `position * inv_freq`, both f32 and the product too, as Hugging Face forms them:
//! at position 100000 a table from f64 angles would differ from the one the model was run with by
//! far more than f32 resolution.

use crate::tensor::Tensor;

/// Changes of the frequencies for contexts longer than those trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// None.
    #[default]
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// At least 1 in practice.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Context length of the pretraining.
        original_max_position_embeddings: usize,
    },
    /// YaRN (Peng et al., 2023): interpolated, extrapolated, and a ramp between by dimension.
    Yarn {
        /// Ratio of the context lengths.
        factor: f64,
        /// Context length of the pretraining.
        original_max_position_embeddings: usize,
        /// Rotations above which a dimension is extrapolated; 32 by default.
        beta_fast: f64,
        /// Rotations below which a dimension is interpolated; 1 by default.
        beta_slow: f64,
        /// Factor of cosines and sines; none derives it from the factor and the two below.
        attention_factor: Option<f64>,
        /// Weight of `ln(factor)` in the numerator of the derived factor.
        mscale: Option<f64>,
        /// Weight of `ln(factor)` in its denominator.
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are rounded to whole dimensions; true by default.
        truncate: bool,
    },
}

impl RopeScaling {
    /// Factor of cosines and sines: 1, except for YaRN.
    pub fn attention_scaling(&self) -> f64 {
        let RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = self
        else {
            return 1.0;
        };
        let of = |m: f64| if *factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        // a weight of 0 counts as absent in the reference
        let given = |m: &Option<f64>| m.filter(|m| *m != 0.0);
        attention_factor.unwrap_or_else(|| match (given(mscale), given(mscale_all_dim)) {
            (Some(over), Some(under)) => of(over) / of(under),
            _ => of(1.0),
        })
    }
}

/// How position ids become cosines and sines.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Width of a head; even.
    pub head_dim: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// Frequencies that follow the time, height and width axis, `head_dim / 2` in all; none for
    /// models whose axes are one.
    pub mrope_section: Option<[usize; 3]>,
    /// Whether the sections alternate (Qwen3-VL) or stand one after another (Qwen2-VL).
    pub interleaved: bool,
    /// Changes for long contexts.
    pub scaling: RopeScaling,
    /// Factor of cosines and sines; usually [`RopeScaling::attention_scaling`].
    pub attention_scaling: f64,
}

/// A rotary configuration that no model can have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RotaryError {
    /// The head's halves differ.
    #[error("head_dim {found} is not even and positive")]
    HeadDim {
        /// The width.
        found: usize,
    },
    /// The sections do not cover the frequencies.
    #[error("mrope_section {section:?} adds up to {found}: expected head_dim / 2 = {expected}")]
    Section {
        /// The sections.
        section: [usize; 3],
        /// Half the head's width.
        expected: usize,
        /// Their sum.
        found: usize,
    },
    /// The interleaved sections of height or width reach past the frequencies.
    #[error("mrope_section {section:?} cannot alternate within {half} frequencies")]
    Interleave {
        /// The sections.
        section: [usize; 3],
        /// Half the head's width.
        half: usize,
    },
    /// A number that must be positive and finite.
    #[error("{name} is {found}: expected a positive finite number")]
    Number {
        /// Its name in `config.json`.
        name: &'static str,
        /// The number.
        found: f64,
    },
}

impl Rotary {
    /// Without axes of their own, scaled by `scaling`.
    pub fn new(head_dim: usize, theta: f64, scaling: RopeScaling) -> Result<Rotary, RotaryError> {
        let attention_scaling = scaling.attention_scaling();
        let interleaved = false;
        let mrope_section = None;
        let rotary =
            Rotary { head_dim, theta, mrope_section, interleaved, scaling, attention_scaling };
        rotary.check().map(|()| rotary)
    }

    /// With frequencies divided among the three axes.
    pub fn with_mrope(
        mut self,
        section: [usize; 3],
        interleaved: bool,
    ) -> Result<Rotary, RotaryError> {
        (self.mrope_section, self.interleaved) = (Some(section), interleaved);
        self.check().map(|()| self)
    }

    /// Refuses numbers that give no table.
    pub fn check(&self) -> Result<(), RotaryError> {
        let half = self.head_dim / 2;
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(RotaryError::HeadDim { found: self.head_dim });
        }
        let mut numbers = vec![("rope_theta", self.theta)];
        match self.scaling {
            RopeScaling::Default => {}
            RopeScaling::Linear { factor } => numbers.push(("factor", factor)),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: context,
            } => {
                numbers.push(("factor", factor));
                numbers.push(("low_freq_factor", low_freq_factor));
                // the ramp runs from the one to the other
                numbers.push((
                    "high_freq_factor - low_freq_factor",
                    high_freq_factor - low_freq_factor,
                ));
                numbers.push(("original_max_position_embeddings", context as f64));
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings: context,
                ..
            } => {
                numbers.push(("factor", factor));
                numbers.push(("original_max_position_embeddings", context as f64));
                numbers.push(("beta_fast", beta_fast));
                numbers.push(("beta_slow", beta_slow));
            }
        }
        numbers.push(("attention_factor", self.attention_scaling));
        for (name, found) in numbers {
            if !(found.is_finite() && found > 0.0) {
                return Err(RotaryError::Number { name, found });
            }
        }
        let Some(section) = self.mrope_section else { return Ok(()) };
        let found = section.iter().fold(0_usize, |sum, n| sum.saturating_add(*n));
        if found != half {
            return Err(RotaryError::Section { section, expected: half, found });
        }
        // the last height index is 3 * section[1] - 2, the last width index 3 * section[2] - 1
        let fits = (3 * section[1]).saturating_sub(1) <= half && 3 * section[2] <= half;
        if self.interleaved && !fits {
            return Err(RotaryError::Interleave { section, half });
        }
        Ok(())
    }

    /// Radians per position of each pair of dimensions: `[head_dim / 2]`.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let plain = inverse_frequencies(self.head_dim, self.theta);
        match self.scaling {
            RopeScaling::Default => plain,
            RopeScaling::Linear { factor } => {
                plain.into_iter().map(|f| f / factor as f32).collect()
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let context = original_max_position_embeddings as f64;
                let bounds = [low_freq_factor, high_freq_factor];
                plain.into_iter().map(|f| llama3(f, factor as f32, bounds, context)).collect()
            }
            RopeScaling::Yarn { .. } => self.yarn(&plain),
        }
    }

    fn yarn(&self, plain: &[f32]) -> Vec<f32> {
        let RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self.scaling
        else {
            return plain.to_vec();
        };
        let (dim, context) = (self.head_dim as f64, original_max_position_embeddings as f64);
        // the dimension that makes this many rotations within the original context
        let dimension = |rotations: f64| {
            dim * (context / (rotations * std::f64::consts::TAU)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let low = low.max(0.0);
        let mut high = high.min(dim - 1.0);
        if low == high {
            high += 0.001;
        }
        let interpolated = inverse_of(self.head_dim, self.theta, factor as f32);
        let pairs = plain.iter().zip(interpolated).enumerate();
        pairs
            .map(|(i, (plain, interpolated))| {
                let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let keep = 1.0 - ramp;
                interpolated * (1.0 - keep) + plain * keep
            })
            .collect()
    }

    /// Cosines and sines of `position_ids`, `[3][seq]`: two tensors `[seq, head_dim]`, the second
    /// half of each row repeating the first.
    ///
    /// # Panics
    /// If the three axes differ in length: a mistake of ours.
    pub fn tables(&self, position_ids: &[Vec<i64>; 3]) -> (Tensor, Tensor) {
        let frequencies = self.inverse_frequencies();
        let half = frequencies.len();
        let [time, height, width] = position_ids;
        let seq = time.len();
        assert!(height.len() == seq && width.len() == seq, "axes are equally long");
        let axes: Vec<usize> = (0..half).map(|i| self.axis_of(i)).collect();
        let scaling = self.attention_scaling as f32;
        let mut angles = Vec::with_capacity(seq * half * 2);
        for ((&time, &height), &width) in time.iter().zip(height).zip(width) {
            let position = [time, height, width].map(|id| id as f32);
            let pairs = axes.iter().zip(&frequencies);
            angles.extend(pairs.map(|(axis, frequency)| position[*axis] * frequency));
            angles.extend_from_within(angles.len() - half..);
        }
        let cos = angles.iter().map(|angle| angle.cos() * scaling).collect();
        let sin = angles.iter().map(|angle| angle.sin() * scaling).collect();
        let shape = [seq, half * 2];
        (Tensor::new(shape, cos), Tensor::new(shape, sin))
    }

    /// Whether tables of fewer than so many positions are finite.
    pub fn is_finite(&self, positions: usize) -> bool {
        let last = i64::try_from(positions.saturating_sub(1)).unwrap_or(i64::MAX);
        let (cos, sin) = self.tables(&std::array::from_fn(|_| vec![0, last]));
        cos.data().iter().chain(sin.data()).all(|value| value.is_finite())
    }

    /// The axis that frequency `i` follows: 0 time, 1 height, 2 width.
    fn axis_of(&self, i: usize) -> usize {
        let Some([time, height, width]) = self.mrope_section else { return 0 };
        if self.interleaved {
            match i % 3 {
                1 if i < 3 * height => 1,
                2 if i < 3 * width => 2,
                _ => 0,
            }
        } else if i < time {
            0
        } else if i < time + height {
            1
        } else {
            2
        }
    }
}

/// `theta^(-2i / dim)` for every `i < dim / 2`.
pub(super) fn inverse_frequencies(dim: usize, theta: f64) -> Vec<f32> {
    inverse_of(dim, theta, 1.0)
}

/// `1 / (factor * theta^(2i / dim))`, each step rounded to f32.
fn inverse_of(dim: usize, theta: f64, factor: f32) -> Vec<f32> {
    let power = |i: usize| f64::from(theta as f32).powf(f64::from(2.0 * i as f32 / dim as f32));
    (0..dim / 2).map(|i| 1.0 / (factor * power(i) as f32)).collect()
}

/// Where torch divides a number by a tensor, it multiplies it by the reciprocals.
fn llama3(frequency: f32, factor: f32, [low, high]: [f64; 2], context: f64) -> f32 {
    let wavelength = std::f32::consts::TAU * (1.0 / frequency);
    if wavelength < (context / high) as f32 {
        return frequency;
    }
    if wavelength > (context / low) as f32 {
        return frequency / factor;
    }
    let smooth = (context as f32 * (1.0 / wavelength) - low as f32) / (high - low) as f32;
    (1.0 - smooth) * frequency / factor + smooth * frequency
}
