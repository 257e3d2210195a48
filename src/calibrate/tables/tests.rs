use super::*;
use crate::quant::{DType, Scheme};

#[derive(Debug)]
struct Sines(usize);

impl Rows for Sines {
    fn fill(&self, first: usize, out: &mut [f32]) {
        let start = first * self.0;
        out.iter_mut().enumerate().for_each(|(i, x)| *x = ((start + i) as f32).sin());
    }
}

#[test]
fn a_table_gets_the_grid_and_the_numbers_of_the_dense_matrix() {
    let (n, k) = (3001, 700);
    let made = Tensor::made([n, k], Sines(k));
    let dense = made.dense();
    let (rows, whole) = (Scheme::per_channel_asymm(0), Scheme::PER_TENSOR_ASYMM);
    let groups = Scheme { symmetric: false, grain: Grain::Groups(100) };
    for (scheme, observer) in [
        (rows, ObserverSpec::MinMax),
        (rows, ObserverSpec::Mse),
        (groups, ObserverSpec::MinMax),
        (groups, ObserverSpec::Mse),
        (groups, ObserverSpec::Octav),
        (whole, ObserverSpec::MinMax),
        (whole, ObserverSpec::Mse),
    ] {
        let decision = Decision::Affine { dtype: DType::UINT8, scheme, observer };
        let found = ranges(&decision, &made).unwrap();
        assert_eq!(found, ranges(&decision, &dense).unwrap(), "{scheme} {observer:?}");
        let grid = decision.params(&found).unwrap().unwrap();
        let (a, b) = (rounded(made.clone(), &grid), rounded(dense.clone(), &grid));
        assert!(a.is_made() && !b.is_made());
        assert_eq!(a, b, "{scheme} {observer:?}");
    }
}
