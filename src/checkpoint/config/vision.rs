//! The vision tower's part of `config.json`.

use super::super::error::{ErrorKind, Result};
use super::super::fields::Fields;
use super::TextConfig;
use super::limits::{
    CHANNELS_MAX, HEADS_MAX, LAYERS_MAX, PATCH_MAX, POSITIONS_MAX, WIDTH_MAX, check_product,
};
use super::text::activation;

/// The feed-forward activations that a tower can have, tanh and erf forms of GELU.
const ACTIVATIONS: [&str; 5] =
    ["gelu_pytorch_tanh", "gelu", "gelu_new", "gelu_python_tanh", "gelu_fast"];

/// Sizes and switches of the vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Channels of the residual stream; a multiple of `num_heads`.
    pub hidden_size: usize,
    /// Name of the feed-forward activation, such as `gelu_pytorch_tanh`.
    pub hidden_act: String,
    /// Channels inside the feed-forward block.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Colours of a picture.
    pub in_channels: usize,
    /// Pixels along one side of a patch.
    pub patch_size: usize,
    /// Frames in one patch.
    pub temporal_patch_size: usize,
    /// Patches along one side of a merged patch.
    pub spatial_merge_size: usize,
    /// Channels handed to the language model: its `hidden_size`.
    pub out_hidden_size: usize,
    /// Rows of the position embedding; a square number.
    pub num_position_embeddings: usize,
    /// Blocks whose output also goes to the first decoder layers, in that order; each below `depth`.
    pub deepstack_visual_indexes: Vec<usize>,
}

impl VisionConfig {
    pub(super) fn parse(fields: &Fields, text: &TextConfig) -> Result<VisionConfig> {
        let or = |name: &str, range, default| Ok(fields.size(name, range)?.unwrap_or(default));
        let vision = VisionConfig {
            depth: fields.required("depth", 1..=LAYERS_MAX)?,
            hidden_size: fields.required("hidden_size", 1..=WIDTH_MAX)?,
            hidden_act: activation(fields, "gelu_pytorch_tanh", &ACTIVATIONS)?,
            intermediate_size: fields.required("intermediate_size", 1..=WIDTH_MAX)?,
            num_heads: fields.required("num_heads", 1..=HEADS_MAX)?,
            in_channels: or("in_channels", 1..=CHANNELS_MAX, 3)?,
            patch_size: or("patch_size", 1..=PATCH_MAX, 16)?,
            temporal_patch_size: or("temporal_patch_size", 1..=PATCH_MAX, 2)?,
            spatial_merge_size: or("spatial_merge_size", 1..=PATCH_MAX, 2)?,
            out_hidden_size: fields.required("out_hidden_size", 1..=WIDTH_MAX)?,
            num_position_embeddings: fields
                .required("num_position_embeddings", 1..=POSITIONS_MAX)?,
            deepstack_visual_indexes: fields
                .sizes("deepstack_visual_indexes", 0..=usize::MAX, LAYERS_MAX)?
                .unwrap_or_else(|| vec![8, 16, 24]),
        };
        vision.check(fields, text)?;
        Ok(vision)
    }

    fn check(&self, fields: &Fields, text: &TextConfig) -> Result<()> {
        let wrong = |name: &str, expected: String, found: usize| {
            Err(fields.wrong(ErrorKind::Inconsistent, name, expected, found))
        };
        let patch = ("patch_size", self.patch_size);
        let merge = ("spatial_merge_size", self.spatial_merge_size);
        let depth = ("temporal_patch_size", self.temporal_patch_size);
        let levels = ("deepstack_visual_indexes", self.deepstack_visual_indexes.len());
        for factors in [
            &[patch, patch, depth, ("in_channels", self.in_channels)][..],
            &[merge, merge, ("hidden_size", self.hidden_size)],
            &[levels, ("out_hidden_size", self.out_hidden_size)],
        ] {
            check_product(fields, factors, WIDTH_MAX)?;
        }
        // half of a head's channels turn with the row and half with the column, each in pairs
        if !self.hidden_size.is_multiple_of(self.num_heads)
            || !(self.hidden_size / self.num_heads).is_multiple_of(4)
        {
            let expected = format!("a multiple of 4 for each of num_heads {}", self.num_heads);
            return wrong("hidden_size", expected, self.hidden_size);
        }
        if self.num_position_embeddings.isqrt().pow(2) != self.num_position_embeddings {
            let expected = "a square number of grid points".to_owned();
            return wrong("num_position_embeddings", expected, self.num_position_embeddings);
        }
        if self.out_hidden_size != text.hidden_size {
            let expected = format!("the language model's hidden_size {}", text.hidden_size);
            return wrong("out_hidden_size", expected, self.out_hidden_size);
        }
        let indexes = &self.deepstack_visual_indexes;
        for (i, &index) in indexes.iter().enumerate() {
            let name = format!("deepstack_visual_indexes[{i}]");
            if index >= self.depth {
                return wrong(&name, format!("a block below depth {}", self.depth), index);
            }
            if indexes[..i].contains(&index) {
                return wrong(&name, "each block once".to_owned(), index);
            }
        }
        if indexes.len() > text.num_hidden_layers {
            let expected = format!("at most one for each of {} layers", text.num_hidden_layers);
            return wrong("deepstack_visual_indexes", expected, indexes.len());
        }
        Ok(())
    }
}
