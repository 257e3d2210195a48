//! Grids and rounding of matrices that are never in memory as a whole: tables of a vocabulary.

use crate::quant::{self, Decision, Grain, NoRange, Observer, ObserverSpec, QuantParams, Range};
use crate::tensor::{Rows, Tensor};

/// The ranges that `decision` wants of a matrix, found block by block where that gives the same
/// ranges: where rows have grids of their own, and for extremes.
pub(super) fn ranges(decision: &Decision, tensor: &Tensor) -> Result<Vec<Range>, NoRange> {
    let Decision::Affine { scheme, observer, .. } = decision else { return Ok(Vec::new()) };
    let by_row = scheme.grain.of_row(tensor.row_width()).is_some();
    let whole = |data: &[f32], shape: &[usize]| {
        decision.observer().map_or(Ok(Vec::new()), |observer| observer.once(data, shape))
    };
    let width = tensor.row_width();
    let shape = |data: &[f32]| [data.len() / width.max(1), width];
    if tensor.is_made() && by_row {
        let mut ranges = Vec::new();
        tensor.each_block(|_, data| {
            ranges.extend(whole(data, &shape(data))?);
            Ok(())
        })?;
        return Ok(ranges);
    }
    if let (true, ObserverSpec::MinMax, Grain::Tensor, Some(mut observer)) =
        (tensor.is_made(), observer, scheme.grain, decision.observer())
    {
        tensor.each_block(|_, data| {
            observer.observe(data, &shape(data));
            Ok::<_, NoRange>(())
        })?;
        return observer.ranges();
    }
    whole(tensor.dense().data(), tensor.shape())
}

/// A matrix on its grid; one whose rows are made on demand stays such a one.
pub fn rounded(mut tensor: Tensor, grid: &QuantParams) -> Tensor {
    match (tensor.is_made(), grid, tensor.shape()) {
        (true, QuantParams::Affine { grain, .. }, &[n, k]) if grain.by_rows() => {
            Tensor::made([n, k], OnGrid { source: tensor, grid: grid.clone() })
        }
        _ => {
            quant::round(grid, &mut tensor);
            tensor
        }
    }
}

#[derive(Debug)]
struct OnGrid {
    source: Tensor,
    grid: QuantParams,
}

impl Rows for OnGrid {
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.source.read_rows(first, out);
        let width = self.source.row_width();
        let count = out.len() / width.max(1);
        let grid = self.grid.of_rows(first..first + count, width);
        quant::fake_quant(&grid, &[count, width], out);
    }
}

#[cfg(test)]
mod tests;
