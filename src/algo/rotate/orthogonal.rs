//! Orthogonal matrices: randomized Hadamard where the size allows, else a random rotation; on request
//! one that leaves the vector of ones where it is.

use crate::tensor::Random;

/// Row-major `[n, n]` with R Rᵀ = I.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Orthogonal {
    pub(super) n: usize,
    pub(super) data: Vec<f64>,
}

fn gaussian(random: &mut Random) -> f64 {
    (-2.0 * random.uniform().ln()).sqrt() * (std::f64::consts::TAU * random.uniform()).cos()
}

fn sign(random: &mut Random) -> f64 {
    if random.next() & 1 == 0 { 1.0 } else { -1.0 }
}

impl Orthogonal {
    /// A rotation of size `n` from `seed`; `fix_ones` asks for R 1 = 1.
    pub(super) fn new(n: usize, fix_ones: bool, seed: u64) -> Orthogonal {
        let mut random = Random(seed ^ (n as u64) << 32);
        if n < 2 {
            return Orthogonal { n, data: vec![1.0; n] };
        }
        if !fix_ones {
            return Orthogonal { n, data: spread(n, &mut random) };
        }
        // B diag(1, Q) Bᵀ, where the symmetric reflection B takes e₀ to 1/√n.
        let q = spread(n - 1, &mut random);
        let mut middle = vec![0.0; n * n];
        middle[0] = 1.0;
        for i in 1..n {
            middle[i * n + 1..(i + 1) * n].copy_from_slice(&q[(i - 1) * (n - 1)..i * (n - 1)]);
        }
        let mut v = vec![-(n as f64).sqrt().recip(); n];
        v[0] += 1.0;
        let norm: f64 = v.iter().map(|x| x * x).sum();
        if norm > 1e-18 {
            reflect(&mut middle, &v, norm, n);
            transpose(&mut middle, n);
            reflect(&mut middle, &v, norm, n);
            transpose(&mut middle, n);
        }
        Orthogonal { n, data: middle }
    }

    /// Every row of `rows` (whole copies of n long) times R, block by block: x → x R.
    pub(super) fn apply(&self, rows: &mut [f32]) {
        let n = self.n;
        let mut out = vec![0.0f64; n];
        for block in rows.chunks_exact_mut(n) {
            out.fill(0.0);
            for (x, r) in block.iter().zip(self.data.chunks_exact(n)) {
                let x = f64::from(*x);
                out.iter_mut().zip(r).for_each(|(out, r)| *out += x * r);
            }
            block.iter_mut().zip(&out).for_each(|(x, &out)| *x = out as f32);
        }
    }
}

/// H D/√n for a power of two times an odd part (whose factor is a random rotation), D random signs.
fn spread(n: usize, random: &mut Random) -> Vec<f64> {
    let odd = n >> n.trailing_zeros();
    let core = gram_schmidt(odd, random);
    let mut data = vec![0.0; n * n];
    let twos = n / odd;
    let signs: Vec<f64> = (0..n).map(|_| sign(random)).collect();
    let scale = (twos as f64).sqrt().recip();
    for i in 0..n {
        for j in 0..n {
            // Sylvester's matrix: the sign is the parity of the common bits.
            let parity = ((i / odd) & (j / odd)).count_ones() % 2;
            let h = if parity == 0 { scale } else { -scale };
            data[i * n + j] = signs[i] * h * core[i % odd * odd + j % odd];
        }
    }
    data
}

/// A random rotation: rows of Gaussians made orthonormal, twice for accuracy.
fn gram_schmidt(n: usize, random: &mut Random) -> Vec<f64> {
    let mut q: Vec<f64> = (0..n * n).map(|_| gaussian(random)).collect();
    for i in 0..n {
        for _ in 0..2 {
            for j in 0..i {
                let (head, row) = q.split_at_mut(i * n);
                let other = &head[j * n..(j + 1) * n];
                let dot: f64 = row[..n].iter().zip(other).map(|(a, b)| a * b).sum();
                row[..n].iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let row = &mut q[i * n..(i + 1) * n];
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    q
}

/// Rows of `m` reflected at the hyperplane of `v`.
fn reflect(m: &mut [f64], v: &[f64], norm: f64, n: usize) {
    for row in m.chunks_exact_mut(n) {
        let dot: f64 = row.iter().zip(v).map(|(a, b)| a * b).sum();
        row.iter_mut().zip(v).for_each(|(a, b)| *a -= 2.0 * dot / norm * b);
    }
}

fn transpose(m: &mut [f64], n: usize) {
    for i in 0..n {
        for j in 0..i {
            m.swap(i * n + j, j * n + i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_are_orthogonal_and_fix_ones_on_request() {
        for n in [1, 2, 3, 8, 12, 24, 96] {
            for fix in [false, true] {
                let r = Orthogonal::new(n, fix, 7);
                for i in 0..n {
                    for j in 0..n {
                        let dot: f64 = (0..n).map(|l| r.data[i * n + l] * r.data[j * n + l]).sum();
                        assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12, "{n} {fix}");
                    }
                    let sum: f64 = r.data[i * n..(i + 1) * n].iter().sum();
                    assert!(!fix || (sum - 1.0).abs() < 1e-12, "{n}: {sum}");
                }
            }
        }
    }
}
