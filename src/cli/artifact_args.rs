//! Flags of the commands that work on Circle files.

use super::values::parse_count;
use crate::circle::{Payloads, Target};
use crate::runtime::Blocks;
use clap::{ArgGroup, Args, ValueEnum};
use std::path::{Path, PathBuf};

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

impl From<TargetArg> for Target {
    fn from(arg: TargetArg) -> Target {
        match arg {
            TargetArg::One => Target::One,
            TargetArg::Onert => Target::Onert,
            TargetArg::Litert => Target::Litert,
        }
    }
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
    /// Warn of the traps of this runtime; may be given several times [default: litert for .tflite,
    /// else one]
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
  encircle extract model.circle --from model.language_model.norm --to lm_head \\
      -o head.circle
`encircle inspect --json` lists the operators and the tensors by their whole names.",
    group(ArgGroup::new("part").args(["ops", "to"]).required(true)))]
pub(super) struct ExtractArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Operators A to B, both included, as numbered by `inspect --ops`
    #[arg(long, value_name = "A-B", value_parser = parse_range, conflicts_with = "from")]
    pub(super) ops: Option<[usize; 2]>,
    /// Take this tensor as given; may be given several times
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(super) from: Vec<String>,
    /// Compute this tensor; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(super) to: Vec<String>,
    /// The graph to cut where the file holds several [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(super) graph: Option<String>,
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

/// Execute a Circle file on .npy inputs.
///
/// A float file runs in float. A quantized file runs in float with every result rounded to the
/// grid of its tensor (outputs are reals, f32), or with --integer on the integers alone (outputs
/// are integers of the file's types): sums in int64, brought to the next grid by fixed-point
/// multipliers. Given the same operands, the two readings of an operator differ by at most one
/// step of its grid; --audit measures that on every edge.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle run model.circle --input input_ids=ids.npy --input pixel_values=pixels.npy -o out
  encircle run model.q.circle --input 0=ids.npy --input 1=pixels.npy -o out --integer --audit
Outputs are written as out0.npy, out1.npy … in the order of the file. A dynamic dimension of an
input takes the extent that its array has there; those of results follow. pixel_values has the patches of all pictures in the order of
the prompt, then those of all videos.")]
pub(super) struct RunArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// An input by name, or by number from 0: f32 reals, integers of a quantized input's own
    /// type, or i32/i64 ids
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = parse_input)]
    pub(super) input: Vec<(String, PathBuf)>,
    /// The graph to run where the file holds several [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(super) graph: Option<String>,
    /// Folder for the outputs
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Compute on integers
    #[arg(long)]
    pub(super) integer: bool,
    /// Also write DIR/edges.circle and its inputs and outputs, for other runtimes: a float file in
    /// which every operator stands for itself, its operands being inputs (reals on their grids) and
    /// its result an output (integers, here those of --integer)
    #[arg(long, value_name = "DIR")]
    pub(super) edges: Option<PathBuf>,
    /// Also compare the two readings on every edge; exit code 1 if one is more than a step apart
    #[arg(long)]
    pub(super) audit: bool,
}

fn parse_input(text: &str) -> Result<(String, PathBuf), String> {
    // Both a tensor's name and a path may hold `=`: the file that is there tells which one parts them.
    let parts = || text.rmatch_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let split = parts().find(|(_, path)| Path::new(path).is_file()).or_else(|| parts().next());
    match split {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.into(), path.into()))
        }
        _ => Err("expected NAME=FILE.npy".into()),
    }
}

/// The formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// Circle
    Circle,
    /// LiteRT; operators it does not have are decomposed
    Tflite,
}

/// Where the payloads of a file go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BuffersArg {
    /// Inside the FlatBuffer: every runtime reads them, 2 GiB at most
    Inline,
    /// Behind the FlatBuffer, by offset and size: LiteRT reads them, onert does not
    External,
}

impl From<BuffersArg> for Payloads {
    fn from(arg: BuffersArg) -> Payloads {
        match arg {
            BuffersArg::Inline => Payloads::Inline,
            BuffersArg::External => Payloads::Appended,
        }
    }
}

/// Blocks of 32 weights with a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BlocksArg {
    /// GGML's Q8_0, 8 bits
    #[value(name = "q8_0")]
    Q8,
    /// GGML's Q4_0, 4 bits
    #[value(name = "q4_0")]
    Q4,
}

