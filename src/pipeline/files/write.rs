//! The files of a job: the whole model, and one sample for other runtimes.

use super::super::stages::MANIFEST;
use super::super::{Error, Outcome, prompt};
use super::save::{self, Partial, Pending, beside, written as written_to};
use crate::checkpoint::unmappable;
use crate::circle::WriteOptions;
use crate::dataset::Sample;
use crate::exec::Float;
use crate::graph::{Kind, ValueId};
use crate::lower::{Precision, lower};
use crate::runtime::npy::{self, Array, Elements};
use crate::tensor::{Par, Tensor};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the float model in the folder of the result.
pub(in super::super) const FLOAT: &str = "model.circle";
/// The name of the quantized model there.
pub const QUANTIZED: &str = "model.q.circle";
/// The name of the staged set's folder there.
pub const STAGES: &str = "stages";
/// The name of the recipe that was followed, there.
pub const RECIPE: &str = "recipe.toml";

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Operators in it.
    pub operators: usize,
    /// Tensors in it.
    pub tensors: usize,
}

/// Refuses a folder that cannot come to be, before hours are spent on what would go there.
///
/// # Errors
/// Something that is no folder stands there or above it, or nothing can be written there.
pub fn check_folder(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: folder.display().to_string(), source };
    let Some(there) = nearest(folder) else { return Ok(()) };
    if !there.is_dir() {
        let found = if there.exists() { "a file" } else { "a link that leads nowhere" };
        let what = format!("{} is {found}, expected a folder", there.display());
        return Err(failed(io::Error::other(what)));
    }
    // permissions, read-only disks, folders that are none: only trying tells
    beside(&there.join("encircle")).map(drop).map_err(failed)
}

/// Refuses files that cannot come to be in `folder`, before hours are spent on what would go there.
///
/// # Errors
/// What is no file in the place of one; those of [`check_folder`] for what holds them.
pub fn check_files<N: AsRef<Path>>(
    folder: &Path,
    names: impl IntoIterator<Item = N>,
) -> Result<(), Error> {
    let mut folders = BTreeSet::from([folder.to_owned()]);
    for name in names {
        let path = folder.join(name);
        let failed = |source| Error::Write { path: path.display().to_string(), source };
        let place = save::place(&path).map_err(failed)?;
        if let Some(found) = place.metadata().ok().as_ref().and_then(unmappable) {
            let what = format!("found {found}, expected a file or nothing");
            return Err(failed(io::Error::other(what)));
        }
        folders.extend(
            [&path, &place].into_iter().filter_map(|path| path.parent()).map(Path::to_owned),
        );
    }
    folders.iter().try_for_each(|folder| check_folder(folder))
}

/// The folder itself, or the last above it that exists, if only as a link that leads nowhere.
pub fn nearest(folder: &Path) -> Option<PathBuf> {
    // of a relative path the last ancestor is empty and means the folder we are in
    let here =
        |path: &Path| if path == Path::new("") { Path::new(".").into() } else { path.to_owned() };
    folder.ancestors().map(here).find(|path| path.symlink_metadata().is_ok())
}

/// Writes the whole model into `folder`: `model.circle` in float, `model.q.circle` quantized, once
/// `pending` is committed.
///
/// # Errors
/// What the format cannot express, such as more than 2 GiB with the payloads inside; a folder or
/// file that cannot be written.
pub fn write_model(
    outcome: &Outcome,
    folder: &Path,
    how: &WriteOptions,
    pending: &mut Pending,
) -> Result<Vec<Written>, Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Write { path, source }
    };
    let mut written = Vec::new();
    // the quantized one first: if the format cannot express it, nothing was touched yet
    for (name, precision, weights) in [
        (QUANTIZED, Precision::Quantized, &outcome.rounded),
        (FLOAT, Precision::Float, &outcome.weights),
    ] {
        let constant = |id: ValueId| match &outcome.graph.value(id).source {
            crate::graph::Source::Const(tensor) => tensor.clone(),
            _ => weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0)),
        };
        let model = lower(&outcome.graph, precision, &constant)?;
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join(name);
        let (partial, size) = Partial::write(&path, |out| {
            let size = written_to(&model, how, &path, out)?;
            outcome.trouble.check()?;
            Ok(size)
        })?;
        pending.add(partial);
        let subgraph = &model.subgraphs[0];
        let (operators, tensors) = (subgraph.operators.len(), subgraph.tensors.len());
        written.push(Written { path, size, operators, tensors });
    }
    written.reverse();
    Ok(written)
}

