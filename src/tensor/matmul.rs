//! Matrix products on row-major slices.

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef};

/// How many threads a kernel may use. Results do not depend on it: work is split by output tiles,
/// never along a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Par {
    /// The calling thread alone: the caller runs several samples side by side.
    Seq,
    /// All threads of the current pool.
    All,
}

impl Par {
    fn faer(self, flops: usize) -> faer::Par {
        // Waking the pool costs more than a product this small.
        const WORTHWHILE: usize = 1 << 21;
        if self == Par::All && flops > WORTHWHILE { faer::Par::rayon(0) } else { faer::Par::Seq }
    }
}

/// `out [m, n] = a [m, k] · bᵀ` with `b [n, k]`, as in a linear layer.
pub fn matmul_nt(out: &mut [f32], a: &[f32], b: &[f32], [m, k, n]: [usize; 3], par: Par) {
    let b = MatRef::from_row_major_slice(b, n, k).transpose();
    run(out, a, b, [m, k, n], par);
}

/// `out [m, n] = a [m, k] · b [k, n]`.
pub fn matmul_nn(out: &mut [f32], a: &[f32], b: &[f32], [m, k, n]: [usize; 3], par: Par) {
    run(out, a, MatRef::from_row_major_slice(b, k, n), [m, k, n], par);
}

fn run(out: &mut [f32], a: &[f32], b: MatRef<'_, f32>, [m, k, n]: [usize; 3], par: Par) {
    let a = MatRef::from_row_major_slice(a, m, k);
    let out = MatMut::from_row_major_slice_mut(out, m, n);
    faer_matmul(out, Accum::Replace, a, b, 1.0, par.faer(2 * m * k * n));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(a: &[f32], b: impl Fn(usize, usize) -> f32, [m, k, n]: [usize; 3]) -> Vec<f32> {
        (0..m * n)
            .map(|i| {
                (0..k).map(|x| f64::from(a[i / n * k + x]) * f64::from(b(x, i % n))).sum::<f64>()
                    as f32
            })
            .collect()
    }

    #[test]
    fn products_agree_with_the_definition() {
        for dims @ [m, k, n] in [[1, 1, 1], [3, 5, 7], [64, 33, 17], [50, 64, 256]] {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 7 % 13) as f32) - 6.0).collect();
            let b: Vec<f32> = (0..n * k).map(|i| ((i * 5 % 11) as f32) - 5.0).collect();
            let mut out = vec![f32::NAN; m * n];
            matmul_nt(&mut out, &a, &b, dims, Par::Seq);
            assert_eq!(out, naive(&a, |x, j| b[j * k + x], dims));
            matmul_nn(&mut out, &a, &b, dims, Par::All);
            assert_eq!(out, naive(&a, |x, j| b[x * n + j], dims));
        }
    }
}
