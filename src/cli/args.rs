//! Every flag, defined and documented in one place.

use super::artifact_args::{
    BuffersArg, ExportArgs, ExtractArgs, GenerateArgs, InspectArgs, RunArgs, VerifyArgs,
};
use super::values::{
    parse_budget, parse_bytes, parse_count, parse_grid, parse_length, parse_nats, parse_products,
    parse_seconds, parse_some,
};
use crate::pipeline::Budget;
use crate::tensor::{Device, DeviceError, Products, device_trouble, use_device};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Hugging Face checkpoints in, static quantized Circle models out.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Cli {
    /// The command line of this process.
    ///
    /// # Errors
    /// Help that is asked for, and arguments that are wrong.
    pub(super) fn read() -> Result<Cli, clap::Error> {
        // The parser of an option says what it expects in place of a number below 0.
        let below_0 = |arg: Arg| {
            let valued = arg.get_action().takes_values();
            arg.allow_negative_numbers(valued)
        };
        let unplanned = |plan: clap::Command| plan.mut_arg("shard", |arg| arg.hide(true));
        let command = Cli::command().mut_subcommands(|command| command.mut_args(below_0));
        let matches = command.mut_subcommand("plan", unplanned).try_get_matches()?;
        Cli::from_arg_matches(&matches)
    }

    /// The script that completes the command line in `shell`.
    pub(super) fn completions(shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "encircle", &mut script);
        script
    }
}

