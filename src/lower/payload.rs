//! The bytes of a constant, made while the file is written where they are many.

use crate::circle::{Buffer, Source};
use crate::quant::{self, Grain, QuantParams};
use crate::tensor::{self, Tensor};
use std::io::{self, Write};
use std::sync::Arc;

/// Payloads of so many bytes, and those of tensors made on demand, are made while the file is
/// written, so that no file is ever in memory as a whole.
const LAZY_FROM: u64 = 1 << 20;
/// Reals written at a time.
const CHUNK: usize = 1 << 14;

/// A constant on its grid, or in float.
struct Constant {
    tensor: Tensor,
    params: Option<QuantParams>,
    /// Bits of an element in the file.
    bits: u64,
    digest: u128,
}

/// The payload of a tensor of at most 16 bits or in float, and a key that equal payloads share.
pub(super) fn of(tensor: Tensor, params: Option<&QuantParams>) -> (Buffer, Vec<u8>) {
    let bits = match params {
        Some(QuantParams::Affine { dtype, .. }) => dtype.stored_bits() as u64,
        _ => 32,
    };
    let mut constant = Constant { tensor, params: params.cloned(), bits, digest: 0 };
    if constant.len() < LAZY_FROM && !constant.tensor.is_made() {
        let mut bytes = Vec::new();
        constant.write_to(&mut bytes).expect("invariant: memory takes every byte");
        return (Buffer::data(bytes.clone()), bytes);
    }
    let mut digest = Digest::default();
    constant.write_to(&mut digest).expect("invariant: a hash takes every byte");
    constant.digest = digest.finish();
    let key = constant.digest.to_le_bytes().to_vec();
    (Buffer::Lazy(Arc::new(constant)), key)
}

impl Source for Constant {
    fn len(&self) -> u64 {
        (self.tensor.len() as u64 * self.bits).div_ceil(8)
    }

    fn digest(&self) -> Option<u128> {
        Some(self.digest)
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(params) = &self.params else {
            return self.tensor.each_block(|_, reals| {
                reals.chunks(CHUNK).try_for_each(|reals| out.write_all(&tensor::le_bytes(reals)))
            });
        };
        let shape = self.tensor.shape();
        // Blocks have an even number of rows, so only the last may end within a byte.
        match params {
            QuantParams::Affine { grain: Grain::Tensor | Grain::Axis(0), .. }
                if shape.len() > 1 =>
            {
                let width = self.tensor.row_width();
                self.tensor.each_block(|first, reals| {
                    let mut shape = shape.to_vec();
                    shape[0] = reals.len() / width.max(1);
                    let grid = params.of_rows(first..first + shape[0], width);
                    out.write_all(&quant::packed(&grid, &shape, reals))
                })
            }
            _ => out.write_all(&quant::packed(params, shape, self.tensor.dense().data())),
        }
    }
}

/// 128 bits that tell any two payloads apart: two folded products of every 16 bytes, as many times
/// faster than a keyed hash as a checkpoint is long. Nobody gains by making two payloads collide.
#[derive(Default)]
struct Digest {
    state: [u64; 2],
    len: u64,
    /// What is left of less than 16 bytes.
    rest: Vec<u8>,
}

impl Digest {
    /// Odd numbers without a pattern: the fractions of the roots of 2, 3, 5 and 7.
    const KEYS: [u64; 4] = [
        0x6a09_e667_f3bc_c909,
        0xbb67_ae85_84ca_a73b,
        0x3c6e_f372_fe94_f82b,
        0xa54f_f53a_5f1d_36f1,
    ];

    fn add(&mut self, words: &[u8; 16]) {
        let word = u128::from_le_bytes(*words);
        let (low, high) = (word as u64, (word >> 64) as u64);
        let [a, b, c, d] = Digest::KEYS;
        let fold = |x: u64, y: u64| {
            let product = u128::from(x) * u128::from(y);
            product as u64 ^ (product >> 64) as u64
        };
        let [first, second] = self.state;
        self.state = [
            fold(low ^ a, high ^ first ^ b).wrapping_add(first.rotate_left(23)),
            fold(high ^ c, low ^ second ^ d).wrapping_add(second.rotate_left(41)),
        ];
    }

    fn finish(mut self) -> u128 {
        let mut last = [0; 16];
        last[..self.rest.len()].copy_from_slice(&self.rest);
        self.add(&last);
        let len = u128::from(self.len);
        self.add(&len.to_le_bytes());
        let [low, high] = self.state.map(u128::from);
        high << 64 | low
    }
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        let taken = match self.rest.len() {
            0 => 0,
            held => bytes.len().min(16 - held),
        };
        self.rest.extend_from_slice(&bytes[..taken]);
        if let Ok(words) = <[u8; 16]>::try_from(&self.rest[..]) {
            self.add(&words);
            self.rest.clear();
        }
        let (words, rest) = bytes[taken..].as_chunks::<16>();
        words.iter().for_each(|words| self.add(words));
        self.rest.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
