//! Against the library's functions and the definition.

use super::*;
use proptest::prelude::*;

#[test]
fn exp_is_close_to_the_library_over_the_whole_range() {
    for i in 0..70_000 {
        let x = f64::from(i) * -0.01;
        assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "{x}: {} {}", exp(x), x.exp());
    }
    assert!(exp(f64::NAN).is_nan() && exp(-1e9) > 0.0);
}

proptest! {
    #[test]
    fn divergence_is_the_definition(
        (x, y) in (1usize..60).prop_flat_map(|n| {
            let row = || prop::collection::vec(-30f32..30.0, n);
            (row(), row())
        }),
    ) {
        let log = |x: &[f32]| x.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let logs = [log(&x), log(&y)];
        let term = |(&x, &y): (&f32, &f32)| {
            let (x, y) = (f64::from(x) - logs[0], f64::from(y) - logs[1]);
            x.exp() * (x - y)
        };
        let exact: f64 = x.iter().zip(&y).map(term).sum();
        let (found, log) = divergence(&x, &y);
        prop_assert!((found - exact).abs() < 1e-12 * (1.0 + exact) && (log - logs[1]).abs() < 1e-12);
        prop_assert_eq!(divergence(&x, &x).0, 0.0);
    }
}
