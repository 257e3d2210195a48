//! `encircle bench-toy`: the job of `encircle quantize` on inputs that another program prepared, so
//! that both can be timed on the same work.

use super::args::BenchToyArgs;
use super::{Outcome, Verdict};
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::dataset::Sample;
use crate::models::Head;
use crate::pipeline::{self, Fixed, Recipe, Silent};
use crate::quant::Policy;
use serde_json::json;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

pub(super) fn run(args: &BenchToyArgs) -> Outcome {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let samples = samples(args)?;
    let policy = Policy::preset(&args.preset)?;
    let recipe = Recipe { policy, seq_len: None, fixed: Fixed::default(), head: Head::Hidden };
    let mut runs = Vec::new();
    for _ in 0..args.repeat.max(1) {
        let start = Instant::now();
        let outcome = pipeline::quantize(&checkpoint, &samples, &[], &recipe, &Silent)?;
        runs.push((start.elapsed().as_secs_f64(), outcome));
    }
    let float = TensorFile::open(&args.inputs)?.read("0.float")?;
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let fastest = runs[0].0;
    let (total, outcome) = &runs[runs.len() / 2];
    let off = float
        .data()
        .iter()
        .zip(outcome.example[0].data())
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    let seconds: serde_json::Map<_, _> =
        outcome.seconds.iter().map(|(name, s)| ((*name).to_string(), json!(s))).collect();
    let facts = json!({
        "seconds": seconds,
        "total": total,
        "fastest": fastest,
        "samples": samples.len(),
        "float_max_abs_diff_to_reference": off,
        "error": outcome.error,
    });
    let mut stdout = std::io::stdout().lock();
    match args.json {
        true => writeln!(stdout, "{facts}")?,
        false => writeln!(stdout, "{facts:#}")?,
    }
    Ok(Verdict::Fine)
}

fn samples(args: &BenchToyArgs) -> Result<Vec<Sample>, Box<dyn Error>> {
    let file = TensorFile::open(&args.inputs)?;
    let mut samples = Vec::new();
    while file.info(&format!("{}.input_ids", samples.len())).is_some() {
        let i = samples.len();
        let (_, ids) = file.read_i32(&format!("{i}.input_ids"))?;
        let input_ids = ids.into_iter().map(u32::try_from).collect::<Result<Vec<u32>, _>>()?;
        samples.push(Sample {
            prompt_len: input_ids.len(),
            input_ids,
            pixel_values: Some(file.read(&format!("{i}.pixel_values"))?),
            grids: vec![[1, 8, 8]],
            place: format!("{}: sample {i}", args.inputs.display()),
        });
    }
    Ok(samples)
}