/// What looks like a result in `folder` and is of an earlier job: `written` did not replace it.
pub fn stale(folder: &Path, written: &[Written]) -> Vec<PathBuf> {
    let there = |path: &Path| path.is_file() || path.join(MANIFEST).is_file();
    let ours = |path: &Path| written.iter().any(|file| file.path.starts_with(path));
    let results = [FLOAT, QUANTIZED, STAGES].map(|name| folder.join(name));
    results.into_iter().filter(|path| there(path) && !ours(path)).collect()
}

/// Puts the recipe that was followed beside the model, as `recipe.toml`, and gives all files their names.
///
/// # Errors
/// A file that cannot be written; then all that waited are as before.
pub fn write_recipe(text: &str, folder: &Path, mut pending: Pending) -> Result<(), Error> {
    pending.add(Partial::of(&folder.join(RECIPE), text.as_bytes())?);
    pending.commit()
}

/// Writes samples as `.npy` files for other runtimes, the first into `folder` and the i-th into its
/// subfolder `i`: `in0.npy`… in the order of the graph's inputs, and `out0.npy` with the float
/// output of our executor, both at the full sequence length, once `pending` is committed. The files, and
/// how many bytes each has.
///
/// # Errors
/// A sample that the graph does not take; a folder or file that cannot be written.
pub fn write_io(
    outcome: &Outcome,
    samples: &[Sample],
    folder: &Path,
    pending: &mut Pending,
) -> Result<Vec<(PathBuf, u64)>, Error> {
    let mut written = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let folder = folder.join(io_folder(i));
        let failed = |source| Error::Write { path: folder.display().to_string(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        for (name, bytes) in arrays(outcome, sample)? {
            let path = folder.join(name);
            pending.add(Partial::of(&path, &bytes)?);
            written.push((path, bytes.len() as u64));
        }
    }
    Ok(written)
}

/// The files that [`write_io`] makes of samples, in its folder.
pub fn io_files(samples: &[Sample]) -> impl Iterator<Item = PathBuf> {
    samples.iter().enumerate().flat_map(|(i, sample)| {
        let folder = io_folder(i);
        let inputs = ["in0.npy", "in1.npy"].into_iter();
        let inputs = inputs.take(1 + usize::from(sample.pixel_values.is_some()));
        inputs.chain(["out0.npy"]).map(move |name| folder.join(name))
    })
}

/// The subfolder of the i-th sample; the first has none.
fn io_folder(i: usize) -> PathBuf {
    if i == 0 { PathBuf::new() } else { PathBuf::from(i.to_string()) }
}

/// Inputs and float outputs of a sample, as names and contents of files.
fn arrays(outcome: &Outcome, sample: &Sample) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let graph = &outcome.graph;
    prompt::check(graph, &[sample])?;
    let inputs = prompt::inputs(graph, &[sample]);
    let outputs = crate::exec::run(graph, &inputs, &outcome.weights, &mut Float, Par::All);
    outcome.trouble.check()?;
    let input = |(i, (tensor, id)): (usize, (&Tensor, &ValueId))| {
        (format!("in{i}.npy"), array(tensor, graph.value(*id).kind == Kind::Index))
    };
    let output = |(i, tensor): (usize, &Tensor)| (format!("out{i}.npy"), array(tensor, false));
    let inputs = inputs.iter().zip(&graph.inputs).enumerate().map(input);
    Ok(inputs.chain(outputs.iter().enumerate().map(output)).collect())
}

/// A tensor as a .npy file: f32, or i64 for indices.
fn array(tensor: &Tensor, index: bool) -> Vec<u8> {
    let elements = match index {
        true => Elements::I64(tensor.data().iter().map(|&x| x as i64).collect()),
        false => Elements::F32(tensor.data().to_vec()),
    };
    npy::write(&Array { shape: tensor.shape().to_vec(), elements })
}
