//! Scale search: the grid of each row, or group of a row, that makes Σⱼ hⱼ (wⱼ − ŵⱼ)² least, then
//! rounding to nearest.
//!
//! hⱼ = Hⱼⱼ weighs an input by its energy (the diagonal of the layer's Hessian; with
//! `weighted = false` all weigh the same, as in OCTAV, Sakr et al., ICML 2022). The full range is
//! among the candidates, so the search is never worse than min-max on its own objective.

use super::search::{candidates, weighted};
use super::{AlgoError, Entry, Layer, Rounded, Rounding, Streams, gptq};
use serde::{Deserialize, Serialize};

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "mse",
    about: "scale search by squared error, weighted by the energy of the inputs",
    keys: &[&["weighted", "candidates"]],
    build: |options| options.try_into::<Mse>().map(|mse| Box::new(mse) as Box<dyn Rounding>),
};

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mse {
    /// Weighs inputs by their energy.
    pub weighted: bool,
    /// Shares of the full range to try.
    pub candidates: usize,
}

impl Default for Mse {
    fn default() -> Mse {
        Mse { weighted: true, candidates: 64 }
    }
}

impl Rounding for Mse {
    fn streams(&self) -> Streams {
        if self.weighted { Streams::Seen } else { Streams::Neither }
    }

    fn factors(&self) -> bool {
        false
    }

    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError> {
        let (k, group) = (layer.weight.shape()[1], layer.group().max(1));
        let importance: Vec<f64> = match layer.moments.filter(|_| self.weighted) {
            Some(moments) => (0..k).map(|j| moments.hessian()[j * k + j]).collect(),
            None => vec![1.0; k],
        };
        if importance.iter().any(|h| !h.is_finite()) {
            return Err(AlgoError::NonFinite);
        }
        gptq::by_rows("mse", layer, None, &|rows, asked| {
            rows.chunks_exact(k)
                .map(|row| {
                    let (mut grids, mut codes) = (Vec::new(), Vec::with_capacity(k));
                    for (part, weights) in row.chunks(group).zip(importance.chunks(group)) {
                        let grid = match asked.fixed {
                            Some(grid) => grid,
                            None => {
                                let grids = candidates(part, asked, self.candidates.max(1))?;
                                weighted(part, weights, &grids, 1)[0]
                            }
                        };
                        grids.push(grid);
                        codes.extend(part.iter().map(|&w| grid.code(w)));
                    }
                    Ok((grids, codes))
                })
                .collect()
        })
    }
}
