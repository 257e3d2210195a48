//! Weights alone: integers for what is stored, float for what is computed. Nothing is observed, so no
//! rows are needed, and a checkpoint is rounded about as fast as it can be read and the result written.
//!
//! `jobs.rs` says which tensors become integers and how, `rows.rs` makes a few rows of one at a time,
//! `file.rs` puts them where the format has them. All threads take rows in the order of the graph;
//! what one has rounded it writes to its place, so that reading, rounding and writing overlap and no
//! tensor is ever whole in memory. The grids are known last and with them the tables, for which room is
//! kept at the beginning.

mod file;
mod jobs;
mod rows;

use super::files::{Partial, Pending, QUANTIZED, Written, write_recipe};
use super::prompt::without_rows;
use super::walk::read;
use super::{Error, FileSize, Machine, Progress, Recipe, build, free, verify};
use crate::algo::Rounding;
use crate::calibrate::{self, Plan, Site, Unquantized};
use crate::checkpoint::Checkpoint;
use crate::circle::{self, Buffer, ErrorKind, Model, Placed, WriteOptions};
use crate::exec::Weights;
use crate::graph::{Graph, Source, ValueId};
use crate::layout::Layout;
use crate::lower::{Precision, lower_onto, quantization};
use crate::quant::{Policy, QuantParams, Role};
use crate::tensor::Tensor;
use file::Sheet;
use jobs::Jobs;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// What came of a checkpoint whose weights were rounded.
#[derive(Debug)]
pub struct Rounded {
    /// The static graph; its weights have grids, its activations none.
    pub graph: Graph,
    /// The layout that it is for.
    pub layout: Layout,
    /// QuantCheck: real tensors without a grid, every activation among them.
    pub unquantized: Vec<Unquantized>,
    /// Weights that are integers, by how many bits they have in the file: bits, tensors, elements.
    pub integers: Vec<(usize, usize, u64)>,
    /// Parts of the checkpoint that no value of the graph reads, such as a vision tower without
    /// pictures.
    pub unread: usize,
    /// Bytes of the checkpoint that were read.
    pub read: u64,
    /// The file.
    pub written: Written,
}

/// Rounds the weights of `checkpoint` as the policy of `recipe` says and writes them, with a graph
/// whose activations are float, as `model.q.circle` into `folder`, and the recipe. Norms and biases
/// stay float. The layout is `seq_len` tokens of text, with one picture where `fixed` has its grid and
/// place.
///
/// # Errors
/// A recipe that needs rows, with its key or rule; tensors missing from the checkpoint or with values that
/// allow no grid; a file that the format cannot hold or the disk has no room for. Nothing is left of it then.
pub fn quantize_weights(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    folder: &Path,
    how: &WriteOptions,
    progress: &dyn Progress,
) -> Result<Rounded, Error> {
    let Ready { layout, graph, plan, rounding } = Ready::of(checkpoint, recipe)?;
    let jobs = Jobs::of(checkpoint, &graph, &plan, rounding.as_ref())?;
    let mut model = lowered(checkpoint, &graph, &jobs)?;
    let path = folder.join(QUANTIZED);
    let placed = Placed::of(&model, how).map_err(|source| not_placed(source, &path))?;
    afford(&placed, folder)?;
    let (partial, grids) = Partial::write(&path, |out| {
        let sheet = Sheet::new(out.get_ref(), &path, placed.size())?;
        let grids = jobs.fill(&sheet, (&model, &placed), progress)?;
        settle(&mut model, &grids);
        let failed = |source| Error::File { path: path.display().to_string(), source };
        sheet.put(0, &placed.tables(&model, how).map_err(failed)?)?;
        Ok(grids)
    })?;
    write_recipe(&recipe.numerics().text(), folder, Pending(vec![partial]))?;
    let mut annotated = graph.clone();
    for (job, (_, grid)) in jobs.all.iter().zip(grids) {
        for &id in &job.ids {
            annotated.values[id.index()].qparams.clone_from(&grid);
        }
    }
    let subgraph = &model.subgraphs[0];
    let (operators, tensors) = (subgraph.operators.len(), subgraph.tensors.len());
    let known = |name: &str| graph.params().any(|(_, param)| reads(param, name));
    Ok(Rounded {
        unquantized: calibrate::check(&annotated),
        integers: jobs.integers(),
        unread: checkpoint.tensor_names().filter(|name| !known(name)).count(),
        read: jobs.read(),
        written: Written { path, size: placed.size(), operators, tensors },
        layout,
        graph: annotated,
    })
}

/// What rounding the weights alone takes.
#[derive(Clone, Debug, Serialize)]
pub struct WeightsOutlook {
    /// Bytes of the checkpoint that are read.
    pub read: u64,
    /// The file.
    pub file: FileSize,
    /// About how long it takes to read and write that, if there is a machine to say so for and nothing
    /// that takes longer is done to the weights before.
    pub seconds: Option<f64>,
    /// Why it would be refused, if it would.
    pub refused: Option<String>,
}

/// Counts what [`quantize_weights`] takes.
///
/// # Errors
/// Those of [`quantize_weights`] that need no weights, apart from a file or a disk that is too small.
pub fn outlook_weights(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    (folder, how): (&Path, &WriteOptions),
    machine: Option<&Machine>,
) -> Result<WeightsOutlook, Error> {
    let Ready { graph, plan, rounding, .. } = Ready::of(checkpoint, recipe)?;
    let jobs = Jobs::of(checkpoint, &graph, &plan, rounding.as_ref())?;
    let model = lowered(checkpoint, &graph, &jobs)?;
    let placed = Placed::of(&model, how).map_err(|e| not_placed(e, &folder.join(QUANTIZED)));
    let (size, refused) = match placed {
        Ok(placed) => (placed.size(), afford(&placed, folder).err()),
        Err(Error::FileSize { size, name, most, out }) => {
            (size, Some(Error::FileSize { size, name, most, out }))
        }
        Err(error) => return Err(error),
    };
    let read = jobs.read();
    Ok(WeightsOutlook {
        read,
        file: FileSize { name: QUANTIZED.into(), size },
        seconds: machine
            .filter(|_| recipe.algo.rotate.is_none())
            .map(|machine| (read + size) as f64 * 1e-9 / machine.disk),
        refused: refused.map(|refused| refused.to_string()),
    })
}

