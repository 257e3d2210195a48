use super::*;
use crate::quant::{self, DType, Grain};

#[test]
fn rows_rounded_a_few_at_a_time_come_back_as_they_were() {
    let (n, k) = (37, 12);
    let whole = Tensor::new([n, k], (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect());
    for dtype in [DType::UINT4, DType::INT4, DType::UINT8, DType::INT8, DType::INT16] {
        for grain in [Grain::Tensor, Grain::Axis(0), Grain::Groups(4)] {
            let count = grain.grids(&[n, k]).unwrap();
            let scale = (0..count).map(|i| 0.01 + 0.001 * i as f32).collect();
            let zero_point = vec![if dtype.signed() { 0 } else { 7 }; count];
            let grid = QuantParams::Affine { dtype, scale, zero_point, grain };
            let mut rounded = whole.clone();
            quant::round(&grid, &mut rounded);
            let mut coded = Coded::new(&grid, [n, k]).unwrap();
            for first in (0..n).step_by(8) {
                let last = n.min(first + 8);
                let rows = rounded.data()[first * k..last * k].to_vec();
                let rows = Tensor::new([last - first, k], rows);
                coded.push(&grid.of_rows(first..last, k), &rows);
            }
            let (found, tensor) = coded.finish(n).unwrap();
            assert_eq!((&found, &tensor), (&grid, &rounded), "{dtype} {grain}");
        }
    }
}
