//! Grids from ranges and what they do to data: reference vectors and laws.

use proptest::prelude::*;

use crate::quant::kernel::{self, portable};
use crate::quant::*;
use crate::tensor::Tensor;

fn range_of(data: &[f32]) -> Range {
    data.iter().fold(Range::EMPTY, |r, &x| r.union(Range::new(x, x)))
}

fn affine(params: QuantParams) -> (Vec<f32>, Vec<i32>) {
    match params {
        QuantParams::Affine { scale, zero_point, .. } => (scale, zero_point),
        _ => panic!("affine expected"),
    }
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= e.abs() * 1e-4, "found {f}, expected {e}");
    }
}

#[test]
fn per_tensor_reference_vectors() {
    let cases: [(&[f32], DType, Scheme, f32, i32); 6] = [
        (&[-1.0, 0.5, 2.0], DType::UINT8, Scheme::PER_TENSOR_ASYMM, 0.011_764_706, 85),
        (&[1.0, 3.0], DType::UINT8, Scheme::PER_TENSOR_ASYMM, 0.011_764_706, 0),
        (&[-3.0, -1.0], DType::UINT8, Scheme::PER_TENSOR_ASYMM, 0.011_764_706, 255),
        (&[2.5], DType::UINT8, Scheme::PER_TENSOR_ASYMM, 2.5, 0),
        (&[-2.5], DType::UINT8, Scheme::PER_TENSOR_ASYMM, 2.5, 255),
        (&[-1.0, 0.5, 2.0], DType::INT16, Scheme::PER_TENSOR_SYMM, 2.0 / 32767.0, 0),
    ];
    for (data, dtype, scheme, scale, zero) in cases {
        let params = QuantParams::from_range(dtype, scheme, range_of(data)).unwrap();
        assert_eq!(params, QuantParams::per_tensor(dtype, scale, zero), "{data:?}");
    }
    let tiny = Range::new(1e-9, 5e-9);
    let params = QuantParams::from_range(DType::UINT8, Scheme::PER_TENSOR_ASYMM, tiny).unwrap();
    assert_eq!(params, QuantParams::per_tensor(DType::UINT8, 1.0, 0));
    let zero = Range::new(0.0, 0.0);
    let params = QuantParams::from_range(DType::INT16, Scheme::PER_TENSOR_SYMM, zero).unwrap();
    close(&affine(params).0, &[3.0518e-17]);
}

#[test]
fn per_channel_reference_vectors() {
    let rows = [Range::new(-1.0, 0.5), Range::new(0.0, 0.0), Range::new(2.0, 4.0)];
    let asymm = Scheme::per_channel_asymm(0);
    let (scale, zero) = affine(QuantParams::from_ranges(DType::UINT4, asymm, &rows).unwrap());
    close(&scale, &[0.1, 6.6667e-14, 0.266_67]);
    assert_eq!(zero, [10, 0, 0]);
    let symm = Scheme::per_channel_symm(0);
    let (scale, zero) = affine(QuantParams::from_ranges(DType::INT8, symm, &rows).unwrap());
    close(&scale, &[0.007_874, 7.874e-15, 0.031_496]);
    assert_eq!(zero, [0, 0, 0]);
    let two = [rows[0], rows[2]];
    let (scale, zero) = affine(QuantParams::from_ranges(DType::INT16, asymm, &two).unwrap());
    close(&scale, &[2.2889e-05, 6.1036e-05]);
    assert_eq!(zero, [10922, -32768]);
}