/// All that depends on no weight.
struct Ready {
    layout: Layout,
    graph: Graph,
    plan: Plan,
    rounding: Box<dyn Rounding>,
}

impl Ready {
    fn of(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Ready, Error> {
        refuse(recipe)?;
        let layout = without_rows(checkpoint, recipe)?;
        let (graph, verified) =
            rayon::join(|| build(checkpoint, recipe, layout.clone(), 1), || verify(checkpoint));
        let mut graph = graph?;
        verified?;
        let plan = Plan::new(&graph, &recipe.policy)?;
        refuse_rules(&graph, &plan, &recipe.policy)?;
        recipe.algo.rewrite(&mut graph, &|key: &str, shape: &[usize], part| {
            checkpoint.read_part(key, shape, part).map_err(Error::from)
        })?;
        Ok(Ready { layout, graph, plan, rounding: recipe.algo.rounding()? })
    }
}

fn reads(param: &crate::graph::Param, name: &str) -> bool {
    param.sources().iter().any(|(key, _)| *key == name)
}

/// Refuses what only rows can answer.
fn refuse(recipe: &Recipe) -> Result<(), Error> {
    if let Some(key) = recipe.algo.needs_rows()? {
        let instead = "--set algo.rounding=rtn rounds to nearest, other keys can be left out";
        return Err(Error::NoRows { key, instead });
    }
    let policy = recipe.policy.spec();
    let keys = [
        ("policy.prefix", policy.prefix.is_some()),
        ("policy.modality", policy.modality.is_some()),
    ];
    match keys.iter().find(|(_, set)| *set) {
        Some((key, _)) => {
            let instead = "it speaks of activations, which stay float; leave it out";
            Err(Error::NoRows { key: (*key).into(), instead })
        }
        None => Ok(()),
    }
}

/// Refuses rules that speak of nothing that is rounded; those that name another role are the part of a
/// recipe that is for jobs with rows.
fn refuse_rules(graph: &Graph, plan: &Plan, policy: &Policy) -> Result<(), Error> {
    let params = graph.params().map(|(id, _)| id);
    let weights = params.filter(|id| plan.sites.site(*id) == Site::Weight);
    let silent = policy.unmatched(weights.map(|id| (&graph.value(id).name[..], Role::Weight)));
    match silent.iter().find(|rule| rule.role.is_none_or(|role| role == Role::Weight)) {
        Some(rule) => {
            let instead =
                "it speaks of activations, norms or biases, which stay float; leave it out";
            Err(Error::NoRows { key: format!("rule `{}`", rule.pattern), instead })
        }
        None => Ok(()),
    }
}

/// The model with stand-ins for the grids of what is to be rounded, no two of them alike.
fn lowered(checkpoint: &Checkpoint, graph: &Graph, jobs: &Jobs<'_>) -> Result<Model, Error> {
    let mut graph = graph.clone();
    for (number, job) in jobs.all.iter().enumerate() {
        for &id in &job.ids {
            graph.values[id.index()].qparams = job.stand_in(number);
        }
    }
    let mut small = Weights::none(&graph);
    for (id, _) in graph.params() {
        if jobs.number(id).is_none() {
            small.set(id, read(checkpoint, &graph, id)?);
        }
    }
    let constant = |id: ValueId| match &graph.value(id).source {
        Source::Const(tensor) => tensor.clone(),
        _ => small.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0)),
    };
    let payload = |id: ValueId| {
        let number = jobs.number(id)?;
        // Put in its place by whoever has made it.
        let nobody = |_: &mut dyn std::io::Write| Err(std::io::ErrorKind::Unsupported.into());
        let buffer = Buffer::lazy(jobs.all[number].bytes(), nobody);
        Some((buffer, format!("weights {number}").into_bytes()))
    };
    Ok(lower_onto(&graph, Precision::Quantized, &constant, &payload)?)
}

/// Gives the tensors of `model` the grids that were found, in place of the stand-ins.
fn settle(model: &mut Model, grids: &[(usize, Option<QuantParams>)]) {
    let grids: HashMap<usize, _> = grids.iter().map(|(buffer, grid)| (*buffer, grid)).collect();
    for tensor in &mut model.subgraphs[0].tensors {
        if let Some(grid) = grids.get(&(tensor.buffer as usize)) {
            tensor.quantization = grid.as_ref().map(quantization);
        }
    }
}

/// A file that would be too large, with the way out.
fn not_placed(source: circle::Error, path: &Path) -> Error {
    match *source.kind() {
        ErrorKind::TooLarge { needed, limit } => Error::FileSize {
            name: QUANTIZED.into(),
            size: needed,
            most: limit,
            out: "--buffers external",
        },
        _ => Error::File { path: path.display().to_string(), source },
    }
}

fn afford(placed: &Placed, folder: &Path) -> Result<(), Error> {
    match free(folder) {
        Some(free) if placed.size() > free => Err(Error::Disk {
            folder: folder.display().to_string(),
            free,
            files: placed.size(),
            spill: 0,
        }),
        _ => Ok(()),
    }
}
