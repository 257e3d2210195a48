use super::*;

#[test]
fn equal_models_have_no_divergence() {
    let mut answers = Answers::default();
    let logits = [0.0, 1.0, 2.0, 3.0, 1.0, 0.0];
    answers.add(&[2, 0], &logits, &logits);
    let score = answers.score().unwrap();
    assert_eq!((score.exact, score.kl, score.tokens), (1.0, 0.0, 2));
}

#[test]
fn tokens_of_the_prompt_count_in_the_divergence_over_all_tokens_alone() {
    let mut answers = Answers::default();
    let (even, skewed) = ([0.0, 0.0], [(3.0f32).ln(), 0.0]);
    answers.add(&[1], &even, &even);
    answers.add_given(2, &[even, even, even].concat(), &[even, skewed, even].concat());
    let score = answers.score().unwrap();
    assert_eq!((score.kl, score.tokens, score.tokens_all), (0.0, 1, 4));
    // KL((1/2, 1/2) ‖ (3/4, 1/4)) = ½ ln (4/3)
    assert!((score.kl_all - 0.5 * (4f64 / 3.0).ln() / 4.0).abs() < 1e-7, "{}", score.kl_all);
}

#[test]
fn the_high_quantile_is_that_of_single_tokens() {
    let mut answers = Answers::default();
    let (even, skewed) = ([0.0, 0.0], [(3.0f32).ln(), 0.0]);
    for row in 0..1000 {
        answers.add(&[0], &even, if row < 2 { &skewed } else { &even });
    }
    let score = answers.score().unwrap();
    let one = 0.5 * (4f64 / 3.0).ln();
    assert!((score.kl_999 - one).abs() < 1e-6 && (score.kl - one / 500.0).abs() < 1e-6);
}

#[test]
fn one_wrong_token_spoils_the_row_and_the_divergence_is_the_definition() {
    let mut answers = Answers::default();
    answers.add(&[1], &[0.0, (3.0f32).ln()], &[(3.0f32).ln(), 0.0]);
    let score = answers.score().unwrap();
    // KL((1/4, 3/4) ‖ (3/4, 1/4)) = ½ ln 3
    assert!((score.kl - 0.5 * 3f64.ln()).abs() < 1e-6);
    assert_eq!(score.exact, 0.0);
    assert!((score.answer_ppl - 4.0).abs() < 1e-5);
}
