//! MX formats: reference vectors and laws.

use proptest::prelude::*;

use crate::quant::{MxFormat, QuantParams, fake_quant};

const FORMATS: [MxFormat; 8] = [
    MxFormat::Int8,
    MxFormat::Int4,
    MxFormat::Int2,
    MxFormat::Fp8E5M2,
    MxFormat::Fp8E4M3,
    MxFormat::Fp6E3M2,
    MxFormat::Fp6E2M3,
    MxFormat::Fp4,
];

fn snapped(format: &str, data: &[f32]) -> Vec<f32> {
    let params = QuantParams::Mx { format: format.parse().unwrap(), axis: 0 };
    let mut data = data.to_vec();
    fake_quant(&params, &[data.len()], &mut data);
    data
}

#[test]
fn reference_vectors() {
    let block = [0.3, -1.7, 5.0, -7.9, 0.01, 3.03];
    for (format, expected) in [
        ("int8", [0.3125, -1.6875, 5.0, -7.875, 0.0, 3.0]),
        ("fp4", [0.5, -1.5, 6.0, -6.0, 0.0, 3.0]),
        ("fp8_e4m3", [0.3125, -1.75, 5.0, -7.0, 0.009_765_625, 3.0]),
        ("fp8_e5m2", [0.3125, -1.75, 5.0, -7.0, 0.009_765_625, 3.0]),
        ("fp6_e2m3", [0.25, -1.75, 5.0, -7.5, 0.0, 3.0]),
        ("fp6_e3m2", [0.3125, -1.75, 5.0, -7.0, 0.015_625, 3.0]),
    ] {
        assert_eq!(snapped(format, &block), expected, "{format}");
    }
}

#[test]
fn blocks_of_32_run_along_the_axis() {
    // 33 rows of 2 columns: the last row is a block of its own
    let mut data: Vec<f32> = (0..66).map(|i| if i % 2 == 0 { 100.0 } else { 1.0 }).collect();
    data[64] = 0.001;
    let params = QuantParams::Mx { format: MxFormat::Int2, axis: 0 };
    fake_quant(&params, &[33, 2], &mut data);
    assert_eq!(data[64], 0.000_976_562_5);
    assert_eq!((data[0], data[1]), (64.0, 1.0));
}

#[test]
fn non_finite_values_take_their_block() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut data = vec![1.0; 33];
        data[3] = bad;
        let out = snapped("fp4", &data);
        assert!(out[..32].iter().all(|x| x.is_nan()));
        assert_eq!(out[32], 1.0);
    }
}

#[test]
fn unknown_formats_list_the_known_ones() {
    let error = "fp5".parse::<MxFormat>().unwrap_err().to_string();
    assert!(error.contains("`fp5`") && error.contains("fp6_e3m2"), "{error}");
}

proptest! {
    #[test]
    fn snapping_keeps_signs_zeros_and_magnitudes(
        data in prop::collection::vec(-1e6..1e6_f32, 1..70), scale in -30..30_i32
    ) {
        let data: Vec<f32> = data.iter().map(|x| x * 2.0_f32.powi(scale)).collect();
        for format in FORMATS {
            let once = snapped(format.name(), &data);
            for (block, snapped) in data.chunks(32).zip(once.chunks(32)) {
                let largest = block.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                for (x, y) in block.iter().zip(snapped) {
                    prop_assert!(x * y >= 0.0, "{format}: {x} -> {y}");
                    prop_assert!((x - y).abs() <= largest * 0.5, "{format}: {x} -> {y}");
                }
            }
        }
    }
}