#[derive(Subcommand)]
pub(super) enum Command {
    Quantize(Box<QuantizeArgs>),
    Plan(Box<PlanArgs>),
    Eval(EvalArgs),
    Rope(RopeArgs),
    BenchToy(BenchToyArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Extract(ExtractArgs),
    Run(RunArgs),
    Export(ExportArgs),
    Generate(GenerateArgs),
    Synth(SynthArgs),
    Merge(MergeArgs),
    Completions(CompletionsArgs),
}

/// Calibrate and quantize a checkpoint, report what it cost, write Circle files.
///
/// Reads a Hugging Face directory, builds one static graph for the layout of the calibration
/// prompts, calibrates it on them, quantizes it and writes OUT/model.circle (float) and
/// OUT/model.q.circle (quantized). Without arguments it does the same with a small trained model
/// and pictures that are part of the program.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle quantize
  encircle quantize Qwen3-VL-2B --calib train.jsonl --eval test.jsonl -o out
  encircle quantize Qwen3-VL-2B --calib train.jsonl --preset w8a8 --json
  encircle quantize DIR --calib a.jsonl --recipe w4a16-best --budget-bits 4.5
  encircle quantize DIR --calib a.jsonl --recipe w8a8 --budget-kl 0.05
  encircle quantize DIR --calib a.jsonl --set '*.down_proj.weight=dtype:uint8'
  encircle quantize DIR --calib a.jsonl --shard 2/8
  encircle quantize DIR --weights-only --preset w4 --seq-len 512 -o out

A calibration row is one JSON object a line:
  {\"image\": \"digit.jpg\", \"question\": \"Which digit is it?\", \"answer\": \"seven\"}
  {\"image\": [\"a.png\", \"b.png\"], \"question\": \"Same?\", \"answer\": \"yes\"}
  {\"video\": [\"0.png\", \"1.png\"], \"fps\": 2.0, \"question\": \"What happens?\"}
  {\"text\": \"Any text, for a model that is not asked\"}
  {\"messages\": [{\"role\": \"user\", \"content\": [
    {\"type\": \"image\", \"path\": \"a.png\"}, {\"type\": \"text\", \"text\": \"What?\"}]},
    {\"role\": \"assistant\", \"content\": \"six\"}]}
(that one too on one line). Paths are relative to the file. A video is a list
of sampled frames of one size with \"fps\", or \"timestamps\" in seconds; in
messages {\"type\": \"video\", \"video\": [\"0.png\", \"1.png\"], \"fps\": 2.0}.")]
pub(super) struct QuantizeArgs {
    /// Hugging Face checkpoint directory; the embedded demo model if absent
    #[arg(value_name = "CHECKPOINT_DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Calibration rows, JSONL
    #[arg(long, value_name = "FILE.jsonl")]
    pub(super) calib: Option<PathBuf>,
    /// Rows with answers to measure exact match, KL divergence and perplexity on
    #[arg(long, value_name = "FILE.jsonl")]
    pub(super) eval: Option<PathBuf>,
    /// Round the weights to nearest, as the recipe says of them, and leave activations, norms and
    /// biases float: needs no rows, takes about as long as reading and writing the files. The layout
    /// is --seq-len tokens of text, with --grid and --visual-start a picture among them. Only
    /// OUT/model.q.circle is written; nothing is compared
    #[arg(long, requires = "seq_len", conflicts_with_all = ["calib", "eval", "shard", "statistics",
        "products", "budget_bits", "budget_mib", "budget_kl", "io", "stages", "strict", "fresh",
        "memory", "device"])]
    pub(super) weights_only: bool,
    /// Grids and algorithms: a TOML file, or w4a16-fast, w4a16-best, w8a8, w8a8-minmax, w4a8, w8a16,
    /// a16, npu, w8, w4 (and mx, blocks that no file can hold: for `encircle eval`)
    #[arg(long, value_name = "FILE.toml|NAME", conflicts_with = "preset")]
    pub(super) recipe: Option<String>,
    /// The same by a short name: w8a8, w8a8-minmax, a16, w4a16, npu, w8 or w4 [default: w4a16; for
    /// the embedded demo npu, which rounds to nearest; w8 with --weights-only]
    #[arg(long)]
    pub(super) preset: Option<String>,
    /// Algorithms, as the [algo] table of a recipe
    #[arg(long, value_name = "TOML", hide = true)]
    pub(super) algo: Option<String>,
    /// Override for tensors whose name matches a glob, such as '*.q_proj.weight=dtype:uint8'; or one
    /// key of the recipe: algo.KEY=VALUE, policy.KEY=VALUE
    #[arg(long = "set", value_name = "GLOB=FIELD:VALUE[,...]")]
    pub(super) overrides: Vec<String>,
    /// Chooses 4, 8 or 16 bits for every linear weight by what each costs, so that they take at most
    /// so many bits in the mean; 16 beside int16 activations only
    #[arg(long, value_name = "BITS", conflicts_with = "budget_mib", value_parser = parse_budget)]
    pub(super) budget_bits: Option<f64>,
    /// The same, so that all weights with their grids take at most so many MiB
    #[arg(long, value_name = "MIB", value_parser = parse_budget)]
    pub(super) budget_mib: Option<f64>,
    /// Gives 16 bits to as few kinds of 8-bit activations as keep the mean KL divergence from float
    /// within so many nats a token, weights aside: a recipe such as w8a8 for models that 8 bits lose
    #[arg(long, value_name = "NATS", value_parser = parse_nats)]
    pub(super) budget_kl: Option<f64>,
    /// Only observe share I of N of the calibration rows, write OUT/statistics.I-of-N.stats and end;
    /// auto takes I and N from a Slurm array, I from a Kubernetes indexed job (then auto/N). Rows of
    /// --eval count for the layout and budgets for the grids, as in the job that goes on from there
    #[arg(long, value_name = "I/N|auto|auto/N",
        conflicts_with_all = ["statistics", "io", "stages", "strict", "fresh"])]
    pub(super) shard: Option<String>,
    /// Go on from statistics that shards observed and `encircle merge` joined, instead of observing
    #[arg(long, value_name = "FILE.stats")]
    pub(super) statistics: Option<PathBuf>,
    /// What linear layers multiply while calibrating: bf16 is about twice as fast where the processor
    /// has it; ranges then differ by less than 1 % [default: the recipe's, mostly f32]
    #[arg(long, value_name = "f32|bf16", value_parser = parse_products)]
    pub(super) products: Option<Products>,
    /// Sequence length of the static graph [default: the longest row]
    #[arg(long, value_name = "N", value_parser = parse_length)]
    pub(super) seq_len: Option<usize>,
    /// Refuse rows whose picture has another grid, in patches; without rows the grid of the picture
    #[arg(long, value_name = "T,H,W", allow_hyphen_values = true, value_parser = parse_grid)]
    pub(super) grid: Option<[usize; 3]>,
    /// Refuse rows whose first visual token has another index; without rows the picture's place
    #[arg(long, value_name = "N", value_parser = parse_count::<usize>)]
    pub(super) visual_start: Option<usize>,
    /// Folder for the Circle files
    #[arg(short, long, value_name = "OUT", default_value = "encircle-out")]
    pub(super) out: PathBuf,
    /// Also write inputs and float outputs of samples as .npy files, for other runtimes
    #[arg(long, value_name = "DIR")]
    pub(super) io: Option<PathBuf>,
    /// Calibration samples to write with --io: the first into DIR, others into DIR/1, DIR/2, …
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, requires = "io",
        value_parser = parse_some)]
    pub(super) io_samples: NonZeroUsize,
    /// Also write the staged set into OUT/stages: prefill and decode files with manifest.json
    #[arg(long)]
    pub(super) stages: bool,
    /// Make the mask and rotary tables constants of the prefill layers instead of inputs
    #[arg(long, requires = "stages")]
    pub(super) bake_tables: bool,
    /// Hold the weights of a decoder layer once: prefill and decoding as two graphs of one file,
    /// which LiteRT finds by signature after `encircle export --format tflite`; onert runs the first
    /// graph of a file only
    #[arg(long, requires = "stages")]
    pub(super) share_weights: bool,
    /// Where weights go; only external ones let a file pass 2 GiB
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = BuffersArg::Inline)]
    pub(super) buffers: BuffersArg,
    /// Memory that the job may use, such as 4GiB: beyond it the samples' values and rounded weights
    /// rest on disk in OUT [default: three quarters of what is free]; results do not depend on it.
    /// The program itself, some 40 MB and up to 8 MB for each thread, and the rows come on top
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_bytes)]
    pub(super) memory: Option<u64>,
    /// Throw away what an interrupted run has left in OUT/unfinished, instead of going on from there
    #[arg(long)]
    pub(super) fresh: bool,
    /// Put finished work down in OUT/unfinished at least every so many seconds of it; 0 after every
    /// layer. The folder is gone when the job has ended. Ctrl-C stops after the layer or sample under
    /// way, a second time at once
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = parse_seconds)]
    pub(super) save_every: f64,
    /// Fail, and write nothing, if a real-valued tensor has no quantization parameters or a layer saw
    /// too little of the calibration to be rounded as asked
    #[arg(long)]
    pub(super) strict: bool,
    /// List every tensor without quantization parameters
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// One JSON object on stdout and nothing else there
    #[arg(long)]
    pub(super) json: bool,
    /// Where products by large weights are computed: cpu, or cuda, the first device by cuBLAS; results
    /// then differ as sums in another order do
    #[arg(long, value_enum, value_name = "cpu|cuda", default_value_t = DeviceArg::Cpu)]
    pub(super) device: DeviceArg,
    /// Threads, 1 to 1024, at most 8 for each core [default: all cores]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,
}

