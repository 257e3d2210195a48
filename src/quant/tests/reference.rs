//! Bit for bit against torch 2.12 and TICO 0.3.0 (vectors in `tests/data/golden/quant.json`), on data
//! whose scales stay above that release's floor of 1e-8.

use serde::Deserialize;

use crate::quant::*;
use crate::tensor::Tensor;

#[derive(Deserialize)]
struct Golden {
    x: Vec<u32>,
    fed: Vec<u32>,
    affine: Vec<AffineCase>,
    z: Vec<u32>,
    mx: Vec<MxCase>,
}

#[derive(Deserialize)]
struct AffineCase {
    dtype: DType,
    symmetric: bool,
    axis: Option<usize>,
    scale: Vec<u32>,
    zero_point: Vec<i32>,
    y: Vec<u32>,
}

#[derive(Deserialize)]
struct MxCase {
    format: MxFormat,
    axis: usize,
    y: Vec<u32>,
}

fn golden() -> Golden {
    let text = include_str!("../../../tests/data/golden/quant.json");
    serde_json::from_str(text).unwrap()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|bits| f32::from_bits(*bits)).collect()
}

#[test]
fn ranges_grids_and_snapped_values_equal_the_peer_to_the_bit() {
    let golden = golden();
    let (x, shape) = (floats(&golden.x), [6, 16]);
    for case in golden.affine {
        let grain = case.axis.map_or(Grain::Tensor, Grain::Axis);
        let scheme = Scheme { symmetric: case.symmetric, grain };
        let name = format!("{} {scheme}", case.dtype);
        let mut observer = MinMax::new(grain);
        observer.observe(&x, &shape);
        let ranges = observer.ranges().unwrap();
        let params = QuantParams::from_ranges(case.dtype, scheme, &ranges).unwrap();
        let expected = QuantParams::Affine {
            dtype: case.dtype,
            scale: floats(&case.scale),
            zero_point: case.zero_point,
            grain,
        };
        assert_eq!(params, expected, "{name}");
        let mut data = floats(&golden.fed);
        fake_quant(&params, &shape, &mut data);
        let found: Vec<u32> = data.iter().map(|x| x.to_bits()).collect();
        assert_eq!(found, case.y, "{name}");
        // In its place, and beside another who holds it.
        let mut alone = Tensor::new(shape, floats(&golden.fed));
        let (held, mut apart) = (alone.clone(), alone.clone());
        round(&params, &mut apart);
        assert_eq!((apart.data(), held.data()), (&data[..], &floats(&golden.fed)[..]), "{name}");
        drop(held);
        round(&params, &mut alone);
        assert_eq!(alone, apart, "{name}");
    }
}

#[test]
fn mx_blocks_equal_the_peer() {
    let golden = golden();
    for case in golden.mx {
        let mut data = floats(&golden.z);
        fake_quant(&QuantParams::Mx { format: case.format, axis: case.axis }, &[3, 40], &mut data);
        assert_eq!(data, floats(&case.y), "{} on axis {}", case.format, case.axis);
    }
}
