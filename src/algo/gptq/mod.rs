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
//! Departures from the paper: scales are searched per row by the error *after* compensation, as TICO's
//! `mse_for_gptq`, but exactly; coordinate descent (`sweeps`) and a least squares fit of the
//! scale (`refits`) follow, both of which can only lower the objective. H = I gives RTN.

use super::factor::Factor;
use super::rows::{Form, Row};
use super::search::{RowGrid, candidates, weighted};
use super::{AlgoError, Entry, Layer, Rounded, Rounding, Streams};
use crate::quant::{DType, Decision, ParamsError, QuantParams};
use crate::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "gptq",
    about: "successive rounding with error compensation",
    build: |options| options.try_into::<Gptq>().map(|gptq| Box::new(gptq) as Box<dyn Rounding>),
};

/// How the grid of a row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// The policy's grid.
    None,
    /// Least error of plain rounding, weighted by the energy of the inputs.
    Weighted,
    /// Least error after compensation.
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
        self.round_towards("gptq", layer, 0.0)
    }
}

impl Gptq {
    /// Rounds towards the weight that reproduces, from the quantized network's inputs, what the
    /// float network's inputs give: `alpha` of the way, 0 being the weight itself.
    pub(super) fn round_towards(
        &self,
        name: &'static str,
        layer: &Layer<'_>,
        alpha: f64,
    ) -> Result<Rounded, AlgoError> {
        let moments = layer.moments.ok_or(AlgoError::NoInputs)?;
        let (hessian, k) = (moments.hessian(), moments.width());
        let mut order: Vec<usize> = (0..k).collect();
        if self.act_order {
            order.sort_by(|&a, &b| {
                hessian[b * k + b].total_cmp(&hessian[a * k + a]).then(a.cmp(&b))
            });
        }
        let factor = Factor::of(hessian, order, self.damp.max(1e-12))?;
        let targets = moments
            .cross()
            .filter(|_| alpha != 0.0)
            .map(|cross| targets(layer.weight, cross, &factor, alpha));
        let form =
            Form { order: &factor.order, upper: &factor.upper, hessian, damping: factor.damping };
        let energy: Vec<f64> = (0..k).map(|j| hessian[j * k + j]).collect();
        by_rows(name, layer, targets.as_deref(), &|row, dtype, symmetric, fixed| {
            let mut found = self.start(&form, row, &energy, dtype, symmetric, fixed)?;
            match fixed {
                // A grid shared by all rows keeps its scale.
                Some(_) => form.descend(row, &mut found, self.sweeps),
                None => form.refine(row, &mut found, self.sweeps, self.refits),
            }
            Ok((found.grid, found.codes))
        })
    }

    fn start(
        &self,
        form: &Form<'_>,
        row: &[f64],
        energy: &[f64],
        dtype: DType,
        symmetric: bool,
        fixed: Option<RowGrid>,
    ) -> Result<Row, ParamsError> {
        let grids = match (fixed, self.search) {
            (Some(grid), _) => vec![grid],
            (None, Search::None) => candidates(row, dtype, symmetric, 1)?[..1].to_vec(),
            (None, Search::Weighted) => {
                vec![weighted(row, energy, &candidates(row, dtype, symmetric, self.candidates)?)]
            }
            (None, Search::Compensated) => candidates(row, dtype, symmetric, self.candidates)?,
        };
        Ok(form.nearest_plane(row, &grids))
    }
}

/// (W G + λ W)(H + λ I)⁻¹, mixed with W.
fn targets(weight: &Tensor, cross: &[f64], factor: &Factor, alpha: f64) -> Vec<f64> {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    let mut rows = vec![0.0; n * k];
    rows.par_chunks_mut(k).zip(weight.data().par_chunks(k)).for_each(|(out, w)| {
        for (j, &w) in w.iter().enumerate() {
            let w = f64::from(w);
            out.iter_mut().zip(&cross[j * k..(j + 1) * k]).for_each(|(out, g)| *out += w * g);
            out[j] += factor.damping * w;
        }
    });
    // A fixed number of rows at a time, whatever the number of threads.
    rows.par_chunks_mut(32 * k).for_each(|rows| factor.solve(rows));
    for (target, &w) in rows.iter_mut().zip(weight.data()) {
        *target = f64::from(w) + alpha * (*target - f64::from(w));
    }
    rows
}

type RoundRow<'a> = &'a (
        dyn Fn(&[f64], DType, bool, Option<RowGrid>) -> Result<(RowGrid, Vec<f64>), ParamsError>
            + Sync
    );

/// Rounds row by row towards `targets`, by default the weight; what has no affine grid is rounded
/// to nearest. `round` is told the row, its dtype, its symmetry and a grid that it must keep.
pub(super) fn by_rows(
    algorithm: &'static str,
    layer: &Layer<'_>,
    targets: Option<&[f64]>,
    round: RoundRow<'_>,
) -> Result<Rounded, AlgoError> {
    let (Decision::Affine { dtype, scheme, .. }, QuantParams::Affine { scale, zero_point, .. }) =
        (layer.decision, layer.grid)
    else {
        return super::rtn::Rtn {}.round(layer);
    };
    let fixed = match scheme.axis {
        Some(0) => None,
        None => Some(RowGrid::new(*dtype, scale[0], zero_point[0])),
        Some(axis) => return Err(AlgoError::Axis { algorithm, axis }),
    };
    let k = layer.weight.shape()[1];
    let data = layer.weight.data();
    let rows: Vec<(RowGrid, Vec<f64>)> = (0..layer.weight.shape()[0])
        .into_par_iter()
        .map(|r| match targets {
            Some(targets) => round(&targets[r * k..(r + 1) * k], *dtype, scheme.symmetric, fixed),
            None => {
                let row: Vec<f64> = data[r * k..(r + 1) * k].iter().map(|&w| w.into()).collect();
                round(&row, *dtype, scheme.symmetric, fixed)
            }
        })
        .collect::<Result<_, ParamsError>>()?;
    let mut weight = Vec::with_capacity(data.len());
    for (grid, codes) in &rows {
        weight.extend(codes.iter().map(|&code| code as f32 * grid.scale as f32));
    }
    let grid = match fixed {
        Some(_) => layer.grid.clone(),
        None => QuantParams::Affine {
            dtype: *dtype,
            scale: rows.iter().map(|(grid, _)| grid.scale as f32).collect(),
            zero_point: rows.iter().map(|(grid, _)| grid.zero).collect(),
            axis: Some(0),
        },
    };
    Ok(Rounded { grid, weight: Tensor::new(layer.weight.shape(), weight) })
}