/// Say what `quantize` would take, before it starts: memory, disk, time and output, stage by stage.
///
/// Takes the arguments of `quantize`, and in place of --calib also how many rows there will be and
/// how long (--samples, --seq-len). Reads config, headers and rows, no weights; measures the machine
/// for two seconds, with a file beside OUT that it removes. Ends with 1 if `quantize` would refuse for
/// want of memory, disk or room in a format, and fails as `quantize` would where checkpoint, rows or
/// arguments are wrong.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle plan Qwen3-VL-4B --samples 128 --seq-len 512 --grid 1,32,32 --visual-start 4 \\
      --memory 4GiB --buffers external
  encircle plan Qwen3-VL-4B --calib train.jsonl --recipe w8a8 --stages --json")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) job: QuantizeArgs,
    /// Rows of --seq-len tokens, in place of --calib: of text, or with a picture by --grid and
    /// --visual-start
    #[arg(long, value_name = "N", requires_all = ["checkpoint", "seq_len"],
        conflicts_with_all = ["calib", "eval", "weights_only"], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) samples: Option<u32>,
}

/// Measure what recipes cost: perplexity, KL divergence from float, agreement.
///
/// Calibrates and quantizes in memory, then runs float and quantized network on the same tokens.
/// Text, from plain files, .parquet or .jsonl rows of plain text, is cut into windows of the
/// context; rows that ask something, as for `quantize`, are judged on their answers: exact match
/// if every token of the answer is the likeliest one. The columns: perplexity, next-token accuracy,
/// mean KL divergence from float, its 99.9 % quantile, the mean over the prompts' tokens too,
/// agreement with float on the likeliest token, exact match, seconds.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle eval SmolLM2-135M --calib calib.txt --text test.txt --recipe npu --recipe w4a16-best
  encircle eval SmolLM2-135M --calib calib.txt --text test.txt --recipe w8a8 --budget-kl 0.1
  encircle eval DIR --calib train.parquet --text test.parquet --column body --recipe w8a8
  encircle eval pixie --calib vqa/train.jsonl --text vqa/test.jsonl --recipe w8a8 --json")]
