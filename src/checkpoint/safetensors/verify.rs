//! All differences between the tensors that a model needs and those that are stored, at once.

use super::super::error::{Error, ErrorKind, Result, quoted};
use super::names::canonical;
use super::store::Store;
use std::collections::HashSet;

impl Store {
    /// Compares with names and shapes; `tied` excuses a stored head that the model takes from the token
    /// embedding.
    pub(in super::super) fn verify(
        &self,
        expected: &[(String, Vec<usize>)],
        tied: bool,
    ) -> Result<()> {
        let mut lines = Vec::new();
        for (name, shape) in expected {
            match self.find(name) {
                None => {
                    lines.push(format!("missing: tensor {}: expected {shape:?}", quoted(name)));
                }
                Some(stored) if stored.info.shape != *shape => lines.push(format!(
                    "other shape: tensor {}: expected {shape:?}, found {:?}",
                    quoted(&stored.stored),
                    stored.info.shape
                )),
                Some(stored) if !stored.info.dtype.is_float() => lines.push(format!(
                    "other dtype: tensor {}: expected one of F32, F16, BF16, found {}",
                    quoted(&stored.stored),
                    stored.info.dtype
                )),
                Some(_) => {}
            }
        }
        let known: HashSet<String> = expected.iter().map(|(name, _)| canonical(name)).collect();
        for (name, stored) in &self.tensors {
            if !known.contains(name) && !benign(name, tied) {
                lines.push(format!(
                    "extra: tensor {}: found {:?}",
                    quoted(&stored.stored),
                    stored.info.shape
                ));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let found = match lines.len() {
            1 => "1 difference".to_owned(),
            count => format!("{count} differences"),
        };
        let what = "the tensors of the model";
        Err(Error::new(ErrorKind::TensorsDiffer, &self.file, what, found).lines(lines))
    }
}

/// Tensors that old exporters wrote although no model reads them.
pub(super) fn benign(name: &str, tied: bool) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (tied && name == "lm_head.weight")
}
