//! Rounded weights of finished legs: their integers in a file without a name, made reals again when
//! somebody asks.

use super::super::estimate::SMALL;
use super::super::{Error, Trouble};
use crate::quant::{Coding, QuantParams};
use crate::tensor::{Lock, Rows, Tensor};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Integers of weights, one matrix after the other.
pub(in super::super) struct Codes {
    folder: PathBuf,
    file: Option<Arc<Lock<File>>>,
    end: u64,
    trouble: Trouble,
}

impl Codes {
    /// None yet; the file will be in `folder`.
    pub(in super::super) fn new(folder: &Path, trouble: &Trouble) -> Codes {
        Codes { folder: folder.to_owned(), file: None, end: 0, trouble: trouble.clone() }
    }

    /// Puts a matrix away whose values are on `grid`; the same tensor with rows made of its integers.
    /// What is small, or is made on demand already, stays as it is.
    pub(in super::super) fn keep(
        &mut self,
        tensor: &Tensor,
        grid: Option<&QuantParams>,
    ) -> Result<Tensor, Error> {
        let (&[n, k], false) = (tensor.shape(), tensor.is_elsewhere() || tensor.len() <= SMALL)
        else {
            return Ok(tensor.clone());
        };
        let failed = |source| Error::Write { path: self.folder.display().to_string(), source };
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(Lock::new(crate::exec::nameless(&self.folder).map_err(failed)?)),
        };
        self.file = Some(Arc::clone(&file));
        let coding = Coding::of(grid, k);
        let start = self.end;
        {
            let mut file = file.hold();
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
            let mut out = BufWriter::with_capacity(1 << 18, &mut *file);
            let put = |first: usize, reals: &[f32]| out.write_all(&coding.bytes(first, reals));
            tensor.each_block(put).and_then(|()| out.flush()).map_err(failed)?;
        }
        self.end += (n * coding.row_bytes()) as u64;
        let trouble = self.trouble.clone();
        let path = self.folder.clone();
        Ok(Tensor::made([n, k], StoredCodes { file, start, coding, path, trouble }))
    }
}

/// A matrix whose integers are in a file.
#[derive(Debug)]
pub(in super::super) struct StoredCodes {
    pub(in super::super) file: Arc<Lock<File>>,
    pub(in super::super) start: u64,
    pub(in super::super) coding: Coding,
    /// The file or its folder, for errors.
    pub(in super::super) path: PathBuf,
    pub(in super::super) trouble: Trouble,
}

impl StoredCodes {
    fn read(&self, first: usize, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.file.hold();
        file.seek(SeekFrom::Start(self.start + (first * self.coding.row_bytes()) as u64))?;
        file.read_exact(bytes)
    }
}

impl Rows for StoredCodes {
    fn fill(&self, first: usize, out: &mut [f32]) {
        let count = out.len() / self.coding.width().max(1);
        let mut bytes = vec![0; count * self.coding.row_bytes()];
        match self.read(first, &mut bytes) {
            Ok(()) => self.coding.reals(first, &bytes, out),
            Err(source) => {
                out.fill(0.0);
                let path = self.path.display().to_string();
                self.trouble.note(Error::ReadUnfinished { path, source });
            }
        }
    }
}

#[cfg(test)]
mod tests;
