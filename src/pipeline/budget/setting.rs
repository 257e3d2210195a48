//! The float network and the few samples that losses are measured on.

use super::super::unfinished::{Fits, Memo};
use super::super::walk::{self, Floats, Walk, rewrite};
use super::super::{Error, Progress, Prompt, Recipe, Trouble};
use super::outlook;
use crate::calibrate::Plan;
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::Gait;
use crate::graph::Graph;
use crate::report::Answers;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// All that measuring begins with.
pub(super) struct Setting<'a> {
    /// After the rewrites.
    pub(super) graph: Graph,
    /// Of the policy.
    pub(super) plan: Plan,
    pub(super) walk: Walk<'a>,
    pub(super) gait: Gait,
    pub(super) floats: Floats<'a>,
    /// What an earlier run has measured.
    pub(super) memo: Memo,
}

impl<'a> Setting<'a> {
    /// For the losses of `what`.
    ///
    /// # Errors
    /// A prefix, too little memory, and whatever [`quantize`](super::super::quantize) refuses.
    pub(super) fn of(
        checkpoint: &'a Checkpoint,
        (calib, few): (&'a [Sample], &'a [Sample]),
        recipe: &Recipe,
        (what, progress): (&str, &dyn Progress),
    ) -> Result<Setting<'a>, Error> {
        unprefixed(recipe)?;
        let config = checkpoint.config();
        let prompt = Prompt::of(config, calib, &[], recipe.seq_len, &recipe.fixed)?;
        let build = |layout, batch| super::super::build(checkpoint, recipe, layout, batch);
        let mut graph = build(prompt.layout.clone(), 1)?;
        super::super::verify(checkpoint)?;
        let plan = super::super::planned(&graph, &recipe.policy, &prompt.layout, calib)?;
        let width = config.text.hidden_size;
        let lanes = walk::calibration_lanes(few, plan.mergeable(), width);
        let walk = Walk::new(few, lanes, &build, &prompt)?;
        let singles = || Walk::new(few, walk::one_by_one(few), &build, &prompt);
        let gait = outlook::gait(&graph, (few, width), walk.lanes.len(), &recipe.means)?;
        let memo = Memo::open((checkpoint, calib), (recipe, &prompt), what)?;
        let fits = Fits { memo: &memo, progress };
        rewrite(&recipe.algo, &mut graph, (&plan, &fits), (checkpoint, singles))?;
        let floats = Floats::of(checkpoint, &graph, None, &Trouble::default())?;
        Ok(Setting { graph, plan, walk, gait, floats, memo })
    }
}

/// Refuses a recipe whose prompts begin with constants.
pub(super) fn unprefixed(recipe: &Recipe) -> Result<(), Error> {
    match recipe.fixed.prefix.is_empty() {
        true => Ok(()),
        false => Err(Error::Prefix("losses are not measured behind a prefix".into())),
    }
}

/// What the float network says to every lane, and how far from it others are; clones share that.
#[derive(Clone, Default)]
pub(super) struct Judge {
    float: Vec<Tensor>,
}

impl Judge {
    /// `float` holds the output for each lane.
    pub(super) fn new(float: Vec<Tensor>) -> Judge {
        Judge { float }
    }

    /// Each sample of a lane, where this is what came out for it.
    pub(super) fn parts(&self, walk: &Walk<'_>, lane: usize, output: &Tensor) -> Vec<Answers> {
        let vocab = output.shape().last().copied().unwrap_or(1);
        let part = (output.len() / walk.lanes[lane].samples.len()).max(1);
        let rows = self.float[lane].data().par_chunks(part).zip(output.data().par_chunks(part));
        let one = |(float, judged): (&[f32], &[f32])| {
            let mut answers = Answers::default();
            answers.add_given(vocab, float, judged);
            answers
        };
        rows.map(one).collect()
    }

    /// Mean KL divergence from the float network, over all tokens and in nats.
    pub(super) fn mean(walk: &Walk<'_>, found: Vec<Vec<Answers>>) -> f64 {
        let mut total = Answers::default();
        walk.in_order(found).iter().for_each(|answers| total.merge(answers));
        total.given_divergence().max(0.0)
    }
}
