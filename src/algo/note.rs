//! What a rounding could do, but only just: for people to judge.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something odd about the calibration of one layer, which was rounded all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Note {
    /// Fewer tokens than inputs: the Hessian is rank-deficient, so some directions are chosen by
    /// the damping alone.
    FewTokens {
        /// The weight; those after it that read the same input go without a note.
        layer: String,
        /// Calibration tokens.
        tokens: u64,
        /// Its inputs.
        channels: usize,
    },
    /// The damping asked for did not give a Cholesky factor.
    Damped {
        /// The weight.
        layer: String,
        /// The share of the mean diagonal asked for.
        asked: f64,
        /// The share that was needed.
        needed: f64,
    },
    /// The mask's value may not hide later tokens: the scores that it is added to are far apart, so the
    /// float network is not the checkpoint's either.
    Unmasked {
        /// The scores.
        scores: String,
        /// The lowest and the highest that calibration saw.
        range: [f32; 2],
    },
    /// Every calibration input is zero, so that none tells one rounding from another: rounded to
    /// nearest.
    Silent {
        /// The weight; those after it that read the same input go without a note.
        layer: String,
    },
    /// No calibration token of the quantized network is sent to it: rounded to nearest.
    Unreached {
        /// The weight.
        layer: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::FewTokens { layer, tokens, channels } => write!(
                f,
                "{layer}: {tokens} calibration tokens for {channels} inputs leave its Hessian \
                 rank-deficient: at least {channels} are advised"
            ),
            Note::Damped { layer, asked, needed } => write!(
                f,
                "{layer}: damping raised from {asked:e} to {needed:e} of the mean diagonal, as its \
                 Hessian had no Cholesky factor"
            ),
            Note::Unmasked { scores, range: [low, high] } => write!(
                f,
                "{scores}: attention scores from {low} to {high} are too far apart for the mask, which \
                 may leave later tokens visible, in float too: policy.mask_fill = {:.0} would hide them",
                // room for scores that calibration did not see
                (1.5 * (low - high) - 20.0).floor()
            ),
            Note::Silent { layer } => {
                write!(f, "{layer}: rounded to nearest, as all its calibration inputs are zero")
            }
            Note::Unreached { layer } => {
                write!(f, "{layer}: rounded to nearest, as no calibration token is sent to it")
            }
        }
    }
}
