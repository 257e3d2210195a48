//! Where elements lie in row-major data.

use std::ops::Range;

/// Elements from one index of an axis to the next, by axis of `shape`.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Some `columns` of rows of `width` as rows: `[rows, width]` → `[columns, rows]`.
pub fn transpose(out: &mut [f32], data: &[f32], width: usize, columns: Range<usize>) {
    // Tiles: both sides stay in cache.
    const TILE: usize = 32;
    let rows = data.len() / width.max(1);
    for top in (0..rows).step_by(TILE) {
        for left in columns.clone().step_by(TILE) {
            for i in top..(top + TILE).min(rows) {
                for j in left..(left + TILE).min(columns.end) {
                    out[(j - columns.start) * rows + i] = data[i * width + j];
                }
            }
        }
    }
}
