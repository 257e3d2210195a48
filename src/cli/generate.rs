//! `encircle generate`: text from a staged set.

use super::artifact_args::GenerateArgs;
use super::{Outcome, Verdict, demo};
use crate::checkpoint::Checkpoint;
use crate::dataset::Row;
use crate::pipeline::{Chain, Reading, Sampling};
use std::io::Write;

pub(super) fn run(args: &GenerateArgs) -> Outcome {
    let checkpoint = match &args.checkpoint {
        Some(dir) => Checkpoint::open(dir)?,
        None => Checkpoint::embedded(demo::checkpoint())?,
    };
    let images: Vec<String> = args.image.iter().map(|path| path.display().to_string()).collect();
    let row = Row::asking(&args.prompt, &images)?;
    let reading = match (args.float, args.integer) {
        (true, _) => Reading::Float,
        (false, true) => Reading::Integers,
        (false, false) => Reading::Rounded,
    };
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    let chain = Chain::open(&args.out, reading)?;
    let mut stdout = std::io::stdout().lock();
    let mut failed = None;
    chain.generate(&checkpoint, &row, sampling, args.max_tokens, &mut |_, text| {
        let shown = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        failed = failed.take().or(shown.err());
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => {
            writeln!(stdout)?;
            Ok(Verdict::Fine)
        }
    }
}
