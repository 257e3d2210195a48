use super::*;
use crate::quant::{self, DType, Grain, MxFormat};

fn sines(n: usize, k: usize) -> Tensor {
    Tensor::new([n, k], (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect())
}

#[test]
fn matrices_come_back_as_the_reals_they_were_in_every_width() {
    let folder = tempfile::tempdir().unwrap();
    let trouble = Trouble::default();
    let mut codes = Codes::new(folder.path(), &trouble);
    let mut kept = Vec::new();
    // An odd width: with 4 bits a row ends within a byte.
    let (n, k) = (131, 255);
    let scale: Vec<f32> = (0..5 * n).map(|i| 0.01 + i as f32 * 1e-4).collect();
    for dtype in [DType::UINT4, DType::INT4, DType::INT8, DType::UINT8, DType::INT16] {
        for grain in [Grain::Tensor, Grain::Axis(0), Grain::Groups(51)] {
            let count = grain.grids(&[n, k]).unwrap();
            let zero = if dtype.signed() { 0 } else { 5 };
            let (scale, zero_point) = (scale[..count].to_vec(), vec![zero; count]);
            let grid = QuantParams::Affine { dtype, scale, zero_point, grain };
            let mut tensor = sines(n, k);
            quant::round(&grid, &mut tensor);
            kept.push((codes.keep(&tensor, Some(&grid)).unwrap(), tensor));
        }
    }
    let mx = QuantParams::Mx { format: MxFormat::Int8, axis: 1 };
    kept.push((codes.keep(&sines(n, k), Some(&mx)).unwrap(), sines(n, k)));
    kept.push((codes.keep(&sines(n, k), None).unwrap(), sines(n, k)));
    for (made, tensor) in &kept {
        assert!(made.is_made());
        assert_eq!(made, tensor);
    }
    trouble.check().unwrap();
    assert!(!codes.keep(&sines(2, 3), None).unwrap().is_made(), "small ones stay in memory");
    codes.file.unwrap().hold().set_len(0).unwrap();
    let _ = kept[0].0.dense();
    let error = trouble.check().unwrap_err().to_string();
    assert!(error.contains(": cannot read unfinished work: "), "{error}");
}
