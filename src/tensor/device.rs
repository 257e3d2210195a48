//! Another device that multiplies by large weights. Weights stay there as long as their tensors live;
//! activations go there and come back with every product.

pub(super) use super::cuda::Held;

use std::sync::{Mutex, OnceLock, PoisonError};

/// Multiply-adds below which the way to the device costs more than the product.
const WORTHWHILE: usize = 1 << 24;

/// Where products by large weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// On this processor.
    #[default]
    Cpu,
    /// On the first CUDA device, by cuBLAS in f32. Results differ from the processor's as sums in
    /// another order do.
    Cuda,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A library is not there.
    #[error(
        "device: found cuda, but {library} is not installed: expected a CUDA driver and cuBLAS 12"
    )]
    NoLibrary {
        /// Its name.
        library: &'static str,
    },
    /// The driver says no.
    #[error("device: found cuda, but it cannot be used: {0}")]
    Driver(String),
}

/// A weight on the device; none if it cannot be there.
pub(super) type Slot = OnceLock<Option<Held>>;

/// What went wrong on the device first.
static TROUBLE: Mutex<Option<String>> = Mutex::new(None);

/// From now on, products of this process by large weights are computed on `device`.
///
/// # Errors
/// A device that is not there.
pub fn use_device(device: Device) -> Result<(), DeviceError> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda => super::cuda::open(),
    }
}

/// The first thing that went wrong on the device. Products that it did not compute were computed
/// on the processor.
pub fn device_trouble() -> Option<String> {
    TROUBLE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Whether products may be computed elsewhere.
pub(super) fn in_use() -> bool {
    super::cuda::opened().is_some()
}

/// `out [m, n] = a [m, k] · bᵀ` for a weight `[n, k]`, if a device does it.
pub(super) fn multiplied<'b>(
    out: &mut [f32],
    a: &[f32],
    slot: &Slot,
    b: impl FnOnce() -> &'b [f32],
    [n, k]: [usize; 2],
) -> bool {
    let Some(cuda) = super::cuda::opened() else { return false };
    if out.len() * k < WORTHWHILE {
        return false;
    }
    let held = slot.get_or_init(|| noted(cuda.hold(b())));
    held.as_ref().is_some_and(|held| noted(cuda.multiply(out, a, held, [n, k])).is_some())
}

/// The value, or nothing and a note.
fn noted<T>(result: Result<T, String>) -> Option<T> {
    result
        .inspect_err(|trouble| {
            let mut first = TROUBLE.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| trouble.clone());
        })
        .ok()
}
