//! Against the definition.

use super::*;

#[test]
fn sums_are_those_of_the_definition_whatever_the_blocks() {
    // More than one tile and one block, and rests of both.
    let (k, out, tokens) = (TILE + 3, 5, [BLOCK + 9, 7]);
    let values = |n: usize, seed: usize| -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed) as f32 * 0.7).sin()).collect()
    };
    let seen = tokens.map(|m| values(m * k, m));
    let wanted = tokens.map(|m| values(m * k, 3 * m));
    let streams = tokens.map(|m| [values(m * out, 5 * m), values(m * out, 9 * m)]);
    let mut moments = Moments::new(k, true);
    moments.add_all(&[(&seen[0], &wanted[0]), (&seen[1], &wanted[1])]);
    let drift = [0, 1].map(|i| [&seen[i][..], &streams[i][0], &streams[i][1]]);
    moments.add_drift(&drift, out, &vec![None; drift.len()]);
    let sum = |term: &dyn Fn(usize, usize) -> f64| -> f64 {
        (0..2).map(|i| (0..tokens[i]).map(|t| term(i, t)).sum::<f64>()).sum()
    };
    let x = |i: usize, t: usize, j: usize| f64::from(seen[i][t * k + j]);
    let off = |i: usize, t: usize, j: usize| f64::from(wanted[i][t * k + j]) - x(i, t, j);
    for (i, j) in [(0, 0), (2, TILE + 1), (TILE + 2, 1), (TILE, TILE)] {
        let expected = sum(&|s, t| x(s, t, i) * x(s, t, j));
        assert!((moments.hessian()[i * k + j] - expected).abs() < 1e-3);
        let expected = sum(&|s, t| off(s, t, i) * x(s, t, j));
        assert!((moments.gap().unwrap()[i * k + j] - expected).abs() < 1e-3);
    }
    let lost = |s: usize, t: usize| {
        let [a, b] = [0, 1].map(|side| f64::from(streams[s][side][t * out + 4]));
        (a - b) * x(s, t, 2)
    };
    assert!((moments.drift().unwrap()[4 * k + 2] - sum(&lost)).abs() < 1e-3);
    assert_eq!(moments.tokens(), (tokens[0] + tokens[1]) as u64);
}

#[test]
fn damping_that_had_to_be_raised_is_told() {
    let k = 4;
    let mut moments = Moments::new(k, false);
    // One direction only: rank 1.
    moments.add_all(&[(&[1.0; 8], &[1.0; 8])]);
    assert!(moments.raised_damping().is_none(), "nothing was factored yet");
    moments.factor(false, 1e-17).unwrap();
    let [asked, needed] = moments.raised_damping().unwrap();
    assert!(asked == 1e-17 && needed >= 10.0 * asked, "{asked} {needed}");
    moments.add_all(&[(&[1.0; 8], &[1.0; 8])]);
    moments.factor(false, 0.01).unwrap();
    assert_eq!(moments.raised_damping(), None);
}
