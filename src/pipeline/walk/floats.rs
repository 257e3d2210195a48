//! The float weights: all in memory, or read from the checkpoint when a leg begins.

use super::super::estimate::{Hold, SMALL, params};
use super::super::{Error, Trouble};
use crate::checkpoint::{self, Checkpoint};
use crate::exec::Weights;
use crate::graph::{Graph, Param, ValueId};
use crate::tensor::{self, Lock, Rows, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Where float weights come from.
pub(in super::super) struct Floats<'a> {
    checkpoint: &'a Checkpoint,
    /// Every weight: dense, or with rows read on demand.
    pub(in super::super) all: Weights,
    /// Which are dense while they are used; none if all are, always.
    hold: Option<Hold>,
}

impl<'a> Floats<'a> {
    /// Those of `graph`, after its rewrites. In memory if nobody says which are not.
    pub(in super::super) fn of(
        checkpoint: &'a Checkpoint,
        graph: &Graph,
        hold: Option<Hold>,
        trouble: &Trouble,
    ) -> Result<Floats<'a>, Error> {
        let last = Arc::new(Lock::new(None));
        let params: Vec<ValueId> = graph.params().map(|(id, _)| id).collect();
        let tensors = tensor::each(&params, |&id| {
            match (&graph.value(id).shape[..], hold, graph.param(id)) {
                (&[n, k], Some(_), Some(param)) if n * k > SMALL => {
                    let shape = [n, k];
                    let (param, last, trouble) =
                        (param.clone(), Arc::clone(&last), trouble.clone());
                    let checkpoint = checkpoint.clone();
                    let stored = Stored { checkpoint, id, param, shape, last, trouble };
                    Ok(Tensor::made(shape, stored))
                }
                _ => read(checkpoint, graph, id),
            }
        })?;
        let mut all = Weights::none(graph);
        for (&id, tensor) in params.iter().zip(tensors) {
            all.set(id, tensor);
        }
        Ok(Floats { checkpoint, all, hold })
    }

    /// What some nodes read.
    pub(in super::super) fn load(
        &self,
        graph: &Graph,
        nodes: Range<usize>,
    ) -> Result<Weights, Error> {
        let Some(hold) = self.hold else { return Ok(self.all.clone()) };
        let params: Vec<ValueId> = params(graph, nodes).into_iter().collect();
        let tensors = tensor::each(&params, |&id| match self.all.get(id) {
            Some(made) if made.is_made() && hold.dense(graph, id) => {
                read(self.checkpoint, graph, id)
            }
            Some(tensor) => Ok(tensor.clone()),
            None => read(self.checkpoint, graph, id),
        })?;
        let mut weights = Weights::none(graph);
        for (&id, tensor) in params.iter().zip(tensors) {
            weights.set(id, tensor);
        }
        Ok(weights)
    }
}

/// The value of a parameter, whole.
pub(in super::super) fn read(
    checkpoint: &Checkpoint,
    graph: &Graph,
    id: ValueId,
) -> Result<Tensor, Error> {
    Ok(graph
        .load(id, &|key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part))?)
}

/// A matrix of the checkpoint whose rows are read on demand.
struct Stored {
    checkpoint: Checkpoint,
    id: ValueId,
    param: Param,
    shape: [usize; 2],
    /// The matrix that had to be made as a whole last, for its next rows.
    last: Arc<Lock<Option<(ValueId, Tensor)>>>,
    trouble: Trouble,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("key", &self.param.key).finish_non_exhaustive()
    }
}

impl Rows for Stored {
    fn fill(&self, first: usize, out: &mut [f32]) {
        let made = match self.param.by_rows(&self.shape) {
            true => self.rows(first, out),
            false => self.whole(first, out),
        };
        if let Err(error) = made {
            out.fill(0.0);
            self.trouble.note(error);
        }
    }
}

impl Stored {
    fn read_part(
        &self,
    ) -> impl Fn(&str, &[usize], Option<usize>) -> Result<Tensor, checkpoint::Error> {
        |key, shape, part| self.checkpoint.read_part(key, shape, part)
    }

    fn rows(&self, first: usize, out: &mut [f32]) -> Result<(), checkpoint::Error> {
        let key = &self.param.key;
        if self.param.edits.is_empty() {
            return self.checkpoint.read_into(key, first, out);
        }
        let shape = [out.len() / self.shape[1].max(1), self.shape[1]];
        let mut rows =
            Tensor::try_written(shape, |rows| self.checkpoint.read_into(key, first, rows))?;
        self.param.edit_rows(&mut rows, first, &self.read_part())?;
        out.copy_from_slice(rows.data());
        Ok(())
    }

    fn whole(&self, first: usize, out: &mut [f32]) -> Result<(), checkpoint::Error> {
        let mut last = self.last.hold();
        if last.as_ref().is_none_or(|(id, _)| *id != self.id) {
            *last = None;
            *last = Some((self.id, self.param.load(&self.shape, &self.read_part())?));
        }
        if let Some((_, tensor)) = &*last {
            tensor.read_rows(first, out);
        }
        Ok(())
    }
}
