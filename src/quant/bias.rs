//! Biases: integers on the accumulator's own grid.

use super::{DType, Grain, QuantParams};

/// Why a bias has no integers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BiasError {
    /// The integer of a channel does not fit.
    ///
    /// Saturating instead would leave the channel wrong by any amount; it happens when the scale of the
    /// weight or of the input is tiny. [`least_scale`] tells which scale of the weight would do.
    #[error(
        "channel {channel}: bias {bias} does not fit {dtype} at scale {:e}, that of the input, \
         {input:e}, times that of the channel's weight, {weight:e}: give {} a larger scale",
        input * weight,
        if input < weight { "the input" } else { "the weight" }
    )]
    Saturated {
        /// Index of the output channel.
        channel: usize,
        /// The bias.
        bias: f32,
        /// Scale of the input.
        input: f32,
        /// Scale of the channel's weight.
        weight: f32,
        /// The type it should fit.
        dtype: DType,
    },
    /// A bias is NaN or infinite.
    #[error("channel {channel}: bias is {bias}")]
    NonFinite {
        /// Index of the output channel.
        channel: usize,
        /// The bias.
        bias: f32,
    },
    /// Scales and biases do not pair up.
    #[error("expected 1 or {biases} weight scales for {biases} biases, found {scales}")]
    Count {
        /// Number of biases.
        biases: usize,
        /// Number of weight scales.
        scales: usize,
    },
    /// The scale's product is zero or not finite in f32.
    #[error("channel {channel}: bias scale {scale:e} is no positive finite float32")]
    Scale {
        /// Index of the output channel.
        channel: usize,
        /// Input scale times weight scale.
        scale: f64,
    },
}

/// The integers of `bias` on the grid `input_scale * weight_scale[c]`, zero point 0, per channel on
/// axis 0 (also for a per-tensor weight, whose one scale is repeated).
///
/// `dtype` is `INT32` behind 8-bit activations and `INT64` behind 16-bit ones. The scale is the f32
/// product, as the runtime forms it; rounding is to nearest even, in f64.
pub fn quantize_bias(
    bias: &[f32],
    input_scale: f32,
    weight_scale: &[f32],
    dtype: DType,
) -> Result<(QuantParams, Vec<i64>), BiasError> {
    if weight_scale.len() != 1 && weight_scale.len() != bias.len() {
        return Err(BiasError::Count { biases: bias.len(), scales: weight_scale.len() });
    }
    let (low, high) = dtype.limits();
    let mut scale = Vec::with_capacity(bias.len());
    let mut integers = Vec::with_capacity(bias.len());
    for (channel, &bias) in bias.iter().enumerate() {
        if !bias.is_finite() {
            return Err(BiasError::NonFinite { channel, bias });
        }
        let weight = weight_scale[if weight_scale.len() == 1 { 0 } else { channel }];
        let product = input_scale * weight;
        if !(product.is_finite() && product > 0.0) {
            return Err(BiasError::Scale { channel, scale: f64::from(product) });
        }
        let q = (f64::from(bias) / f64::from(product)).round_ties_even();
        // 2^63 itself is a float64 but no int64, hence the strict bound
        if q < low as f64 || q >= high as f64 + 1.0 {
            let input = input_scale;
            return Err(BiasError::Saturated { channel, bias, input, weight, dtype });
        }
        scale.push(product);
        integers.push(q as i64);
    }
    let zero_point = vec![0; bias.len()];
    Ok((QuantParams::Affine { dtype, scale, zero_point, grain: Grain::Axis(0) }, integers))
}

/// The least scale of a weight's channel with which its accumulator, of `dtype`, holds `bias`.
pub fn least_scale(bias: f32, input_scale: f32, dtype: DType) -> f32 {
    let (_, high) = dtype.limits();
    // a little less, as the product of the scales is rounded
    (f64::from(bias.abs()) / f64::from(input_scale) / (high as f64 * (1.0 - 1e-6))) as f32
}
