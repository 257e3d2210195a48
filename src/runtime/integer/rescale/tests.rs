use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn rescaling_is_within_half_a_step_of_the_real_product(
        acc in -(1_i64 << 40)..1_i64 << 40,
        ratio in -30.0_f64..10.0,
    ) {
        let ratio = ratio.exp2();
        let real = acc as f64 * ratio;
        let found = Rescale::of(ratio).apply(acc) as f64;
        prop_assert!((found - real).abs() <= 0.5 + real.abs() * 2_f64.powi(-30), "{found} {real}");
    }
}

#[test]
fn extremes_neither_overflow_nor_panic() {
    for ratio in [0.0, f64::MIN_POSITIVE, 1e-300, 1e-20, 1.0, 1e20, 1e300, f64::INFINITY] {
        for acc in [i64::MIN, -1, 0, 1, i64::MAX] {
            let _ = Rescale::of(ratio).apply(acc);
        }
    }
    assert_eq!(Rescale::of(0.5).apply(1), 1, "halves go up");
    assert_eq!(Rescale::of(0.5).apply(-1), 0, "halves go up");
    assert_eq!(round_div(-3, 2), -1);
    assert_eq!(round_div(3, 2), 2);
}
