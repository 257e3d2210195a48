//! What transformers' classes take for granted, for files beside `config.json` that name them.

/// The image processor that the pictures here are prepared like.
pub(in super::super) const IMAGE_PROCESSOR: &str = "Qwen2VLImageProcessor";

/// The video processor that videos are prepared like.
pub(in super::super) const VIDEO_PROCESSOR: &str = "Qwen3VLVideoProcessor";

/// Whether a processor is the `known` one, one of the two above, or goes by another of its names.
pub(in super::super) fn prepares_as(known: &str, processor: &str) -> bool {
    let other_names = known == IMAGE_PROCESSOR
        && processor.starts_with("Qwen")
        && processor.contains("VLImageProcessor");
    other_names || processor == known
}

/// A class of tokenizers.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct TokenizerClass {
    /// The special tokens of a file that does not mention them.
    pub(in super::super) tokens: &'static [(&'static str, &'static str)],
    /// Whether `add_bos_token` and `add_eos_token` replace what `tokenizer.json` lays around a
    /// document; by default a document then begins with the former and ends without the latter.
    pub(in super::super) frames: bool,
    /// Whether `add_prefix_space` has it made anew of `tokenizer.model`.
    pub(in super::super) converts: bool,
}

impl TokenizerClass {
    pub(in super::super) fn of(name: &str) -> TokenizerClass {
        match name.strip_suffix("Fast").unwrap_or(name) {
            "LlamaTokenizer" => TokenizerClass {
                tokens: &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
                frames: true,
                converts: true,
            },
            "Qwen2Tokenizer" => {
                const END: &str = "<|endoftext|>";
                let tokens = &[("eos_token", END), ("unk_token", END), ("pad_token", END)];
                TokenizerClass { tokens, ..TokenizerClass::default() }
            }
            _ => TokenizerClass::default(),
        }
    }
}
