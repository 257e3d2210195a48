//! GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
//! Transformers", ICLR 2023): inputs are rounded one after the other, and those still to come move
//! to make up for the error.
//!
//! minimise ‖(W − Ŵ) X̂ᵀ‖² row by row; see `rows.rs` for the form without inverses.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | W, Ŵ | `weight` | `[out, in]`, before and after |
//! | H | `Moments::hessian` | X̂ᵀX̂ over calibration tokens |
//! | λ | `damp` · mean Hⱼⱼ | damping, raised tenfold until the factorization succeeds |
//!
//! Departures from the paper: scales are searched per row, or per group of inputs (`groups.rs`), by the
//! error *after* compensation, as TICO's `mse_for_gptq`, but exactly; coordinate descent (`sweeps`) and
//! a least squares fit of the scale (`refits`) follow, both of which can only lower the objective. H = I
//! gives RTN.

use super::factor::Factor;
use super::groups::Local;
use super::rows::{Form, ROWS, Row};
use super::search::{Asked, RowGrid, candidates, weighted};
use super::{AlgoError, Entry, Layer, Moments, Rounded, Rounding, Streams};
use crate::quant::{Decision, Grain, ParamsError, QuantParams};
use crate::tensor::{self, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "gptq",
    about: "successive rounding with error compensation",
    keys: &[KEYS],
    build: |options| options.try_into::<Gptq>().map(|gptq| Box::new(gptq) as Box<dyn Rounding>),
};

/// The keys of its options.
pub(super) const KEYS: &[&str] =
    &["damp", "act_order", "search", "candidates", "finalists", "sweeps", "refits"];

/// How the grid of a row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// What the policy's observer gives a row, or a group of it, as it stands when its turn comes;
    /// the searches start from its extremes, whatever the observer.
    None,
    /// Least error of plain rounding, weighted by the energy of the inputs.
    Weighted,
    /// Least error after compensation, among the best by the weighted error. Of a group, what is left
    /// of its own error counts.
    Compensated,
}

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gptq {
    /// λ over the mean of the Hessian's diagonal; at least 1e-12.
    pub damp: f64,
    /// Inputs of great energy first.
    pub act_order: bool,
    /// How grids are found.
    pub search: Search,
    /// Shares of the full range to try.
    pub candidates: usize,
    /// Grids per row that are tried with compensation.
    pub finalists: usize,
    /// Rounds of coordinate descent after rounding.
    pub sweeps: usize,
    /// Least squares fits of the scale, each followed by descent.
    pub refits: usize,
}

impl Default for Gptq {
    fn default() -> Gptq {
        Gptq {
            damp: 0.01,
            act_order: true,
            search: Search::Compensated,
            candidates: 24,
            finalists: 12,
            sweeps: 16,
            refits: 4,
        }
    }
}

impl Rounding for Gptq {
    fn streams(&self) -> Streams {
        Streams::Seen
    }

    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError> {
        self.round_towards("gptq", layer, Towards::default(), &|part| self.compensated(part))
    }
}

/// How far the targets go from W to what the float network's inputs ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Towards {
    /// Share of the way that makes up for the layer's own inputs.
    pub(super) alpha: f64,
    /// Share of what the stream lost that the output is added to.
    pub(super) beta: f64,
}

impl Towards {
    pub(super) fn streams(self) -> Streams {
        match self {
            Towards { beta, .. } if beta != 0.0 => Streams::Drift,
            Towards { alpha, .. } if alpha != 0.0 => Streams::Both,
            _ => Streams::Seen,
        }
    }
}

/// A few rows on their way to a grid.
pub(super) struct Part<'a> {
    /// What an error costs.
    pub(super) form: &'a Form<'a>,
    /// The targets `[n, in]`.
    pub(super) rows: &'a [f64],
    /// Hⱼⱼ
    pub(super) energy: &'a [f64],
    /// What an error costs within each group; none where a row has one grid.
    pub(super) locals: &'a [Option<Local>],
    pub(super) asked: &'a Asked,
}

