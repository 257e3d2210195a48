//! Against the dense matrix.

use super::*;
use crate::tensor::{Steps, Tensor, matmul};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[derive(Debug)]
struct Table(Vec<f32>, usize);

impl Rows for Table {
    fn fill(&self, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[first * self.1..][..out.len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn rows_made_on_demand_give_the_bits_of_the_dense_matrix(
        m in 1usize..30, k in 1usize..2100, blocks in 1usize..3, rest in 0usize..40,
    ) {
        let n = (blocks * block(k) + rest).min(3_000_000 / k).max(1);
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let made = Tensor::made([n, k], Table(b.clone(), k));
        for products in [Products::F32, Products::Bf16] {
            let made = made.clone().with_products(products);
            let mut dense = vec![0.0; m * n];
            matmul(&mut dense, &a, &Packed::from_nt(&b, k, n, products), Par::Seq);
            for par in [Par::Seq, Par::All] {
                let mut out = vec![f32::NAN; m * n];
                let finished: Vec<AtomicU32> = (0..m * n).map(|_| AtomicU32::new(0)).collect();
                let finish = |at: usize, piece: &mut [f32]| {
                    for (times, x) in finished[at..].iter().zip(&*piece) {
                        times.fetch_add(if x.is_nan() { 100 } else { 1 }, Relaxed);
                    }
                };
                made.matmul_nt(&mut out, &a, Run::new(par, &finish));
                prop_assert_eq!(&out, &dense);
                prop_assert!(finished.iter().all(|times| times.load(Relaxed) == 1));
            }
        }
        // The same of numbers on grids, one for the left and one a row for the right.
        let sizes: Vec<f32> = (0..n).map(|i| 0.01 + i as f32 * 1e-5).collect();
        let on = |x: f32, most: f32, size: f32| (x * most).round_ties_even() * size;
        let a: Vec<f32> = a.iter().map(|&x| on(x, 120.0, 0.1)).collect();
        let b: Vec<f32> = b.iter().zip(0..).map(|(&x, i)| on(x, 7.0, sizes[i / k])).collect();
        let left = Steps { sizes: &[0.1], limits: [-128, 127], span: 255 };
        let right = Steps { sizes: &sizes, limits: [-8, 7], span: 15 };
        let grids = |par: Par| Run::from(par).on_grids(Some([left, right]));
        let mut dense = vec![0.0; m * n];
        Tensor::new([n, k], b.clone()).matmul_nt(&mut dense, &a, grids(Par::Seq));
        let made = Tensor::made([n, k], Table(b.clone(), k));
        for par in [Par::Seq, Par::All] {
            let mut out = vec![f32::NAN; m * n];
            made.matmul_nt(&mut out, &a, grids(par));
            prop_assert_eq!(&out, &dense);
        }
        let mut row = vec![0.0; k];
        made.read_rows(n - 1, &mut row);
        prop_assert_eq!(&row, &b[(n - 1) * k..]);
        let all = made.dense();
        prop_assert_eq!(all.data(), &b[..]);
    }
}
