//! f32 matrix products beside faer's, as a ratio: `cargo bench --bench gemm`.

use encircle::tensor::{Packed, Par, matmul};
use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef};
use std::time::Instant;

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[3]
}

fn main() {
    println!("{:>18} {:>10} {:>10} {:>8}", "m x k x n", "ours", "faer", "ratio");
    let shapes = [
        [2048, 2048, 2048],
        [1024, 2048, 6144],
        [1024, 6144, 2048],
        [512, 1024, 3072],
        [64, 2560, 9728],
        [64, 1536, 64],
        [50, 64, 256],
    ];
    for [m, k, n] in shapes {
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.73).cos()).collect();
        let mut out = vec![0.0; m * n];
        let packed = Packed::from_nt(&b, k, n);
        let (par, faer_par) = if m * k * n > 1 << 22 {
            (Par::All, faer::Par::rayon(0))
        } else {
            (Par::Seq, faer::Par::Seq)
        };
        let ours = median(|| matmul(&mut out, &a, &packed, par));
        let faer = median(|| {
            let dst = MatMut::from_row_major_slice_mut(&mut out, m, n);
            let lhs = MatRef::from_row_major_slice(&a, m, k);
            let rhs = MatRef::from_row_major_slice(&b, n, k).transpose();
            faer_matmul(dst, Accum::Replace, lhs, rhs, 1.0, faer_par);
        });
        let rate = |s: f64| format!("{:.1} GF/s", 2.0 * (m * k * n) as f64 / s * 1e-9);
        println!(
            "{:>18} {:>10} {:>10} {:>8.2}",
            format!("{m}x{k}x{n}"),
            rate(ours),
            rate(faer),
            faer / ours
        );
    }
}
