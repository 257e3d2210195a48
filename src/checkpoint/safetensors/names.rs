//! One name for each tensor, whatever the checkpoint calls it.
//!
//! Canonical names are those of a current multimodal checkpoint: `model.language_model.…`,
//! `model.visual.…` and `lm_head.weight`. Text-only checkpoints call the language model `model.…`,
//! older multimodal ones `language_model.model.…` beside `visual.…`, and bare backbones have no
//! prefix at all.

/// Stored prefix → canonical prefix; the first that fits counts.
const PREFIXES: [(&str, &str); 8] = [
    ("model.language_model.", "model.language_model."),
    ("model.visual.", "model.visual."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.", "model.language_model."),
    ("visual.", "model.visual."),
    ("lm_head.", "lm_head."),
    ("model.", "model.language_model."),
];

/// First segments of the tensors of a backbone stored alone.
const BARE: [&str; 3] = ["layers.", "embed_tokens.", "norm."];

/// The canonical name of the tensor stored as `stored`; unknown names stay as they are.
pub(super) fn canonical(stored: &str) -> String {
    for (prefix, to) in PREFIXES {
        if let Some(rest) = stored.strip_prefix(prefix) {
            return format!("{to}{rest}");
        }
    }
    if BARE.iter().any(|first| stored.starts_with(first)) {
        return format!("model.language_model.{stored}");
    }
    stored.to_owned()
}

#[cfg(test)]
mod tests;
