//! Rewrites a file into forms that foreign runtimes execute, so that they can judge it.

mod compact;
mod ggml;
mod litert;
mod native;
mod qdq;

pub use ggml::Blocks;

use super::Error;
use crate::circle::{self, Format, Model, Target};

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

/// Rewrites a model.
///
/// # Errors
/// A model that the verifier refuses, or with more than one graph; constants whose payload is not
/// understood.
pub fn export(model: &Model, how: Export) -> Result<Model, Error> {
    let report = circle::verify(model);
    if let Some(finding) = report.errors.first() {
        return Err(Error::Invalid(finding.to_string()));
    }
    if model.subgraphs.len() != 1 {
        let graphs = model.subgraphs.len();
        return Err(Error::Invalid(format!("{graphs} graphs, files of one are exported")));
    }
    let mut model = match how.form {
        Form::Own => model.clone(),
        Form::Native(target) => native::rewrite(model, target)?,
        Form::Qdq => qdq::rewrite(model, false)?,
        Form::Edges => qdq::rewrite(model, true)?,
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