/// Rounds a few rows.
type Solve<'a> = &'a (dyn Fn(&Part<'_>) -> Result<Vec<Row>, ParamsError> + Sync);

impl Gptq {
    /// Rounds towards the weight that reproduces, from the quantized network's inputs, what the
    /// float network's inputs give. `solve` rounds.
    pub(super) fn round_towards(
        &self,
        name: &'static str,
        layer: &Layer<'_>,
        towards: Towards,
        solve: Solve<'_>,
    ) -> Result<Rounded, AlgoError> {
        let moments = layer.moments.ok_or(AlgoError::NoInputs)?;
        let (hessian, k) = (moments.hessian(), moments.width());
        let factor = moments.factor(self.act_order, self.damp.max(1e-12))?;
        let targets = (towards != Towards::default())
            .then(|| targets(layer.weight, moments, &factor, towards));
        let form = Form { factor: &factor, hessian, group: layer.group() };
        let locals = match (form.groups(), self.search) {
            (2.., Search::Compensated) => Local::of(&form, self.act_order),
            _ => Vec::new(),
        };
        let energy: Vec<f64> = (0..k).map(|j| hessian[j * k + j]).collect();
        by_rows(name, layer, targets.as_deref(), &|rows, asked| {
            let (form, locals) = (&form, &locals[..]);
            let part = Part { form, rows, energy: &energy, locals, asked };
            Ok(solve(&part)?.into_iter().map(|row| (row.grids, row.codes)).collect())
        })
    }

    /// Successive rounding, descent and refits.
    pub(super) fn compensated(&self, part: &Part<'_>) -> Result<Vec<Row>, ParamsError> {
        let (form, rows) = (part.form, part.rows);
        let begin = |group: usize, columns: &[f64]| self.group_grids(part, group, columns);
        let found = match (form.groups(), self.act_order) {
            (0 | 1, _) => {
                let rows_of = rows.chunks_exact(form.width());
                let candidates = rows_of.map(|row| {
                    let grids = self.grids(part, row, part.energy)?;
                    Ok(grids.into_iter().map(|grid| vec![grid]).collect())
                });
                form.nearest_plane(rows, &candidates.collect::<Result<Vec<_>, ParamsError>>()?)
            }
            (_, false) => form.nearest_plane_by_groups(rows, &begin)?,
            (groups, true) => {
                let mut grids = vec![Vec::with_capacity(groups); rows.len() / form.width()];
                for group in 0..groups {
                    let columns = rows
                        .chunks_exact(form.width())
                        .flat_map(|row| row[group * form.group..][..form.group].iter().copied());
                    let chosen = begin(group, &columns.collect::<Vec<f64>>())?;
                    grids.iter_mut().zip(chosen).for_each(|(of, grid)| of.push(grid));
                }
                let candidates: Vec<_> = grids.into_iter().map(|grids| vec![grids]).collect();
                form.nearest_plane(rows, &candidates)
            }
        };
        Ok(self.refined(part, found))
    }

    /// The grid of a group for each row of its columns `[n, group]`.
    fn group_grids(
        &self,
        part: &Part<'_>,
        group: usize,
        columns: &[f64],
    ) -> Result<Vec<RowGrid>, ParamsError> {
        let size = part.form.group;
        let energy = &part.energy[group * size..][..size];
        let grids = columns.chunks_exact(size).map(|row| self.grids(part, row, energy));
        let grids: Vec<Vec<RowGrid>> = grids.collect::<Result<_, _>>()?;
        let Some(local) = part.locals.get(group).and_then(Option::as_ref) else {
            return Ok(grids.iter().map(|grids| grids[0]).collect());
        };
        let candidates: Vec<Vec<Vec<RowGrid>>> =
            grids.into_iter().map(|row| row.into_iter().map(|grid| vec![grid]).collect()).collect();
        let found = local.form().nearest_plane(columns, &candidates);
        Ok(found.iter().map(|row| row.grids[0]).collect())
    }

    /// Descent and refits.
    pub(super) fn refined(&self, part: &Part<'_>, found: Vec<Row>) -> Vec<Row> {
        // A grid shared by all rows keeps its scale.
        let refits = if part.asked.fixed.is_some() { 0 } else { self.refits };
        part.form.refine(part.rows, found, self.sweeps, refits)
    }

    /// The candidates of a row, or of a group of it, of inputs of this `energy`; most promising first.
    pub(super) fn grids(
        &self,
        part: &Part<'_>,
        row: &[f64],
        energy: &[f64],
    ) -> Result<Vec<RowGrid>, ParamsError> {
        let grids = || candidates(row, part.asked, self.candidates.max(1));
        let best = |count| Ok(weighted(row, energy, &grids()?, count));
        match (part.asked.fixed, self.search) {
            (Some(grid), _) => Ok(vec![grid]),
            (None, Search::None) => Ok(vec![part.asked.observed(row)?]),
            (None, Search::Weighted) => best(1),
            (None, Search::Compensated) => best(self.finalists.max(1)),
        }
    }
}

/// W + (α W C + β D)(H + λ I)⁻¹
fn targets(weight: &Tensor, moments: &Moments, factor: &Factor, towards: Towards) -> Vec<f64> {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    let gap = moments.gap().filter(|_| towards.alpha != 0.0);
    let drift = moments.drift().filter(|_| towards.beta != 0.0);
    // C (H + λ I)⁻¹ once, where that is less work than solving for every row.
    let shared = gap.filter(|_| n >= k).map(|gap| shift(gap, factor, towards.alpha));
    let mut rows = vec![0.0; n * k];
    let parts = rows.par_chunks_mut(ROWS * k).zip(weight.data().par_chunks(ROWS * k));
    parts.enumerate().for_each(|(part, (out, w))| {
        let n = w.len() / k;
        if let (Some(gap), None) = (gap, &shared) {
            let w: Vec<f64> = w.iter().map(|&w| w.into()).collect();
            let product = MatMut::from_row_major_slice_mut(out, n, k);
            let (lhs, rhs) =
                (MatRef::from_row_major_slice(&w, n, k), MatRef::from_row_major_slice(gap, k, k));
            matmul(product, Accum::Replace, lhs, rhs, towards.alpha, Par::Seq);
        }
        if let Some(drift) = drift {
            let drift = &drift[part * ROWS * k..][..out.len()];
            out.iter_mut().zip(drift).for_each(|(out, d)| *out += towards.beta * d);
        }
        if drift.is_some() || shared.is_none() {
            factor.solve(out);
        }
        let mut moved = w.to_vec();
        if let Some(shift) = &shared {
            let product = MatMut::from_row_major_slice_mut(&mut moved, n, k);
            let (lhs, rhs) =
                (MatRef::from_row_major_slice(w, n, k), MatRef::from_row_major_slice(shift, k, k));
            matmul(product, Accum::Add, lhs, rhs, 1.0, Par::Seq);
        }
        out.iter_mut().zip(&moved).for_each(|(target, w)| *target += f64::from(*w));
    });
    rows
}

/// α C (H + λ I)⁻¹, in f32: a correction of the weights needs no more.
fn shift(gap: &[f64], factor: &Factor, alpha: f64) -> Vec<f32> {
    let k = factor.order.len();
    let mut shift = vec![0.0; k * k];
    shift.par_chunks_mut(ROWS * k).zip(gap.par_chunks(ROWS * k)).for_each(|(out, gap)| {
        let mut rows = gap.to_vec();
        factor.solve(&mut rows);
        out.iter_mut().zip(&rows).for_each(|(out, x)| *out = (alpha * x) as f32);
    });
    shift
}

/// The grids of a row's groups, and its codes.
type OnGrids = (Vec<RowGrid>, Vec<f64>);

type RoundRows<'a> = &'a (dyn Fn(&[f64], &Asked) -> Result<Vec<OnGrids>, ParamsError> + Sync);

/// Rounds towards `targets`, by default the weight; what has no affine grid is rounded to nearest.
/// `round` is told a few rows and what the policy says of their grids.
pub(super) fn by_rows(
    algorithm: &'static str,
    layer: &Layer<'_>,
    targets: Option<&[f64]>,
    round: RoundRows<'_>,
) -> Result<Rounded, AlgoError> {
    let (
        &Decision::Affine { dtype, scheme, observer },
        QuantParams::Affine { scale, zero_point, .. },
    ) = (layer.decision, layer.grid)
    else {
        return super::rtn::Rtn {}.round(layer);
    };
    let k = layer.weight.shape()[1];
    let fixed = match scheme.grain {
        Grain::Tensor => Some(RowGrid::new(dtype, scale[0], zero_point[0])),
        grain if grain.of_row(k).is_some() => None,
        grain => return Err(AlgoError::Grain { algorithm, grain }),
    };
    let asked = Asked { dtype, scheme, observer, fixed };
    let data = layer.weight.data();
    let parts = tensor::each(data.chunks(ROWS * k).enumerate(), |(part, rows)| match targets {
        Some(targets) => round(&targets[part * ROWS * k..][..rows.len()], &asked),
        None => {
            let rows: Vec<f64> = rows.iter().map(|&w| w.into()).collect();
            round(&rows, &asked)
        }
    })?;
    let rows: Vec<OnGrids> = parts.into_iter().flatten().collect();
    let mut weight = Vec::with_capacity(data.len());
    for (grids, codes) in &rows {
        for (codes, grid) in codes.chunks(layer.group().max(1)).zip(grids) {
            weight.extend(codes.iter().map(|&code| code as f32 * grid.scale as f32));
        }
    }
    let grids = || rows.iter().flat_map(|(grids, _)| grids);
    let grid = match fixed {
        Some(_) => layer.grid.clone(),
        None => QuantParams::Affine {
            dtype,
            scale: grids().map(|grid| grid.scale as f32).collect(),
            zero_point: grids().map(|grid| grid.zero).collect(),
            grain: scheme.grain,
        },
    };
    Ok(Rounded { grid, weight: Tensor::new(layer.weight.shape(), weight) })
}
