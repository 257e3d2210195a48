use super::*;

fn drawn(shape: &[usize]) -> Vec<f32> {
    let mut out = vec![bf16::ZERO; shape.iter().product()];
    fill("a.weight", shape, 0, 7, &mut out);
    out.iter().map(|x| x.to_f32()).collect()
}

#[test]
fn ordinary_weights_have_the_deviation_of_initialized_ones() {
    let (rows, width) = (64, 4096);
    let all = drawn(&[rows, width]);
    let mut squares: Vec<f32> = (0..width)
        .map(|c| (0..rows).map(|r| all[r * width + c].powi(2)).sum::<f32>() / rows as f32)
        .collect();
    squares.sort_by(f32::total_cmp);
    let median = squares[width / 2].sqrt();
    assert!((median / DEVIATION - 1.0).abs() < 0.1, "{median}");
    let loud = squares.iter().filter(|s| s.sqrt() > 1.9 * DEVIATION).count();
    assert!((4..=40).contains(&loud), "one channel in {RARITY} stands out, found {loud}");
}

#[test]
fn gains_are_about_one() {
    let mean = drawn(&[4096]).iter().sum::<f32>() / 4096.0;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    let whole = drawn(&[3, 70_000]);
    let mut part = vec![bf16::ZERO; 1000];
    fill("a.weight", &[3, 70_000], 99_500, 7, &mut part);
    assert!(part.iter().zip(&whole[99_500..]).all(|(a, b)| a.to_f32() == *b));
}
