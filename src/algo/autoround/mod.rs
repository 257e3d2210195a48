//! Learned rounding (Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the
//! Quantization of LLMs", 2023): whether a weight goes up or down, and how much of a row's range
//! its grid keeps, are learned by the sign of the gradient.
//!
//! Ŵ = s · clip(⌊W/s + D + V⌉), V ∈ [−½, ½], s = (a · max − b · min) / levels
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | V | `State::shift` | what is learned of each weight |
//! | a, b | `State::keep` | what is learned of each row: shares of the upper and lower end |
//! | D | `State::offset` | codes of the start minus those of rounding to nearest |
//! | rate | `rate`, `range_rate` | step of V, and of a and b; both fall linearly to 0 |
//!
//! Departures from the paper. The objective is that of one linear layer, ‖(W − Ŵ)X̂ᵀ‖², not that
//! of a decoder layer: it is a quadratic form in H, so its gradient is exact, (Ŵ − W)(H + λI), and
//! no sample is drawn. The start may be what GPTQ found. The best of all steps by the true objective
//! is kept for each row, the start among them, so a row never ends worse than it began; coordinate
//! descent and refits, as after GPTQ, finish it.

mod state;

use super::gptq::{self, Gptq, Part, Towards};
use super::rows::Row;
use super::{AlgoError, Entry, Layer, Rounded, Rounding, Streams};
use crate::quant::{Grain, ParamsError};
use serde::{Deserialize, Serialize};
use state::State;

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "autoround",
    about: "rounding and ranges learned by sign descent (AutoRound), layer by layer",
    keys: &[KEYS, gptq::KEYS],
    build: |options| {
        let mine = |(key, _): &(String, toml::Value)| KEYS.contains(&&key[..]);
        let (own, rest): (toml::Table, toml::Table) = options.into_iter().partition(mine);
        let learning: Learning = own.try_into()?;
        Ok(Box::new(AutoRound { learning, gptq: rest.try_into()? }) as Box<dyn Rounding>)
    },
};

/// The keys of its own options.
const KEYS: &[&str] = &["start", "steps", "rate", "range_rate", "alpha", "beta"];

/// Where learning begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Rounding to nearest, on the grid of least weighted error.
    Nearest,
    /// What GPTQ found with its own options.
    Gptq,
}

/// How rounding is learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// Where it begins.
    pub start: Start,
    /// Steps.
    pub steps: usize,
    /// First step of V in codes; by default one that can just cross V's whole range.
    pub rate: Option<f64>,
    /// First step of the shares of the range; by default that of V, tenfold smaller.
    pub range_rate: Option<f64>,
    /// Share of the way towards the float network's activations, 0 to 1, as in two-stream GPTQ.
    pub alpha: f64,
    /// Share of what the stream lost that the layer's output is added to, 0 to 1.
    pub beta: f64,
}

impl Default for Learning {
    fn default() -> Learning {
        Learning {
            start: Start::Gptq,
            steps: 60,
            rate: None,
            range_rate: None,
            alpha: 0.0,
            beta: 0.0,
        }
    }
}

/// Options: how it is learned, and those of GPTQ for start, damping and finish.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AutoRound {
    /// How rounding is learned.
    pub learning: Learning,
    /// The rest.
    pub gptq: Gptq,
}

impl Rounding for AutoRound {
    fn streams(&self) -> Streams {
        self.towards().streams()
    }

    fn groups(&self) -> bool {
        false
    }

    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError> {
        if let Some(group) = layer.grid.group() {
            return Err(AlgoError::Grain { algorithm: "autoround", grain: Grain::Groups(group) });
        }
        self.gptq.round_towards("autoround", layer, self.towards(), &|part| {
            let learned = self.learn(part, self.start(part)?);
            Ok(self.gptq.refined(part, learned))
        })
    }
}

impl AutoRound {
    fn towards(&self) -> Towards {
        Towards { alpha: self.learning.alpha, beta: self.learning.beta }
    }

    fn start(&self, part: &Part<'_>) -> Result<Vec<Row>, ParamsError> {
        match self.learning.start {
            Start::Gptq => self.gptq.compensated(part),
            Start::Nearest => {
                let rows = part.rows.chunks_exact(part.form.width());
                let grids = rows.map(|row| Ok(self.gptq.grids(part, row, part.energy)?[0]));
                Ok(part.form.nearest(part.rows, &grids.collect::<Result<Vec<_>, ParamsError>>()?))
            }
        }
    }

    /// The best that was met on the way from `start`, row by row.
    fn learn(&self, part: &Part<'_>, start: Vec<Row>) -> Vec<Row> {
        let (k, steps) = (part.form.width(), self.learning.steps);
        let rate = self.learning.rate.unwrap_or(1.0 / steps.max(1) as f64);
        let range_rate = self.learning.range_rate.unwrap_or(rate / 10.0);
        let mut states: Vec<State<'_>> = part
            .rows
            .chunks_exact(k)
            .zip(&start)
            .map(|(target, row)| State::new(target, row, part))
            .collect();
        let mut best = start;
        let mut errors = vec![0.0; part.rows.len()];
        for step in 0..steps {
            for (state, errors) in states.iter().zip(errors.chunks_exact_mut(k)) {
                state.errors(errors);
            }
            // (W − Ŵ)(H + λI): half the gradient, downhill.
            let downhill = part.form.times(&errors);
            let left = 1.0 - step as f64 / steps as f64;
            let slopes = downhill.chunks_exact(k).zip(errors.chunks_exact(k));
            for ((state, best), (slope, errors)) in states.iter_mut().zip(&mut best).zip(slopes) {
                let error = slope.iter().zip(errors).map(|(s, e)| s * e).sum();
                if error < best.error {
                    *best = Row { error, ..state.row() };
                }
                state.step(slope, rate * left, range_rate * left);
            }
        }
        best
    }
}
