//! Products: integers are multiplied and summed exactly, then rescaled once.

use super::grid::{Grid, Steps};
use super::rescale::Rescale;
use crate::tensor::Tensor;
use rayon::prelude::*;

fn dot(a: &[i32], b: &[i32]) -> i64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum()
}

/// x Wᵀ + b
pub(super) fn linear(x: &Steps<'_>, w: &Steps<'_>, bias: Option<&[i64]>, out: &Grid<'_>) -> Tensor {
    let (n, k) = (w.shape[0], w.shape[1]);
    let ratio = |c| f64::from(x.grid.scale(0)) * f64::from(w.grid.scale(c));
    let rescales: Vec<Rescale> =
        (0..n).map(|c| Rescale::of(ratio(c) / f64::from(out.scale(0)))).collect();
    let mut codes = vec![0.0; x.steps.len() / k * n];
    codes.par_chunks_mut(n).zip(x.steps.par_chunks(k)).for_each(|(codes, x)| {
        for (c, (code, w)) in codes.iter_mut().zip(w.steps.chunks(k)).enumerate() {
            let acc = dot(x, w).saturating_add(bias.map_or(0, |bias| bias[c]));
            *code = out.code(rescales[c].apply(acc));
        }
    });
    let shape = x.shape[..x.shape.len() - 1].iter().copied().chain([n]);
    Tensor::new(shape.collect::<Vec<_>>(), codes)
}

/// Batched a · b, or a · bᵀ.
pub(super) fn matmul(a: &Steps<'_>, b: &Steps<'_>, transposed: bool, out: &Grid<'_>) -> Tensor {
    let rank = a.shape.len();
    let (m, k) = (a.shape[rank - 2], a.shape[rank - 1]);
    let n = b.shape[if transposed { rank - 2 } else { rank - 1 }];
    let ratio = f64::from(a.grid.scale(0)) * f64::from(b.grid.scale(0)) / f64::from(out.scale(0));
    let rescale = Rescale::of(ratio);
    let mut codes = vec![0.0; a.steps.len() / k * n];
    let batches = codes.par_chunks_mut(m * n).zip(a.steps.par_chunks(m * k));
    batches.zip(b.steps.par_chunks(k * n)).for_each(|((codes, a), b)| {
        let columns: Vec<i32> = match transposed {
            true => b.to_vec(),
            false => (0..n).flat_map(|j| (0..k).map(move |i| b[i * n + j])).collect(),
        };
        for (codes, a) in codes.chunks_mut(n).zip(a.chunks(k)) {
            for (code, column) in codes.iter_mut().zip(columns.chunks(k)) {
                *code = out.code(rescale.apply(dot(a, column)));
            }
        }
    });
    let shape = a.shape[..rank - 2].iter().copied().chain([m, n]);
    Tensor::new(shape.collect::<Vec<_>>(), codes)
}

/// Rows of a table at ids, each rescaled from the grid of its row.
pub(super) fn gather(table: &Steps<'_>, ids: &Tensor, out: &Grid<'_>) -> Tensor {
    let width = table.width();
    let mut codes = Vec::with_capacity(ids.data().len() * width);
    for &id in ids.data() {
        let row = id as usize;
        let ratio = f64::from(table.grid.scale(row)) / f64::from(out.scale(0));
        let rescale = Rescale::of(ratio);
        let steps = &table.steps[row * width..(row + 1) * width];
        codes.extend(steps.iter().map(|&q| out.code(rescale.apply(q.into()))));
    }
    let shape = ids.shape().iter().copied().chain([width]);
    Tensor::new(shape.collect::<Vec<_>>(), codes)
}
