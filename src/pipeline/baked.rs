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
    if tokens == 0 {
        return refused("the calibration rows do not begin with the same tokens");
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
mod tests {
    use super::*;
    use crate::dataset::{Processor, read_jsonl};
    use crate::models;
    use crate::pipeline::{Fixed, Means, Numerics, Silent, quantize};

    fn subject(name: &str, keys: &[&str]) -> (Checkpoint, Vec<Sample>, Recipe) {
        let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
        let mut rows = read_jsonl("assets/vqa/train.jsonl".as_ref()).unwrap();
        rows.truncate(4);
        let samples = Processor::new(&checkpoint).unwrap().encode_all(&rows).unwrap();
        let mut numerics = Numerics::find(name).unwrap();
        for key in keys.iter().chain(&["policy.prefix=bake"]) {
            numerics.set_key(key).unwrap().unwrap();
        }
        let Numerics { policy, algo, products } = numerics;
        let (fixed, means): (Fixed, Means) = Default::default();
        let head = models::Head::Logits;
        (checkpoint, samples, Recipe { policy, algo, products, seq_len: None, fixed, head, means })
    }

    #[test]
    fn a_baked_prefix_leaves_the_float_network_as_it_is_turned_or_not() {
        for (name, keys) in [
            ("w8a8", &["algo.rounding=rtn"][..]),
            ("w4a16-fast", &["algo.rounding=rtn", "algo.rotate.seed=1"]),
        ] {
            let (checkpoint, samples, mut recipe) = subject(name, keys);
            let layout = prompt::layout_of(checkpoint.config(), &samples[0]).unwrap();
            let plain = Recipe { algo: Default::default(), ..recipe.clone() };
            let graph = build(&checkpoint, &plain, layout.clone(), 1).unwrap();
            let mut weights = Weights::none(&graph);
            for (id, _) in graph.params() {
                let read =
                    |key: &str, shape: &[usize], part| checkpoint.read_part(key, shape, part);
                weights.set(id, graph.load(id, &read).unwrap());
            }
            let inputs = prompt::inputs(&graph, &[&samples[0]]);
            let whole = exec::run(&graph, &inputs, &weights, &mut exec::Float, Par::All).remove(0);

            let mut calib = samples.clone();
            bake(&checkpoint, &mut recipe, &mut calib, &mut []).unwrap();
            let tokens = recipe.fixed.prefix.len();
            assert_eq!(tokens, layout.spans()[0].start - 1, "{name}");
            assert_eq!(calib[1].input_ids, samples[1].input_ids[tokens..]);
            let outcome = quantize(&checkpoint, &calib, &[], &recipe, &Silent).unwrap();
            let [float, _] = &outcome.example;
            let width = float.shape()[1];
            let rest = &whole.data()[tokens * width..];
            let most =
                float.data().iter().zip(rest).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(float.shape()[0] + tokens == whole.shape()[1] && most < 1e-3, "{name}: {most}");
            assert!(outcome.unquantized.is_empty(), "{name}");
            let inputs = outcome.graph.inputs.iter().map(|id| &outcome.graph.value(*id).shape);
            let length = outcome.prompt.layout.seq_len();
            assert!(inputs.into_iter().any(|shape| *shape == [1, length]), "{name}");
        }
    }

    #[test]
    fn rows_that_begin_otherwise_and_fitted_rewrites_are_refused() {
        let (checkpoint, samples, recipe) = subject("w8a8", &[]);
        let refused = |calib: &[Sample], eval: &[Sample], recipe: &Recipe| {
            let (mut calib, mut eval) = (calib.to_vec(), eval.to_vec());
            bake(&checkpoint, &mut recipe.clone(), &mut calib, &mut eval).unwrap_err().to_string()
        };
        let mut other = samples.clone();
        other[2].input_ids[0] += 1;
        let error = refused(&other, &[], &recipe);
        assert!(error.contains("policy.prefix") && error.contains("same tokens"), "{error}");
        let error = refused(&samples, &other, &recipe);
        assert!(error.contains(&other[2].place) && error.contains("begins otherwise"), "{error}");
        let (_, _, fitted) = subject("w8a8", &["algo.awq.grid=4"]);
        let error = refused(&samples, &[], &fitted);
        assert!(error.contains("fitted to samples"), "{error}");
    }
}
