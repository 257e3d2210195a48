use super::*;

#[test]
fn figures_follow_their_definitions() {
    let mut summary = ErrorSummary::default();
    assert_eq!(summary.figures(), None);
    summary.add(&[0.0, 1.0, 2.0, 4.0], &[0.0, 1.5, 2.0, 3.0]);
    let figures = summary.figures().unwrap();
    assert_eq!(figures.mean_abs_diff, 0.375);
    assert_eq!(figures.max_abs_diff, 1.0);
    assert_eq!(figures.peir, 0.25);
    assert_eq!(figures.mse, 0.3125);
    assert!((figures.sqnr_db.unwrap() - 10.0 * (21.0f64 / 1.25).log10()).abs() < 1e-12);
    assert!((figures.cosine - 17.5 / (21.0f64 * 15.25).sqrt()).abs() < 1e-12);
}

#[test]
fn what_is_not_a_number_shows_in_every_figure() {
    for (float, quantized) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
        let mut summary = ErrorSummary::default();
        summary.add(&[0.0, 2.0], &[0.0, 2.0]);
        summary.add(&[float, 2.0], &[quantized, 2.0]);
        summary.add(&[0.0, 2.0], &[0.0, 1.0]);
        let figures = summary.figures().unwrap();
        let all = [figures.max_abs_diff, figures.peir, figures.cosine, figures.sqnr_db.unwrap()];
        assert!(all.iter().all(|figure| figure.is_nan()), "{figures:?}");
    }
}

#[test]
fn peir_is_that_of_the_worst_sample() {
    let mut summary = ErrorSummary::default();
    summary.add(&[0.0, 10.0], &[0.0, 9.0]);
    summary.add(&[0.0, 1.0], &[0.0, 0.5]);
    assert_eq!(summary.figures().unwrap().peir, 0.5);
}
