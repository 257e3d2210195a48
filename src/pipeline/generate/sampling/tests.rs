use super::*;

const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -3.0];

fn counts(how: Sampling) -> [usize; 5] {
    let mut sampler = Sampler::new(how);
    let mut counts = [0; 5];
    (0..20_000).for_each(|_| counts[sampler.draw(&LOGITS) as usize] += 1);
    counts
}

#[test]
fn no_temperature_is_the_first_of_the_most_probable() {
    assert_eq!(counts(Sampling::default()), [0, 20_000, 0, 0, 0]);
}

#[test]
fn frequencies_are_the_softmax_of_the_tempered_logits() {
    let how = Sampling { temperature: 0.7, seed: 3, ..Sampling::default() };
    let weights = LOGITS.map(|x| f64::from(x / 0.7).exp());
    let all: f64 = weights.iter().sum();
    for (count, weight) in counts(how).into_iter().zip(weights) {
        let (found, expected) = (count as f64 / 20_000.0, weight / all);
        assert!((found - expected).abs() < 0.015, "{found} {expected}");
    }
    assert_eq!(counts(how), counts(how));
    assert_ne!(counts(how), counts(Sampling { seed: 4, ..how }));
}

#[test]
fn top_k_and_top_p_leave_the_most_probable() {
    let all = Sampling { temperature: 1.0, ..Sampling::default() };
    let drawn = |how| counts(how).map(|n| n > 0);
    assert_eq!(drawn(Sampling { top_k: 1, ..all }), [false, true, false, false, false]);
    assert_eq!(drawn(Sampling { top_k: 3, ..all }), [false, true, true, true, false]);
    assert_eq!(drawn(Sampling { top_p: 0.5, ..all }), [false, true, false, true, false]);
    assert_eq!(drawn(Sampling { top_p: 0.01, ..all }), [false, true, false, false, false]);
    assert_eq!(drawn(all), [true; 5]);
}

#[test]
fn nonsense_is_refused() {
    let refused = |how: Sampling| how.check().unwrap_err().to_string();
    let greedy = Sampling::default();
    assert_eq!(
        refused(Sampling { temperature: f32::NAN, ..greedy }),
        "temperature: found NaN, expected 0 or more"
    );
    assert_eq!(
        refused(Sampling { top_p: 0.0, ..greedy }),
        "top_p: found 0, expected more than 0, at most 1"
    );
    assert!(greedy.check().is_ok());
}
