//! Why the job failed, with the place.

use crate::algo::{SessionError, SpecError};
use crate::calibrate::CalibrateError;
use crate::cluster::ClusterError;
use crate::dataset::Sample;
use crate::layout::LayoutError;
use crate::lower::LowerError;
use crate::models::ModelError;
use crate::report::{bytes, enough};
use crate::tensor::Lock;
use std::sync::Arc;

/// Any failure of the pipeline; each carries the place it happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, field or tensor.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// No graph could be built.
    #[error("{config}: {source}")]
    Model {
        /// The config.json that describes the model.
        config: String,
        /// What is wrong with it, or with the layout beside it.
        source: ModelError,
    },
    /// A layout that cannot be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A grid that no picture can have, whatever the rows.
    #[error("--grid: {0}")]
    Grid(LayoutError),
    /// No grid could be chosen.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// Neither a recipe's name nor a file.
    #[error("`{found}` is no recipe and no file: did you mean `{nearest}`? Known are {known}")]
    UnknownRecipe {
        /// The text.
        found: String,
        /// The recipe whose name is most alike.
        nearest: &'static str,
        /// All of them.
        known: String,
    },
    /// A recipe file that cannot be read.
    #[error("{path}: cannot read: {source}")]
    ReadRecipe {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A prefix that cannot be baked.
    #[error("policy.prefix = \"bake\": {0}")]
    Prefix(String),
    /// Text that is no recipe.
    #[error("{place}: {message}")]
    Recipe {
        /// Name or file.
        place: String,
        /// Line, key and what is wrong with it.
        message: String,
    },
    /// The recipe's algorithms.
    #[error(transparent)]
    Algo(#[from] SpecError),
    /// A budget that no choice of bits meets.
    #[error("the budget of {asked} {unit} cannot be met: the least possible is {least:.4} {unit}")]
    Budget {
        /// What was asked for.
        asked: f64,
        /// Of what.
        unit: &'static str,
        /// What every weight at its fewest bits takes.
        least: f64,
    },
    /// A divergence that 16 bits for every activation do not reach.
    #[error(
        "the budget of {asked} nats cannot be met: with 16 bits for every activation the mean KL \
         divergence from float is {least:.1e}, the least possible"
    )]
    BudgetKl {
        /// What was allowed.
        asked: f64,
        /// What is lost all the same.
        least: f64,
    },
    /// A layer that could not be rounded.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The samples' values could not be kept.
    #[error(transparent)]
    Spool(#[from] crate::exec::SpoolError),
    /// No Circle form.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A grid that the files could not express, known before anything is computed.
    #[error("{place}: {source}")]
    Form {
        /// The layer of the policy that asks for it.
        place: String,
        /// The tensor and its grid.
        source: LowerError,
    },
    /// The file could not be made.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the format cannot express, or what the system said.
        source: crate::circle::Error,
    },
    /// A calibration or evaluation row.
    #[error("{place}: {message}")]
    Row {
        /// File and line.
        place: String,
        /// Found and expected.
        message: String,
    },
    /// A share of rows that cannot be, or shares that do not fit.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A file of statistics that is damaged or does not fit.
    #[error("{path}: {source}")]
    Statistics {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: ClusterError,
    },
    /// A file of statistics that cannot be read.
    #[error("{path}: cannot read: {source}")]
    ReadStatistics {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A rounding that has one grid a row, and a policy that cuts rows into groups.
    #[error(
        "algo.rounding = \"{rounding}\" finds one range for each output, but the policy asks for \
         group = {group} of {weight}: choose another rounding, or `axis = 0`"
    )]
    NoGroups {
        /// The rounding.
        rounding: String,
        /// Inputs that share a grid.
        group: usize,
        /// The first weight with groups.
        weight: String,
    },
    /// Outputs that no distance can be taken of.
    #[error(
        "{place}: expected finite outputs, found NaN or infinity in those of the {network} network: its \
         activations leave the range of float32"
    )]
    Outputs {
        /// Which row.
        place: String,
        /// `float` or `quantized`.
        network: &'static str,
    },
    /// Nothing to calibrate on.
    #[error("the calibration list is empty: expected at least one row")]
    NoSamples,
    /// A recipe that asks for what only calibration rows tell, and there are none.
    #[error("{key} needs calibration rows, but --weights-only has none: {instead}")]
    NoRows {
        /// The key of the recipe.
        key: String,
        /// What helps.
        instead: &'static str,
    },
    /// Neither rows nor arguments say what the static graph is for.
    #[error(
        "the layout is not known without rows: expected --seq-len, and --grid with --visual-start for \
         a picture"
    )]
    NoLayout,
    /// A picture for a model that sees none.
    #[error("{config}: the model has no vision tower, but --grid asks for a picture")]
    NoVision {
        /// The config.json that describes the model.
        config: String,
    },
    /// A value of the decoding graph that the prompt's graph does not have.
    #[error("{name}: the prompt's graph has no such value to take qparams from")]
    Stage {
        /// The value.
        name: String,
    },
    /// A staged set that cannot be chained.
    #[error("{path}: {message}")]
    Set {
        /// The manifest or the file.
        path: String,
        /// Found and expected.
        message: String,
    },
    /// Sampling that makes no sense: the field, found and expected.
    #[error("{0}")]
    Sampling(String),
    /// A file that cannot be executed, or not on what the chain gives it.
    #[error("{path}: {source}")]
    Run {
        /// The file.
        path: String,
        /// What does not fit.
        source: crate::runtime::Error,
    },
    /// A file that cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Unfinished work, or rounded weights that rest on disk, that cannot be read.
    #[error("{path}: cannot read unfinished work: {source}")]
    ReadUnfinished {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Unfinished work of another job.
    #[error(
        "{path}: unfinished work of another job: {field}: found {found}, expected {expected}; \
         --fresh throws it away and starts over, another -o leaves it"
    )]
    OtherJob {
        /// The file that says whose it is.
        path: String,
        /// Where the jobs differ.
        field: &'static str,
        /// What is unfinished.
        found: String,
        /// What this job has.
        expected: String,
    },
    /// Unfinished work that another process is at.
    #[error("{path}: another process works there: wait for it, or choose another -o")]
    Busy {
        /// The folder.
        path: String,
    },
    /// Somebody asked to stop.
    #[error("stopped {place}")]
    Stopped {
        /// How far the job was.
        place: String,
    },
    /// A file that its format cannot hold, known before anything is computed.
    #[error(
        "{name}: the file would have about {size} bytes, a FlatBuffer at most {most}: use {out}"
    )]
    FileSize {
        /// The file.
        name: String,
        /// Bytes that it would have.
        size: u64,
        /// Bytes that it may have.
        most: u64,
        /// What helps.
        out: &'static str,
    },
    /// A disk that cannot hold what the job writes, known before anything is computed.
    #[error(
        "{folder}: {free} bytes are free, expected about {files} for the files and {spill} for what \
         rests on disk meanwhile"
    )]
    Disk {
        /// Where the job writes.
        folder: String,
        /// Bytes that are free there.
        free: u64,
        /// Bytes of the files.
        files: u64,
        /// Bytes of live values and rounded weights on disk while the job runs.
        spill: u64,
    },
    /// Memory in which the job cannot run, known before anything is computed.
    #[error("{} of memory ({what}): the job needs at least about {}", bytes(*given), enough(*least))]
    Memory {
        /// What there is.
        given: u64,
        /// Who says so.
        what: &'static str,
        /// What is needed.
        least: u64,
    },
    /// Memory in which the losses of a budget cannot be measured.
    #[error(
        "{} of memory ({what}): what a budget buys is measured with all weights in memory, about {}; \
         measure where there is more and give the recipe.toml saved there to --recipe here",
        bytes(*given), enough(*least)
    )]
    BudgetMemory {
        /// What there is.
        given: u64,
        /// Who says so.
        what: &'static str,
        /// What is needed.
        least: u64,
    },
    /// A token that the vocabulary does not hold.
    #[error("{place}: token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// File and line.
        place: String,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
}

impl Error {
    /// Whether everybody meets it who does the job again: it comes of recipe, checkpoint and calibration
    /// rows alone. What such a job has finished serves no other.
    pub(super) fn recurs(&self) -> bool {
        use SessionError::{Crew, Spool};
        match self {
            Error::Calibrate(_) | Error::Algo(_) => true,
            Error::Session(source) => !matches!(source, Crew(_) | Spool(_)),
            _ => false,
        }
    }

    pub(super) fn row(sample: &Sample, message: String) -> Error {
        Error::Row { place: sample.place.clone(), message }
    }
}

impl From<ModelError> for Error {
    fn from(source: ModelError) -> Error {
        Error::Model { config: "config.json".into(), source }
    }
}

/// The first thing that went wrong where nothing can be returned: while rows were made for an
/// operator or a file. Whoever used such rows asks afterwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Lock<Option<Error>>>);

impl Trouble {
    pub(super) fn note(&self, error: impl Into<Error>) {
        let mut first = self.0.hold();
        first.get_or_insert(error.into());
    }

    /// # Errors
    /// What was noted.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.0.hold().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
