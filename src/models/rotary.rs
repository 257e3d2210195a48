//! From config fields to rotary tables.

use crate::checkpoint::{RopeType, TextConfig};
use crate::layout::{RopeScaling, Rotary};

/// The rotary embedding of a text model.
pub fn rotary(text: &TextConfig) -> Rotary {
    let rope = &text.rope;
    let scaling = match rope.rope_type {
        RopeType::Linear { factor } => RopeScaling::Linear { factor },
        RopeType::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        },
        RopeType::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            truncate,
        } => RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            attention_factor: Some(rope.attention_scaling),
            mscale: None,
            mscale_all_dim: None,
            truncate,
        },
        _ => RopeScaling::Default,
    };
    Rotary {
        head_dim: text.head_dim,
        theta: rope.theta,
        mrope_section: rope.mrope_section,
        interleaved: rope.mrope_interleaved,
        scaling,
        attention_scaling: rope.attention_scaling,
    }
}
