//! Functions of elements against the library's, at the ends of their ranges, and laws of rows.

use super::*;

#[test]
fn exp_is_close_to_the_library_over_the_whole_range() {
    for i in -8700..8800 {
        let x = i as f32 * 0.01;
        assert!((exp(x) / x.exp() - 1.0).abs() < 4e-7, "{x}: {} {}", exp(x), x.exp());
    }
}

#[test]
fn gelu_tends_to_identity_and_zero() {
    let x = [-40.0, -1.0, 0.0, 1.0, 40.0];
    let (mut t, mut e) = ([0.0; 5], [0.0; 5]);
    gelu_tanh(&mut t, &x);
    gelu_erf(&mut e, &x);
    assert!(t[0].abs() < 1e-30);
    assert_eq!((t[2], t[4]), (0.0, 40.0));
    assert_eq!((e[0], e[2], e[4]), (0.0, 0.0, 40.0));
    assert!((e[3] - 0.841_344_7).abs() < 1e-6 && (t[3] - 0.841_192).abs() < 1e-6);
}

#[test]
fn gelu_and_logistic_are_close_to_f64_down_to_vanishing_values() {
    let x: Vec<f32> = (-2000..2000).map(|i| i as f32 * 0.01).collect();
    let mut found = [vec![0.0; x.len()], vec![0.0; x.len()]];
    gelu_tanh(&mut found[0], &x);
    logistic(&mut found[1], &x);
    for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
        let slope = 2.0 * std::f64::consts::FRAC_2_PI.sqrt() * (1.0 + 0.044_715 * x * x);
        let exact = [x / (1.0 + (-slope * x).exp()), 1.0 / (1.0 + (-x).exp())];
        for (found, exact) in found.iter().map(|found| f64::from(found[i])).zip(exact) {
            // The exponent is an f32 of up to 88.
            assert!((found - exact).abs() <= 1e-5 * exact.abs() + 1e-36, "{x}: {found} {exact}");
        }
    }
}

#[test]
fn softmax_of_a_row_does_not_depend_on_the_rows_around_it() {
    let (rows, width) = (2 * NEAR / 50, 50);
    let x: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
    let mut together = vec![0.0; x.len()];
    softmax(&mut together, &x, width);
    let mut alone = vec![0.0; width];
    for (together, x) in together.chunks(width).zip(x.chunks(width)) {
        softmax(&mut alone, x, width);
        assert_eq!(together, alone);
    }
}

#[test]
fn softmax_rows_sum_to_one_and_masked_entries_vanish() {
    let x: Vec<f32> = (0..37).map(|i| if i > 20 { -120.0 } else { (i as f32).sin() }).collect();
    let mut out = vec![0.0; 37];
    softmax(&mut out, &x, 37);
    assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert!(out[21..].iter().all(|&p| p < 1e-30));
}
