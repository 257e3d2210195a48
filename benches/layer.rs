//! One decoder layer of the 2B shape: in float, calibrating, and fake-quantized; the first two with
//! bf16 products too.
//!
//! `cargo bench --bench layer -- [--tokens 1024] [--layers 1] [--samples 1] [--repeat 5]` prints one
//! JSON object with medians in seconds, all samples together where it calibrates;
//! `tools/bench_layer.py` runs it beside the peer on the same shape.

use encircle::calibrate::{Observing, Plan, Quantizing, Statistics, quantize_constants};
use encircle::checkpoint::Config;
use encircle::exec::{Float, Lifetimes, Stream, Tap, Weights};
use encircle::graph::Graph;
use encircle::layout::Layout;
use encircle::models::{self, Feed, Head, Request};
use encircle::pipeline::Numerics;
use encircle::tensor::{Par, Products, Tensor};
use serde_json::{Value, json};
use std::time::Instant;

/// That of the program: whoever asks for large payloads gets large pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let (tokens, repeat) = (argument("--tokens", 1024), argument("--repeat", 5));
    let samples = argument("--samples", 1);
    let policy = Numerics::find("w8a8-minmax").expect("a known recipe").policy;
    let graph = layers(tokens, argument("--layers", 1));
    let plan = Plan::new(&graph, &policy).expect("the policy fits");
    let mut weights = Weights::none(&graph);
    for (id, param) in graph.params() {
        let gain = param.stored_shape.len() == 1;
        let deviation = if gain { 0.1 } else { 0.02 };
        let mut tensor = drawn(id.index() as u64, &graph.value(id).shape, deviation);
        if gain {
            tensor.data_mut().iter_mut().for_each(|x| *x += 1.0);
        }
        weights.set(id, tensor);
    }
    let inputs: Vec<Tensor> =
        graph.inputs.iter().map(|&id| drawn(7, &graph.value(id).shape, 1.0)).collect();

    let calibrating = |weights: &Weights, samples: usize| {
        let mut statistics = Statistics::new(&plan);
        let mut tap = Observing { plan: &plan, statistics: &mut statistics };
        (0..samples).for_each(|_| run(&graph, &inputs, weights, &mut tap));
        statistics
    };
    let mut quantized = graph.clone();
    let param = |id| weights.get(id).cloned().expect("all weights are there");
    let statistics = calibrating(&weights, 1);
    plan.annotate_activations(&mut quantized, &statistics, &param).expect("ranges are finite");
    let mut tensors: Vec<_> = graph.params().map(|(id, _)| (id, param(id))).collect();
    plan.quantize_weights(&mut quantized, &mut tensors).expect("grids exist");
    quantize_constants(&mut quantized);
    let rounded = Weights::rounded(&quantized, tensors);
    let tap = Quantizing::of(&quantized);
    let pairs = weights.with_products(Products::Bf16);

    let observe = |weights| drop(calibrating(weights, samples));
    let medians = timed(
        repeat,
        [
            &|| run(&graph, &inputs, &weights, &mut Float),
            &|| observe(&weights),
            &|| run(&quantized, &inputs, &rounded, &mut &tap),
            &|| run(&graph, &inputs, &pairs, &mut Float),
            &|| observe(&pairs),
        ],
    );
    let [float, calibrating, fake, float_bf16, calibrating_bf16] = medians;

    let work = work(&graph);
    let facts = json!({
        "tokens": tokens,
        "threads": rayon::current_num_threads(),
        "gflop": work / 1e9,
        "gflop_per_second": work / float / 1e9,
        "seconds": {
            "float": float,
            "calibrating": calibrating,
            "quantized": fake,
            "float bf16": float_bf16,
            "calibrating bf16": calibrating_bf16,
        },
    });
    println!("{facts}");
}

/// Decoder layers alone, fed embeddings `[1, tokens, hidden]`.
fn layers(tokens: usize, count: usize) -> Graph {
    let size = models::sizes().find(|size| size.name.ends_with("-2b")).expect("a known size");
    let mut raw: Value = serde_json::from_str(size.config).expect("a test reads it");
    raw["text_config"]["num_hidden_layers"] = count.into();
    raw["vision_config"]["deepstack_visual_indexes"] = json!([0]);
    let config = Config::parse("config.json", raw).expect("a legal config");
    let layout = Layout::text(tokens).expect("a legal length");
    let request = Request { feed: Feed::Embeds, head: Head::Hidden, ..Request::new(layout) };
    models::build(&config, &request).expect("a known family").rewritten()
}

/// Floating-point operations of the products.
fn work(graph: &Graph) -> f64 {
    let product = |shape: &[usize]| shape.iter().product::<usize>() as f64;
    let mut work = 0.0;
    for node in &graph.nodes {
        let shape = |i: usize| &graph.value(node.inputs[i]).shape[..];
        let out = product(&graph.value(node.output).shape);
        work += match &node.op {
            encircle::ops::Op::Linear(_) | encircle::ops::Op::MatMul(_) => {
                2.0 * out * *shape(0).last().unwrap_or(&0) as f64
            }
            _ => 0.0,
        };
    }
    work
}

fn run(graph: &Graph, inputs: &[Tensor], weights: &Weights, tap: &mut dyn Tap) {
    let lifetimes = Lifetimes::of(graph);
    let mut stream = Stream::start(graph, inputs.to_vec(), tap);
    stream.run(graph, 0..graph.nodes.len(), weights, &lifetimes, tap, Par::All);
}

/// The medians of `repeat` runs of each job after one that warms up, in seconds. The jobs take turns, so
/// that whatever slows the machine for a while slows all of them.
fn timed<const N: usize>(repeat: usize, jobs: [&dyn Fn(); N]) -> [f64; N] {
    jobs.iter().for_each(|job| job());
    let mut times = [(); N].map(|()| Vec::new());
    for _ in 0..repeat.max(1) {
        for (job, times) in jobs.iter().zip(&mut times) {
            let start = Instant::now();
            job();
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn drawn(seed: u64, shape: &[usize], deviation: f32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data = (0..shape.iter().product::<usize>()).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let sum: u64 = (0..4).map(|i| state >> (16 * i) & 0xffff).sum();
        deviation * (sum as f32 - 131_070.0) / 37_837.2
    });
    Tensor::new(shape, data.collect())
}

fn argument(name: &str, default: usize) -> usize {
    let mut all = std::env::args().skip_while(|a| a != name).skip(1);
    all.next().map_or(default, |value| value.parse().expect("a number follows"))
}
