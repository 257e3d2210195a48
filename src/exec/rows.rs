//! Parts of a graph of which only some rows count: they are computed on those rows alone.
//!
//! Between the nodes of a part the rows that count lie side by side, `[1, rows, width]`, and so a
//! tap sees them: what no token was sent to is neither observed nor rounded. What leaves the part
//! has all rows again, zeros where nothing counts, as a product with a weight of zero would give.

use crate::tensor::Tensor;

/// Positions of the rows with a weight.
pub(super) fn chosen(route: &Tensor) -> Vec<usize> {
    let weights = route.data().iter().enumerate();
    weights.filter(|(_, w)| **w != 0.0).map(|(i, _)| i).collect()
}

/// Positions of the rows with a weight on both routes.
pub fn common(routes: [&Tensor; 2]) -> Vec<usize> {
    let [mut rows, others] = routes.map(chosen);
    rows.retain(|row| others.binary_search(row).is_ok());
    rows
}

/// The rows `rows` of x side by side.
pub(super) fn gathered(x: &Tensor, rows: &[usize]) -> Tensor {
    let width = width(x.shape());
    Tensor::written([1, rows.len(), width], |out| {
        for (out, &row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
            out.copy_from_slice(&x.data()[row * width..(row + 1) * width]);
        }
    })
}

/// Rows side by side back in their places in a tensor of `shape`, zeros elsewhere.
pub(super) fn spread(x: &Tensor, rows: &[usize], shape: &[usize]) -> Tensor {
    let width = width(shape);
    let mut out = Tensor::full(shape, 0.0);
    let data = out.data_mut();
    for (x, &row) in x.data().chunks_exact(width.max(1)).zip(rows) {
        data[row * width..(row + 1) * width].copy_from_slice(x);
    }
    out
}

fn width(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}