impl From<BlocksArg> for Blocks {
    fn from(arg: BlocksArg) -> Blocks {
        match arg {
            BlocksArg::Q8 => Blocks::Q8,
            BlocksArg::Q4 => Blocks::Q4,
        }
    }
}

/// Rewrite a Circle file for a foreign runtime.
///
/// With --qdq an integer file becomes a float file in which every activation passes QUANTIZE and
/// DEQUANTIZE and constants are dequantized: any runtime with these two operators then computes
/// what the integers mean. With --target, operators stay on integers where that runtime has kernels
/// for them and become float where it has none; --format tflite means --target litert.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle export model.circle --format tflite -o model.tflite
  encircle export model.q.circle --qdq -o model.qdq.circle
  encircle export model.q.circle --qdq --format tflite -o model.qdq.tflite
  encircle export model.q.circle --format tflite -o model.q.tflite
  encircle export model.q.circle --target onert -o model.onert.circle
  encircle export model.circle --weights q8_0 -o model.q8_0.circle")]
pub(super) struct ExportArgs {
    /// A .circle or .tflite file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Write a float graph with QUANTIZE and DEQUANTIZE around every activation
    #[arg(long)]
    pub(super) qdq: bool,
    /// Keep integers where this runtime executes them
    #[arg(long, value_enum, value_name = "RUNTIME", conflicts_with = "qdq")]
    pub(super) target: Option<TargetArg>,
    /// Pack the weights of float linear layers for onert, which rounds their inputs to 8 bits
    #[arg(long, value_enum, value_name = "BLOCKS", conflicts_with_all = ["qdq", "format"])]
    pub(super) weights: Option<BlocksArg>,
    /// Format of the result [default: that of FILE]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<FormatArg>,
    /// Where payloads go
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = BuffersArg::Inline)]
    pub(super) buffers: BuffersArg,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    pub(super) out: PathBuf,
}

/// Answer a question with the files of `encircle quantize --stages`, or go on from a text.
///
/// Chains the exported files by manifest.json: tokenizer and pictures of the checkpoint, prefill,
/// then one token at a time with kept keys and values: the most probable one each time, or one
/// drawn by chance with --temperature. The pictures, the video and the length of the prompt must be those
/// that the files were made for: pictures come first in it, then the video, then the question. With
/// nothing shown, a checkpoint without a chat template, such as a base model, goes on from the prompt as
/// plain text.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle quantize --stages -o out
  encircle generate out/stages --image digit.jpg --prompt \"Which digit is it?\"
  encircle generate out/stages --image digit.jpg --prompt \"Which digit is it?\" --integer
  encircle generate out/stages --image digit.jpg --prompt \"Which digit is it?\" \\
      --temperature 0.7 --top-p 0.9 --seed 1
  encircle generate set/stages --checkpoint DIR --video a.jpg b.jpg --timestamps 0,0.5 \\
      --prompt \"What happens?\"")]
pub(super) struct GenerateArgs {
    /// Folder with manifest.json
    #[arg(value_name = "OUT")]
    pub(super) out: PathBuf,
    /// A picture; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(super) image: Vec<PathBuf>,
    /// The sampled frames of a video, in order
    #[arg(long, value_name = "FRAME", num_args = 1.., requires = "timestamps")]
    pub(super) video: Vec<PathBuf>,
    /// When each frame was seen, in seconds from the start
    #[arg(long, value_name = "S,S,…", value_delimiter = ',', requires = "video")]
    pub(super) timestamps: Vec<f64>,
    /// What to ask, or to go on from
    #[arg(long, value_name = "TEXT")]
    pub(super) prompt: String,
    /// The checkpoint the files were made from; the embedded demo model if absent
    #[arg(long, value_name = "CHECKPOINT_DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Use the float files instead of the quantized ones
    #[arg(long, conflicts_with = "integer")]
    pub(super) float: bool,
    /// Compute the quantized files on integers
    #[arg(long)]
    pub(super) integer: bool,
    /// Divide logits by this and draw by chance; 0 takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(super) temperature: f32,
    /// Draw from the N most probable tokens only; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "temperature", value_parser = parse_count::<usize>)]
    pub(super) top_k: usize,
    /// Draw from the most probable tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature")]
    pub(super) top_p: f32,
    /// The same seed draws the same tokens
    #[arg(long, value_name = "N", default_value_t = 0, requires = "temperature", value_parser = parse_count::<u64>)]
    pub(super) seed: u64,
    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_count::<usize>)]
    pub(super) max_tokens: usize,
}
