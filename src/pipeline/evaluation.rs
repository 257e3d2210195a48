//! What the answers of an evaluation set cost: float and quantized model side by side.

use super::walk::{self, Lane, Variants};
use super::{Error, Progress};
use crate::calibrate::Quantizing;
use crate::dataset::Sample;
use crate::exec::{Float, Weights};
use crate::graph::Graph;
use crate::report::{AnswerScore, Answers};
use crate::tensor::Tensor;

/// Runs float and quantized models on rows with answers, at the static length that is exported.
pub(super) fn evaluate(
    graph: &Graph,
    lanes: &[Lane],
    variants: &Variants,
    samples: &[Sample],
    weights: [&Weights; 2],
    progress: &dyn Progress,
) -> Result<Option<[AnswerScore; 2]>, Error> {
    let rounded = walk::annotated(variants.clone(), graph);
    let rows = walk::each_lane(lanes, true, |lane, par| {
        let shape = lane.shape();
        let tap = Quantizing::of(&rounded[&shape]);
        let float = lane.walk(&variants[&shape], samples, weights[0], &mut Float, par)?;
        let judged = lane.walk(&rounded[&shape], samples, weights[1], &mut &tap, par)?;
        let rows = lane.samples.iter().zip(float.iter().zip(&judged));
        Ok(rows
            .map(|(&i, (float, judged))| {
                progress.step();
                answers(&samples[i], float, judged)
            })
            .collect())
    })?;
    let mut total = [Answers::default(), Answers::default()];
    for [float, judged] in &rows {
        total[0].merge(float);
        total[1].merge(judged);
    }
    let [float, judged] = total.map(|answers| answers.score());
    Ok(float.zip(judged).map(<[AnswerScore; 2]>::from))
}

/// The answer of one sample by the float and the judged model; logits are `[seq, vocab]`.
fn answers(sample: &Sample, float: &Tensor, judged: &Tensor) -> [Answers; 2] {
    let mut scores = [Answers::default(), Answers::default()];
    let (start, end) = (sample.prompt_len, sample.input_ids.len());
    if start > 0 && start < end {
        let vocab = float.shape()[1];
        // Position p predicts the token at p + 1.
        let predicting = (start - 1) * vocab..(end - 1) * vocab;
        let given = [float, judged].map(|logits| &logits.data()[..predicting.start]);
        let (float, judged) = (&float.data()[predicting.clone()], &judged.data()[predicting]);
        scores[0].add(&sample.input_ids[start..], float, float);
        scores[1].add(&sample.input_ids[start..], float, judged);
        scores[0].add_given(vocab, given[0], given[0]);
        scores[1].add_given(vocab, given[0], given[1]);
    }
    scores
}
