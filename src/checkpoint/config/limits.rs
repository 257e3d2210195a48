//! The largest sizes believed. Each is far above every published model and far below the point
//! where a product of two of them would overflow or a loop over one of them would never end. Where
//! a loop or a table goes over several of them, their product has a limit too.

use super::super::error::{ErrorKind, Result};
use super::super::fields::Fields;

/// Decoder layers or vision blocks; the deepest published models have 126.
pub(super) const LAYERS_MAX: usize = 4096;
/// Channels of any hidden or intermediate layer; the widest published are below 2^17.
pub(super) const WIDTH_MAX: usize = 1 << 20;
/// Experts of a layer; the most published are 512.
pub(super) const EXPERTS_MAX: usize = 1 << 11;
/// Experts of all layers together, each some nodes of the graph; the most published are 31 thousand.
pub(super) const EXPERTS_IN_ALL_MAX: usize = 1 << 16;
/// Attention heads.
pub(super) const HEADS_MAX: usize = 1 << 14;
/// Channels of one attention head; 256 is the largest published.
pub(super) const HEAD_DIM_MAX: usize = 1 << 14;
/// Tokens in the vocabulary; the largest published are below 2^19. Fits a `u32`.
pub(super) const VOCAB_MAX: usize = 1 << 24;
/// Positions; ten million is the longest published context.
pub(super) const POSITIONS_MAX: usize = 1 << 30;
/// Pixels along one side of a patch, frames in a patch, patches along one side of a merge.
pub(super) const PATCH_MAX: usize = 256;
/// Colours of a picture.
pub(super) const CHANNELS_MAX: usize = 64;

/// Refuses fields whose product is beyond `max`; the first one is blamed.
pub(super) fn check_product(fields: &Fields, factors: &[(&str, usize)], max: usize) -> Result<()> {
    let product = factors.iter().fold(1_usize, |product, (_, n)| product.saturating_mul(*n));
    if product <= max {
        return Ok(());
    }
    let spelled: Vec<String> = factors.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let expected = format!("at most {max} as {}", spelled.join(" * "));
    Err(fields.wrong(ErrorKind::OutOfRange, factors[0].0, expected, product))
}
