//! The first CUDA device, through cuBLAS.

use super::device::DeviceError;
use cudarc::cublas::sys::{self as cublas, cublasOperation_t as Op};
use cudarc::cublas::{CudaBlas, Gemm, GemmConfig};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, sys as driver};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A weight in the device's memory.
#[derive(Debug)]
pub(super) struct Held(CudaSlice<f32>);

/// The device; one product at a time, since they share its memory.
pub(super) struct Cuda {
    stream: Arc<CudaStream>,
    blas: Mutex<CudaBlas>,
}

static CUDA: OnceLock<Cuda> = OnceLock::new();

/// The device, if it is in use.
pub(super) fn opened() -> Option<&'static Cuda> {
    CUDA.get()
}

/// Takes the first device into use.
pub(super) fn open() -> Result<(), DeviceError> {
    // SAFETY: both only look for a library; loading the vendor's has no effect on this program.
    let present = unsafe { [driver::is_culib_present(), cublas::is_culib_present()] };
    for (present, library) in present.into_iter().zip(["the driver (libcuda)", "libcublas"]) {
        if !present {
            return Err(DeviceError::NoLibrary { library });
        }
    }
    let refused = |error: DriverError| DeviceError::Driver(told(error));
    let context = CudaContext::new(0).map_err(refused)?;
    // SAFETY: everything goes through one stream, in order, so there is nothing for events to order.
    unsafe { context.disable_event_tracking() };
    let stream = context.default_stream();
    let blas = CudaBlas::new(Arc::clone(&stream)).map_err(|e| DeviceError::Driver(told(e)))?;
    // A second call finds the device of the first.
    CUDA.get_or_init(|| Cuda { stream, blas: Mutex::new(blas) });
    Ok(())
}

impl Cuda {
    /// Brings a weight there.
    pub(super) fn hold(&self, b: &[f32]) -> Result<Held, String> {
        let _one = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.clone_htod(b).map(Held).map_err(told)
    }

    /// `out [m, n] = a [m, k] · bᵀ`, `b [n, k]`.
    pub(super) fn multiply(
        &self,
        out: &mut [f32],
        a: &[f32],
        Held(b): &Held,
        [n, k]: [usize; 2],
    ) -> Result<(), String> {
        let m = out.len() / n;
        assert!(a.len() == m * k && b.len() == n * k, "operands of a product have matching sizes");
        let size = |x: usize| i32::try_from(x).map_err(|_| format!("an extent of {x}"));
        let [rows, columns, depth] = [size(m)?, size(n)?, size(k)?];
        let blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        let a = self.stream.clone_htod(a).map_err(told)?;
        // SAFETY: the product overwrites all of it.
        let mut c = unsafe { self.stream.alloc::<f32>(out.len()) }.map_err(told)?;
        // cuBLAS counts by columns: our rows are its columns, so it computes outᵀ = b · aᵀ.
        let config = GemmConfig {
            transa: Op::CUBLAS_OP_T,
            transb: Op::CUBLAS_OP_N,
            m: columns,
            n: rows,
            k: depth,
            alpha: 1.0,
            lda: depth,
            ldb: depth,
            beta: 0.0,
            ldc: columns,
        };
        // SAFETY: the extents are those of the three buffers, as asserted above.
        unsafe { blas.gemm(config, b, &a, &mut c) }.map_err(told)?;
        self.stream.memcpy_dtoh(&c, out).map_err(told)?;
        self.stream.synchronize().map_err(told)
    }
}

fn told(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
