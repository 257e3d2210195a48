//! `encircle generate`: text from a staged set.

use super::artifact_args::GenerateArgs;
use super::terminal::stdout;
use super::{Outcome, Verdict, demo};
use crate::checkpoint::Checkpoint;
use crate::dataset::Row;
use crate::pipeline::{Chain, Reading, Sampling};
use crate::report::counted;
use std::io::Write;
use std::path::PathBuf;

pub(super) fn run(args: &GenerateArgs) -> Outcome {
    let checkpoint = match &args.checkpoint {
        Some(dir) => Checkpoint::open(dir)?,
        None => Checkpoint::embedded(demo::checkpoint())?,
    };
    let (images, frames) = (names("--image", &args.image)?, names("--video", &args.video)?);
    let row = Row::typed(&checkpoint, &args.prompt, &images, (&frames, &args.timestamps))?;
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
    let mut stdout = stdout();
    let mut failed = None;
    let answer = chain.generate(&checkpoint, &row, sampling, args.max_tokens, &mut |text| {
        let shown = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        failed = failed.take().or(shown.err());
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    writeln!(stdout)?;
    if answer.full {
        eprintln!(
            "warning: the answer breaks off after {}, where the cache of the files is full",
            counted(answer.tokens.len(), "token")
        );
    }
    Ok(Verdict::Fine)
}

/// The names of pictures, which rows hold as text.
fn names(option: &str, paths: &[PathBuf]) -> Result<Vec<String>, String> {
    let name = |path: &PathBuf| {
        let refused = || format!("{}: {option}: found a name that is not UTF-8", path.display());
        path.to_str().map(str::to_owned).ok_or_else(refused)
    };
    paths.iter().map(name).collect()
}
