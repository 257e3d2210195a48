//! The mixture-of-experts part of a language model's configuration.

use super::super::error::{ErrorKind, Result};
use super::super::fields::Fields;
use super::limits::{EXPERTS_IN_ALL_MAX, EXPERTS_MAX, LAYERS_MAX, WIDTH_MAX, check_product};

/// Feed-forward blocks of which a router chooses some for every token.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsConfig {
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts that a token is sent to; at most `num_experts`.
    pub num_experts_per_tok: usize,
    /// Channels inside an expert.
    pub moe_intermediate_size: usize,
    /// Whether the weights of a token's experts are divided by their sum.
    pub norm_topk_prob: bool,
    /// Every so many layers has experts.
    pub decoder_sparse_step: usize,
    /// Layers without experts whatever the step.
    pub mlp_only_layers: Vec<usize>,
}

impl ExpertsConfig {
    /// Reads the fields of the model type `family` of so many layers; none if it has no experts.
    pub(super) fn parse(
        fields: &Fields,
        family: &str,
        num_hidden_layers: usize,
    ) -> Result<Option<ExpertsConfig>> {
        if !matches!(family, "qwen3_vl_moe" | "qwen3_moe") {
            return Ok(None);
        }
        let num_experts = fields.required("num_experts", 1..=EXPERTS_MAX)?;
        let factors = [("num_experts", num_experts), ("num_hidden_layers", num_hidden_layers)];
        check_product(fields, &factors, EXPERTS_IN_ALL_MAX)?;
        let name = "num_experts_per_tok";
        let num_experts_per_tok = fields.required(name, 1..=EXPERTS_MAX)?;
        if num_experts_per_tok > num_experts {
            let expected = format!("at most num_experts {num_experts}");
            return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, num_experts_per_tok));
        }
        // The multimodal model always divides: its code does not look at the field.
        let normed = fields.flag("norm_topk_prob")?.unwrap_or(false) || family == "qwen3_vl_moe";
        Ok(Some(ExpertsConfig {
            num_experts,
            num_experts_per_tok,
            moe_intermediate_size: fields.required("moe_intermediate_size", 1..=WIDTH_MAX)?,
            norm_topk_prob: normed,
            decoder_sparse_step: fields.size("decoder_sparse_step", 1..=LAYERS_MAX)?.unwrap_or(1),
            mlp_only_layers: fields
                .sizes("mlp_only_layers", 0..=usize::MAX, LAYERS_MAX)?
                .unwrap_or_default(),
        }))
    }

    /// Whether this layer has experts.
    pub fn in_layer(&self, layer: usize) -> bool {
        !self.mlp_only_layers.contains(&layer)
            && (layer + 1).is_multiple_of(self.decoder_sparse_step)
    }
}
