//! Orthogonal matrices: products of factors are what they stand for. Who is alone stays so.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Rows of ones, made on demand.
#[derive(Debug)]
struct Ones;

impl Rows for Ones {
    fn fill(&self, _: usize, out: &mut [f32]) {
        out.fill(1.0);
    }
}

/// Whether another thread of the pool took a part of `work`.
fn is_shared(work: impl Fn() + Sync) -> bool {
    let [is_there, is_done, is_shared] = [(); 3].map(|()| AtomicBool::new(false));
    let one = || {
        while !is_there.load(Relaxed) {
            std::hint::spin_loop();
        }
        work();
        is_done.store(true, Relaxed);
    };
    let other = || {
        is_there.store(true, Relaxed);
        while !is_done.load(Relaxed) {
            is_shared.fetch_or(rayon::yield_now() == Some(rayon::Yield::Executed), Relaxed);
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| rayon::join(one, other));
    is_shared.into_inner()
}

#[test]
fn of_several_failures_the_first_is_told_whoever_was_faster() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let work = |i: u32| if i.is_multiple_of(7) && i > 20 { Err(i) } else { Ok(2 * i) };
    for _ in 0..200 {
        assert_eq!(pool.install(|| each(0..90, work)), Err(21));
        assert_eq!(pool.install(|| each(0..21, work)), Ok((0..21).map(|i| 2 * i).collect()));
    }
    assert_eq!(alone(|| each(0..90, work)), Err(21));
}

#[test]
fn nothing_that_is_done_alone_goes_to_other_threads() {
    let rotation = Orthogonal::random(64, false, 1);
    let turn = || rotation.apply(&mut Tensor::full([1 << 10, 64], 1.0), Side::Rows);
    let make = || drop(Tensor::made([1 << 12, 1 << 10], Ones).dense());
    let one = |i: u16| Ok::<_, ()>(Tensor::full([1 << 12], i.into()));
    let each = || drop(each(0..1 << 10, one));
    for work in [&turn as &(dyn Fn() + Sync), &make, &each] {
        assert!((0..1000).any(|_| is_shared(work)));
        assert!(!(0..20).any(|_| is_shared(|| alone(work))));
        let lock = Lock::new(());
        let under = || {
            let _held = lock.hold();
            work();
        };
        assert!(!(0..20).any(|_| is_shared(under)));
    }
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
