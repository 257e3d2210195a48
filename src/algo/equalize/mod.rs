//! Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and
//! Bias Correction", ICCV 2019): between a writer and its readers every channel is scaled so that
//! both sides have the same greatest weight. No data.
//!
//! s = √(r₁ / r₂), so that r₁ / s = s r₂: r₁ is the greatest |w| of a channel where it is written, a
//! row of a layer or a gain of a norm, r₂ that of the columns that read it.
//!
//! The paper asks for a piecewise linear function in between; here nothing is in between but moves,
//! products with other values and attention, which are linear in the channels ([`channels`]).

use super::channels::{self, Group};
use crate::graph::{Graph, Read};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Also between gains of norms and the layers that read them.
    pub norms: bool,
    /// Times that all groups are gone through: a layer that reads and writes settles by and by.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { norms: false, rounds: 2 }
    }
}

/// Appends the edits that equalize every group of channels.
///
/// # Errors
/// Those of `read`, which is asked for one weight at a time.
pub fn equalize<E>(graph: &mut Graph, read: Read<'_, E>, options: &Options) -> Result<(), E> {
    let mut groups = channels::find(graph);
    groups.retain(|group| options.norms || !group.norm);
    for _ in 0..options.rounds {
        for group in &groups {
            let scales = scales(graph, group, read)?;
            group.scale(graph, &scales);
        }
    }
    Ok(())
}

/// √(r₁ / r₂); one where either is zero.
fn scales<E>(graph: &Graph, group: &Group, read: Read<'_, E>) -> Result<Vec<f64>, E> {
    let count = group.free.len();
    let written = channels::greatest_of_outputs(graph.load(group.writers[0], read)?.data(), count);
    let mut reading = vec![0.0; count];
    for reader in &group.readers {
        let weight = graph.load(reader.weight, read)?;
        channels::raise_to_columns(&mut reading, weight.data(), &reader.channels);
    }
    let scale = |(r1, r2): (&f64, &f64)| if r1 * r2 > 0.0 { (r1 / r2).sqrt() } else { 1.0 };
    Ok(written.iter().zip(&reading).map(scale).collect())
}
