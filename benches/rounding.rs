//! Seconds that GPTQ takes for one layer, from moments to integers: `cargo bench --bench rounding`.
//! `-- OUT IN` measures another size than the down projection of a 2B decoder.

use encircle::algo::{Layer, Moments, ROUNDINGS};
use encircle::quant::{DType, Decision, Grain, Observer, ObserverSpec, Scheme};
use encircle::tensor::Tensor;
use std::time::Instant;

/// Deterministic numbers in (−1, 1).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let [n, k] = sizes[..].try_into().unwrap_or([2048, 6144]);
    let weight = Tensor::new([n, k], noise(n * k, 1));
    let dtype = DType::new(4, false).expect("a width there is");

    let tokens = 2 * k;
    let x = noise(tokens * k, 2);
    let samples: Vec<(&[f32], &[f32])> = x.chunks(512 * k).map(|x| (x, x)).collect();
    let start = Instant::now();
    let mut moments = Moments::new(k, false);
    moments.add_all(&samples);
    println!("{n}x{k}: moments of {tokens} tokens {:.2} s", start.elapsed().as_secs_f64());

    let entry = ROUNDINGS.iter().find(|entry| entry.name == "gptq").expect("it is registered");
    let settings =
        ["search = 'none'\nsweeps = 0\nrefits = 0", "search = 'weighted'\nsweeps = 4\nrefits = 1"];
    for (options, grain) in settings.into_iter().flat_map(|options| {
        [Grain::Axis(0), Grain::Groups(128)].into_iter().map(move |grain| (options, grain))
    }) {
        if grain.grids(&[n, k]).is_none() {
            continue;
        }
        let scheme = Scheme { symmetric: false, grain };
        let decision = Decision::Affine { dtype, scheme, observer: ObserverSpec::MinMax };
        let mut observer = decision.observer().expect("weights are observed");
        observer.observe(weight.data(), weight.shape());
        let ranges = observer.ranges().expect("finite weights");
        let grid = decision.params(&ranges).expect("legal ranges").expect("a grid");
        let table = toml::from_str(options).expect("a table");
        let rounding = (entry.build)(table).expect("known options");
        // Each pays for its own factorization.
        let moments = moments.clone();
        let layer =
            Layer { weight: &weight, decision: &decision, grid: &grid, moments: Some(&moments) };
        let start = Instant::now();
        rounding.round(&layer).expect("exercised inputs");
        println!(
            "{n}x{k}: {}, {grain}: {:.2} s",
            options.replace('\n', ", "),
            start.elapsed().as_secs_f64()
        );
    }
}
