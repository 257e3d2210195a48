//! Orthogonal matrices: products of factors are what they stand for. Who is alone stays so.

use super::*;
use rayon::prelude::*;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// Rows of ones, in so many blocks that the pool would be asked.
#[derive(Debug)]
struct Ones;

impl Rows for Ones {
    fn fill(&self, _: usize, out: &mut [f32]) {
        out.fill(1.0);
    }
}

#[test]
fn whoever_holds_a_lock_alone_is_not_given_work_that_wants_it() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let (lock, rotation) = (Mutex::new(()), Orthogonal::random(16, false, 1));
        pool.install(|| {
            (0..64).into_par_iter().for_each(|_| {
                let _held = lock.lock().unwrap();
                alone(|| {
                    let mut all = Tensor::made([1 << 12, 1 << 10], Ones).dense();
                    rotation.apply(&mut all, Side::Rows);
                });
            });
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn rotations_are_orthogonal_and_fix_ones_on_request() {
    for n in [1, 2, 3, 8, 12, 24, 96] {
        for fix in [false, true] {
            let r = Orthogonal::random(n, fix, 7).matrix();
            for i in 0..n {
                for j in 0..n {
                    let dot: f64 = (0..n).map(|l| r[i * n + l] * r[j * n + l]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12, "{n} {fix}");
                }
                let sum: f64 = r[i * n..(i + 1) * n].iter().sum();
                assert!(!fix || (sum - 1.0).abs() < 1e-12, "{n}: {sum}");
            }
        }
    }
}

#[test]
fn factors_turn_as_their_product_does_on_either_side_and_in_every_copy() {
    for (n, fix) in [(12, false), (12, true), (8, false), (7, true)] {
        let r = Orthogonal::random(n, fix, 3);
        let dense = Orthogonal::dense(n, r.matrix());
        let data: Vec<f32> = (0..2 * n * 3 * n).map(|i| (i as f32 * 0.7).sin()).collect();
        let whole = Tensor::new([2 * n, 3 * n], data);
        for side in [Side::Rows, Side::Outputs] {
            let (mut a, mut b) = (whole.clone(), whole.clone());
            r.apply(&mut a, side);
            dense.apply(&mut b, side);
            assert!(a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-6));
            assert_ne!(a, whole);
        }
    }
}
