//! A prefix that is no part of the graph: every prompt begins with it, so its keys and values are
//! computed once, in float, and are constants. Its outliers then meet no grid but that of the keys
//! and values (Chen et al., "PrefixQuant", 2024).

use super::{Error, Recipe, build, prompt};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::{self, Tap, Weights};
use crate::graph::{Graph, Source, ValueId};
use crate::quant::{Head, Prefix};
use crate::tensor::{Par, Tensor};
use std::collections::{BTreeMap, HashMap};

/// Keys and values of the prefix `[1, kv_heads, tokens, head_dim]`, by the constant's name.
pub(super) type Known = BTreeMap<String, Tensor>;

/// Where the recipe asks for it, takes the tokens that all calibration rows begin with off all
/// samples and notes them in `recipe.fixed`: at most up to what announces the first picture, and
/// never all that is given.
///
/// # Errors
/// Calibration rows that do not begin alike; another row that begins otherwise; algorithms that would
/// need the prefix before it is known.
pub fn bake(
    checkpoint: &Checkpoint,
    recipe: &mut Recipe,
    calib: &mut [Sample],
    eval: &mut [Sample],
) -> Result<(), Error> {
    if recipe.policy.spec().prefix != Some(Prefix::Named(Head::Bake)) {
        return Ok(());
    }
    let refused = |why: &str| Err(Error::Prefix(why.into()));
    if recipe.algo.fits() {
        return refused("rewrites that are fitted to samples come before the prefix is known");
    }
    let first = calib.first().ok_or(Error::NoSamples)?;
    let layout = prompt::layout_of(checkpoint.config(), first)?;
    let before = layout.spans().first().map_or(usize::MAX, |span| span.start.saturating_sub(1));
    let same = |sample: &Sample| {
        let pairs = first.input_ids.iter().zip(&sample.input_ids);
        pairs.take_while(|(a, b)| a == b).count()
    };
    let alike = calib.iter().map(same).min().unwrap_or(0);
    let given = calib.iter().chain(&*eval).map(|sample| sample.prompt_len).min().unwrap_or(0);
    let tokens = alike.min(before).min(given.saturating_sub(1));
    match tokens {
        0 if given <= 1 => {
            return refused(
                "a row is given no more than one token, which is to be left of its prompt",
            );
        }
        0 => return refused("the calibration rows do not begin with the same tokens"),
        _ => {}
    }
    let prefix = first.input_ids[..tokens].to_vec();
    for sample in calib.iter_mut().chain(eval) {
        if !sample.input_ids.starts_with(&prefix) {
            let message = format!(
                "begins otherwise than the calibration rows, whose first {tokens} tokens are constants"
            );
            return Err(Error::row(sample, message));
        }
        sample.input_ids.drain(..tokens);
        sample.prompt_len -= tokens;
    }
    recipe.fixed.prefix = prefix;
    Ok(())
}

/// The keys and values of the recipe's prefix under the edited weights of `graph`: those of a whole
/// prompt's first positions, which see nothing of what follows.
pub(super) fn known(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    (graph, weights): (&Graph, &Weights),
    calib: &[Sample],
) -> Result<Known, Error> {
    let prefix = &recipe.fixed.prefix;
    if prefix.is_empty() {
        return Ok(Known::new());
    }
    let mut sample = calib.first().ok_or(Error::NoSamples)?.clone();
    sample.input_ids.splice(..0, prefix.iter().copied());
    let layout = prompt::layout_of(checkpoint.config(), &sample)?;
    let whole = build(checkpoint, recipe, layout, 1)?;
    let ids: HashMap<&str, ValueId> =
        graph.ids().map(|id| (graph.value(id).name.as_str(), id)).collect();
    let mut same = Weights::none(&whole);
    for (id, _) in whole.params() {
        let edited = ids.get(whole.value(id).name.as_str()).and_then(|&id| weights.get(id));
        same.set(id, edited.cloned().expect("invariant: graphs of one checkpoint share weights"));
    }
    let mut keep = Keep { graph: &whole, ids: &ids, tokens: prefix.len(), known: Known::new() };
    exec::run(&whole, &prompt::inputs(&whole, &[&sample]), &same, &mut keep, Par::All);
    Ok(keep.known)
}

/// Keeps the first positions of keys and values.
struct Keep<'a> {
    graph: &'a Graph,
    /// Values of the graph with constants.
    ids: &'a HashMap<&'a str, ValueId>,
    tokens: usize,
    known: Known,
}

impl Tap for Keep<'_> {
    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        let name = &self.graph.value(id).name;
        let pairs = [(".k_rot", ".past_k"), (".v_t", ".past_v")];
        let constant = pairs
            .iter()
            .find_map(|(made, kept)| name.strip_suffix(made).map(|layer| format!("{layer}{kept}")));
        let Some(constant) = constant.filter(|name| self.ids.contains_key(name.as_str())) else {
            return;
        };
        let &[_, heads, seq, dim] = value.shape() else { return };
        let head = |head: &[f32]| head[..self.tokens * dim].to_vec();
        let data = value.data().chunks_exact(seq * dim).flat_map(head).collect();
        self.known.insert(constant, Tensor::new([1, heads, self.tokens, dim], data));
    }
}

/// Puts the keys and values in their places, in every row of the batch.
pub(super) fn fill(graph: &mut Graph, known: &Known) {
    for value in &mut graph.values {
        if let (Source::Const(constant), Some(known)) = (&mut value.source, known.get(&value.name))
        {
            let rows = value.shape[0];
            *constant = Tensor::new(value.shape.clone(), known.data().repeat(rows));
        }
    }
}

#[cfg(test)]
mod tests;
