//! Bytes that somebody broke, by chance or on purpose: an error or a model, never a panic.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::sample::{PEER_BLOCK, PEER_LINEAR, small};
use crate::circle::*;

/// Dice with a fixed seed.
struct Dice(TestRng);

impl Dice {
    fn new() -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[42; 32]))
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.0.next_u64() % n as u64).unwrap()
    }
}

/// What everything downstream of the reader does with a model it got.
fn use_up(bytes: &[u8]) {
    if let Ok(model) = read(bytes) {
        let _ = to_bytes(&model);
    }
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = [0, 1, 4, 0x7f, 0x80, 0xff][dice.below(6)],
            2 if at > 8 => bytes.truncate(at),
            _ => {
                let at = at & !3;
                let word = [0u32, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 4, 64, 1 << 20];
                let word = word[dice.below(word.len())].to_le_bytes();
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&word);
                }
            }
        }
    }
}

#[test]
fn ten_thousand_mutations_never_panic() {
    let ours = to_bytes(&small()).unwrap();
    let mut dice = Dice::new();
    for original in [&ours[..], PEER_LINEAR, PEER_BLOCK] {
        for _ in 0..10_000 {
            let mut bytes = original.to_vec();
            mutate(&mut bytes, &mut dice);
            use_up(&bytes);
        }
    }
}

#[test]
fn every_truncation_is_an_error_or_a_model() {
    let ours = to_bytes(&small()).unwrap();
    for len in 0..ours.len() {
        assert!(read(&ours[..len]).is_err(), "{len} of {} bytes", ours.len());
        use_up(&PEER_LINEAR[..len.min(PEER_LINEAR.len())]);
    }
}

#[test]
fn a_vector_of_one_shared_table_is_bounded() {
    // A root whose `subgraphs` are 200,000 times one graph, which has 200,000 times one tensor.
    let n = 200_000u32;
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, v: u32| bytes.extend_from_slice(&v.to_le_bytes());
    word(&mut bytes, 24);
    bytes.extend_from_slice(b"CIR0");
    // At 8 a vtable whose slots 0 and 2 share the field at offset 4, at 20 one without slots.
    [10u16, 8, 4, 0, 4, 0, 4, 4].iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    word(&mut bytes, 16); // root at 24
    word(&mut bytes, 4); // its field at 28 refers to 32
    word(&mut bytes, n);
    let table = 36 + 4 * n;
    (0..n).for_each(|i| word(&mut bytes, table - (36 + 4 * i)));
    word(&mut bytes, table - 8);
    word(&mut bytes, 4);
    word(&mut bytes, n);
    let leaf = table + 12 + 4 * n;
    (0..n).for_each(|i| word(&mut bytes, leaf - (table + 12 + 4 * i)));
    word(&mut bytes, leaf - 20);
    bytes.extend_from_slice(&[0; 8]);
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WorkLimit { .. }), "{error}");
}

#[test]
fn errors_say_where() {
    let mut bytes = to_bytes(&small()).unwrap();
    assert_eq!(read(&bytes[..7]).unwrap_err().to_string(), "a file of 7 bytes has no identifier");
    let name = bytes.windows(12).position(|w| w == b"layer.weight").unwrap();
    bytes[name - 4..name].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = read(&bytes).unwrap_err();
    assert_eq!(error.at(), "subgraphs[0].tensors[1].name");
    bytes[4..8].copy_from_slice(b"CIR\xff");
    let expected = "bytes 4..8 are \"CIR\\xff\", expected \"CIR0\" or \"TFL3\"";
    assert_eq!(read(&bytes).unwrap_err().to_string(), expected);
}

#[test]
fn a_payload_may_not_pass_the_end() {
    let how = WriteOptions { payloads: Payloads::Appended, ..WriteOptions::default() };
    let mut bytes = Vec::new();
    write_with(&small(), &how, &mut bytes).unwrap();
    bytes.truncate(bytes.len() - 1);
    let error = read(&bytes).unwrap_err();
    assert_eq!(error.at(), "buffers[2]");
}
