//! Which activations get 16 bits, so that no more of float's answers is lost than somebody allows.
//!
//! A scope is a kind: the values that differ by nothing but numbers in their names, such as those of
//! every layer. What its grids cost is measured with all else float: the mean KL divergence from the
//! float network, on the policy's ranges and on ranges that leave no value out, of which the better stay.
//! Losses of single kinds do not add up once much is lost, so they only rank the kinds, by what there is
//! to gain from a value of 16 bits; how many of them get 16 bits is found by bisection over losses with
//! all grids at once, and then each of these is taken back whose bits turn out not to matter. Weights
//! are float throughout. The choice is appended to the policy as rules by name, so the recipe says all
//! of it.

use super::super::walk::{Legs, Observation};
use super::super::{Error, Progress, Recipe, go_on, walk};
use super::outlook;
use super::setting::{Judge, Setting};
use crate::calibrate::{self, CalibrateError, Plan, Quantizing};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::exec::{Room, Spool, Stream, Weights};
use crate::graph::{Graph, ValueId};
use crate::quant::{DType, Decision, ObserverSpec, Role, Rule, Spec, UnseenExperts};
use crate::tensor::{Products, Tensor};
use globset::Glob;
use serde::Serialize;

/// Bits that are enough.
const WIDE: u8 = 16;

/// What the values of one kind may get.
#[derive(Clone, Debug, Serialize)]
pub struct ValueCandidate {
    /// Type of the integers.
    pub dtype: DType,
    /// Where ranges come from.
    pub observer: ObserverSpec,
    /// Mean KL divergence with these values alone rounded, in nats a token; not measured of 16 bits,
    /// which lose next to nothing alone.
    pub loss: Option<f64>,
    /// Position among the menus.
    #[serde(skip)]
    menu: usize,
}

/// What the values of one kind got, and why.
#[derive(Clone, Debug, Serialize)]
pub struct ValueChoice {
    /// Globs over their names.
    pub patterns: Vec<String>,
    /// Grids: values that share one count once.
    pub grids: usize,
    /// Their elements in one sample of full length.
    pub elements: u64,
    /// What they could get: 8-bit grids, then the 16-bit one.
    pub candidates: Vec<ValueCandidate>,
    /// Which they got.
    pub chosen: usize,
}

/// What was spent to stay within the limit.
#[derive(Clone, Debug, Serialize)]
pub struct Widened {
    /// Every kind that the policy gives fewer than 16 bits, in graph order.
    pub choices: Vec<ValueChoice>,
    /// Mean KL divergence that was allowed, in nats a token.
    pub limit: f64,
    /// The one with all activations rounded as chosen and float weights.
    pub loss: f64,
    /// The same if none had been widened.
    pub narrow_loss: f64,
    /// Calibration samples that losses were measured on.
    pub samples: usize,
}

/// Widens as few activations as keep the mean KL divergence from float within `limit` nats a token,
/// weights aside, and appends the choice to the rules of `recipe`.
///
/// # Errors
/// A limit below what 16 bits everywhere lose, with that; whatever [`quantize`](super::super::quantize)
/// refuses.
pub fn widen(
    checkpoint: &Checkpoint,
    calib: &[Sample],
    recipe: &mut Recipe,
    limit: f64,
    progress: &dyn Progress,
) -> Result<Widened, Error> {
    let asked = recipe.clone();
    let few = outlook::few_tokens(calib);
    let setting = Setting::of(checkpoint, (calib, few), &asked, ("values", progress))?;
    let menus = menus(&setting, &asked)?;
    let kinds = kinds(&setting.graph, &setting.plan);
    let bench = Bench::new(&setting, &menus, (&asked, progress))?;
    progress.begin("measure", kinds.len());
    let mut choices = Vec::with_capacity(kinds.len());
    for kind in &kinds {
        choices.push(bench.choice(kind)?);
        progress.step();
    }
    let (loss, narrow_loss) = bench.settle(&kinds, &mut choices, limit)?;
    let rules = choices.iter().flat_map(|choice| rules(choice, &menus));
    let policy = recipe.policy.clone().with_rules(rules.collect::<Vec<Rule>>());
    recipe.policy = policy.map_err(CalibrateError::from)?;
    Ok(Widened { choices, limit, loss, narrow_loss, samples: few.len() })
}

/// How many kinds there are, and how many losses are measured at most: of each alone on two grids, of
/// all at once in as many steps as bisection takes, and with each taken back.
pub(super) fn counts(graph: &Graph, plan: &Plan) -> [usize; 2] {
    let kinds = kinds(graph, plan).len();
    [kinds, kinds * 3 + kinds.checked_ilog2().unwrap_or(0) as usize + 3]
}

