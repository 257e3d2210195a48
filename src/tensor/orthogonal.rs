//! Orthogonal matrices as products of factors that are cheap to apply: a randomized Hadamard matrix
//! where the size allows, times a random rotation of the odd part of the size.

use super::{Par, Random, Tensor, transpose};

/// Rows that one task turns: fixed work, and rows do not depend on each other.
const ROWS: usize = 64;

/// Which axis of a tensor lies in a space that turns by R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The last: rows, of a table or of a weight whose inputs turn, become x R.
    Rows,
    /// The first: a weight or bias whose outputs turn becomes Rᵀ W.
    Outputs,
}

/// R `[n, n]` with R Rᵀ = I, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Orthogonal {
    n: usize,
    /// x R is all of them applied to x, in order.
    factors: Vec<Factor>,
}

#[derive(Clone, Debug, PartialEq)]
enum Factor {
    /// A diagonal of ±1.
    Signs(Vec<f64>),
    /// (Sylvester's Hadamard matrix of size n/odd, over its norm) ⊗ a core `[odd, odd]`.
    Hadamard { odd: usize, core: Vec<f64> },
    /// I − 2 v vᵀ for v of length one.
    Reflection(Vec<f64>),
    /// The identity on the first coordinate, another matrix on the rest.
    Rest(Box<Orthogonal>),
    /// Row-major.
    Dense(Vec<f64>),
}

impl Orthogonal {
    /// A rotation of size `n` from `seed`; `fix_ones` asks for R 1 = 1, as a mean needs it.
    pub fn random(n: usize, fix_ones: bool, seed: u64) -> Orthogonal {
        let mut random = Random(seed ^ (n as u64) << 32);
        if n < 2 {
            return Orthogonal { n, factors: Vec::new() };
        }
        if !fix_ones {
            return spread(n, &mut random);
        }
        // B diag(1, Q) B, where the reflection B takes e₀ to 1/√n.
        let mut v = vec![-(n as f64).sqrt().recip(); n];
        v[0] += 1.0;
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        let middle = Factor::Rest(Box::new(spread(n - 1, &mut random)));
        Orthogonal {
            n,
            factors: vec![Factor::Reflection(v.clone()), middle, Factor::Reflection(v)],
        }
    }

    /// The matrix with these rows; that they are orthonormal is the caller's word.
    ///
    /// # Panics
    /// If they are not n² numbers.
    pub fn dense(n: usize, rows: Vec<f64>) -> Orthogonal {
        assert_eq!(rows.len(), n * n, "a square matrix");
        Orthogonal { n, factors: vec![Factor::Dense(rows)] }
    }

    /// R, row-major.
    pub fn matrix(&self) -> Vec<f64> {
        let n = self.n;
        let mut rows = vec![0.0; n * n];
        for (i, row) in rows.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            self.turn(row, &mut vec![0.0; n]);
        }
        rows
    }

    /// Turns a tensor. An axis may hold several vectors of n side by side: each of them turns.
    ///
    /// # Panics
    /// If n does not divide the axis.
    pub fn apply(&self, tensor: &mut Tensor, side: Side) {
        // Rows may still have the shape they are stored in: all that counts is that n divides them.
        let width = match side {
            Side::Rows => tensor.data().len(),
            Side::Outputs => tensor.shape().first().copied().unwrap_or(1),
        };
        assert_eq!(width % self.n.max(1), 0, "{} divides {width}", self.n);
        match side {
            Side::Rows => self.rows(tensor.data_mut()),
            Side::Outputs => {
                let columns = tensor.data().len() / width.max(1);
                let mut turned = vec![0.0; tensor.data().len()];
                transpose(&mut turned, tensor.data(), columns, 0..columns);
                self.rows(&mut turned);
                transpose(tensor.data_mut(), &turned, width, 0..width);
            }
        }
    }

    /// Every n numbers of `data` times R.
    fn rows(&self, data: &mut [f32]) {
        let n = self.n;
        if n < 2 {
            return;
        }
        let turned = |_: usize, rows: &mut [f32]| {
            let (mut x, mut spare) = (vec![0.0; n], vec![0.0; n]);
            for row in rows.chunks_exact_mut(n) {
                x.iter_mut().zip(&*row).for_each(|(x, &y)| *x = f64::from(y));
                self.turn(&mut x, &mut spare);
                row.iter_mut().zip(&x).for_each(|(y, &x)| *y = x as f32);
            }
        };
        Par::free().pieces(data, n * ROWS, turned);
    }

    /// x → x R
    fn turn(&self, x: &mut [f64], spare: &mut [f64]) {
        for factor in &self.factors {
            match factor {
                Factor::Signs(signs) => x.iter_mut().zip(signs).for_each(|(x, s)| *x *= s),
                Factor::Reflection(v) => {
                    let dot: f64 = x.iter().zip(v).map(|(x, v)| x * v).sum();
                    x.iter_mut().zip(v).for_each(|(x, v)| *x -= 2.0 * dot * v);
                }
                Factor::Rest(rest) => rest.turn(&mut x[1..], &mut spare[1..]),
                Factor::Dense(rows) => times(x, rows, spare),
                Factor::Hadamard { odd, core } => {
                    if *odd > 1 {
                        x.chunks_exact_mut(*odd).for_each(|x| times(x, core, &mut spare[..*odd]));
                    }
                    butterflies(x, *odd);
                }
            }
        }
    }
}

/// x → x M for a square M.
fn times(x: &mut [f64], m: &[f64], spare: &mut [f64]) {
    spare.fill(0.0);
    for (x, row) in x.iter().zip(m.chunks_exact(spare.len())) {
        spare.iter_mut().zip(row).for_each(|(out, m)| *out += x * m);
    }
    x.copy_from_slice(spare);
}

/// Fast Walsh–Hadamard transform over vectors of `step` numbers, orthonormal.
fn butterflies(x: &mut [f64], step: usize) {
    let scale = ((x.len() / step) as f64).sqrt().recip();
    let mut half = step;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    x.iter_mut().for_each(|x| *x *= scale);
}

/// D (H ⊗ core) for a power of two times an odd part, D random signs, the core a random rotation.
fn spread(n: usize, random: &mut Random) -> Orthogonal {
    let odd = n >> n.trailing_zeros();
    let core = gram_schmidt(odd, random);
    let sign = |random: &mut Random| if random.next() & 1 == 0 { 1.0 } else { -1.0 };
    // A core of size one is ±1: it belongs to the signs.
    let whole = if odd == 1 { core[0].signum() } else { 1.0 };
    let signs = (0..n).map(|_| whole * sign(random)).collect();
    Orthogonal { n, factors: vec![Factor::Signs(signs), Factor::Hadamard { odd, core }] }
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

fn gaussian(random: &mut Random) -> f64 {
    (-2.0 * random.uniform().ln()).sqrt() * (std::f64::consts::TAU * random.uniform()).cos()
}
