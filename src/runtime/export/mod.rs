//! Rewrites a file into forms that foreign runtimes execute, so that they can judge it.

mod compact;
mod ggml;
mod litert;
mod native;
mod qdq;

pub use ggml::Blocks;

use super::{Error, Limits, fold::fold};
use crate::circle::{self, Format, Model, SignatureDef, SubGraph, Target, TensorMap};

/// In which numbers the result computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Those of the file.
    Own,
    /// Integers where this runtime has kernels for them, float between DEQUANTIZE and QUANTIZE
    /// where it has none.
    Native(Target),
    /// Float, with QUANTIZE and DEQUANTIZE around every activation.
    Qdq,
    /// Float, every operator for itself: what it reads is an input, in reals on its grid, and what
    /// it computes an output, in integers. A runtime that computes this file is judged edge by
    /// edge, without the steps that add up over a network.
    Edges,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// In which numbers it computes.
    pub form: Form,
    /// The format that the result is written in.
    pub format: Format,
    /// Blocks for the weights of float linear layers; none leaves them as they are.
    pub blocks: Option<Blocks>,
}

/// Rewrites a model. Signatures stay, and of several graphs each takes the key of its first for a name;
/// equal constants stay one.
///
/// # Errors
/// A model that the verifier refuses, or with several graphs that do not all have a signature;
/// constants whose payload is not understood; blocks for LiteRT, which has none.
pub fn export(model: &Model, how: Export) -> Result<Model, Error> {
    let report = circle::verify(model);
    if let Some(finding) = report.errors.first() {
        return Err(Error::Invalid(finding.to_string()));
    }
    let litert = how.format == Format::TfLite || how.form == Form::Native(Target::Litert);
    if how.blocks.is_some() && litert {
        return Err(Error::Form("weights in blocks: LiteRT reads none, onert does".into()));
    }
    let part = |index: usize| -> Result<Model, Error> {
        let mut part = one(&circle::alone(model, index), how)?;
        part.signature_defs = signatures(model, index, &part);
        Ok(part)
    };
    if model.subgraphs.len() == 1 {
        return part(0);
    }
    let mut parts = Vec::new();
    for (index, graph) in model.subgraphs.iter().enumerate() {
        let own = model.signature_defs.iter().find(|def| def.subgraph_index as usize == index);
        let unsigned = || {
            let name = graph.name.escape_debug();
            Error::Graph(format!("graph \"{name}\" has no signature: of several each needs one"))
        };
        let key = own.ok_or_else(unsigned)?.key.as_str();
        parts.push((key, part(index)?));
    }
    Ok(circle::join(parts))
}

/// The signatures of a graph, in the numbers that its ports have after a rewrite; none where that
/// gave it others.
fn signatures(model: &Model, index: usize, rewritten: &Model) -> Vec<SignatureDef> {
    let ports = |graph: &SubGraph| [graph.inputs.clone(), graph.outputs.clone()];
    let [old, new] = [&model.subgraphs[index], &rewritten.subgraphs[0]].map(ports);
    if old.each_ref().map(Vec::len) != new.each_ref().map(Vec::len) {
        return Vec::new();
    }
    let moved = |maps: &[TensorMap], side: usize| {
        let moved = |map: &TensorMap| {
            let own = |&port: &i32| u32::try_from(port) == Ok(map.tensor_index);
            let at = old[side].iter().position(own)?;
            Some((map.name.clone(), u32::try_from(new[side][at]).ok()?))
        };
        maps.iter().filter_map(moved).collect::<Vec<_>>()
    };
    let own = model.signature_defs.iter().filter(|def| def.subgraph_index as usize == index);
    own.map(|def| SignatureDef::new(&def.key, moved(&def.inputs, 0), moved(&def.outputs, 1)))
        .collect()
}

/// Rewrites a model of one graph.
fn one(model: &Model, how: Export) -> Result<Model, Error> {
    let mut model = match how.form {
        Form::Own => model.clone(),
        Form::Native(target) => native::rewrite(&folded(model), target)?,
        Form::Qdq => qdq::rewrite(&folded(model), false)?,
        Form::Edges => qdq::rewrite(&folded(model), true)?,
    };
    if let Some(blocks) = how.blocks {
        ggml::pack(&mut model, blocks);
    }
    if how.format == Format::TfLite {
        litert::rewrite(&mut model)?;
    }
    compact::compact(&mut model);
    Ok(model)
}

/// The model without the operators that do nothing but move a constant.
fn folded(model: &Model) -> Model {
    let mut model = model.clone();
    let done = fold(&mut model, 0, Limits::default());
    let mut index = 0..;
    let operators = &mut model.subgraphs[0].operators;
    operators.retain(|_| index.next().is_some_and(|index| !done.contains(&index)));
    model
}