#[test]
fn ties_round_to_even_and_outliers_saturate() {
    let unit = QuantParams::per_tensor(DType::UINT8, 1.0, 0);
    let mut data = [0.5, 1.5, 2.5, 300.0, -0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    fake_quant(&unit, &[8], &mut data);
    assert_eq!(data, [0.0, 2.0, 2.0, 255.0, 0.0, 0.0, 255.0, 0.0]);
    assert!(data.iter().all(|x| x.is_sign_positive()), "negative zero escaped");
}

#[test]
fn statistics_without_a_grid_are_refused() {
    let make = |range| QuantParams::from_range(DType::INT16, Scheme::PER_TENSOR_SYMM, range);
    assert_eq!(make(Range::EMPTY), Err(NoRange::Unseen.into()));
    assert_eq!(make(Range::new(f32::NAN, 1.0)), Err(NoRange::NonFinite.into()));
    assert_eq!(make(Range::new(0.0, f32::INFINITY)), Err(NoRange::NonFinite.into()));
    assert_eq!(make(Range::new(f32::MIN, f32::MAX)), Err(NoRange::TooWide.into()));
    let rows = [Range::new(0.0, 1.0), Range::EMPTY];
    let error = QuantParams::from_ranges(DType::UINT8, Scheme::per_channel_asymm(0), &rows);
    assert_eq!(error.unwrap_err().to_string().split(':').next(), Some("channel 1"));
    let error =
        QuantParams::from_range(DType::UINT8, Scheme::PER_TENSOR_SYMM, Range::new(0.0, 1.0));
    assert_eq!(error, Err(ParamsError::Scheme(SchemeError { dtype: DType::UINT8 })));
}

#[test]
fn grids_from_outside_are_checked() {
    let per_channel = |scale: Vec<f32>, zero_point: Vec<i32>| QuantParams::Affine {
        dtype: DType::UINT8,
        scale,
        zero_point,
        grain: Grain::Axis(1),
    };
    assert!(per_channel(vec![1.0; 3], vec![0; 3]).check(&[2, 3]).is_ok());
    for bad in [
        per_channel(vec![1.0; 2], vec![0; 2]),
        per_channel(vec![1.0, f32::INFINITY, 1.0], vec![0; 3]),
        per_channel(vec![1.0, 0.0, 1.0], vec![0; 3]),
        per_channel(vec![1.0; 3], vec![0, 0, 256]),
    ] {
        assert!(bad.check(&[2, 3]).is_err(), "{bad:?}");
    }
    assert!(per_channel(vec![1.0; 3], vec![0; 3]).check(&[3]).is_err());
}

#[test]
fn dtypes_have_one_spelling() {
    for (text, dtype) in [("uint4", DType::UINT4), ("int16", DType::INT16), ("int64", DType::INT64)]
    {
        assert_eq!(text.parse(), Ok(dtype));
        assert_eq!(dtype.to_string(), text);
    }
    for text in ["int", "uint0", "int1", "uint32", "int17", "int+8", "int08", "float32", ""] {
        assert!(text.parse::<DType>().is_err(), "{text}");
    }
    assert_eq!((DType::INT4.qmin(), DType::INT4.qmax()), (-8, 7));
    assert_eq!((DType::UINT16.qmin(), DType::UINT16.qmax()), (0, 65535));
    assert_eq!(DType::INT64.limits(), (i64::MIN, i64::MAX));
}

#[test]
fn rows_are_coarsened_where_a_bias_has_no_room() {
    for (bias, input, dtype) in [(-0.7, 1e-3, DType::INT32), (9e9, 2.0, DType::INT64)] {
        let least = least_scale(bias, input, dtype);
        assert!(quantize_bias(&[bias], input, &[least], dtype).is_ok());
        assert!(quantize_bias(&[bias], input, &[least * 0.999], dtype).is_err());
    }
    let grid = |scale: &[f32], grain| QuantParams::Affine {
        dtype: DType::UINT8,
        scale: scale.to_vec(),
        zero_point: vec![3; scale.len()],
        grain,
    };
    for (scale, grain, least, expected) in [
        (&[1.0, 0.1][..], Grain::Axis(0), [0.5, 0.5], &[1.0, 1.0][..]),
        (&[0.1], Grain::Tensor, [0.0, 0.5], &[1.0]),
        // the coarsest of a row's groups counts
        (&[0.1, 0.2, 0.1, 1.0], Grain::Groups(2), [0.5, 0.5], &[1.0, 1.0, 0.1, 1.0]),
    ] {
        let mut found = grid(scale, grain);
        assert!(found.coarsen(&least));
        assert_eq!(found, grid(expected, grain));
        assert!(!found.coarsen(&least) && !found.coarsen(&[]));
    }
}

#[test]
fn bias_follows_the_accumulator_and_never_wraps() {
    let (params, q) = quantize_bias(&[1.0, -0.5], 0.5, &[0.25, 0.125], DType::INT32).unwrap();
    assert_eq!(q, [8, -8]);
    assert_eq!(affine(params), (vec![0.125, 0.0625], vec![0, 0]));
    let (params, q) = quantize_bias(&[1.0, -0.5], 0.5, &[0.25], DType::INT64).unwrap();
    assert_eq!(q, [8, -4]);
    assert_eq!(affine(params).0.len(), 2);
    let error = quantize_bias(&[0.0, 5.0], 1.0, &[1.0, 1e-12], DType::INT32).unwrap_err();
    assert!(matches!(error, BiasError::Saturated { channel: 1, .. }), "{error}");
    assert!(error.to_string().ends_with("give the weight a larger scale"), "{error}");
    let error = quantize_bias(&[5.0], 1e-12, &[1.0], DType::INT32).unwrap_err().to_string();
    assert!(error.ends_with("give the input a larger scale"), "{error}");
    assert!(quantize_bias(&[9.3e18], 1.0, &[1.0], DType::INT64).is_err());
    assert!(quantize_bias(&[f32::NAN], 1.0, &[1.0], DType::INT32).is_err());
    assert!(quantize_bias(&[1.0], 1e-30, &[1e-30], DType::INT32).is_err());
    assert!(quantize_bias(&[1.0; 3], 1.0, &[1.0; 2], DType::INT32).is_err());
}

fn dtypes() -> impl Strategy<Value = DType> {
    (2..=16_u8, any::<bool>()).prop_map(|(bits, signed)| DType::new(bits, signed).unwrap())
}

fn grids() -> impl Strategy<Value = (QuantParams, Range)> {
    (dtypes(), any::<bool>(), -1e3..1e3_f32, -1e3..1e3_f32).prop_map(|(dtype, symmetric, a, b)| {
        let scheme = Scheme { symmetric: symmetric && dtype.signed(), grain: Grain::Tensor };
        let range = Range::new(a.min(b), a.max(b));
        (QuantParams::from_range(dtype, scheme, range).unwrap(), range)
    })
}

proptest! {
    #[test]
    fn inside_the_range_the_error_is_half_a_step((params, range) in grids(), at in 0.0..=1.0_f32) {
        let range = range.with_zero();
        let x = range.min + at * (range.max - range.min);
        let (scale, _) = params.as_per_tensor().unwrap();
        let q = quantize(&params, &[1], &[x]);
        let y = dequantize(&params, &[1], &q)[0];
        // the zero point is rounded, so an end of an asymmetric grid may be cut by half a step, and
        // the reciprocal and the products are f32
        let dtype = params.dtype().unwrap();
        let at_end = q[0] == dtype.qmin() || q[0] == dtype.qmax();
        let steps = if at_end { 1.0 } else { 0.5 };
        prop_assert!((x - y).abs() <= steps * scale + x.abs() * 3e-7, "{x} -> {y}");
    }

    #[test]
    fn zero_is_exact((params, _) in grids()) {
        let mut data = [0.0];
        fake_quant(&params, &[1], &mut data);
        prop_assert_eq!(data[0].to_bits(), 0);
    }

    #[test]
    fn fake_quant_is_idempotent_and_equals_dequantized_integers(
        (params, _) in grids(), mut data in prop::collection::vec(-2e3..2e3_f32, 1..100)
    ) {
        let shape = [data.len()];
        let expected = dequantize(&params, &shape, &quantize(&params, &shape, &data));
        fake_quant(&params, &shape, &mut data);
        prop_assert_eq!(&data, &expected);
        let once = data.clone();
        fake_quant(&params, &shape, &mut data);
        prop_assert_eq!(data, once);
    }

    #[test]
    fn wide_portable_and_reference_paths_agree_to_the_bit(
        (params, _) in grids(), bits in prop::collection::vec(any::<u32>(), 1..200)
    ) {
        let data: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b))
            .map(|x| if x.is_finite() { x } else { 1.0 }).collect();
        let (scale, zero) = params.as_per_tensor().unwrap();
        let dtype = params.dtype().unwrap();
        let mut wide = data.clone();
        fake_quant(&params, &[data.len()], &mut wide);
        let mut plain = data.clone();
        portable::fake_quant(&mut plain, affine::grid(dtype, scale, zero));
        for ((wide, plain), x) in wide.iter().zip(plain).zip(data) {
            let reference = portable::reference(x, scale, zero, dtype.qmin(), dtype.qmax());
            prop_assert_eq!(wide.to_bits(), plain.to_bits());
            prop_assert_eq!(wide.to_bits(), reference.to_bits(), "{}", x);
        }
    }

    #[test]
    fn groups_are_the_rows_of_a_narrower_matrix(
        n in 1..7_usize, groups in 1..6_usize, size in 1..40_usize, seed in any::<u32>()
    ) {
        let (shape, cut) = ([n, groups * size], [n * groups, size]);
        let data: Vec<f32> =
            (0..n * groups * size).map(|i| ((i as f32 + seed as f32 % 100.0) * 0.7).sin() * 3.0).collect();
        let of = |grain, shape: &[usize]| {
            let scheme = Scheme { symmetric: false, grain };
            let mut observer = MinMax::new(grain);
            observer.observe(&data, shape);
            QuantParams::from_ranges(DType::UINT4, scheme, &observer.ranges().unwrap()).unwrap()
        };
        let (grid, alone) = (of(Grain::Groups(size), &shape), of(Grain::Axis(0), &cut));
        prop_assert_eq!(affine(grid.clone()), affine(alone.clone()));
        let (mut found, mut expected) = (data.clone(), data.clone());
        fake_quant(&grid, &shape, &mut found);
        fake_quant(&alone, &cut, &mut expected);
        prop_assert_eq!(&found, &expected);
        let held = Tensor::new(shape, data.clone());
        let mut apart = held.clone();
        round(&grid, &mut apart);
        prop_assert_eq!((apart.data(), held.data()), (&expected[..], &data[..]));
        let codes = quantize(&grid, &shape, &data);
        prop_assert_eq!(&codes, &quantize(&alone, &cut, &data));
        prop_assert_eq!(&dequantize(&grid, &shape, &codes), &expected);
        // The rows behind the first, as bytes and back.
        let coding = Coding::of(Some(&grid), groups * size);
        let rest = &expected[groups * size..];
        let mut back = vec![0.0; rest.len()];
        coding.reals(1, &coding.bytes(1, rest), &mut back);
        prop_assert_eq!(&back[..], rest);
        // A row's accumulator is counted in its coarsest scale.
        let scales = grid.row_scales(n).unwrap();
        let (all, _) = affine(grid);
        for (scale, row) in scales.iter().zip(all.chunks(groups)) {
            prop_assert!(row.contains(scale) && row.iter().all(|s| s <= scale));
        }
    }

    #[test]
    fn channels_on_any_axis_equal_channels_alone(
        shape in prop::collection::vec(1..20_usize, 1..4), axis in 0..3_usize, seed in any::<u32>()
    ) {
        let axis = axis % shape.len();
        let len = shape.iter().product();
        let mut data: Vec<f32> = (0..len).map(|i: usize| {
            ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 1e5 - 80.0
        }).collect();
        let scale: Vec<f32> = (0..shape[axis]).map(|c| 0.1 + c as f32 * 0.07).collect();
        let zero_point: Vec<i32> = (0..shape[axis]).map(|c| c as i32 * 9 % 256).collect();
        let run: usize = shape[axis + 1..].iter().product();
        let expected: Vec<f32> = data.iter().enumerate().map(|(i, &x)| {
            let c = i / run % shape[axis];
            portable::reference(x, scale[c], zero_point[c], 0, 255)
        }).collect();
        let params = QuantParams::Affine { dtype: DType::UINT8, scale, zero_point, grain: Grain::Axis(axis) };
        let integers = quantize(&params, &shape, &data);
        prop_assert_eq!(dequantize(&params, &shape, &integers), expected.clone());
        fake_quant(&params, &shape, &mut data);
        prop_assert_eq!(data, expected);
    }

    #[test]
    fn integers_survive_packing(
        data in prop::collection::vec(-9.0..9.0_f32, 0..300),
        dtype in prop::sample::select(vec![
            DType::UINT4, DType::INT4, DType::UINT8, DType::INT8, DType::UINT16, DType::INT16,
        ]),
    ) {
        let grid = QuantParams::per_tensor(dtype, 0.7, if dtype.signed() { 0 } else { 7 });
        let shape = [data.len()];
        let (codes, bytes) = (quantize(&grid, &shape, &data), packed(&grid, &shape, &data));
        prop_assert_eq!(bytes.len(), (data.len() * dtype.stored_bits()).div_ceil(8));
        let found: Vec<i32> = match (dtype.stored_bits(), dtype.signed()) {
            (4, signed) => unpack4(&bytes, data.len(), signed).unwrap(),
            (8, true) => bytes.iter().map(|&q| (q as i8).into()).collect(),
            (8, false) => bytes.iter().map(|&q| q.into()).collect(),
            (_, true) => bytes.chunks(2).map(|q| i16::from_le_bytes([q[0], q[1]]).into()).collect(),
            (_, false) => bytes.chunks(2).map(|q| u16::from_le_bytes([q[0], q[1]]).into()).collect(),
        };
        prop_assert_eq!(found, codes);
        prop_assert_eq!(unpack4(&bytes, 2 * bytes.len() + 1, false), None);
    }

    #[test]
    fn extremes_equal_a_plain_fold(data in prop::collection::vec(-1e9..1e9_f32, 0..300)) {
        let found = kernel::extremes(&data);
        prop_assert_eq!(Range::new(found.min, found.max), range_of(&data));
        prop_assert!(found.finite());
    }
}

#[test]
fn even_index_is_the_low_nibble() {
    let grid = QuantParams::per_tensor(DType::UINT4, 1.0, 0);
    assert_eq!(packed(&grid, &[3], &[1.0, 2.0, 15.0]), [0x21, 0x0f]);
}

#[test]
fn one_bad_value_anywhere_is_noticed() {
    for at in [0, 63, 64, 130] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut data = vec![1.0; 131];
            data[at] = bad;
            assert!(!kernel::extremes(&data).finite());
        }
    }
}

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
            let spread = own.spread(wide).unwrap();
            let there = quantize(&spread, &[reals.len()], &reals);
            assert_eq!(dequantize(&spread, &[there.len()], &there), reals, "{own:?}");
        }
    }
}
