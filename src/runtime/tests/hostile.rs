//! Files that somebody broke: an error or a result, never a panic.

use super::files::{PEER_BLOCK, PEER_LINEAR};
use crate::circle;
use crate::runtime::{Limits, Program};
use crate::tensor::Tensor;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Enough for every fixture, and little enough that no mutation takes long.
const LIMITS: Limits = Limits { elements: 1 << 20 };

fn run(bytes: &[u8]) -> Option<()> {
    let model = circle::read(bytes).ok()?;
    let program = Program::new(&model, LIMITS).ok()?;
    let inputs: Vec<Tensor> =
        program.inputs().iter().map(|port| Tensor::full(port.shape.clone(), 0.75)).collect();
    let _ = program.run(&inputs);
    let _ = program.run_integers(&inputs);
    let _ = program.audit(&inputs);
    Some(())
}

#[test]
fn ten_thousand_mutations_run_or_are_refused() {
    let mut dice = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut below = |n: usize| usize::try_from(dice.next_u64() % n as u64).unwrap();
    let mut ran = 0;
    for original in [PEER_LINEAR, PEER_BLOCK] {
        for _ in 0..10_000 {
            let mut bytes = original.to_vec();
            for _ in 0..=below(2) {
                let at = below(bytes.len()) & !3;
                match below(3) {
                    0 => bytes[at] ^= 1 << below(8),
                    1 => bytes[at] = [0, 1, 2, 4, 0x7f, 0x80, 0xff][below(7)],
                    _ => {
                        let word = [0, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 2, 64, 1 << 20];
                        let word = word[below(8)].to_le_bytes();
                        if let Some(place) = bytes.get_mut(at..at + 4) {
                            place.copy_from_slice(&word);
                        }
                    }
                }
            }
            ran += usize::from(run(&bytes).is_some());
        }
    }
    assert!(ran > 1000, "only {ran} mutations got as far as running: the test tests little");
}
