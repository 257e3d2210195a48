//! Orthogonal matrices: products of factors are what they stand for.

use super::*;

#[test]
fn rotations_are_orthogonal_and_fix_ones_on_request() {
    for n in [1, 2, 3, 8, 12, 24, 96] {
        for fix in [false, true] {
            let r = Orthogonal::random(n, fix, 7).matrix();
            for i in 0..n {
                for j in 0..n {
                    let dot: f64 = (0..n).map(|l| r[i * n + l] * r[j * n + l]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12, "{n} {fix}");
                }
                let sum: f64 = r[i * n..(i + 1) * n].iter().sum();
                assert!(!fix || (sum - 1.0).abs() < 1e-12, "{n}: {sum}");
            }
        }
    }
}

#[test]
fn factors_turn_as_their_product_does_on_either_side_and_in_every_copy() {
    for (n, fix) in [(12, false), (12, true), (8, false), (7, true)] {
        let r = Orthogonal::random(n, fix, 3);
        let dense = Orthogonal::dense(n, r.matrix());
        let data: Vec<f32> = (0..2 * n * 3 * n).map(|i| (i as f32 * 0.7).sin()).collect();
        let whole = Tensor::new([2 * n, 3 * n], data);
        for side in [Side::Rows, Side::Outputs] {
            let (mut a, mut b) = (whole.clone(), whole.clone());
            r.apply(&mut a, side);
            dense.apply(&mut b, side);
            assert!(a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-6));
            assert_ne!(a, whole);
        }
    }
}