pub(super) struct EvalArgs {
    /// Checkpoint directory
    pub(super) checkpoint: PathBuf,
    /// Calibration text (plain, .parquet, or JSON lines: .jsonl, .ndjson, .json), or rows that ask
    /// something (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub(super) calib: PathBuf,
    /// The same, to judge on
    #[arg(long, value_name = "FILE")]
    pub(super) text: PathBuf,
    /// Field of .jsonl rows, or column of .parquet files, that holds the text [default: text]; plain
    /// text has none
    #[arg(long, value_name = "NAME")]
    pub(super) column: Option<String>,
    /// Recipes, each a file or a name; repeat for several
    #[arg(long = "recipe", value_name = "FILE.toml|NAME", required = true)]
    pub(super) recipes: Vec<String>,
    /// One key of every recipe, such as algo.rounding=rtn or policy.modality=equal; repeat for several
    #[arg(long = "set", value_name = "algo.KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Gives 16 bits to as few kinds of 8-bit activations as keep the mean KL divergence from float
    /// on calibration rows within so many nats a token, weights aside
    #[arg(long, value_name = "NATS", value_parser = parse_nats)]
    pub(super) budget_kl: Option<f64>,
    /// Tokens of a window of text
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = parse_count::<usize>)]
    pub(super) context: usize,
    /// Tokens from one window to the next [default: the context]
    #[arg(long, value_name = "N", value_parser = parse_count::<usize>)]
    pub(super) stride: Option<usize>,
    /// Windows of text to judge [default: all]
    #[arg(long, value_name = "N", value_parser = parse_some)]
    pub(super) windows: Option<NonZeroUsize>,
    /// Windows of text to calibrate on [default: 32]
    #[arg(long, value_name = "N", value_parser = parse_some)]
    pub(super) calib_windows: Option<NonZeroUsize>,
    /// Where products by large weights are computed: cpu, or cuda, the first device by cuBLAS; results
    /// then differ as sums in another order do
    #[arg(long, value_enum, value_name = "cpu|cuda", default_value_t = DeviceArg::Cpu)]
    pub(super) device: DeviceArg,
    /// One JSON object a recipe and nothing else on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Print position ids and rotary tables of prompt layouts.
///
/// FILE holds a list of cases, each with a name and segments:
///   [{"name": "a picture", "segments": [{"kind": "text", "tokens": 3},
///     {"kind": "image", "grid_thw": [1, 8, 8]}, {"kind": "text", "tokens": 9}]}]
/// Pictures and video frames stand between vision start and vision end tokens. A video has
/// "timestamp_tokens" too, the tokens of each frame's timestamp.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle rope --layout layouts.json
  encircle rope --layout layouts.json --json
  encircle rope --grid 1,8,8 --visual-start 4 --seq-len 32 --tables")]
pub(super) struct RopeArgs {
    /// Cases, JSON
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["grid", "visual_start", "seq_len"])]
    pub(super) layout: Option<PathBuf>,
    /// One picture of this grid, in patches, instead of a file
    #[arg(long, value_name = "T,H,W", allow_hyphen_values = true, value_parser = parse_grid,
        requires = "visual_start")]
    pub(super) grid: Option<[usize; 3]>,
    /// Index of its first visual token
    #[arg(long, value_name = "N", requires = "grid", value_parser = parse_count::<usize>)]
    pub(super) visual_start: Option<usize>,
    /// Length of the prompt
    #[arg(long, value_name = "N", value_parser = parse_length)]
    pub(super) seq_len: Option<usize>,
    /// Spatial merge size of the vision tower [default: that of the checkpoint, or 2]
    #[arg(long, value_name = "M", value_parser = parse_length)]
    pub(super) merge: Option<usize>,
    /// Also print the cos and sin tables, as text the first half of head_dim, which the other half
    /// repeats: without --checkpoint for head_dim 128, theta 10000 and the interleaved mRoPE sections
    /// 24, 20, 20 of Qwen3-VL
    #[arg(long)]
    pub(super) tables: bool,
    /// Take head_dim, theta, mRoPE sections and merge size from this checkpoint, and refuse layouts
    /// that its model cannot have
    #[arg(long, value_name = "CHECKPOINT_DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// One JSON object on stdout and nothing else there: {"cases": [{"name", "seq_len",
    /// "position_ids": [3][seq_len], "rope_delta"}, ...]}; with --tables also cos and sin
    #[arg(long)]
    pub(super) json: bool,
}

