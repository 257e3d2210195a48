//! Rounding one row of a weight against the quadratic form of its inputs.
//!
//! minimise f(q) = (v − q) A (v − q)ᵀ over q on the row's grid, A = H + λI. With
//! A = M Mᵀ, M upper triangular in the order of treatment, f is the sum of squares of (v − q)M whose
//! j-th entry involves q₀…qⱼ only. Choosing each qⱼ to make its entry least, given those before it,
//! is GPTQ without any inverse (Chen et al., "The Geometry of LLM Quantization", 2025: Babai's
//! nearest plane): vⱼ moves by the errors already made, and f is known when the row is done.
//!
//! | symbol | meaning |
//! |---|---|
//! | v | the row to be approximated |
//! | q | the row on its grid, scale · code |
//! | e | v − q |

use super::search::RowGrid;

/// A quadratic form in two guises.
pub(super) struct Form<'a> {
    /// Input at each position of the order of treatment.
    pub(super) order: &'a [usize],
    /// M `[k, k]`, row-major.
    pub(super) upper: &'a [f64],
    /// H `[k, k]` in the original order.
    pub(super) hessian: &'a [f64],
    /// λ
    pub(super) damping: f64,
}

/// A rounded row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) grid: RowGrid,
    /// In the original order.
    pub(super) codes: Vec<f64>,
    /// f
    pub(super) error: f64,
}

impl Form<'_> {
    /// Successive rounding under every candidate at once; the best by f, the first of equals.
    pub(super) fn nearest_plane(&self, v: &[f64], grids: &[RowGrid]) -> Row {
        let (k, n) = (v.len(), grids.len());
        let mut moved = vec![0.0; k * n];
        let mut codes = vec![0.0; k * n];
        let mut errors = vec![0.0; n];
        let mut e = vec![0.0; n];
        for (j, &input) in self.order.iter().enumerate() {
            let (target, row) = (v[input], &self.upper[j * k..(j + 1) * k]);
            let pivot = row[j];
            for c in 0..n {
                let wanted = target + moved[j * n + c] / pivot;
                let code = grids[c].code(wanted);
                let q = code * grids[c].scale;
                let miss = (wanted - q) * pivot;
                codes[j * n + c] = code;
                errors[c] += miss * miss;
                e[c] = target - q;
            }
            spread(&mut moved[(j + 1) * n..], &row[j + 1..], &e);
        }
        let mut best = 0;
        for c in 1..n {
            if errors[c] < errors[best] {
                best = c;
            }
        }
        let mut chosen = vec![0.0; k];
        for (j, &input) in self.order.iter().enumerate() {
            chosen[input] = codes[j * n + best];
        }
        Row { grid: grids[best], codes: chosen, error: errors[best] }
    }

    /// A · x
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let k = x.len();
        let mut out: Vec<f64> = x.iter().map(|x| self.damping * x).collect();
        for (x, h) in x.iter().zip(self.hessian.chunks_exact(k)) {
            if *x != 0.0 {
                out.iter_mut().zip(h).for_each(|(out, h)| *out += x * h);
            }
        }
        out
    }

    /// Coordinate descent (QuantEase; Behdin et al., 2023): each code in turn takes its best value
    /// given all others, until none changes or `sweeps` are over. Never makes f worse.
    pub(super) fn descend(&self, v: &[f64], row: &mut Row, sweeps: usize) {
        let k = v.len();
        let e: Vec<f64> = (0..k).map(|j| v[j] - row.codes[j] * row.grid.scale).collect();
        // Half the gradient of f with respect to e.
        let mut slope = self.times(&e);
        let mut e = e;
        for _ in 0..sweeps {
            let mut changed = false;
            for &j in self.order {
                let curvature = self.hessian[j * k + j] + self.damping;
                if curvature <= 0.0 {
                    continue;
                }
                let q = row.codes[j] * row.grid.scale;
                let code = row.grid.code(q + slope[j] / curvature);
                if code != row.codes[j] {
                    let step = (code - row.codes[j]) * row.grid.scale;
                    // Ties and rounding must not make it run in circles.
                    if step * (step * curvature - 2.0 * slope[j]) >= 0.0 {
                        continue;
                    }
                    row.codes[j] = code;
                    e[j] -= step;
                    slope[j] -= step * self.damping;
                    let h = &self.hessian[j * k..(j + 1) * k];
                    slope.iter_mut().zip(h).for_each(|(slope, h)| *slope -= step * h);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        row.error = e.iter().zip(&slope).map(|(e, s)| e * s).sum();
    }

    /// Alternates between the scale that fits the codes best, v A cᵀ / c A cᵀ, and descent, as long
    /// as f falls.
    pub(super) fn refine(&self, v: &[f64], row: &mut Row, sweeps: usize, rounds: usize) {
        self.descend(v, row, sweeps);
        for _ in 0..rounds {
            let weighed = self.times(&row.codes);
            let fit = |x: &[f64]| x.iter().zip(&weighed).map(|(x, w)| x * w).sum::<f64>();
            let Some(grid) = row.grid.rescaled(fit(v) / fit(&row.codes)) else { return };
            let mut next = Row { grid, ..row.clone() };
            self.descend(v, &mut next, sweeps);
            if next.error >= row.error {
                return;
            }
            *row = next;
        }
    }
}

/// moved[l][c] += row[l] · e[c]
#[inline(always)]
fn spread_body(moved: &mut [f64], row: &[f64], e: &[f64]) {
    if let [e] = e {
        moved.iter_mut().zip(row).for_each(|(moved, m)| *moved += m * e);
        return;
    }
    for (moved, m) in moved.chunks_exact_mut(e.len()).zip(row) {
        moved.iter_mut().zip(e).for_each(|(moved, e)| *moved += m * e);
    }
}

fn spread(moved: &mut [f64], row: &[f64], e: &[f64]) {
    spread_body(moved, row, e);
}
