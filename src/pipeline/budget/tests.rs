use super::*;

fn choice(elements: u64, losses: [f64; 2]) -> Choice {
    let candidate = |(dtype, loss): (DType, f64)| {
        let bits = elements * u64::from(dtype.bits());
        Candidate { dtype, bytes: bits / 8, loss, bits }
    };
    let candidates = [DType::UINT4, DType::UINT8].into_iter().zip(losses).map(candidate);
    Choice { name: "w".into(), elements, candidates: candidates.collect(), chosen: 0 }
}

#[test]
fn the_weight_that_gains_most_gets_the_bits() {
    let mut choices = vec![choice(64, [0.5, 0.1]), choice(64, [0.9, 0.1])];
    decide(&mut choices, Budget::Bits(6.0), 0).unwrap();
    assert_eq!([choices[0].chosen, choices[1].chosen], [0, 1]);
    decide(&mut choices, Budget::Bits(5.9), 0).unwrap();
    assert_eq!([choices[0].chosen, choices[1].chosen], [0, 0]);
}

#[test]
fn impossible_budgets_name_the_least_possible_size() {
    let mut choices = vec![choice(1 << 20, [0.5, 0.1])];
    for (budget, least) in [(Budget::Bits(3.5), "4.0"), (Budget::Mib(1.0), "1.5")] {
        let error = decide(&mut choices, budget, 1 << 20).unwrap_err().to_string();
        assert!(error.contains(least), "{error}");
    }
    assert!(decide(&mut choices, Budget::Bits(f64::NAN), 0).is_err());
}
