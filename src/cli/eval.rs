//! `encircle eval`.

use super::args::{DeviceArg, EvalArgs};
use super::terminal::{Bars, stdout};
use super::{Outcome, Verdict, budget};
use crate::checkpoint::Checkpoint;
use crate::dataset::{Processor, Sample, Source, Windows, has_columns, read_source};
use crate::models::Head;
use crate::pipeline::{self, Fixed, Means, Numerics, Recipe};
use crate::report::{AnswerScore, counted};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(args: &EvalArgs) -> Outcome {
    args.device.open()?;
    let recipes =
        args.recipes.iter().map(|name| recipe(args, name)).collect::<Result<Vec<_>, _>>()?;
    let column = column(args)?;
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let processor = Processor::new(&checkpoint)?;
    let windows = |limit| Windows {
        context: args.context,
        stride: args.stride.unwrap_or(args.context),
        limit,
    };
    let whole = Windows {
        stride: args.context,
        ..windows(Some(args.calib_windows.map_or(CALIB_WINDOWS, NonZeroUsize::get)))
    };
    let (parts, calib) = samples(&processor, &args.calib, column, whole)?;
    heed(&args.calib, parts, &[("--calib-windows", args.calib_windows.is_some())])?;
    let (cut, text) =
        samples(&processor, &args.text, column, windows(args.windows.map(NonZeroUsize::get)))?;
    let given = [("--windows", args.windows.is_some()), ("--stride", args.stride.is_some())];
    heed(&args.text, cut, &given)?;
    check_answers(&text)?;
    // before hours are spent on the first of them
    for (name, recipe) in args.recipes.iter().zip(&recipes) {
        let (mut recipe, mut calib, mut text) = (recipe.clone(), calib.clone(), text.clone());
        pipeline::bake(&checkpoint, &mut recipe, &mut calib, &mut text)
            .and_then(|()| pipeline::check(&checkpoint, [&calib, &text], &recipe))
            .map_err(|error| format!("{name}: {error}"))?;
    }
    let bars = Bars::new(!args.json && std::io::stderr().is_terminal());
    let mut stdout = stdout();
    if !args.json {
        writeln!(stdout, "{}\n\n{HEAD}", subject(args, cut, text.len()))?;
    }
    for (i, (name, mut recipe)) in args.recipes.iter().zip(recipes).enumerate() {
        let start = Instant::now();
        let (mut calib, mut text) = (calib.clone(), text.clone());
        pipeline::bake(&checkpoint, &mut recipe, &mut calib, &mut text)?;
        let widen = |limit| pipeline::widen(&checkpoint, &calib, &mut recipe, limit, &bars);
        let widened = args.budget_kl.map(widen).transpose()?;
        let outcome = pipeline::quantize(&checkpoint, &calib, &text, &recipe, &bars)?;
        DeviceArg::warn();
        let seconds = start.elapsed().as_secs_f64();
        budget::warn(&recipe, &outcome);
        let [float, quantized] =
            outcome.answers.ok_or("the evaluation rows hold no token to judge")?;
        if args.json {
            let facts = json!({
                "recipe": name, "float": scored(&float, cut), "quantized": scored(&quantized, cut),
                "seconds": seconds,
                "phases": outcome.seconds.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
                "notes": outcome.notes,
                "budget_kl": widened,
                "context": cut.then_some(args.context),
                "stride": cut.then(|| args.stride.unwrap_or(args.context)),
            });
            writeln!(stdout, "{facts}")?;
            continue;
        }
        if i == 0 {
            writeln!(stdout, "{}", row("float", &float, cut, 0.0))?;
        }
        writeln!(stdout, "{}", row(name, &quantized, cut, seconds))?;
        write!(stdout, "{}", super::quantize::noted(&outcome.notes))?;
        write!(stdout, "{}", widened.as_ref().map_or_else(String::new, budget::widened))?;
    }
    bars.finish();
    Ok(Verdict::Fine)
}

