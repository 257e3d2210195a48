//! How well answers survive quantization, teacher forced: the model reads prompt and answer, and
//! its prediction at each answer position is compared.

use crate::tensor::divergence;
use serde::Serialize;

/// Accumulates the three figures of one model over the answers of a data set, in f64.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    rows: u64,
    exact: u64,
    tokens: u64,
    kl: f64,
    nll: f64,
    right: u64,
    agreed: u64,
    /// Divergence at every token.
    divergences: Vec<f32>,
    /// Divergence before the answers, and tokens there.
    given_kl: f64,
    given: u64,
}

/// The figures of [`Answers`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerScore {
    /// Share of rows whose every answer token has the greatest logit.
    pub exact: f64,
    /// Mean over answer tokens of KL(float ‖ this model), in nats.
    pub kl: f64,
    /// The divergence that 99.9 % of the answer tokens do not exceed.
    pub kl_999: f64,
    /// Mean of the divergence over all tokens that follow another one, those of the prompt too.
    pub kl_all: f64,
    /// Share of answer tokens with the greatest logit.
    pub accuracy: f64,
    /// Share of answer tokens where both models' greatest logits agree.
    pub top1: f64,
    /// exp of the mean negative log likelihood of the answer tokens.
    pub answer_ppl: f64,
    /// Rows.
    pub rows: u64,
    /// Answer tokens.
    pub tokens: u64,
    /// All tokens that follow another one.
    pub tokens_all: u64,
}

impl Answers {
    /// Adds one row: `answer` tokens, and the logits `[answer, vocab]` that predict them by the
    /// float model and by the model judged.
    pub fn add(&mut self, answer: &[u32], float: &[f32], judged: &[f32]) {
        let vocab = float.len() / answer.len().max(1);
        let mut exact = true;
        for ((&token, float), judged) in
            answer.iter().zip(float.chunks_exact(vocab)).zip(judged.chunks_exact(vocab))
        {
            let (kl, log_sum) = divergence(float, judged);
            self.kl += kl;
            self.divergences.push(kl as f32);
            self.nll += log_sum - f64::from(judged[token as usize]);
            let best = argmax(judged);
            self.right += u64::from(best == token as usize);
            self.agreed += u64::from(best == argmax(float));
            exact &= best == token as usize;
        }
        self.rows += 1;
        self.exact += u64::from(exact);
        self.tokens += answer.len() as u64;
    }

    /// Adds the logits `[tokens, vocab]` that predict tokens of the prompt: only their divergence
    /// counts, since nobody asks a model for its prompt.
    pub fn add_given(&mut self, vocab: usize, float: &[f32], judged: &[f32]) {
        for (float, judged) in float.chunks_exact(vocab).zip(judged.chunks_exact(vocab)) {
            self.given_kl += divergence(float, judged).0;
            self.given += 1;
        }
    }

    /// Mean divergence over the tokens of [`Answers::add_given`]; 0 without any.
    pub fn given_divergence(&self) -> f64 {
        self.given_kl / (self.given as f64).max(1.0)
    }

    /// Joins two parts of one data set.
    pub fn merge(&mut self, other: &Answers) {
        self.rows += other.rows;
        self.exact += other.exact;
        self.tokens += other.tokens;
        self.kl += other.kl;
        self.nll += other.nll;
        self.right += other.right;
        self.agreed += other.agreed;
        self.divergences.extend(&other.divergences);
        self.given_kl += other.given_kl;
        self.given += other.given;
    }

    fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.divergences.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().map_or(0.0, f64::from)
    }

    /// The figures; none without answers.
    pub fn score(&self) -> Option<AnswerScore> {
        let tokens = self.tokens as f64;
        (self.tokens > 0).then(|| AnswerScore {
            exact: self.exact as f64 / self.rows as f64,
            kl: self.kl / tokens,
            kl_999: self.percentile(0.999),
            kl_all: (self.kl + self.given_kl) / (tokens + self.given as f64),
            accuracy: self.right as f64 / tokens,
            top1: self.agreed as f64 / tokens,
            answer_ppl: (self.nll / tokens).exp(),
            rows: self.rows,
            tokens: self.tokens,
            tokens_all: self.tokens + self.given,
        })
    }
}

/// The first of the greatest, as everybody's argmax.
fn argmax(logits: &[f32]) -> usize {
    let best = logits.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests;
