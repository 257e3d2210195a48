//! The sizes in which the family is published, as their config.json says.

use crate::models::Size;

/// Dense models, small to large.
pub(super) static SIZES: &[Size] = &[
    Size { name: "qwen3-vl-2b", config: include_str!("sizes/2b.json") },
    Size { name: "qwen3-vl-4b", config: include_str!("sizes/4b.json") },
    Size { name: "qwen3-vl-8b", config: include_str!("sizes/8b.json") },
];

/// Models with experts.
pub(super) static MOE_SIZES: &[Size] =
    &[Size { name: "qwen3-vl-30b-a3b", config: include_str!("sizes/30b-a3b.json") }];