/// The column that was asked for; refused where both files are plain text.
fn column(args: &EvalArgs) -> Result<Option<&str>, String> {
    if args.column.is_none() || has_columns(&args.calib) || has_columns(&args.text) {
        return Ok(args.column.as_deref());
    }
    let (calib, text) = (args.calib.display(), args.text.display());
    let found = format!("found plain text in {calib} and {text}");
    Err(format!("--column: {found}, expected a .jsonl or .parquet file"))
}

/// Windows of text to calibrate on, where nobody says how many.
const CALIB_WINDOWS: usize = 32;

const HEAD: &str =
    "recipe              ppl accuracy        KL KL 99.9%    KL all top-1 exact      s";

/// The recipe of this name, with the keys that were set.
fn recipe(args: &EvalArgs, name: &str) -> Result<Recipe, Box<dyn Error>> {
    let mut numerics = Numerics::find(name)?;
    for text in &args.overrides {
        let expected = || format!("--set {text}: expected algo.KEY=VALUE or policy.KEY=VALUE");
        numerics.set_key(text).ok_or_else(expected)??;
    }
    Ok(Recipe {
        policy: numerics.policy,
        algo: numerics.algo,
        products: numerics.products,
        seq_len: None,
        fixed: Fixed::default(),
        head: Head::Logits,
        means: Means::default(),
    })
}

/// Refuses rows of which none has an answer, and says how many of others have none.
pub(super) fn check_answers(judged: &[Sample]) -> Result<(), String> {
    let mut silent = judged.iter().filter(|sample| !sample.is_answered());
    let Some(Sample { place, .. }) = silent.next() else { return Ok(()) };
    let (count, rows) = (1 + silent.count(), judged.len());
    if count == rows {
        return Err(format!("{place}: found no answer here or in any row, expected some to judge"));
    }
    eprintln!("warning: {place}: no answer to judge; so in {count} of {}", counted(rows, "row"));
    Ok(())
}

/// What is judged: perplexity means nothing without its context.
fn subject(args: &EvalArgs, cut: bool, samples: usize) -> String {
    let text = args.text.display();
    if cut {
        let stride = args.stride.unwrap_or(args.context);
        let windows = counted(samples, "window");
        return format!("{text}: {windows}, context {}, stride {stride}", args.context);
    }
    format!("{text}: the answers of {}", counted(samples, "row"))
}

/// A score for machines; windows of running text are no answers to match.
fn scored(score: &AnswerScore, cut: bool) -> Value {
    let mut facts = json!(score);
    if cut {
        facts["exact"] = Value::Null;
    }
    facts
}

fn row(name: &str, score: &AnswerScore, cut: bool, seconds: f64) -> String {
    let AnswerScore { answer_ppl, accuracy, kl, kl_999, kl_all, top1, exact, .. } = score;
    // of a network that knows nothing of the text
    let answer_ppl = match *answer_ppl {
        ppl if ppl < 1e3 => format!("{ppl:.4}"),
        ppl if ppl < 1e6 => format!("{ppl:.1}"),
        ppl => format!("{ppl:.2e}"),
    };
    let exact = if cut { "-".into() } else { format!("{exact:.3}") };
    format!(
        "{name:<14} {answer_ppl:>8} {accuracy:>8.4} {kl:>9.7} {kl_999:>8.6} {kl_all:>9.7} \
         {top1:>5.3} {exact:>5} {seconds:>6.1}"
    )
}

/// Refuses arguments about windows for a file that is not cut into them.
fn heed(path: &Path, cut: bool, given: &[(&str, bool)]) -> Result<(), String> {
    match given.iter().find(|(_, given)| *given && !cut) {
        Some((flag, _)) => {
            let found = "found rows that ask something, which are taken whole";
            Err(format!("{flag}: {}: {found}, expected running text", path.display()))
        }
        None => Ok(()),
    }
}

/// The samples of a file, and whether they are windows over running text.
fn samples(
    processor: &Processor,
    path: &Path,
    column: Option<&str>,
    windows: Windows,
) -> Result<(bool, Vec<Sample>), Box<dyn Error>> {
    match read_source(path, column)? {
        Source::Rows(rows) => Ok((false, processor.encode_all(&rows)?)),
        Source::Text(text) => {
            let place = path.display().to_string();
            Ok((true, windows.cut(&processor.encode_document(&text, &place)?, &place)?))
        }
    }
}