/// Write a checkpoint of true shapes and random weights, to measure real sizes with.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle synth --like qwen3-vl-2b -o synthetic
  encircle synth --like qwen3-vl-4b --layers 4 -o four-layers
  encircle synth --like qwen3-vl-30b-a3b --layers 1 -o one-layer-of-experts")]
pub(super) struct SynthArgs {
    /// Published size: qwen3-vl-2b, qwen3-vl-4b, qwen3-vl-8b or qwen3-vl-30b-a3b
    #[arg(long, value_name = "NAME")]
    pub(super) like: String,
    /// Decoder layers, and blocks of the vision tower at most [default: all]
    #[arg(long, value_name = "N", value_parser = parse_count::<usize>)]
    pub(super) layers: Option<usize>,
    /// Other seeds give other weights
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_count::<u64>)]
    pub(super) seed: u64,
    /// New folder for the checkpoint
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// One JSON object on stdout and nothing else there
    #[arg(long)]
    pub(super) json: bool,
}

/// Join the statistics that shards of a calibration observed.
///
/// Exact: whatever the split and the order, `quantize --statistics` then writes the bytes of one
/// run over all rows.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle merge out/statistics.*.stats -o all.stats
  encircle quantize DIR --calib a.jsonl --statistics all.stats -o out")]
pub(super) struct MergeArgs {
    /// What `quantize --shard` wrote
    #[arg(value_name = "FILE.stats", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// File to write
    #[arg(short, long, value_name = "FILE.stats")]
    pub(super) out: PathBuf,
    /// Accept that rows are missing: the result is merged again later
    #[arg(long)]
    pub(super) partial: bool,
    /// One JSON object on stdout and nothing else there
    #[arg(long)]
    pub(super) json: bool,
}

/// Print a script that completes commands and options in a shell.
#[derive(Args)]
#[command(after_help = "Examples:
  encircle completions bash > ~/.local/share/bash-completion/completions/encircle
  encircle completions zsh > ~/.zfunc/_encircle
  encircle completions fish > ~/.config/fish/completions/encircle.fish")]
pub(super) struct CompletionsArgs {
    /// Which shell
    pub(super) shell: Shell,
}

/// Time the job on prepared inputs, for `tools/bench_toy.py`.
///
/// INPUTS holds `N.input_ids` and `N.pixel_values` of ten samples, one picture of 1,8,8 at the start
/// of each prompt.
#[derive(Args)]
#[command(hide = true)]
pub(super) struct BenchToyArgs {
    /// Checkpoint directory
    pub(super) checkpoint: PathBuf,
    /// Prepared inputs
    pub(super) inputs: PathBuf,
    /// Numeric policy
    #[arg(long, default_value = "w8a8-minmax")]
    pub(super) preset: String,
    /// Times to run the job; the first, the median and the fastest are printed
    #[arg(long, default_value_t = 7, value_parser = parse_length)]
    pub(super) repeat: usize,
    /// One JSON object on stdout and nothing else there
    #[arg(long)]
    pub(super) json: bool,
}

impl QuantizeArgs {
    /// How large the weights may be, if somebody says.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.budget_bits.map(Budget::Bits).or(self.budget_mib.map(Budget::Mib))
    }

    /// The recipe that was asked for; without a word, good 4-bit weights for a checkpoint, and for
    /// the demo those that take no time.
    pub(super) fn recipe_name(&self) -> &str {
        let unsaid = match (self.weights_only, &self.checkpoint) {
            (true, _) => "w8",
            (false, Some(_)) => "w4a16",
            (false, None) => "npu",
        };
        self.recipe.as_deref().or(self.preset.as_deref()).unwrap_or(unsaid)
    }
}

/// Where products by large weights are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DeviceArg {
    /// This processor
    Cpu,
    /// The first CUDA device, by cuBLAS in f32
    Cuda,
}

impl DeviceArg {
    /// Takes the device into use for the rest of the process.
    ///
    /// # Errors
    /// A device that is not there.
    pub(super) fn open(self) -> Result<(), DeviceError> {
        use_device(match self {
            DeviceArg::Cpu => Device::Cpu,
            DeviceArg::Cuda => Device::Cuda,
        })
    }

    /// Says so if the device did not do all that it should have.
    pub(super) fn warn() {
        if let Some(trouble) = device_trouble() {
            eprintln!(
                "warning: device: {trouble}; this processor computed what the device did not"
            );
        }
    }
}
