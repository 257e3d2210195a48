//! Laws of the roundings, on random layers.

mod groups;

use super::autoround::{AutoRound, Learning, Start};
use super::gptq::{Gptq, Search};
use super::mse::Mse;
use super::qronos::Qronos;
use super::rtn::Rtn;
use super::*;
use crate::calibrate::Plan;
use crate::exec::Weights;
use crate::graph::{Builder, Graph, Kind, ValueId};
use crate::quant::{DType, Grain, Observer, ObserverSpec, Policy, Scheme};
use crate::tensor::Rows;
use proptest::prelude::*;

/// Deterministic numbers in (−1, 1).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len + 8).map(|_| next()).skip(8).collect()
}

fn decision(bits: u8, grain: Grain) -> Decision {
    let dtype = DType::new(bits, false).unwrap();
    let scheme = Scheme { symmetric: false, grain };
    Decision::Affine { dtype, scheme, observer: ObserverSpec::MinMax }
}

fn min_max(decision: &Decision, weight: &Tensor) -> QuantParams {
    let mut observer = decision.observer().unwrap();
    observer.observe(weight.data(), weight.shape());
    decision.params(&observer.ranges().unwrap()).unwrap().unwrap()
}

/// Rounds a weight with a grid a row and returns Ŵ.
fn round(rounding: &dyn Rounding, weight: &Tensor, bits: u8, moments: &Moments) -> Tensor {
    cut(rounding, weight, (bits, Grain::Axis(0)), moments)
}

/// Rounds a weight and returns Ŵ.
fn cut(
    rounding: &dyn Rounding,
    weight: &Tensor,
    (bits, grain): (u8, Grain),
    moments: &Moments,
) -> Tensor {
    let decision = decision(bits, grain);
    let grid = min_max(&decision, weight);
    let layer = Layer { weight, decision: &decision, grid: &grid, moments: Some(moments) };
    let rounded = rounding.round(&layer).unwrap();
    // What is returned lies on the grid that is returned, which has all that was asked for.
    rounded.grid.check(weight.shape()).unwrap();
    assert_eq!(rounded.grid.group(), grid.group());
    let mut again = rounded.weight.clone();
    crate::quant::round(&rounded.grid, &mut again);
    assert_eq!(again, rounded.weight);
    rounded.weight
}

/// Inputs whose columns depend on each other, as activations do.
fn inputs(tokens: usize, k: usize, seed: u64) -> Vec<f32> {
    let x = noise(tokens * k, seed);
    let mix = |t: usize, j: usize| x[t * k + j] + 1.5 * x[t * k + j / 2] * (1.0 + (j % 3) as f32);
    (0..tokens * k).map(|i| mix(i / k, i % k)).collect()
}

fn moments(x: &[f32], wanted: &[f32], k: usize, two: bool) -> Moments {
    let mut moments = Moments::new(k, two);
    moments.add_all(&[(x, wanted)]);
    moments
}

/// ‖(W − Ŵ)X̂ᵀ‖²
fn error(weight: &Tensor, rounded: &Tensor, moments: &Moments) -> f64 {
    let k = moments.width();
    let rows = weight.data().chunks(k).zip(rounded.data().chunks(k));
    rows.map(|(w, q)| {
        let e: Vec<f64> = w.iter().zip(q).map(|(w, q)| f64::from(w - q)).collect();
        (0..k * k).map(|p| e[p / k] * e[p % k] * moments.hessian()[p]).sum::<f64>()
    })
    .sum()
}