/// Grids that all activations could have.
struct Menu {
    /// What a rule says to get them.
    set: Spec,
    plan: Plan,
}

/// What the policy says, ranges that leave nothing out, and these with 16 bits.
fn menus(setting: &Setting<'_>, recipe: &Recipe) -> Result<Vec<Menu>, Error> {
    let whole = Some(ObserverSpec::MinMax);
    let sets = [
        Spec::default(),
        Spec { observer: whole, ..Spec::default() },
        Spec { dtype: Some(DType::INT16), observer: whole, ..Spec::default() },
    ];
    let menu = |set: Spec| {
        let mut policy = recipe.policy.clone();
        if set != Spec::default() {
            let classes = (0..).zip(&setting.plan.sites.classes);
            // What a mask hides is nothing to be left out.
            let logits = classes.filter_map(|(class, values)| {
                let Some(&Decision::Affine {
                    dtype,
                    observer: ObserverSpec::SoftmaxLogits { .. },
                    ..
                }) = setting.plan.class_decision(class)
                else {
                    return None;
                };
                let observer = Some(ObserverSpec::of_logits(set.dtype.unwrap_or(dtype)));
                let name = &setting.graph.value(values.members[0]).name;
                Some(rule(globset::escape(name), Spec { observer, ..set }))
            });
            let rules = std::iter::once(rule("*".into(), set)).chain(logits);
            policy = policy.with_rules(rules).map_err(CalibrateError::from)?;
        }
        // A few samples need not reach every expert.
        let policy = policy.with_unseen_experts(UnseenExperts::WeightOnly);
        let plan = Plan::new(&setting.graph, &policy)?;
        Ok(Menu { set, plan: plan.with_emphasis(setting.plan.emphasis().clone()) })
    };
    sets.into_iter().map(menu).collect()
}

/// Values whose grids are chosen together.
struct Kind {
    patterns: Vec<String>,
    /// All members of its classes.
    members: Vec<ValueId>,
    classes: Vec<usize>,
    elements: u64,
}

/// The kinds of the activations that `plan` gives fewer than 16 bits.
fn kinds(graph: &Graph, plan: &Plan) -> Vec<Kind> {
    let mut found: Vec<(String, Decision, Kind)> = Vec::new();
    for (class, values) in plan.sites.classes.iter().enumerate() {
        let Some(decision @ Decision::Affine { dtype, .. }) = plan.class_decision(class) else {
            continue;
        };
        if dtype.bits() >= WIDE {
            continue;
        }
        let pattern = numberless(&graph.value(values.members[0]).name);
        let same = |(p, d, _): &(String, Decision, Kind)| *p == pattern && d == decision;
        let at = found.iter().position(same).unwrap_or_else(|| {
            let (patterns, members, classes) = (vec![pattern.clone()], Vec::new(), Vec::new());
            let kind = Kind { patterns, members, classes, elements: 0 };
            found.push((pattern, *decision, kind));
            found.len() - 1
        });
        let kind = &mut found[at].2;
        let elements = |id: &ValueId| graph.value(*id).shape.iter().product::<usize>() as u64;
        kind.members.extend(&values.members);
        kind.classes.push(class);
        kind.elements += values.observed.iter().map(elements).sum::<u64>().max(1);
    }
    let mut kinds: Vec<Kind> = found.into_iter().map(|(_, _, kind)| kind).collect();
    kinds.iter_mut().for_each(|kind| spell_out(kind, graph, plan));
    kinds
}

/// The name as a glob, any number in place of a number between dots.
fn numberless(name: &str) -> String {
    let part = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
        true => "*".into(),
        false => globset::escape(part),
    };
    name.split('.').map(part).collect::<Vec<String>>().join(".")
}

/// Names every grid of the kind by itself where the glob would catch others, too.
fn spell_out(kind: &mut Kind, graph: &Graph, plan: &Plan) {
    let matcher = Glob::new(&kind.patterns[0]).map(|glob| glob.compile_matcher());
    let alone = matcher.is_ok_and(|matcher| {
        let others =
            plan.sites.classes.iter().enumerate().filter(|(c, _)| !kind.classes.contains(c));
        let mut names =
            others.flat_map(|(_, class)| &class.members).map(|id| &graph.value(*id).name);
        !names.any(|name| matcher.is_match(name))
    });
    if !alone {
        let first = |class: &usize| &graph.value(plan.sites.classes[*class].members[0]).name;
        kind.patterns = kind.classes.iter().map(|class| globset::escape(first(class))).collect();
    }
}

