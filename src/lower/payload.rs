//! The bytes of a constant, made while the file is written where they are many.

use crate::circle::{Buffer, Source};
use crate::quant::{self, QuantParams};
use crate::tensor::Tensor;
use std::hash::{DefaultHasher, Hasher};
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
        Some(QuantParams::Affine { dtype, .. }) => match dtype.bits() {
            0..=4 => 4,
            5..=8 => 8,
            _ => 16,
        },
        _ => 32,
    };
    let mut constant = Constant { tensor, params: params.cloned(), bits, digest: 0 };
    if constant.len() < LAZY_FROM && !constant.tensor.is_made() {
        let mut bytes = Vec::new();
        constant.write_to(&mut bytes).expect("invariant: memory takes every byte");
        return (Buffer::data(bytes.clone()), bytes);
    }
    // Two hashes of 64 bits over different beginnings: 128 bits tell any two payloads apart.
    let mut digest = Digest([DefaultHasher::new(), DefaultHasher::new()]);
    digest.0[1].write_u8(1);
    constant.write_to(&mut digest).expect("invariant: a hash takes every byte");
    let [low, high] = digest.0.map(|hash| u128::from(hash.finish()));
    constant.digest = high << 64 | low;
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
                reals.chunks(CHUNK).try_for_each(|reals| {
                    let bytes: Vec<u8> = reals.iter().flat_map(|x| x.to_le_bytes()).collect();
                    out.write_all(&bytes)
                })
            });
        };
        let shape = self.tensor.shape();
        // Blocks have an even number of rows, so only the last may end within a byte.
        match params {
            QuantParams::Affine { axis: None | Some(0), .. } if shape.len() > 1 => {
                let width = self.tensor.row_width();
                self.tensor.each_block(|first, reals| {
                    let mut shape = shape.to_vec();
                    shape[0] = reals.len() / width.max(1);
                    let grid = params.of_rows(first..first + shape[0]);
                    self.write_codes(&quant::quantize(&grid, &shape, reals), out)
                })
            }
            _ => self.write_codes(&quant::quantize(params, shape, self.tensor.dense().data()), out),
        }
    }
}

impl Constant {
    fn write_codes(&self, codes: &[i32], out: &mut dyn Write) -> io::Result<()> {
        match self.bits {
            4 => out.write_all(&quant::pack4(codes)),
            8 => codes.chunks(CHUNK).try_for_each(|codes| {
                let bytes: Vec<u8> = codes.iter().map(|&q| q as u8).collect();
                out.write_all(&bytes)
            }),
            _ => codes.chunks(CHUNK).try_for_each(|codes| {
                let bytes: Vec<u8> = codes.iter().flat_map(|&q| (q as u16).to_le_bytes()).collect();
                out.write_all(&bytes)
            }),
        }
    }
}

struct Digest([DefaultHasher; 2]);

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.iter_mut().for_each(|hash| hash.write(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
