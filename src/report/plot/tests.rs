use super::*;

#[test]
fn agreement_is_the_diagonal() {
    let x: Vec<f32> = (0..200).map(|i| i as f32).collect();
    let plot = scatter(&x, &x);
    let rows: Vec<&str> = plot.lines().filter(|line| line.contains('┤')).collect();
    let start = |row: &str| row.chars().position(|c| MARKS.contains(&c));
    let starts: Vec<usize> = rows.iter().filter_map(|row| start(row)).collect();
    assert!(starts.windows(2).all(|w| w[0] > w[1]), "{plot}");
}

#[test]
fn plot_fits_80_columns_and_survives_odd_data() {
    for data in [&[][..], &[f32::NAN], &[1.0], &[-1e30, 1e30], &[0.0; 9]] {
        assert!(scatter(data, data).lines().all(|line| line.chars().count() <= 80));
    }
}