/// What makes the policy give the values what was chosen.
fn rules(choice: &ValueChoice, menus: &[Menu]) -> Vec<Rule> {
    let candidate = &choice.candidates[choice.chosen];
    let set = menus[candidate.menu].set;
    // of logits another than the menu's
    let set = Spec { observer: set.observer.map(|_| candidate.observer), ..set };
    match set == Spec::default() {
        true => Vec::new(),
        false => choice.patterns.iter().map(|pattern| rule(pattern.clone(), set)).collect(),
    }
}

fn rule(pattern: String, set: Spec) -> Rule {
    Rule { pattern, role: Some(Role::Activation), optional: false, set }
}

/// Where networks with some of their values rounded are compared with the float one.
struct Bench<'a> {
    setting: &'a Setting<'a>,
    menus: &'a [Menu],
    /// The graph annotated by each menu.
    graphs: Vec<Graph>,
    judge: Judge,
    recipe: &'a Recipe,
    progress: &'a dyn Progress,
}

impl<'a> Bench<'a> {
    fn new(
        setting: &'a Setting<'a>,
        menus: &'a [Menu],
        (recipe, progress): (&'a Recipe, &'a dyn Progress),
    ) -> Result<Bench<'a>, Error> {
        let Setting { graph, walk, floats, .. } = setting;
        let (legs, room) = (Legs::one(graph), Room::new(None, &recipe.means.folder()));
        let param = |id| floats.all.get(id).cloned().expect("invariant: every weight was loaded");
        let (mut graphs, mut float) = (Vec::with_capacity(menus.len()), Vec::new());
        for Menu { plan, .. } in menus {
            let (legs, room, unfinished) = (&legs, &room, None);
            let products = Products::F32;
            let observation =
                Observation { plan, legs, floats, products, progress, unfinished, room };
            let mut spool = Spool::new(walk.lanes.len(), room.clone());
            let statistics = observation.run(graph, walk, &mut spool)?;
            let mut graph = graph.clone();
            plan.annotate_activations(&mut graph, &statistics, &param)?;
            graphs.push(graph);
            let output = |lane: usize, streams: &mut Vec<Stream>, _| -> Result<Tensor, Error> {
                let output = streams[0].get(walk.graph(lane).outputs[0]).cloned();
                Ok(output.expect("invariant: outputs live on"))
            };
            float = spool.pass(setting.gait, output, &mut |_, _| ())?;
        }
        let judge = Judge::new(float);
        Ok(Bench { setting, menus, graphs, judge, recipe, progress })
    }

    /// What the values of a kind may get, each alone; the best of 8 bits is chosen for now.
    fn choice(&self, kind: &Kind) -> Result<ValueChoice, Error> {
        let mut candidates: Vec<ValueCandidate> = Vec::new();
        for (menu, Menu { plan, .. }) in self.menus.iter().enumerate() {
            let Some(&Decision::Affine { dtype, observer, .. }) =
                plan.class_decision(kind.classes[0])
            else {
                continue;
            };
            let grid = |menu: usize, id: &ValueId| &self.graphs[menu].value(*id).qparams;
            let same = |known: &ValueCandidate| {
                kind.members.iter().all(|id| grid(menu, id) == grid(known.menu, id))
            };
            if !candidates.iter().any(same) {
                let narrow = dtype.bits() < WIDE;
                let loss = narrow.then(|| self.loss(&[(kind, menu)])).transpose()?;
                candidates.push(ValueCandidate { dtype, observer, loss, menu });
            }
        }
        let Kind { patterns, classes, elements, .. } = kind;
        let (patterns, elements) = (patterns.clone(), *elements);
        let measured = candidates.iter().enumerate().filter_map(|(i, c)| Some((i, c.loss?)));
        let least = measured.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let chosen = least.expect("invariant: a kind has a grid of fewer bits").0;
        Ok(ValueChoice { patterns, grids: classes.len(), elements, candidates, chosen })
    }

    /// Chooses who is widened; the loss of all as chosen, and with nobody widened.
    fn settle(
        &self,
        kinds: &[Kind],
        choices: &mut [ValueChoice],
        limit: f64,
    ) -> Result<(f64, f64), Error> {
        let wide = |choice: &ValueChoice| choice.candidates.len() - 1;
        let gain = |choice: &ValueChoice| {
            choice.candidates[choice.chosen].loss.unwrap_or(0.0) / choice.elements as f64
        };
        let narrow: Vec<usize> = choices.iter().map(|choice| choice.chosen).collect();
        let mut order: Vec<usize> = (0..choices.len()).collect();
        order.sort_by(|&a, &b| gain(&choices[b]).total_cmp(&gain(&choices[a])));
        let measure = |choices: &[ValueChoice]| {
            let chosen = choices.iter().map(|choice| choice.candidates[choice.chosen].menu);
            self.loss(&kinds.iter().zip(chosen).collect::<Vec<_>>())
        };
        let with_first = |count: usize, choices: &mut [ValueChoice]| {
            for (rank, &at) in order.iter().enumerate() {
                choices[at].chosen = if rank < count { wide(&choices[at]) } else { narrow[at] };
            }
            measure(choices)
        };
        let narrow_loss = with_first(0, choices)?;
        if narrow_loss <= limit {
            return Ok((narrow_loss, narrow_loss));
        }
        let (mut few, mut enough) = (0, order.len());
        let least = with_first(enough, choices)?;
        if least > limit {
            return Err(Error::BudgetKl { asked: limit, least });
        }
        let mut loss = least;
        self.progress.begin("widen", order.len().next_power_of_two().ilog2() as usize);
        while enough - few > 1 {
            let middle = few + (enough - few) / 2;
            self.progress.step();
            let found = with_first(middle, choices)?;
            if found <= limit {
                (enough, loss) = (middle, found);
            } else {
                few = middle;
            }
        }
        with_first(enough, choices)?;
        self.progress.begin("take back", enough);
        for &at in order[..enough].iter().rev() {
            self.progress.step();
            choices[at].chosen = narrow[at];
            match measure(choices)? {
                found if found <= limit => loss = found,
                _ => choices[at].chosen = wide(&choices[at]),
            }
        }
        Ok((loss, narrow_loss))
    }

    /// Mean KL divergence from float with the values of these kinds on the grids of these menus and all
    /// others float.
    fn loss(&self, rounded: &[(&Kind, usize)]) -> Result<f64, Error> {
        let key = match rounded {
            [(kind, menu)] => format!("{} {menu}", kind.patterns[0]),
            all => all.iter().map(|(_, menu)| menu.to_string()).collect(),
        };
        self.setting.memo.loss(key, || self.measured(rounded))
    }

    fn measured(&self, rounded: &[(&Kind, usize)]) -> Result<f64, Error> {
        let Setting { graph, walk, floats, gait, .. } = self.setting;
        let mut chosen = graph.clone();
        for (kind, menu) in rounded {
            for id in &kind.members {
                chosen.values[id.index()].qparams = self.graphs[*menu].value(*id).qparams.clone();
            }
        }
        let weights = rounded_params(&chosen, &floats.all);
        let annotated = walk::annotated(walk.float.clone(), &chosen);
        let go = |lane: usize, _: &mut Vec<Stream>, par| {
            go_on(self.progress, || "while measuring losses".into())?;
            let graph = &annotated[&walk.lanes[lane].shape()];
            let quantizing = Quantizing::of(graph);
            let mut tap = &quantizing;
            let mut stream = Stream::start(graph, walk.inputs(lane), &mut tap);
            let nodes = 0..graph.nodes.len();
            stream.run(graph, nodes, &weights, walk.lifetimes(lane), &mut tap, par);
            let output = stream.get(graph.outputs[0]).expect("invariant: outputs live on");
            Ok::<_, Error>(self.judge.parts(walk, lane, output))
        };
        let room = Room::new(None, &self.recipe.means.folder());
        let found = Spool::new(walk.lanes.len(), room).pass(*gait, go, &mut |_, _| ())?;
        Ok(Judge::mean(walk, found))
    }
}

/// The weights, those on their grids that stand among activations.
fn rounded_params(graph: &Graph, weights: &Weights) -> Weights {
    let mut rounded = weights.clone();
    for (id, _) in graph.params() {
        if let (Some(grid), Some(tensor)) = (&graph.value(id).qparams, weights.get(id)) {
            rounded.set_rounded(graph, id, calibrate::rounded(tensor.clone(), grid));
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::numberless;

    #[test]
    fn kinds_are_called_after_all_but_the_numbers() {
        assert_eq!(numberless("model.layers.12.mlp.gated"), "model.layers.*.mlp.gated");
        assert_eq!(numberless("model.k2_norm[3]"), "model.k2_norm[[]3[]]");
    }
}
