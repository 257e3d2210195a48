use super::isa::{FLOATS, FUSED};
use super::*;
use proptest::prelude::*;

fn operands(m: usize, k: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let a = (0..m * k).map(|i| ((i * 7 % 13) as f32) - 6.0).collect();
    let b = (0..n * k).map(|i| ((i * 5 % 11) as f32) - 5.0).collect();
    (a, b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn products_equal_the_definition(
        m in 1usize..40,
        k in prop_oneof![4 => 1usize..70, 1 => 2040usize..2060],
        n in prop_oneof![4 => 1usize..80, 1 => 505usize..530],
    ) {
        // Small integers: every sum is exact, so any order gives the same result.
        let (a, b) = operands(m, k, n);
        let mut out = vec![f32::NAN; m * n];
        matmul(&mut out, &a, &Packed::from_nt(&b, k, n, Products::F32), Par::Seq);
        for i in 0..m * n {
            let exact: f32 = (0..k).map(|p| a[i / n * k + p] * b[i % n * k + p]).sum();
            prop_assert_eq!(out[i], exact);
        }
        let transposed: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        let mut again = vec![f32::NAN; m * n];
        matmul(&mut again, &a, &Packed::from_nn(&transposed, k, n, Par::All), Par::All);
        prop_assert_eq!(&out, &again);
        // They are bf16 numbers too.
        let mut paired = vec![f32::NAN; m * n];
        matmul(&mut paired, &a, &Packed::from_nt(&b, k, n, Products::Bf16), Par::All);
        prop_assert_eq!(out, paired);
    }

    #[test]
    fn bf16_products_keep_to_their_bound(m in 1usize..30, k in 1usize..300, n in 1usize..50) {
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
        let mut out = vec![f32::NAN; m * n];
        matmul(&mut out, &a, &Packed::from_nt(&b, k, n, Products::Bf16), Par::Seq);
        for (i, out) in out.into_iter().enumerate() {
            let terms = (0..k).map(|p| {
                f64::from(a[i / n * k + p]) * f64::from(b[i % n * k + p])
            });
            let (exact, size) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
            // Each factor is off by at most 2⁻⁸; and what f32 sums of 300 terms may lose.
            let bound = (1.0 + 1.0 / 256.0_f64).powi(2) - 1.0 + 2e-5;
            prop_assert!((f64::from(out) - exact).abs() <= bound * size);
        }
    }
}

#[test]
fn factors_rounded_apart_multiply_as_pairs_of_the_processor() {
    let (m, k, n) = (13, 57, 37);
    let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
    let mut outs = [vec![0.0f32; m * n], vec![0.0f32; m * n]];
    let [rounded_a, rounded_b] = [&a, &b].map(|x| pairs::rounded(x, Par::Seq));
    let packed = Packed::from_nt(&rounded_b, k, n, Products::F32);
    matmul(&mut outs[0], &rounded_a, &packed, Par::Seq);
    matmul(&mut outs[1], &a, &Packed::from_nt(&b, k, n, Products::Bf16), Par::Seq);
    for (x, y) in outs[0].iter().zip(&outs[1]) {
        // The order of sums differs, the factors do not.
        assert!((x - y).abs() < 1e-5, "{x} {y}");
    }
}

#[test]
fn result_does_not_depend_on_the_number_of_threads() {
    let (m, k, n) = (150, 2100, 333);
    let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
    for products in [Products::F32, Products::Bf16] {
        let packed = Packed::from_nt(&b, k, n, products);
        let run = |threads: usize, par| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; m * n];
            pool.install(|| matmul(&mut out, &a, &packed, par));
            out
        };
        let one = run(1, Par::Seq);
        for threads in [1, 2, 3, 7] {
            assert_eq!(one, run(threads, Par::All));
        }
        let finish = |at: usize, piece: &mut [f32]| {
            piece.iter_mut().zip(at..).for_each(|(x, i)| *x += i as f32);
        };
        for par in [Par::Seq, Par::All] {
            let mut out = vec![0.0; m * n];
            matmul(&mut out, &a, &packed, Run::new(par, &finish));
            let each = out.iter().zip(&one).enumerate();
            each.for_each(|(i, (x, y))| assert_eq!(*x, y + i as f32, "finished once: {i}"));
        }
    }
}

/// A processor may be wider than another, but what it computes is the same: files written on different
/// machines are compared, and machines of one cluster share a job.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    // Without fused multiply-add there are other roundings.
    let fused = FLOATS.into_iter().filter(|isa| FUSED || *isa != Isa::Portable);
    let fused: Vec<Isa> = fused.filter(|isa| isa.is_here()).collect();
    for [m, k, n] in [[13_usize, 57, 37], [14, 2300, 70], [5, 1500, 33], [30, 5000, 530]] {
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
        let product = |isa: Isa| {
            let packed = Packed::from_words(&b, [k, n, k], isa, Products::F32);
            let mut out = vec![f32::NAN; m * n];
            product(&mut out, &a, &packed, None, Par::Seq.into());
            out
        };
        let first = product(fused[0]);
        for &isa in &fused[1..] {
            assert_eq!(first, product(isa), "{isa:?}");
        }
    }
}
