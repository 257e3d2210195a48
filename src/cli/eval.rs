//! `encircle eval`.

use super::args::EvalArgs;
use super::terminal::Bars;
use super::{Outcome, Verdict};
use crate::checkpoint::Checkpoint;
use crate::dataset::{Processor, Sample, Windows, read_jsonl};
use crate::models::Head;
use crate::pipeline::{self, Fixed, Numerics, Recipe};
use crate::report::AnswerScore;
use serde_json::json;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

pub(super) fn run(args: &EvalArgs) -> Outcome {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let processor = Processor::new(&checkpoint)?;
    let windows = |limit| Windows {
        context: args.context,
        stride: args.stride.unwrap_or(args.context),
        limit,
    };
    let whole = Windows { stride: args.context, ..windows(Some(args.calib_windows)) };
    let calib = samples(&processor, &args.calib, whole)?;
    let text = samples(&processor, &args.text, windows(args.windows))?;
    let bars = Bars::new(!args.json && std::io::stderr().is_terminal());
    let mut stdout = std::io::stdout().lock();
    if !args.json {
        let head = "recipe                         ppl   accuracy       KL     KL 99.9%   top-1   exact        s";
        writeln!(stdout, "{head}")?;
    }
    for (i, name) in args.recipes.iter().enumerate() {
        let start = Instant::now();
        let mut numerics = Numerics::find(name)?;
        for text in &args.overrides {
            let expected = || format!("--set {text}: expected algo.KEY=VALUE");
            numerics.set_algo(text).ok_or_else(expected)??;
        }
        let recipe = Recipe {
            policy: numerics.policy,
            algo: numerics.algo,
            seq_len: None,
            fixed: Fixed::default(),
            head: Head::Logits,
        };
        let outcome = pipeline::quantize(&checkpoint, &calib, &text, &recipe, &bars)?;
        let seconds = start.elapsed().as_secs_f64();
        let [float, quantized] =
            outcome.answers.ok_or("the evaluation rows hold no token to judge")?;
        if args.json {
            let facts = json!({
                "recipe": name, "float": float, "quantized": quantized, "seconds": seconds,
                "context": args.context, "stride": args.stride.unwrap_or(args.context),
            });
            writeln!(stdout, "{facts}")?;
            continue;
        }
        if i == 0 {
            writeln!(stdout, "{}", row("float", &float, 0.0))?;
        }
        writeln!(stdout, "{}", row(name, &quantized, seconds))?;
    }
    bars.finish();
    Ok(Verdict::Fine)
}

fn row(name: &str, score: &AnswerScore, seconds: f64) -> String {
    format!(
        "{name:<26} {:>8.4} {:>9.4} {:>10.7} {:>10.6} {:>8.4} {:>7.3} {seconds:>8.1}",
        score.answer_ppl, score.accuracy, score.kl, score.kl_999, score.top1, score.exact
    )
}

/// Rows of a JSONL file, or windows over a plain text.
fn samples(
    processor: &Processor,
    path: &Path,
    windows: Windows,
) -> Result<Vec<Sample>, Box<dyn Error>> {
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        return Ok(processor.encode_all(&read_jsonl(path)?)?);
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let ids = processor.tokenizer().encode_document(&text)?;
    Ok(windows.cut(&ids, &path.display().to_string())?)
}
