//! Which token comes next: the most probable one, or one drawn by chance that a seed repeats.

use super::super::Error;
use crate::tensor::Random;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most probable token each time.
    pub temperature: f32,
    /// Only so many of the most probable tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability are drawn from (Holtzman
    /// et al., 2020, nucleus sampling); 1 for all.
    pub top_p: f32,
    /// The same seed draws the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// # Errors
    /// A temperature that is negative or not finite; a probability that is not in (0, 1].
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |field: &str, found: f32, expected: &str| {
            Err(Error::Sampling(format!("{field}: found {found}, expected {expected}")))
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "more than 0, at most 1");
        }
        Ok(())
    }
}

/// Draws one token after another.
pub(super) struct Sampler {
    how: Sampling,
    random: Random,
}

impl Sampler {
    pub(in super::super) fn new(how: Sampling) -> Sampler {
        Sampler { how, random: Random(how.seed) }
    }

    /// The next token.
    pub(super) fn draw(&mut self, logits: &[f32]) -> u32 {
        if self.how.temperature == 0.0 {
            return index(greedy(logits));
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Equal logits stay in the order of their tokens.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.how.top_k > 0 {
            order.truncate(self.how.top_k);
        }
        let Some(&first) = order.first() else { return 0 };
        let temperature = f64::from(self.how.temperature);
        let greatest = f64::from(logits[first]);
        let weight = |&i: &usize| ((f64::from(logits[i]) - greatest) / temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        let all: f64 = weights.iter().sum();
        let mut reached = 0.0;
        let nucleus = weights.iter().position(|weight| {
            reached += weight / all;
            reached >= f64::from(self.how.top_p)
        });
        weights.truncate(nucleus.map_or(weights.len(), |last| last + 1));
        let mut left = self.random.uniform() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        index(order[drawn.unwrap_or(weights.len() - 1)])
    }
}

/// The most probable token; of equals the first.
fn greedy(logits: &[f32]) -> usize {
    let better =
        |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

fn index(token: usize) -> u32 {
    u32::try_from(token).unwrap_or(0)
}

#[cfg(test)]
mod tests;
