//! Laws of roundings with a grid for every group of inputs.

use super::*;

/// ‖(W − Ŵ)X̂ᵀ‖² by each rounding, with groups of `size` and with a grid a row.
fn both(rounding: &dyn Rounding, weight: &Tensor, size: usize, moments: &Moments) -> [f64; 2] {
    [Grain::Groups(size), Grain::Axis(0)]
        .map(|grain| error(weight, &cut(rounding, weight, (3, grain), moments), moments))
}

/// Rows whose groups differ in size, as those of trained weights do.
fn uneven(n: usize, k: usize, size: usize, seed: u64) -> Tensor {
    let noise = noise(n * k, seed);
    let scale = |i: usize| 0.2 + ((i % k / size + i / k) * 7 % 5) as f32;
    Tensor::new([n, k], noise.iter().enumerate().map(|(i, x)| x * scale(i)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_group_as_wide_as_the_row_is_a_grid_a_row(
        n in 1usize..40, k in 1usize..50, act_order in any::<bool>(), seed in 0u64..999
    ) {
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(2 * k + 9, k, seed + 3);
        let moments = moments(&x, &x, k, true);
        let gptq = Gptq { act_order, ..Gptq::default() };
        let qronos = Qronos { alpha: 0.5, beta: 0.0, gptq };
        let (weighted, none) = (Gptq { search: Search::Weighted, ..gptq }, Gptq { act_order, ..plain() });
        let roundings: [&dyn Rounding; 6] =
            [&Rtn {}, &Mse::default(), &gptq, &weighted, &none, &qronos];
        for rounding in roundings {
            let found = cut(rounding, &weight, (4, Grain::Groups(k)), &moments);
            prop_assert_eq!(&found, &round(rounding, &weight, 4, &moments));
        }
    }

    #[test]
    fn gptq_with_the_identity_as_hessian_equals_rtn_in_groups(
        n in 1usize..5, groups in 1usize..5, size in 1usize..45, act_order in any::<bool>(), seed in 0u64..999
    ) {
        let k = groups * size;
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let identity: Vec<f32> = (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect();
        let moments = moments(&identity, &identity, k, false);
        let of = (4, Grain::Groups(size));
        let expected = cut(&Rtn {}, &weight, of, &moments);
        for sweeps in [0, 4] {
            let gptq = Gptq { act_order, sweeps, ..plain() };
            prop_assert_eq!(&cut(&gptq, &weight, of, &moments), &expected);
        }
    }

    #[test]
    fn scale_search_in_groups_is_never_worse_than_min_max_on_its_own_objective(
        size in prop::sample::select(vec![1usize, 5, 8, 20]), seed in 0u64..999, bits in 2u8..9
    ) {
        let (n, k) = (2, 40);
        let weight = uneven(n, k, size, seed);
        let x = inputs(50, k, seed);
        let moments = moments(&x, &x, k, false);
        let weighted = |q: &Tensor| -> f64 {
            let miss = weight.data().iter().zip(q.data()).map(|(w, q)| f64::from(w - q).powi(2));
            miss.enumerate().map(|(i, e)| e * moments.hessian()[i % k * (k + 1)]).sum()
        };
        let of = (bits, Grain::Groups(size));
        let found = weighted(&cut(&Mse::default(), &weight, of, &moments));
        let start = weighted(&cut(&Rtn {}, &weight, of, &moments));
        prop_assert!(found <= start * (1.0 + 1e-5), "{found} {start}");
    }

    #[test]
    fn descent_and_refits_never_make_groups_worse(
        act_order in any::<bool>(), refits in 0usize..3, seed in 0u64..999
    ) {
        let (n, k, size) = (3, 24, 6);
        let weight = uneven(n, k, size, seed);
        let x = inputs(80, k, seed + 5);
        let moments = moments(&x, &x, k, false);
        let gptq = Gptq { damp: 1e-9, act_order, sweeps: 0, refits: 0, ..Gptq::default() };
        let of = (3, Grain::Groups(size));
        let before = error(&weight, &cut(&gptq, &weight, of, &moments), &moments);
        let more = Gptq { sweeps: 8, refits, ..gptq };
        let after = error(&weight, &cut(&more, &weight, of, &moments), &moments);
        prop_assert!(after <= before * (1.0 + 1e-5), "{after} {before}");
    }
}

/// The textbook: the inverse's Cholesky factor U, columns left to right, and a grid from the columns
/// as they stand at the start of each group.
fn textbook(weight: &Tensor, hessian: &[f64], size: usize, damp: f64) -> Vec<f64> {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    let mean = (0..k).map(|j| hessian[j * k + j]).sum::<f64>() / k as f64;
    // The inverse by Gauss and Jordan, then U with UᵀU = H⁻¹, row by row.
    let at = |i: usize, j: usize| hessian[i * k + j] + if i == j { damp * mean } else { 0.0 };
    let mut a: Vec<Vec<f64>> = (0..k)
        .map(|i| {
            (0..2 * k)
                .map(|j| if j < k { at(i, j) } else { f64::from(u8::from(j - k == i)) })
                .collect()
        })
        .collect();
    for i in 0..k {
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|x| *x /= pivot);
        let row = a[i].clone();
        for (_, other) in a.iter_mut().enumerate().filter(|(r, _)| *r != i) {
            let factor = other[i];
            other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
        }
    }
    let mut u = vec![vec![0.0; k]; k];
    for i in 0..k {
        for j in i..k {
            let known: f64 = (0..i).map(|l| u[l][i] * u[l][j]).sum();
            let rest = a[i][k + j] - known;
            u[i][j] = if i == j { rest.sqrt() } else { rest / u[i][i] };
        }
    }
    let mut w: Vec<f64> = weight.data().iter().map(|&x| x.into()).collect();
    for row in w.chunks_mut(k) {
        let (mut scale, mut zero) = (1.0, 0.0);
        for j in 0..k {
            if j % size == 0 {
                let range = row[j..j + size]
                    .iter()
                    .fold([0.0f64; 2], |[lo, hi], &x| [lo.min(x), hi.max(x)]);
                let grid = QuantParams::from_range(
                    DType::UINT4,
                    Scheme::PER_TENSOR_ASYMM,
                    crate::quant::Range::new(range[0] as f32, range[1] as f32),
                );
                let (s, z) = grid.unwrap().as_per_tensor().unwrap();
                (scale, zero) = (f64::from(s), f64::from(z));
            }
            let q = ((row[j] / scale).round_ties_even() + zero).clamp(0.0, 15.0) - zero;
            let miss = (row[j] - q * scale) / u[j][j];
            for l in j + 1..k {
                row[l] -= miss * u[j][l];
            }
            row[j] = q * scale;
        }
    }
    assert_eq!(w.len(), n * k);
    w
}

#[test]
fn grids_of_groups_come_from_columns_that_already_make_up_for_errors_as_in_the_paper() {
    let (n, k) = (5, 96);
    let weight = Tensor::new([n, k], noise(n * k, 11));
    let x = inputs(300, k, 12);
    let moments = moments(&x, &x, k, false);
    // Blocks that hold groups, groups that hold blocks, and groups that blocks do not divide.
    for size in [8, 12, 32, 48] {
        let gptq = Gptq { act_order: false, ..plain() };
        let found = cut(&gptq, &weight, (4, Grain::Groups(size)), &moments);
        let expected = textbook(&weight, moments.hessian(), size, gptq.damp);
        for (found, expected) in found.data().iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{size}: {found} {expected}");
        }
    }
}

#[test]
fn groups_of_uneven_weights_lose_less_in_every_rounding() {
    let (n, k, size) = (4, 64, 16);
    let qronos = Qronos { alpha: 0.5, beta: 0.0, gptq: Gptq::default() };
    let in_order = Gptq { act_order: false, ..Gptq::default() };
    let roundings: [&dyn Rounding; 5] =
        [&Rtn {}, &Mse::default(), &Gptq::default(), &in_order, &qronos];
    for (i, rounding) in roundings.into_iter().enumerate() {
        let mut totals = [0.0; 2];
        for seed in 0..6 {
            let weight = uneven(n, k, size, seed);
            let x = inputs(200, k, seed + 50);
            let found = both(rounding, &weight, size, &moments(&x, &x, k, true));
            totals.iter_mut().zip(found).for_each(|(total, found)| *total += found);
        }
        assert!(totals[0] < 0.8 * totals[1], "{i}: {totals:?}");
    }
}

#[test]
fn search_after_compensation_in_groups_beats_the_other_searches_in_the_mean() {
    let (n, k, size) = (4, 64, 16);
    for act_order in [true, false] {
        let mut totals = [0.0; 3];
        for seed in 0..12 {
            let weight = uneven(n, k, size, seed);
            let x = inputs(200, k, seed + 50);
            let moments = moments(&x, &x, k, false);
            let searches = [Search::None, Search::Weighted, Search::Compensated];
            for (total, search) in totals.iter_mut().zip(searches) {
                let gptq = Gptq { act_order, search, ..plain() };
                let found = cut(&gptq, &weight, (3, Grain::Groups(size)), &moments);
                *total += error(&weight, &found, &moments);
            }
        }
        assert!(totals[2] < totals[0] && totals[2] < totals[1], "{act_order}: {totals:?}");
    }
}

#[test]
fn learned_rounding_refuses_groups() {
    let weight = Tensor::new([2, 8], noise(16, 1));
    let x = inputs(20, 8, 2);
    let moments = moments(&x, &x, 8, false);
    let decision = decision(4, Grain::Groups(4));
    let grid = min_max(&decision, &weight);
    let layer =
        Layer { weight: &weight, decision: &decision, grid: &grid, moments: Some(&moments) };
    assert!(!AutoRound::default().groups() && Gptq::default().groups());
    let error = AutoRound::default().round(&layer).unwrap_err().to_string();
    assert!(error.contains("autoround") && error.contains("in groups of 4"), "{error}");
}
