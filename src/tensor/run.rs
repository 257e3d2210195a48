//! How an operator makes its result: on which threads, and what is done to each piece of it while
//! it is still near the core. A pass over memory of its own costs more than most such work.

use super::buffer::Buffer;
use super::{Par, Steps};

/// Elements that one thread works on at a time: 128 KiB stay in its own cache.
const PIECE: usize = 1 << 15;

/// Elements that are copied away before others are written over them: they stay in the first-level
/// cache.
const COPIED: usize = 1 << 12;

/// Is handed every finished piece of a result with the index of its first element. Pieces come in any
/// order and from any thread and hold each element once; those of a product of matrices lie within
/// one row or hold whole rows.
pub type Finish<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// Threads, what is to be done to results, and what is known of factors.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The threads.
    pub par: Par,
    finish: Option<&'a Finish<'a>>,
    /// Index of the result's first element, where the result is a part.
    first: usize,
    /// What is known of both operands, if anything is.
    pub(super) steps: Option<[Steps<'a>; 2]>,
}

impl From<Par> for Run<'_> {
    fn from(par: Par) -> Self {
        Run { par, finish: None, first: 0, steps: None }
    }
}

impl<'a> Run<'a> {
    /// On these threads, every piece finished so.
    pub fn new(par: Par, finish: &'a Finish<'a>) -> Run<'a> {
        Run { finish: Some(finish), ..par.into() }
    }

    /// The same where the first two operands, an activation and a matrix of weights, are on grids: their
    /// product may be computed in integers.
    pub fn on_grids(self, steps: Option<[Steps<'a>; 2]>) -> Run<'a> {
        Run { steps, ..self }
    }

    /// The same with every piece finished otherwise.
    pub fn finishing(self, finish: &'a Finish<'a>) -> Run<'a> {
        Run { finish: Some(finish), ..self }
    }

    /// The same for the part of the result from `first` on, on the calling thread.
    pub fn part(self, first: usize) -> Run<'a> {
        Run { par: Par::Seq, first: self.first + first, ..self }
    }

    /// Whether there is anything to do to results.
    pub fn finishes(self) -> bool {
        self.finish.is_some()
    }

    /// Finishes a piece whose first element has this index.
    pub fn finish(self, at: usize, piece: &mut [f32]) {
        if let Some(finish) = self.finish {
            finish(self.first + at, piece);
        }
    }

    /// Finishes a whole result that was made otherwise, whole rows of `width` at a time.
    pub fn whole(self, out: &mut [f32], width: usize) {
        if self.finishes() {
            in_pieces(out, width, self, |_, _| ());
        }
    }
}

/// Calls `work` on `out` in pieces of whole rows of `width`, with the index of each piece's first
/// element, and finishes them; side by side if `run` says so and it pays.
pub fn in_pieces<'a>(
    out: &mut [f32],
    width: usize,
    run: impl Into<Run<'a>>,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let run = run.into();
    let piece = PIECE.next_multiple_of(width.max(1));
    let par = if out.len() < 4 * piece { Par::Seq } else { run.par };
    par.pieces(out, piece, |i, out| {
        work(i * piece, out);
        run.finish(i * piece, out);
    });
}

/// Copies a run of numbers, which is often one of a few vectors: a call would cost more than these.
#[inline]
pub fn copy(to: &mut [f32], from: &[f32]) {
    match (to.as_chunks_mut::<8>(), from.as_chunks::<8>()) {
        ((to, []), (from, [])) if from.len() <= 8 && to.len() == from.len() => {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        _ => to.copy_from_slice(from),
    }
}

/// As [`in_pieces`] where `data` holds what pieces are made of: `work` is given a copy of each.
pub(super) fn over(
    data: &mut [f32],
    width: usize,
    run: Run<'_>,
    work: impl Fn(usize, &mut [f32], &[f32]) + Sync,
) {
    let part = COPIED.next_multiple_of(width.max(1));
    in_pieces(data, width, run, |at, piece| {
        let mut copy = Buffer::arbitrary(part.min(piece.len()));
        for (i, piece) in piece.chunks_mut(part).enumerate() {
            let copy = &mut copy[..piece.len()];
            copy.copy_from_slice(piece);
            work(at + i * part, piece, copy);
        }
    });
}
