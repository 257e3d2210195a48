//! Tables of the vision tower: its rotary angles, its interpolated position embedding, and which
//! patches attend to each other.
//!
//! Patches come frame by frame, and within a frame block by block of `merge x merge`: block row,
//! block column, row within, column within. Grids are frames, height and width in patches, as
//! [`Layout::grids`](super::Layout::grids) gives them.

use super::LayoutError;
use super::prompt::visual_tokens;
use super::rotary::inverse_frequencies;
use crate::tensor::Tensor;

/// Refuses grids that are zero, not made of merge blocks, or too large. `item` names it in errors.
pub fn check_grid(item: &str, grid: [usize; 3], merge: usize) -> Result<(), LayoutError> {
    visual_tokens(item, grid, merge).map(|_| ())
}

/// Row and column of every patch of one frame, in block order.
fn coordinates(h: usize, w: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..h / merge).flat_map(move |block_row| {
        (0..w / merge).flat_map(move |block_column| {
            (0..merge * merge)
                .map(move |i| (block_row * merge + i / merge, block_column * merge + i % merge))
        })
    })
}

fn checked(grids: &[[usize; 3]], merge: usize) -> Result<usize, LayoutError> {
    let mut patches = 0_usize;
    for (index, &grid) in grids.iter().enumerate() {
        check_grid(&format!("grid {index}"), grid, merge)?;
        patches = patches.saturating_add(grid.iter().product());
    }
    Ok(patches)
}

/// Rotary angles of every patch: `[patches, head_dim / 2]`, the first half by row and the second by
/// column.
pub fn rotary_angles(
    grids: &[[usize; 3]],
    merge: usize,
    head_dim: usize,
    theta: f64,
) -> Result<Tensor, LayoutError> {
    let patches = checked(grids, merge)?;
    let frequencies = inverse_frequencies(head_dim / 2, theta);
    let mut angles = Vec::with_capacity(patches * frequencies.len() * 2);
    for &[t, h, w] in grids {
        for (row, column) in (0..t).flat_map(|_| coordinates(h, w, merge)) {
            angles.extend(frequencies.iter().map(|f| row as f32 * f));
            angles.extend(frequencies.iter().map(|f| column as f32 * f));
        }
    }
    Ok(Tensor::new([patches, frequencies.len() * 2], angles))
}

/// Cosines and sines of every patch: two tensors `[patches, head_dim]`, the second half of each row
/// repeating the first.
pub fn rotary_tables(
    grids: &[[usize; 3]],
    merge: usize,
    head_dim: usize,
    theta: f64,
) -> Result<(Tensor, Tensor), LayoutError> {
    let angles = rotary_angles(grids, merge, head_dim, theta)?;
    let (patches, half) = (angles.shape()[0], angles.shape()[1]);
    let table = |f: fn(f32) -> f32| {
        let rows = angles.data().chunks_exact(half.max(1));
        let data = rows.flat_map(|row| row.iter().chain(row)).map(|angle| f(*angle)).collect();
        Tensor::new([patches, half * 2], data)
    };
    Ok((table(f32::cos), table(f32::sin)))
}

/// The learned position embedding `table`, `[n * n, width]`, interpolated to every grid: `[patches,
/// width]`.
///
/// Bilinear with aligned corners; the four products are summed in f32 in the reference's order.
pub fn position_embedding(
    grids: &[[usize; 3]],
    merge: usize,
    table: &Tensor,
) -> Result<Tensor, LayoutError> {
    let patches = checked(grids, merge)?;
    let side = match table.shape() {
        [rows, _] if *rows > 0 && rows.isqrt() * rows.isqrt() == *rows => rows.isqrt(),
        shape => return Err(LayoutError::PositionTable { shape: shape.to_vec() }),
    };
    let width = table.shape()[1];
    let embedding = |row: usize, column: usize| {
        let from = (row * side + column) * width;
        &table.data()[from..from + width]
    };
    let mut out = Vec::with_capacity(patches * width);
    for &[t, h, w] in grids {
        let (rows, columns) = (samples(h, side), samples(w, side));
        for (row, column) in (0..t).flat_map(|_| coordinates(h, w, merge)) {
            let (top, bottom, down) = rows[row];
            let (left, right, across) = columns[column];
            let corners = [
                (embedding(top, left), (1.0 - down) * (1.0 - across)),
                (embedding(top, right), (1.0 - down) * across),
                (embedding(bottom, left), down * (1.0 - across)),
                (embedding(bottom, right), down * across),
            ];
            out.extend((0..width).map(|i| {
                let [a, b, c, d] = corners.map(|(values, weight)| values[i] * weight);
                a + b + c + d
            }));
        }
    }
    Ok(Tensor::new([patches, width], out))
}

/// `count` points spread over `0..=side - 1`, ends included: the integers around each, and the
/// fraction between them.
fn samples(count: usize, side: usize) -> Vec<(usize, usize, f32)> {
    let last = (side - 1) as f32;
    let step = if count > 1 { last / (count - 1) as f32 } else { 0.0 };
    (0..count)
        .map(|i| {
            // counted from the nearer end and rounded once, like torch's linspace
            let at = if count == 1 || i < count / 2 {
                step * i as f32
            } else {
                (-step).mul_add((count - 1 - i) as f32, last)
            };
            let floor = at as usize;
            (floor, (floor + 1).min(side - 1), at - floor as f32)
        })
        .collect()
}

/// Numbers of patches that attend to each other, in order: `h * w` for every frame.
pub fn chunk_lengths(grids: &[[usize; 3]]) -> Vec<usize> {
    grids.iter().flat_map(|&[t, h, w]| std::iter::repeat_n(h * w, t)).collect()
}
