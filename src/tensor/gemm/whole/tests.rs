//! Against the definition, and one instruction set against the other.

use super::super::isa::WHOLES;
use super::*;
use proptest::prelude::*;

/// Numbers `[rows, k]` on a grid of a step a row.
fn on_grid(seeds: &[u64], k: usize, sizes: &[f32], [low, high]: [i32; 2]) -> Vec<f32> {
    let each = seeds.iter().zip(0..).map(|(seed, i)| {
        let range = (high - low + 1) as u64;
        (low + (seed % range) as i32) as f32 * sizes[(i / k) % sizes.len()]
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn products_in_integers_are_those_of_the_numbers(
        m in 1usize..20,
        k in prop_oneof![4 => 1usize..70, 1 => 500usize..1300],
        n in prop_oneof![4 => 1usize..50, 1 => 505usize..530],
        bits in 0usize..4,
        per_row: bool,
        seed: u64,
    ) {
        let left = [[-128, 127], [-200, 55], [-32768, 32767], [0, 255]][bits];
        let right = [[-127, 127], [-128, 127], [-8, 7], [-200, 55]][bits];
        let noise = |n: usize, seed: u64| -> Vec<u64> {
            let next = |x: &mut u64| {
                *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Some(*x >> 33)
            };
            std::iter::repeat_n((), n).scan(seed, |x, ()| next(x)).collect()
        };
        let sizes: Vec<f32> = (0..if per_row { n } else { 1 }).map(|i| 0.01 + 0.003 * i as f32).collect();
        let a = on_grid(&noise(m * k, seed), k, &[0.37], left);
        let b = on_grid(&noise(n * k, !seed), k, &sizes, right);
        let span = |[low, high]: [i32; 2]| high.abs_diff(low);
        let steps = [
            Steps { sizes: &[0.37], limits: left, span: span(left) },
            Steps { sizes: &sizes, limits: right, span: span(right) },
        ];
        let whole = Whole::from_nt(&b, [n, k], steps).unwrap();
        let (mut out, mut again) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
        for (out, par) in [(&mut out, Par::Seq), (&mut again, Par::All)] {
            whole.multiply(out, &Integers::of(&a, k, steps, par).unwrap(), par.into());
        }
        prop_assert_eq!(&out, &again);
        for (i, out) in out.iter().enumerate() {
            let terms = (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(b[i % n * k + p]));
            let (exact, size) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
            prop_assert!((f64::from(*out) - exact).abs() <= 1e-6 * size, "{} {}", out, exact);
        }
    }
}

fn grid<'a>(sizes: &'a [f32], [low, high]: [i32; 2]) -> Steps<'a> {
    Steps { sizes, limits: [low, high], span: high.abs_diff(low) }
}

/// As in `gemm/tests.rs` for f32.
#[test]
fn every_instruction_set_multiplies_integers_alike() {
    for [m, k, n] in [[13_usize, 57, 37], [1, 3, 1], [14, 2302, 70], [25, 5003, 33]] {
        for (left, right) in [
            ([0, 255], [-128, 127]),
            ([-255, 0], [-8, 7]),
            ([-128, 127], [0, 255]),
            ([-3, 252], [-203, 52]),
            ([-32768, 32767], [-203, 52]),
        ] {
            let spread = |n: usize, by: usize, [low, high]: [i32; 2]| -> Vec<f32> {
                let range = (high - low + 1) as usize;
                (0..n).map(|i| (low + (i * by % 8191 % range) as i32) as f32 * 0.25).collect()
            };
            let (a, mut b) = (spread(m * k, 7919, left), spread(n * k, 104_729, right));
            // Of one row nothing need be taken.
            b[..k].iter_mut().for_each(|x| *x = x.clamp(-32.0, 31.75));
            let both = [grid(&[0.25], left), grid(&[0.25], right)];
            let product = |isa: Isa| {
                let way = Way::by(isa, k, both).unwrap();
                let b = Whole::by(way, &b, [n, k], both[1]).unwrap();
                let a = Integers::by(way, &a, k, both, Par::Seq).unwrap();
                let mut out = vec![f32::NAN; m * n];
                b.multiply(&mut out, &a, Par::Seq.into());
                out
            };
            let pairs = product(Isa::PortableWhole);
            let fours = Isa::bytes().filter(|_| bytes(both));
            let here = WHOLES.into_iter().filter(|isa| isa.is_here()).chain(fours);
            for isa in here {
                assert_eq!(pairs, product(isa), "{isa:?} {m} {k} {n} {left:?} {right:?}");
            }
        }
    }
}

#[test]
fn a_row_that_does_not_fit_its_claim_is_left_to_f32() {
    let (left, right) = (grid(&[1.0], [0, 255]), grid(&[1.0], [-255, 255]));
    let both = [left, Steps { span: 255, ..right }];
    assert!(bytes(both));
    assert!(Whole::from_nt(&[-100.0, 0.0, 155.0, 0.0], [2, 2], both).is_some());
    if Isa::bytes().is_some() {
        assert!(Whole::from_nt(&[-100.0, 156.0, 155.0, 0.0], [2, 2], both).is_none());
    }
}

#[test]
fn a_right_operand_serves_left_ones_of_both_widths() {
    let (k, n) = (70, 3);
    let b: Vec<f32> = (0..n * k).map(|i| (i % 15) as f32 - 7.0).collect();
    let a: Vec<f32> = (0..k).map(|i| (i % 200) as f32).collect();
    let exact = |row: usize| (0..k).map(|p| a[p] * b[row * k + p]).sum::<f32>();
    let wholes = Wholes::default();
    for limits in [[0, 255], [-32768, 32767], [-10, 245]] {
        let both = [grid(&[1.0], limits), grid(&[1.0], [-8, 7])];
        let mut out = [f32::NAN; 3];
        let whole = wholes.of(|| &b, [n, k], both).unwrap();
        whole.multiply(&mut out, &Integers::of(&a, k, both, Par::Seq).unwrap(), Par::Seq.into());
        assert_eq!(out, [0, 1, 2].map(exact));
    }
}

#[test]
fn sums_that_32_bits_cannot_hold_are_left_to_f32() {
    let steps = |low, high| grid(&[1.0], [low, high]);
    let (bytes, wide, past) = (steps(-128, 127), steps(-32768, 32767), steps(0, 65535));
    for (left, right, fits) in [
        (wide, bytes, true),
        (bytes, bytes, true),
        (wide, wide, false),
        (past, bytes, false),
        (bytes, past, false),
    ] {
        let both = [left, right];
        assert_eq!(Integers::of(&[1.0; 4], 4, both, Par::Seq).is_some(), fits, "{both:?}");
        assert_eq!(Whole::from_nt(&[1.0; 4], [1, 4], both).is_some(), fits, "{both:?}");
    }
    // The extremes of both, summed up over a block and further.
    let k = 2000;
    let (a, b) = (vec![-32768.0; k], vec![-128.0; k]);
    let whole = Whole::from_nt(&b, [1, k], [wide, bytes]).unwrap();
    let mut out = [0.0];
    let a = Integers::of(&a, k, [wide, bytes], Par::Seq).unwrap();
    whole.multiply(&mut out, &a, Par::Seq.into());
    assert_eq!(out, [32768.0 * 128.0 * k as f32]);
}
