//! Every size, and rests of all.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn rows_become_columns_and_nothing_else_changes(
        width in 1usize..40,
        missing in 0usize..10,
        depth in 1usize..50,
        behind in 0usize..4,
    ) {
        let (count, stride) = (width.saturating_sub(missing).max(1), depth + behind);
        let rows: Vec<f32> = (0..(count - 1) * stride + depth).map(|i| i as f32).collect();
        let mut panel = vec![-1.0; depth * width];
        transpose(&mut panel, width, &rows, stride);
        for (i, x) in panel.into_iter().enumerate() {
            let (p, row) = (i / width, i % width);
            prop_assert_eq!(x, if row < count { (row * stride + p) as f32 } else { -1.0 });
        }
    }
}
