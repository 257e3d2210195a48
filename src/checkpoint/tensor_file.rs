//! One safetensors file that is no checkpoint: reference values, prepared inputs.

use super::error::{Error, ErrorKind, Result};
use super::files::Files;
use super::safetensors::Store;
use super::{Dtype, TensorInfo};
use crate::tensor::Tensor;
use std::path::Path;

/// The tensors of one safetensors file, mapped.
pub struct TensorFile {
    store: Store,
    file: String,
}

impl TensorFile {
    /// Maps `path` and reads its header.
    ///
    /// # Errors
    /// A missing file, a header that contradicts itself or the file.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let file = path.display().to_string();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Error::new(ErrorKind::Missing, &file, "a safetensors file", "no file name")
        })?;
        Ok(TensorFile { store: Store::open_one(&Files::folder(folder), name)?, file })
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.store.names()
    }

    /// What is stored under `name`.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.store.info(name)
    }

    /// A float tensor of whatever shape it has.
    ///
    /// # Errors
    /// No such tensor, or one that holds no floats.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let shape = self.info(name).map(|info| info.shape.clone()).unwrap_or_default();
        self.store.read(name, &shape)
    }

    /// An I32 tensor: shape and elements.
    ///
    /// # Errors
    /// No such tensor, or one of another type.
    pub fn read_i32(&self, name: &str) -> Result<(Vec<usize>, Vec<i32>)> {
        let (bytes, dtype) = self.store.raw(name)?;
        if dtype != Dtype::I32 {
            let error = Error::new(ErrorKind::Unsupported, &self.file, "I32", format!("{dtype:?}"));
            return Err(error.tensor(name));
        }
        let shape = self.info(name).map(|info| info.shape.clone()).unwrap_or_default();
        let word = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok((shape, bytes.chunks_exact(4).map(word).collect()))
    }
}
