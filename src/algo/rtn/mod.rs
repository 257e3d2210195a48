//! Round to nearest on the policy's grid: no data, and the baseline of every ladder.

use super::{AlgoError, Entry, Layer, Rounded, Rounding, Streams};
use crate::quant;

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "rtn",
    about: "round to nearest on the policy's grid",
    keys: &[],
    build: |options| options.try_into::<Rtn>().map(|rtn| Box::new(rtn) as Box<dyn Rounding>),
};

/// No options.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rtn {}

impl Rounding for Rtn {
    fn streams(&self) -> Streams {
        Streams::Neither
    }

    fn to_nearest(&self) -> bool {
        true
    }

    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError> {
        let mut weight = layer.weight.clone();
        quant::round(layer.grid, &mut weight);
        Ok(Rounded { grid: layer.grid.clone(), weight })
    }
}