fn plain() -> Gptq {
    Gptq { search: Search::None, sweeps: 0, refits: 0, ..Gptq::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gptq_with_the_identity_as_hessian_equals_rtn(n in 1usize..5, k in 1usize..24, seed in 0u64..999) {
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let identity: Vec<f32> = (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect();
        let moments = moments(&identity, &identity, k, false);
        let expected = round(&Rtn {}, &weight, 4, &moments);
        prop_assert_eq!(&round(&plain(), &weight, 4, &moments), &expected);
        let descended = Gptq { sweeps: 8, ..plain() };
        prop_assert_eq!(&round(&descended, &weight, 4, &moments), &expected);
    }

    #[test]
    fn without_a_search_the_policys_observer_gives_the_grids(n in 1usize..5, seed in 0u64..999) {
        let k = 64;
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let moments = moments(&inputs(90, k, seed), &inputs(90, k, seed), k, false);
        for observer in ["percentile:80", "mse", "octav", "minmax"] {
            let Decision::Affine { dtype, scheme, .. } = decision(4, Grain::Axis(0)) else { panic!() };
            let decision = Decision::Affine { dtype, scheme, observer: observer.parse().unwrap() };
            let grid = min_max(&decision, &weight);
            let layer =
                Layer { weight: &weight, decision: &decision, grid: &grid, moments: Some(&moments) };
            prop_assert_eq!(&plain().round(&layer).unwrap().grid, &grid, "{}", observer);
        }
    }

    #[test]
    fn two_equal_streams_equal_one(seed in 0u64..999) {
        let (n, k) = (3, 12);
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(60, k, seed + 1);
        let gptq = Gptq::default();
        let one = round(&gptq, &weight, 4, &moments(&x, &x, k, false));
        let two = round(&Qronos { alpha: 1.0, beta: 0.0, gptq }, &weight, 4, &moments(&x, &x, k, true));
        for (a, b) in one.data().iter().zip(two.data()) {
            prop_assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn scale_search_is_never_worse_than_min_max_on_its_own_objective(seed in 0u64..999, bits in 2u8..9) {
        let (n, k) = (2, 40);
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(50, k, seed);
        let moments = moments(&x, &x, k, false);
        let weighted = |q: &Tensor| -> f64 {
            let miss = weight.data().iter().zip(q.data()).map(|(w, q)| f64::from(w - q).powi(2));
            miss.enumerate().map(|(i, e)| e * moments.hessian()[i % k * (k + 1)]).sum()
        };
        let found = weighted(&round(&Mse::default(), &weight, bits, &moments));
        let start = weighted(&round(&Rtn {}, &weight, bits, &moments));
        prop_assert!(found <= start * (1.0 + 1e-5), "{found} {start}");
    }

    #[test]
    fn descent_never_makes_gptq_worse(seed in 0u64..999, bits in 2u8..5) {
        let (n, k) = (3, 24);
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(80, k, seed + 5);
        let moments = moments(&x, &x, k, false);
        let damp = 1e-9;
        let gptq = Gptq { damp, sweeps: 0, refits: 0, ..Gptq::default() };
        let before = error(&weight, &round(&gptq, &weight, bits, &moments), &moments);
        let more = Gptq { damp, ..Gptq::default() };
        let after = error(&weight, &round(&more, &weight, bits, &moments), &moments);
        prop_assert!(after <= before * (1.0 + 1e-5), "{after} {before}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn learned_rounding_never_ends_worse_than_it_began(seed in 0u64..999, bits in 2u8..6) {
        let (n, k) = (3, 24);
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(80, k, seed + 5);
        let moments = moments(&x, &x, k, false);
        for (start, search) in [(Start::Nearest, Search::Weighted), (Start::Gptq, Search::None)] {
            let gptq = Gptq { search, damp: 1e-9, ..plain() };
            let learning = |steps| Learning { start, steps, ..Learning::default() };
            let learned = |steps| {
                let rounding = AutoRound { learning: learning(steps), gptq };
                error(&weight, &round(&rounding, &weight, bits, &moments), &moments)
            };
            let (before, after) = (learned(0), learned(40));
            prop_assert!(after <= before * (1.0 + 1e-5), "{start:?} {after} {before}");
        }
    }

    #[test]
    fn learned_rounding_without_steps_is_its_start(seed in 0u64..999) {
        let (n, k) = (2, 20);
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(60, k, seed + 5);
        let moments = moments(&x, &x, k, false);
        let learning = |start| Learning { start, steps: 0, ..Learning::default() };
        let from = |start, gptq| AutoRound { learning: learning(start), gptq };
        let nearest = round(&from(Start::Nearest, plain()), &weight, 4, &moments);
        prop_assert_eq!(nearest, round(&Rtn {}, &weight, 4, &moments));
        let compensated = round(&from(Start::Gptq, Gptq::default()), &weight, 4, &moments);
        prop_assert_eq!(compensated, round(&Gptq::default(), &weight, 4, &moments));
    }
}

#[test]
fn learned_rounding_gains_on_nearest_and_on_gptq_in_the_mean() {
    let (n, k) = (4, 32);
    for start in [Start::Nearest, Start::Gptq] {
        let mut totals = [0.0; 2];
        for seed in 0..12 {
            let weight = Tensor::new([n, k], noise(n * k, seed));
            let x = inputs(100, k, seed + 50);
            let moments = moments(&x, &x, k, false);
            for (total, steps) in totals.iter_mut().zip([0, 60]) {
                let learning = Learning { start, steps, ..Learning::default() };
                let rounding = AutoRound { learning, gptq: plain() };
                *total += error(&weight, &round(&rounding, &weight, 3, &moments), &moments);
            }
        }
        assert!(totals[1] < 0.95 * totals[0], "{start:?} {totals:?}");
    }
}

#[test]
fn layers_that_end_in_a_stream_bring_back_what_it_lost() {
    let (n, k, tokens) = (4, 16, 200);
    let weight = Tensor::new([n, k], noise(n * k, 3));
    let x = inputs(tokens, k, 4);
    // The stream lost a part that can be seen in the inputs, and noise that cannot.
    let unseen = noise(tokens * n, 9);
    let lost: Vec<f32> =
        (0..tokens * n).map(|i| 0.2 * x[i / n * k + i % n] + 0.01 * unseen[i]).collect();
    let mut moments = moments(&x, &x, k, true);
    moments.add_drift(&[[&x[..], &lost[..], &vec![0.0; lost.len()][..]]], n, &[None]);
    let miss = |beta| -> f64 {
        let q = round(&Qronos { alpha: 1.0, beta, gptq: Gptq::default() }, &weight, 8, &moments);
        let left = |t: usize, r: usize| -> f32 {
            let change = |j: usize| (weight.data()[r * k + j] - q.data()[r * k + j]) * x[t * k + j];
            lost[t * n + r] + (0..k).map(change).sum::<f32>()
        };
        (0..tokens * n).map(|i| f64::from(left(i / n, i % n)).powi(2)).sum()
    };
    assert!(miss(1.0) < 0.1 * miss(0.0), "{} {}", miss(1.0), miss(0.0));
}

#[test]
fn a_row_that_counts_three_times_is_a_row_that_came_three_times() {
    let (n, k, tokens) = (3, 6, 5);
    let [seen, wanted] = [1, 2].map(|seed| noise(tokens * k, seed));
    let [float, quantized] = [3, 4].map(|seed| noise(tokens * n, seed));
    let repeated = |x: &[f32], width: usize| -> Vec<f32> {
        let times = |row: usize| if row == 1 || row == 4 { 3 } else { 1 };
        let rows = x.chunks(width).enumerate();
        rows.flat_map(|(i, row)| std::iter::repeat_n(row, times(i)).flatten().copied()).collect()
    };
    let root = 3f64.sqrt();
    let mut weighed = Moments::new(k, true);
    let roots = [Some(vec![1.0, root, 1.0, 1.0, root])];
    weighed.add_weighed(&[(&seen, &wanted)], &roots);
    weighed.add_drift(&[[&seen, &float, &quantized]], n, &roots);
    let mut came = Moments::new(k, true);
    came.add_all(&[(&repeated(&seen, k), &repeated(&wanted, k))]);
    let [a, b, c] = [(&seen, k), (&float, n), (&quantized, n)].map(|(x, w)| repeated(x, w));
    came.add_drift(&[[&a, &b, &c]], n, &[None]);
    // Blocks are summed in f32.
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near(weighed.hessian(), came.hessian()));
    assert!(near(weighed.gap().unwrap(), came.gap().unwrap()));
    assert!(near(weighed.drift().unwrap(), came.drift().unwrap()));
}

#[test]
fn each_rung_of_the_ladder_lowers_the_layer_error_in_the_mean() {
    let (n, k) = (4, 32);
    let mut totals = [0.0; 4];
    for seed in 0..12 {
        let weight = Tensor::new([n, k], noise(n * k, seed));
        let x = inputs(100, k, seed + 50);
        let moments = moments(&x, &x, k, false);
        let rungs: [&dyn Rounding; 4] = [
            &Rtn {},
            &Mse::default(),
            &Gptq { sweeps: 0, refits: 0, ..Gptq::default() },
            &Gptq::default(),
        ];
        for (total, rung) in totals.iter_mut().zip(rungs) {
            *total += error(&weight, &round(rung, &weight, 3, &moments), &moments);
        }
    }
    assert!(totals.windows(2).all(|pair| pair[1] < pair[0]), "{totals:?}");
}

#[test]
fn two_streams_repair_what_earlier_layers_broke() {
    let (n, k) = (4, 16);
    let weight = Tensor::new([n, k], noise(n * k, 3));
    let wanted = inputs(200, k, 4);
    let seen: Vec<f32> =
        wanted.iter().zip(noise(200 * k, 9)).map(|(x, e)| 0.9 * x + 0.05 * e).collect();
    let moments = moments(&seen, &wanted, k, true);
    let output = |w: &Tensor, x: &[f32]| -> Vec<f32> {
        let dot = |t: usize, r: usize| (0..k).map(|j| w.data()[r * k + j] * x[t * k + j]).sum();
        (0..200 * n).map(|i| dot(i / n, i % n)).collect()
    };
    let miss = |q: &Tensor| -> f64 {
        let pairs = output(&weight, &wanted).into_iter().zip(output(q, &seen));
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let gptq = Gptq::default();
    let one = miss(&round(&gptq, &weight, 6, &moments));
    let two = miss(&round(&Qronos { alpha: 1.0, beta: 0.0, gptq }, &weight, 6, &moments));
    assert!(two < one / 2.0, "{two} {one}");
}

#[test]
fn roundings_do_not_depend_on_the_number_of_threads() {
    let (n, k) = (9, 70);
    let weight = Tensor::new([n, k], noise(n * k, 1));
    let (x, y) = (inputs(150, k, 2), inputs(150, k, 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let moments = moments(&x, &y, k, true);
            let gptq = Gptq::default();
            let learning = Learning { alpha: 0.5, ..Learning::default() };
            let learned = AutoRound { learning, gptq };
            let two = Qronos { alpha: 0.5, beta: 0.0, gptq };
            [&two as &dyn Rounding, &learned].map(|r| round(r, &weight, 4, &moments))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_layer_that_no_sample_exercises_is_refused_with_the_reason() {
    let weight = Tensor::new([2, 3], noise(6, 1));
    let decision = decision(4, Grain::Axis(0));
    let grid = min_max(&decision, &weight);
    let silent = moments(&[0.0; 6], &[0.0; 6], 3, false);
    let layer = Layer { weight: &weight, decision: &decision, grid: &grid, moments: Some(&silent) };
    assert_eq!(Gptq::default().round(&layer).unwrap_err(), AlgoError::NoInputs);
    let broken = moments(&[f32::NAN; 6], &[0.0; 6], 3, false);
    let layer = Layer { moments: Some(&broken), ..layer };
    assert_eq!(Gptq::default().round(&layer).unwrap_err(), AlgoError::NonFinite);
}

#[test]
fn unknown_roundings_and_options_name_the_nearest_and_the_key() {
    let spec = |text: &str| toml::from_str::<AlgoSpec>(text).unwrap().rounding().err().unwrap();
    let unknown = spec("rounding = \"gptqq\"").to_string();
    assert!(unknown.contains("did you mean `gptq`"), "{unknown}");
    let option = spec("rounding = \"gptq\"\noptions = { dampp = 1.0 }").to_string();
    assert!(option.contains("dampp"), "{option}");
}

#[test]
fn options_of_two_structures_are_known_and_bounded_together() {
    let spec = |rounding: &str, options: &str| {
        let text = format!("rounding = \"{rounding}\"\noptions = {{ {options} }}");
        toml::from_str::<AlgoSpec>(&text).unwrap().rounding().err().map(|e| e.to_string())
    };
    for entry in ROUNDINGS {
        let keys = entry.keys.concat();
        for key in &keys {
            // Of no type that any option has: the key itself is known.
            let error = spec(entry.name, &format!("{key} = 1979-05-27")).unwrap();
            assert!(!error.contains("unknown field"), "{}: {error}", entry.name);
        }
        let error = spec(entry.name, "candidatos = 8").unwrap();
        assert!(keys.iter().all(|key| error.contains(&format!("`{key}`"))), "{error}");
    }
    for (rounding, option, bounds) in [
        ("gptq", "damp = 0.0", "damp: found 0, expected a number between 0.000000000001 and"),
        ("gptq", "damp = nan", "damp: found NaN"),
        ("gptq", "damp = inf", "damp: found inf"),
        ("mse", "candidates = 0", "candidates: found 0, expected a number between 1 and 1000"),
        ("qronos", "alpha = nan", "alpha: found NaN, expected a number between 0 and 1"),
        ("qronos", "beta = -1", "beta: found -1, expected a number between 0 and 1"),
        ("autoround", "alpha = 1.5", "alpha: found 1.5"),
        ("autoround", "rate = -0.5", "rate: found -0.5"),
    ] {
        let error = spec(rounding, option).unwrap();
        assert!(error.starts_with(&format!("algo.options.{bounds}")), "{error}");
    }
    let rotate = toml::from_str::<AlgoSpec>("rotate = { tries = 0 }").unwrap();
    let error = rotate.check().unwrap_err().to_string();
    assert_eq!(error, "algo.rotate.tries: found 0, expected a number between 1 and 1000");
    assert_eq!(spec("autoround", "steps = 9, alpha = 1, beta = 0.5, damp = 1"), None);
}

#[test]
fn every_folder_is_registered() {
    let names: Vec<&str> = ROUNDINGS.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["rtn", "mse", "gptq", "qronos", "autoround"]);
}

/// Nothing is known, and nobody is told.
struct Nobody;

impl Ledger<SessionError> for Nobody {
    fn known(&self, _: &Graph, _: ValueId) -> Option<(Chosen, Vec<Note>)> {
        None
    }

    fn done(&self, _: &Graph, _: ValueId, _: (&Chosen, &[Note])) -> Result<(), SessionError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Made(Tensor);

impl Rows for Made {
    fn fill(&self, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0.data()[first * self.0.row_width()..][..out.len()]);
    }
}

#[test]
fn rows_of_zeros_have_room_for_their_bias_and_others_keep_their_grids() {
    let mut g = Builder::new("pruned");
    let x = g.input("x", [1, 2], Kind::Real);
    let y = g.linear("y", x, 3, true);
    let graph = g.finish(&[y]).unwrap();
    let [weight, bias] = graph.nodes[0].inputs[1..] else { panic!("a weight and a bias") };
    let dense = Tensor::new([3, 2], vec![0.0, 0.0, 1e-11, -2e-11, 0.5, -0.25]);
    let biases = Tensor::new([3], vec![-0.7, 0.7, 0.125]);
    for axis in ["0", "\"tensor\""] {
        for made in [false, true] {
            let policy: Policy = toml::from_str(&format!("weight = {{ axis = {axis} }}")).unwrap();
            let (plan, mut graph) = (Plan::new(&graph, &policy).unwrap(), graph.clone());
            graph.values[x.index()].qparams = Some(QuantParams::per_tensor(DType::UINT8, 0.01, 7));
            let mut float = Weights::none(&graph);
            let tensor = match made {
                true => Tensor::made([3, 2], Made(dense.clone())),
                false => dense.clone(),
            };
            float.set(weight, tensor);
            float.set(bias, biases.clone());
            let rounding = &Rtn {};
            let session = Session { plan: &plan, nodes: 0..1, float: &float, rounding };
            let mut rounded = Weights::none(&graph);
            session.run(&mut graph, &mut rounded, None, &Nobody).unwrap();
            let own = plan.weight_grid(weight, "w", &dense).unwrap().unwrap();
            let found = graph.value(weight).qparams.clone().unwrap();
            assert_eq!(found.row_scales(3).unwrap().last(), own.row_scales(3).unwrap().last());
            let mut again = rounded.get(weight).unwrap().dense();
            assert_eq!(again.data()[..4], [0.0; 4]);
            crate::quant::round(&found, &mut again);
            assert_eq!(again, rounded.get(weight).unwrap().dense());
            for (a, b) in rounded.get(bias).unwrap().data().iter().zip(biases.data()) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
    }
}
