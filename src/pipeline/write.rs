//! Puts files down: beside their final name, then renamed, so that nothing is ever half-written.

use super::{Error, Outcome};
use crate::circle;
use crate::exec::Float;
use crate::graph::{Kind, ValueId};
use crate::lower::{Precision, lower};
use crate::tensor::{Par, Tensor};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

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

/// Writes the whole model into `folder`: `model.circle` in float, `model.q.circle` quantized.
///
/// # Errors
/// What the format cannot express; a folder or file that cannot be written.
pub fn write_model(outcome: &Outcome, folder: &Path) -> Result<Vec<Written>, Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut written = Vec::new();
    for (name, precision, weights) in [
        ("model.circle", Precision::Float, &outcome.weights),
        ("model.q.circle", Precision::Quantized, &outcome.rounded),
    ] {
        let constant = |id: ValueId| match &outcome.graph.value(id).source {
            crate::graph::Source::Const(tensor) => tensor.clone(),
            _ => weights.get(id).cloned().unwrap_or_else(|| Tensor::full([0], 0.0)),
        };
        let model = lower(&outcome.graph, precision, &constant)?;
        let path = folder.join(name);
        let beside = folder.join(format!(".{name}.{}.partial", std::process::id()));
        let size = put(&model, &beside)
            .and_then(|size| fs::rename(&beside, &path).map_err(failed(&path)).map(|()| size))
            .inspect_err(|_| drop(fs::remove_file(&beside)))?;
        let subgraph = &model.subgraphs[0];
        let (operators, tensors) = (subgraph.operators.len(), subgraph.tensors.len());
        written.push(Written { path, size, operators, tensors });
    }
    Ok(written)
}

fn put(model: &circle::Model, path: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    let size = circle::write(model, &mut out)?;
    out.flush().map_err(failed)?;
    out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    Ok(size)
}

/// Writes one sample as `.npy` files for other runtimes: `in0.npy`… in the order of the graph's
/// inputs, and `out0.npy` with the float output of our executor at the full sequence length.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write_io(outcome: &Outcome, folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: folder.display().to_string(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let graph = &outcome.graph;
    let output =
        crate::exec::run(graph, &outcome.example_inputs, &outcome.weights, &mut Float, Par::All);
    for (i, (tensor, id)) in outcome.example_inputs.iter().zip(&graph.inputs).enumerate() {
        let index = graph.value(*id).kind == Kind::Index;
        fs::write(folder.join(format!("in{i}.npy")), npy(tensor, index)).map_err(failed)?;
    }
    for (i, tensor) in output.iter().enumerate() {
        fs::write(folder.join(format!("out{i}.npy")), npy(tensor, false)).map_err(failed)?;
    }
    Ok(())
}

/// NumPy's array format, version 1.0: f32, or i64 for indices.
fn npy(tensor: &Tensor, index: bool) -> Vec<u8> {
    let shape: Vec<String> = tensor.shape().iter().map(|n| format!("{n},")).collect();
    let descr = if index { "<i8" } else { "<f4" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.concat());
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    match index {
        true => out.extend(tensor.data().iter().flat_map(|&x| (x as i64).to_le_bytes())),
        false => out.extend(tensor.data().iter().flat_map(|x| x.to_le_bytes())),
    }
    out
}
