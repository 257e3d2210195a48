//! Flags of the commands that work on Circle files.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Print what is in a Circle or TFLite file.
///
/// One page by default: counts, histograms of operators and types, inputs and outputs. Any
/// operator of the schema is printed, also those that encircle does not execute.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle inspect model.q.circle
  encircle inspect model.q.circle --tensors --ops
  encircle inspect model.q.circle --json | jq '.subgraphs[0].inputs'")]
pub(super) struct InspectArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Also list every tensor with type, shape and quantization
    #[arg(long)]
    pub(super) tensors: bool,
    /// Also list every operator with its operands
    #[arg(long)]
    pub(super) ops: bool,
    /// One JSON object on stdout: every table, sizes instead of payloads
    #[arg(long, conflicts_with_all = ["tensors", "ops"])]
    pub(super) json: bool,
}

/// Who is to load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TargetArg {
    /// Tools of the ONE compiler family
    One,
    /// onert, ONE's runtime
    Onert,
    /// LiteRT (TensorFlow Lite)
    Litert,
}

/// Check a Circle file; exit code 1 if it is invalid.
///
/// Indices, dataflow, shapes, payload sizes, quantization parameters, signatures; with --target
/// also what is known to fail, crash or be computed wrongly by that runtime (as warnings).
#[derive(Args)]
#[command(after_help = "Examples:
  encircle verify model.q.circle
  encircle verify model.circle --target onert --target litert")]
pub(super) struct VerifyArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Warn of the traps of this runtime; may be given several times [default: one]
    #[arg(long, value_enum, value_name = "RUNTIME")]
    pub(super) target: Vec<TargetArg>,
}

/// Cut a part out of a Circle file: some operators with the constants they need.
///
/// What the part reads and does not compute becomes an input; what others or the caller read
/// becomes an output.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle extract model.circle --ops 10-20 -o part.circle
  encircle extract model.circle --from hidden --to logits -o head.circle")]
pub(super) struct ExtractArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Operators A to B, both included, as numbered by `inspect --ops`
    #[arg(long, value_name = "A-B", value_parser = parse_range, required_unless_present = "to",
          conflicts_with_all = ["from", "to"])]
    pub(super) ops: Option<[usize; 2]>,
    /// Take this tensor as given; may be given several times
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(super) from: Vec<String>,
    /// Compute this tensor; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(super) to: Vec<String>,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    pub(super) out: PathBuf,
}

fn parse_range(text: &str) -> Result<[usize; 2], String> {
    let expected = || format!("expected A-B, two operator numbers, found {text:?}");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) => Ok([first, last]),
        _ => Err(expected()),
    }
}
