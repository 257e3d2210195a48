//! Against the definition.

use super::*;

fn hessian(k: usize) -> Vec<f64> {
    let x: Vec<f64> = (0..3 * k * k).map(|i| ((i * 37 + 11) as f64 * 0.7).sin()).collect();
    let entry = |i: usize, j: usize| (0..3 * k).map(|t| x[t * k + i] * x[t * k + j]).sum();
    (0..k * k).map(|p| entry(p / k, p % k)).collect()
}

#[test]
fn factor_reproduces_the_damped_hessian_and_solves_with_it() {
    // More than one panel, and a rest.
    let k = PANEL + 7;
    let h = hessian(k);
    let order: Vec<usize> = (0..k).map(|i| (i * 11 + 3) % k).collect();
    let f = Factor::of(&h, order.clone(), 0.01).unwrap();
    for i in 0..k {
        for j in 0..k {
            let product: f64 = (0..k).map(|l| f.upper[i * k + l] * f.upper[j * k + l]).sum();
            let damping = if i == j { f.damping } else { 0.0 };
            assert!((product - h[order[i] * k + order[j]] - damping).abs() < 1e-7);
        }
    }
    let v: Vec<f64> = (0..2 * k).map(|i| i as f64 - 3.0).collect();
    let damped = |r: usize, j: usize| {
        (0..k).map(|i| v[r * k + i] * h[i * k + j]).sum::<f64>() + f.damping * v[r * k + j]
    };
    let mut rows: Vec<f64> = (0..2 * k).map(|p| damped(p / k, p % k)).collect();
    f.solve(&mut rows);
    assert!(rows.iter().zip(&v).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn rank_deficient_hessians_are_damped_until_they_factor_and_hopeless_ones_are_refused() {
    let ones = vec![1.0; 16];
    assert!(Factor::of(&ones, (0..4).collect(), 1e-14).is_ok());
    let rounded = [1.0, 1.0001, 1.0001, 1.0];
    let damp = Factor::of(&rounded, vec![0, 1], 1e-12).unwrap().damp;
    assert!((1e-4..1.1e-3).contains(&damp), "{damp}");
    let no_squares = Factor::of(&[1.0, 3.0, 3.0, 1.0], vec![0, 1], 1e-12);
    assert!(matches!(no_squares, Err(AlgoError::Singular { damp }) if damp >= 1.0));
    let none = Factor::of(&[0.0; 4], vec![0, 1], 0.01);
    assert!(matches!(none, Err(AlgoError::NoInputs)));
    let bad = Factor::of(&[f64::NAN; 4], vec![0, 1], 0.01);
    assert!(matches!(bad, Err(AlgoError::NonFinite)));
}
