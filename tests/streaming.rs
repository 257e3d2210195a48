//! The memory of a job does not depend on the number of layers. A binary of its own: what it measures
//! is the greatest memory of its whole process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use encircle::checkpoint::{Checkpoint, Config};
use encircle::circle::WriteOptions;
use encircle::dataset::Sample;
use encircle::models::{self, Head};
use encircle::pipeline::{self, Fixed, Means, Numerics, Recipe, Silent};
use serde_json::{Map, json};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

const TOKENS: usize = 48;
const SAMPLES: usize = 6;
/// Of the job; the program itself is not counted in it.
const MEMORY: u64 = 64 << 20;

/// A text model of `layers` layers of 12.6 MB each in f32.
fn checkpoint(folder: &Path, layers: usize) -> Checkpoint {
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 1000,
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": layers,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 4096,
        "hidden_act": "silu", "tie_word_embeddings": true, "attention_bias": false,
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
    Checkpoint::open(folder).unwrap()
}

fn samples() -> Vec<Sample> {
    let sample = |i: usize| Sample {
        input_ids: (0..TOKENS).map(|t| ((31 * i + 7 * t * t + 3 * t) % 1000) as u32).collect(),
        prompt_len: TOKENS / 2,
        pixel_values: None,
        grids: Vec::new(),
        video_grids: Vec::new(),
        place: format!("sample {i}"),
    };
    (0..SAMPLES).map(sample).collect()
}

/// Length and hash of a file, of which little is in memory at a time.
fn digest(path: &Path) -> (usize, u64) {
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 1 << 16]);
    let (mut len, mut hash) = (0, DefaultHasher::new());
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return (len, hash.finish()),
            count => {
                len += count;
                hash.write(&buffer[..count]);
            }
        }
    }
}

/// Quantizes and writes both files.
fn run(checkpoint: &Checkpoint, recipe: &str, means: Means, out: &Path) -> [(usize, u64); 2] {
    let Numerics { policy, algo } = Numerics::find(recipe).unwrap();
    let (fixed, head) = (Fixed::default(), Head::Logits);
    let recipe = Recipe { policy, algo, seq_len: None, fixed, head, means };
    let samples = samples();
    let outcome =
        pipeline::quantize(checkpoint, &samples, &samples[..2], &recipe, &Silent).unwrap();
    pipeline::write_model(&outcome, out, &WriteOptions::default()).unwrap();
    ["model.circle", "model.q.circle"].map(|name| digest(&out.join(name)))
}

/// The most memory this process had since the last call, in MB. Linux tells; elsewhere nothing is
/// measured.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1000;
    fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(peak)
}

#[test]
fn memory_does_not_depend_on_the_number_of_layers_and_bytes_not_on_memory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [few, many] = [4, 12].map(|layers| checkpoint(&at(&format!("{layers}")), layers));
    let means = Means { memory: Some(MEMORY), folder: Some(at("spool")) };
    for recipe in ["npu", "w4a16-fast"] {
        peak();
        run(&few, recipe, means.clone(), &at("out"));
        let with_few = peak();
        let streamed = run(&many, recipe, means.clone(), &at("out"));
        let with_many = peak();
        let whole = Means { memory: Some(8 << 30), folder: None };
        assert_eq!(streamed, run(&many, recipe, whole, &at("out")), "{recipe}");
        let with_all = peak();
        eprintln!("{recipe}: {with_few:?}, {with_many:?}, all in memory {with_all:?} MB");
        if let (Some(few), Some(many), Some(all)) = (with_few, with_many, with_all) {
            assert!(10 * many <= 11 * few, "{recipe}: {few} MB with 4 layers, {many} with 12");
            assert!(2 * many < all, "{recipe}: {many} MB streamed, {all} MB in memory");
        }
    }
    assert_eq!(fs::read_dir(at("spool")).unwrap().count(), 0, "nothing is left");
}
