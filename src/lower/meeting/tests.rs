use super::*;
use crate::quant::{Grain, dequantize, quantize};

#[test]
fn spread_grids_hold_every_value_of_the_narrower_one() {
    let cases = [
        (DType::UINT8, DType::INT16, vec![0, 85, 128, 255]),
        (DType::INT8, DType::INT16, vec![0]),
        (DType::UINT4, DType::UINT8, vec![0, 7, 15]),
        (DType::UINT4, DType::INT16, vec![3]),
        (DType::INT8, DType::UINT8, vec![0, -128, 127]),
        (DType::UINT8, DType::INT8, vec![0, 85, 255]),
    ];
    for (narrow, wide, zero_points) in cases {
        for zero in zero_points {
            let own = QuantParams::Affine {
                dtype: narrow,
                scale: vec![0.011_764_706],
                zero_point: vec![zero],
                grain: Grain::Tensor,
            };
            let (low, high) = narrow.limits();
            let codes: Vec<i32> = (low..=high).map(|q| i32::try_from(q).unwrap()).collect();
            let reals = dequantize(&own, &[codes.len()], &codes);
            let spread = spread(&own, wide).unwrap();
            let there = quantize(&spread, &[reals.len()], &reals);
            assert_eq!(dequantize(&spread, &[there.len()], &there), reals, "{own:?}");
        }
    }
}
