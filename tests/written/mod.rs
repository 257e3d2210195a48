//! Text models of random weights, and samples for them, as the tests write them.

use encircle::checkpoint::Config;
use encircle::dataset::Sample;
use encircle::models;
use serde_json::{Map, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

const TOKENS: usize = 48;
const SAMPLES: usize = 6;
const VOCABULARY: usize = 1000;

/// What a text model is like.
#[derive(Clone, Debug)]
pub(crate) struct Like {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    /// Of queries, and of keys and values.
    pub(crate) heads: [usize; 2],
    pub(crate) head_dim: usize,
    pub(crate) tied: bool,
}

impl Like {
    /// Layers so large that they show: 12.6 MB each in f32.
    #[allow(dead_code, reason = "not every test writes those")]
    pub(crate) fn large(layers: usize) -> Like {
        let (hidden, intermediate) = (512, 1536);
        Like { layers, hidden, intermediate, heads: [8, 4], head_dim: 64, tied: true }
    }
}

/// Writes a checkpoint into a new folder.
pub(crate) fn checkpoint(folder: &Path, like: &Like) {
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": VOCABULARY,
        "hidden_size": like.hidden, "intermediate_size": like.intermediate,
        "num_hidden_layers": like.layers, "num_attention_heads": like.heads[0],
        "num_key_value_heads": like.heads[1], "head_dim": like.head_dim,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 4096,
        "hidden_act": "silu", "tie_word_embeddings": like.tied, "attention_bias": false,
    });
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensors = models::tensors(&Config::parse("config.json", config).unwrap()).unwrap();
    let (mut header, mut at) = (Map::new(), 0);
    for (name, shape) in &tensors {
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&header).unwrap();
    let mut seed = 1u32;
    for (_, shape) in &tensors {
        for _ in 0..shape.iter().product::<usize>() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (seed >> 8) as f32 / (1 << 24) as f32 - 0.5;
            let x = if shape.len() == 1 { 1.0 + 0.1 * x } else { 0.1 * x };
            out.write_all(&x.to_le_bytes()).unwrap();
        }
    }
    out.flush().unwrap();
}

/// Six texts of 48 tokens.
pub(crate) fn samples() -> Vec<Sample> {
    let sample = |i: usize| Sample {
        input_ids: (0..TOKENS)
            .map(|t| ((31 * i + 7 * t * t + 3 * t) % VOCABULARY) as u32)
            .collect(),
        prompt_len: TOKENS / 2,
        pixel_values: None,
        grids: Vec::new(),
        video_grids: Vec::new(),
        place: format!("sample {i}"),
    };
    (0..SAMPLES).map(sample).collect()
}
