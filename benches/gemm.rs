//! Matrix products beside faer's, f32, bf16 and of 8-bit integers: `cargo bench --bench gemm`. With
//! `-- --json` the products of a 2B decoder layer only, as one JSON object of GFLOP/s: `cargo xtask bench`.

use encircle::tensor::{Packed, Par, Products, Run, Steps, Tensor, matmul};
use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef};
use serde_json::json;
use std::time::Instant;

/// Linear layers of a 2B decoder layer at 1024 tokens, as m, k, n.
const LAYER: [[usize; 3]; 4] =
    [[1024, 2048, 2048], [1024, 2048, 1024], [1024, 2048, 6144], [1024, 6144, 2048]];
const OTHERS: [[usize; 3]; 5] =
    [[2048, 2048, 2048], [512, 1024, 3072], [64, 2560, 9728], [64, 1536, 64], [50, 64, 256]];

/// A grid of bytes, zero off its middle, as ranges that are not symmetric have it.
const BYTES: Steps<'_> = Steps { sizes: &[1.0], limits: [-100, 155], span: 255 };

/// GFLOP/s of ours, ours with bf16 factors, faer, and ours of integers on their way from f32 and back: the
/// best of eight interleaved runs each.
fn rates([m, k, n]: [usize; 3]) -> [f64; 4] {
    let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
    let whole = |x: &[f32]| x.iter().map(|x| (x * 100.0).round() + 27.0).collect::<Vec<f32>>();
    let (codes, weight) = (whole(&a), Tensor::new([n, k], whole(&b)));
    let mut out = vec![0.0; m * n];
    let packed =
        [Products::F32, Products::Bf16].map(|products| Packed::from_nt(&b, k, n, products));
    let (par, faer_par) = match m * k * n > 1 << 22 {
        true => (Par::All, faer::Par::rayon(0)),
        false => (Par::Seq, faer::Par::Seq),
    };
    let mut best = [f64::INFINITY; 4];
    for _ in 0..8 {
        for (which, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            match (which, packed.get(which)) {
                (_, Some(packed)) => matmul(&mut out, &a, packed, par),
                (3, _) => {
                    let run = Run::from(par).on_grids(Some([BYTES; 2]));
                    weight.matmul_nt(&mut out, &codes, run);
                }
                _ => {
                    let dst = MatMut::from_row_major_slice_mut(&mut out, m, n);
                    let lhs = MatRef::from_row_major_slice(&a, m, k);
                    let rhs = MatRef::from_row_major_slice(&b, n, k).transpose();
                    faer_matmul(dst, Accum::Replace, lhs, rhs, 1.0, faer_par);
                }
            }
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best.map(|seconds| 2.0 * (m * k * n) as f64 / seconds * 1e-9)
}

fn main() {
    if std::env::args().any(|argument| argument == "--json") {
        let facts =
            LAYER.map(|shape| (shape.map(|n| n.to_string()).join("x"), json!(rates(shape))));
        println!("{}", serde_json::Value::Object(facts.into_iter().collect()));
        return;
    }
    println!(
        "{:>16} {:>8} {:>8} {:>8} {:>8} GFLOP/s {:>14}",
        "m x k x n", "f32", "bf16", "int8", "faer", "f32 to faer"
    );
    for shape in LAYER.into_iter().chain(OTHERS) {
        let [f32s, bf16s, faer, whole] = rates(shape);
        let name = shape.map(|n| n.to_string()).join("x");
        let ratio = f32s / faer;
        println!("{name:>16} {f32s:>8.1} {bf16s:>8.1} {whole:>8.1} {faer:>8.1} {ratio:>22.2}");
    }
}
