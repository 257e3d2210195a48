//! What quantization costs: float and quantized outputs side by side, a lane at a time, so that only
//! the outputs of those under way are in memory.

use super::super::unfinished::halt::Group;
use super::super::{Error, Progress, go_on};
use super::Walk;
use super::legs::Legs;
use crate::algo::{Both, Pairs};
use crate::dataset::Sample;
use crate::exec::Gait;
use crate::report::{AnswerScore, Answers, ErrorFigures, ErrorSummary};
use crate::tensor::{self, Tensor};
use std::ops::Range;

/// Of the example's outputs, so many elements are kept.
pub(in super::super) const EXAMPLE: usize = 1 << 24;

/// Samples on their way through both networks.
pub(in super::super) struct Travellers<'a> {
    pub(in super::super) walk: &'a Walk<'a>,
    pub(in super::super) pairs: Pairs<'a>,
}

/// The way to the end.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(in super::super) weights: Both<'a>,
    pub(in super::super) gait: Gait,
    /// Told of every sample.
    pub(in super::super) progress: &'a dyn Progress,
}

impl Travellers<'_> {
    /// Where all samples are.
    pub(in super::super) fn standing(&self) -> Group<'_> {
        let (at, spool) = self.pairs.reached();
        (self.walk, at, spool)
    }

    /// Takes all samples to the end of a leg.
    pub(in super::super) fn advance(
        &mut self,
        legs: &Legs,
        nodes: &Range<usize>,
        weights: Both<'_>,
    ) -> Result<(), Error> {
        let gait = self.walk.gait(legs, nodes, true);
        Ok(self.pairs.advance(nodes.end, weights, gait, &mut |_| ())?)
    }

    /// Takes all samples to their end, and whatever `judge` makes of each one's outputs, float and
    /// quantized, in order. It is told the sample's position and the width of the outputs' rows.
    fn judged<T: Send>(
        self,
        Arrival { weights, gait, progress }: Arrival<'_>,
        judge: impl Fn(usize, usize, [&[f32]; 2]) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let walk = self.walk;
        let end = |lane: usize, outputs: [&Tensor; 2]| -> Result<Vec<T>, Error> {
            go_on(progress, || "while comparing".into())?;
            let samples = &walk.lanes[lane].samples;
            let width = outputs[0].shape().last().copied().unwrap_or(1);
            let len = outputs[0].len() / samples.len();
            let part = |k: usize| outputs.map(|x| &x.data()[k * len..(k + 1) * len]);
            for (k, &sample) in samples.iter().enumerate() {
                let [float, quantized] = part(k).map(tensor::all_finite);
                if !(float && quantized) {
                    let network = if float { "quantized" } else { "float" };
                    let place = walk.samples[sample].place.clone();
                    return Err(Error::Outputs { place, network });
                }
            }
            let one = |(k, &sample): (usize, &usize)| {
                progress.step();
                judge(sample, width, part(k))
            };
            Ok(samples.iter().enumerate().map(one).collect())
        };
        let found = self.pairs.finish(weights, gait, &end)?;
        Ok(walk.in_order(found))
    }

    /// Distance of the quantized outputs from the float ones, and both of the first sample.
    pub(super) fn compare(
        self,
        arrival: Arrival<'_>,
    ) -> Result<(ErrorFigures, [Tensor; 2]), Error> {
        let found = self.judged(arrival, |sample, width, [float, quantized]| {
            let mut summary = ErrorSummary::default();
            summary.add(float, quantized);
            let rows = (float.len() / width).min(EXAMPLE.div_ceil(width));
            let kept = |x: &[f32]| Tensor::new([rows, width], x[..rows * width].to_vec());
            (summary, (sample == 0).then(|| [kept(float), kept(quantized)]))
        })?;
        let mut total = ErrorSummary::default();
        for (summary, _) in &found {
            total.merge(summary);
        }
        let error = total.figures().ok_or(Error::NoSamples)?;
        let example = found.into_iter().next().and_then(|(_, example)| example);
        Ok((error, example.ok_or(Error::NoSamples)?))
    }

    /// The answers of both models.
    pub(super) fn answers(self, arrival: Arrival<'_>) -> Result<Option<[AnswerScore; 2]>, Error> {
        let samples = self.walk.samples;
        let rows = self
            .judged(arrival, |sample, vocab, outputs| answers(&samples[sample], vocab, outputs))?;
        let mut total = [Answers::default(), Answers::default()];
        for [float, judged] in &rows {
            total[0].merge(float);
            total[1].merge(judged);
        }
        let [float, judged] = total.map(|answers| answers.score());
        Ok(float.zip(judged).map(<[AnswerScore; 2]>::from))
    }
}

/// The answer of one sample by the float and the judged model; logits are `[seq, vocab]`.
fn answers(sample: &Sample, vocab: usize, logits: [&[f32]; 2]) -> [Answers; 2] {
    let mut scores = [Answers::default(), Answers::default()];
    let (start, end) = (sample.prompt_len, sample.input_ids.len());
    if start > 0 && start < end {
        // Position p predicts the token at p + 1.
        let predicting = (start - 1) * vocab..(end - 1) * vocab;
        let given = logits.map(|logits| &logits[..predicting.start]);
        let [float, judged] = logits.map(|logits| &logits[predicting.clone()]);
        scores[0].add(&sample.input_ids[start..], float, float);
        scores[1].add(&sample.input_ids[start..], float, judged);
        scores[0].add_given(vocab, given[0], given[0]);
        scores[1].add_given(vocab, given[0], given[1]);
    }
    scores
}
