//! Rewrites a file into forms that foreign runtimes execute, so that they can judge it.

mod compact;
mod litert;
mod qdq;

use super::Error;
use crate::circle::{self, Format, Model};

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Compute in float, with QUANTIZE and DEQUANTIZE around every activation.
    pub qdq: bool,
    /// The format that the result is written in.
    pub format: Format,
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
    let mut model = match how.qdq {
        true => qdq::rewrite(model)?,
        false => model.clone(),
    };
    if how.format == Format::TfLite {
        litert::rewrite(&mut model)?;
    }
    compact::compact(&mut model);
    Ok(model)
}
