//! `encircle bench-toy`: the job of `encircle quantize` on inputs that another program prepared, so
//! that both can be timed on the same work.

use super::args::BenchToyArgs;
use super::terminal::stdout;
use super::{Outcome, Verdict};
use crate::algo::AlgoSpec;
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::dataset::Sample;
use crate::models::Head;
use crate::pipeline::{self, Fixed, Means, Numerics, Recipe, Silent};
use crate::tensor::Products;
use serde_json::json;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

pub(super) fn run(args: &BenchToyArgs) -> Outcome {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let samples = samples(args)?;
    let policy = Numerics::find(&args.preset)?.policy;
    let (fixed, algo) = (Fixed::default(), AlgoSpec::default());
    let products = Products::F32;
    let (head, means) = (Head::Hidden, Means::default());
    let recipe = Recipe { policy, seq_len: None, fixed, head, algo, products, means };
    let job = || {
        let start = Instant::now();
        let outcome = pipeline::quantize(&checkpoint, &samples, &[], &recipe, &Silent)?;
        Ok::<_, Box<dyn Error>>((start.elapsed().as_secs_f64(), outcome))
    };
    // The first run is reported apart: it pays for threads and fresh memory, as the peer's does.
    let (first, mut outcome) = job()?;
    let mut totals = vec![first];
    for _ in 1..args.repeat {
        let (total, again) = job()?;
        totals.push(total);
        outcome = again;
    }
    totals.sort_by(f64::total_cmp);
    let seconds: serde_json::Map<_, _> =
        outcome.seconds.iter().map(|(name, s)| ((*name).to_string(), json!(s))).collect();
    let facts = json!({
        "seconds": seconds,
        "first": first,
        "total": totals[totals.len() / 2],
        "fastest": totals[0],
        "samples": samples.len(),
        "error": outcome.error,
    });
    let mut stdout = stdout();
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
            video_grids: Vec::new(),
            place: format!("{}: sample {i}", args.inputs.display()),
        });
    }
    Ok(samples)
}
