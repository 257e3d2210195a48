//! Laws of the rewrites: whatever they scale or turn, the float network computes the same.

use super::{Pass, Recall, each_group, find, greatest_of_outputs, raise_to_columns};
use crate::algo::{AlgoSpec, Fed, SessionError, awq};
use crate::calibrate::{Emphasis, Plan};
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::exec::{Float, Weights, run};
use crate::graph::{Builder, Graph, Kind, Read};
use crate::layout::{Layout, Segment};
use crate::models::{self, Request};
use crate::ops::UnaryKind;
use crate::pipeline::Numerics;
use crate::quant::PolicySpec;
use crate::tensor::{Par, Tensor};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Deterministic numbers in (−1, 1).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    (0..len).map(|i| (((i as u64 + 1) * (seed * 2 + 7919)) as f32 * 0.37).sin()).collect()
}

#[derive(Debug)]
struct Broken(#[allow(dead_code, reason = "for people")] String);

impl From<SessionError> for Broken {
    fn from(error: SessionError) -> Broken {
        Broken(error.to_string())
    }
}

type Reading = Box<dyn Fn(&str, &[usize], Option<usize>) -> Result<Tensor, Broken>>;

/// A network and where its tensors come from.
struct Subject {
    name: String,
    graph: Graph,
    read: Reading,
}

/// The embedded demo model (text, vision, DeepStack) on one picture, as it is quantized.
fn demo() -> Subject {
    let checkpoint = Checkpoint::open("assets/pixie".as_ref()).unwrap();
    let segments = [
        Segment::Text { tokens: 4 },
        Segment::Image { grid_thw: [1, 8, 8] },
        Segment::Text { tokens: 6 },
    ];
    let layout = Layout::new(&segments, 2).unwrap();
    let graph = models::build(checkpoint.config(), &Request::new(layout)).unwrap().rewritten();
    let read = move |key: &str, shape: &[usize], part: Option<usize>| {
        checkpoint.read_part(key, shape, part).map_err(|error| Broken(error.to_string()))
    };
    Subject { name: "demo".into(), graph, read: Box::new(read) }
}

/// Two small text models: heads tied and not, grouped queries, biases.
fn texts() -> Vec<Subject> {
    let cases = std::fs::read("tests/data/text/cases.json").unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
    let subject = |case: &serde_json::Value| {
        let config =
            crate::checkpoint::Config::parse("config.json", case["config"].clone()).unwrap();
        let graph = models::build(&config, &Request::new(Layout::text(9).unwrap())).unwrap();
        let file = format!("tests/data/text/{}", case["weights"].as_str().unwrap());
        let file = TensorFile::open(file.as_ref()).unwrap();
        let read = move |key: &str, _: &[usize], _: Option<usize>| {
            file.read(key).map_err(|error| Broken(error.to_string()))
        };
        Subject { name: case["name"].to_string(), graph, read: Box::new(read) }
    };
    cases.iter().map(subject).collect()
}

/// Norms, gated products, attention-like mixing and shortcuts, by the bits of `seed`.
fn random(seed: u64, width: usize) -> Subject {
    let (wide, on) = (2 * width, |bit: u32| seed >> bit & 1 == 1);
    let mut g = Builder::new("random");
    let mut x = g.input("x", [1, 5, width], Kind::Real);
    for layer in ["a", "b"] {
        x = g.scope(layer, |g| {
            let h = match on(0) {
                true => g.rms_norm("norm", x, 1e-6, 1.0),
                false => g.layer_norm("norm", x, 1e-6),
            };
            let gate = g.linear("gate", h, wide, on(1));
            let up = g.linear("up", h, wide, on(2));
            let gate = if on(3) { g.unary("act", UnaryKind::Logistic, gate) } else { gate };
            let h = g.mul("product", gate, up);
            let h = if on(4) {
                let mix = g.constant("mix", Tensor::new([1, 2, 5, 5], noise(50, seed)));
                let heads = g.reshape("heads", h, [1, 5, 2, width]);
                let heads = g.transpose("by_head", heads, [0, 2, 1, 3]);
                let mixed = g.matmul("mixed", mix, heads);
                let back = g.transpose("back", mixed, [0, 2, 1, 3]);
                g.reshape("merged", back, [1, 5, wide])
            } else {
                h
            };
            let h = g.linear("down", h, width, on(5));
            g.add("sum", x, h)
        });
    }
    let y = g.linear("head", x, 3, true);
    let graph = g.finish(&[y]).unwrap();
    let read = move |key: &str, shape: &[usize], _: Option<usize>| {
        let salt = key.bytes().fold(seed, |s, b| (s * 31 + u64::from(b)) % 9973);
        let offset = if shape.len() == 1 { 1.5 } else { 0.0 };
        let data = noise(shape.iter().product(), salt).iter().map(|x| x + offset).collect();
        Ok(Tensor::new(shape, data))
    };
    Subject { name: format!("random {seed} {width}"), graph, read: Box::new(read) }
}

impl Subject {
    fn inputs(&self, seed: u64) -> Vec<Tensor> {
        let input = |id| {
            let value = self.graph.value(id);
            let data = noise(value.shape.iter().product(), seed);
            let index = |x: &f32| (x.abs() * 90.0).floor();
            Tensor::new(
                &value.shape[..],
                match value.kind {
                    Kind::Index => data.iter().map(index).collect(),
                    Kind::Real => data,
                },
            )
        };
        self.graph.inputs.iter().map(|&id| input(id)).collect()
    }

    fn outputs(&self, graph: &Graph) -> Tensor {
        let mut weights = Weights::none(graph);
        for (id, _) in graph.params() {
            weights.set(id, graph.load(id, &*self.read).unwrap());
        }
        run(graph, &self.inputs(3), &weights, &mut Float, Par::Seq).remove(0)
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.graph, &Numerics::find("w4a16-best").unwrap().policy).unwrap()
    }

    fn fed(&self) -> Vec<Fed<'_>> {
        (0..3).map(|seed| Fed { graph: &self.graph, inputs: self.inputs(seed) }).collect()
    }

    fn rewritten(&self, spec: &str) -> Graph {
        let spec: AlgoSpec = toml::from_str(spec).unwrap();
        let read: Read<'_, Broken> = &*self.read;
        let mut graph = self.graph.clone();
        spec.rewrite(&mut graph, read).unwrap();
        spec.fit(&mut graph, &self.plan(), (&self.fed(), &Noted::new(usize::MAX)), read).unwrap();
        graph
    }

    /// How many parameters a recipe edits; the outputs must stay.
    fn edits_without_a_trace(&self, spec: &str) -> usize {
        let graph = self.rewritten(spec);
        let (before, after) = (self.outputs(&self.graph), self.outputs(&graph));
        let greatest = before.data().iter().fold(0f32, |m, x| m.max(x.abs()));
        let pairs = before.data().iter().zip(after.data());
        let miss = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs())) / greatest;
        assert!(miss < 1e-4, "{} {spec}: {miss}", self.name);
        let edited = graph.params().zip(self.graph.params());
        edited.filter(|(new, old)| new.1.edits.len() > old.1.edits.len()).count()
    }
}

const EQUALIZE: &str = "equalize = { norms = true }";
const SMOOTH: &str = "smoothquant = { alpha = 0.7, layers = true }";
const AWQ: &str = "awq = { grid = 4 }";

fn all() -> String {
    ["rotate = { tries = 2 }", EQUALIZE, SMOOTH, AWQ].join("\n")
}

#[test]
fn smoothing_awq_scaling_and_equalization_leave_float_outputs_unchanged() {
    for subject in texts().into_iter().chain([demo()]) {
        for spec in [EQUALIZE, SMOOTH, AWQ, &all()] {
            let edits = subject.edits_without_a_trace(spec);
            assert!(edits > 6, "{} {spec}: {edits} edits", subject.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_rewrite_and_all_together_leave_random_graphs_as_they_are(seed in 0u64..64, width in 3usize..9) {
        let subject = random(seed, width);
        for spec in ["rotate = {}", EQUALIZE, SMOOTH, AWQ, &all()] {
            subject.edits_without_a_trace(spec);
        }
    }
}

#[test]
fn groups_are_found_by_asking_the_graph() {
    let demo = demo();
    let names: Vec<(&str, usize)> = find(&demo.graph)
        .iter()
        .map(|group| (&demo.graph.value(group.writers[0]).name[..], group.readers.len()))
        .collect();
    let of = |part: &str| names.iter().filter(|(name, _)| name.contains(part)).count();
    // Text: two norms, values and the gated product of four layers. Vision: two norms and the
    // values, a part of one projection, of each of four blocks; three mergers; the final norm.
    assert_eq!(of("input_layernorm") + of("post_attention_layernorm"), 8, "{names:?}");
    assert_eq!((of("v_proj"), of("up_proj"), of("attn.qkv")), (4, 4, 4), "{names:?}");
    assert_eq!(of("norm1") + of("norm2"), 8, "{names:?}");
    assert_eq!(of("merger"), 3, "{names:?}");
    let readers = |part: &str| names.iter().find(|(name, _)| name.contains(part)).unwrap().1;
    assert_eq!(
        (readers("input_layernorm"), readers("post_attention"), readers("v_proj")),
        (3, 2, 1)
    );
}

#[test]
fn equalized_channels_have_the_same_greatest_weight_on_both_sides() {
    let demo = demo();
    let graph = demo.rewritten("equalize = { rounds = 4 }");
    for group in find(&graph).iter().filter(|group| !group.norm) {
        let written = graph.load(group.writers[0], &*demo.read).unwrap();
        let written = greatest_of_outputs(written.data(), group.free.len());
        let mut reading = vec![0.0; group.free.len()];
        for reader in &group.readers {
            let weight = graph.load(reader.weight, &*demo.read).unwrap();
            raise_to_columns(&mut reading, weight.data(), &reader.channels);
        }
        for c in (0..group.free.len()).filter(|&c| group.free[c]) {
            assert!((written[c] / reading[c] - 1.0).abs() < 1e-3, "{} {}", written[c], reading[c]);
        }
    }
}

#[test]
fn awq_never_loses_more_than_no_scaling_on_its_own_objective() {
    let demo = demo();
    let (plan, fed) = (demo.plan(), demo.fed());
    let plain = Emphasis::default();
    let pass = Pass { samples: &fed, read: &*demo.read, moments: true, emphasis: &plain };
    let mut better = 0;
    each_group(
        &mut demo.graph.clone(),
        &pass,
        |_, _| false,
        |graph, group, inputs| {
            let divided = vec![1.0; group.free.len()];
            let choice = awq::Choice { group, inputs, divided: &divided, plan: &plan };
            let [none, found] = [1, 20].map(|grid| {
                let options = awq::Options { grid, layers: true };
                let scales = match grid {
                    1 => Ok(vec![1.0; group.free.len()]),
                    _ => choice.scales(graph, pass.read, &options),
                };
                let (scales, judged) = (scales.unwrap(), choice.judged(graph, pass.read).unwrap());
                judged.iter().map(|layer| choice.loss(layer, &scales).unwrap()).sum::<f64>()
            });
            assert!(found <= none, "{found} {none}");
            better += usize::from(found < 0.98 * none);
            Ok(())
        },
    )
    .unwrap();
    assert!(better > 4, "{better}");
}

#[test]
fn rewrites_fitted_to_data_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let graph = demo().rewritten(&all());
            graph.params().map(|(_, param)| param.clone()).collect::<Vec<_>>()
        })
    };
    assert!(run(1) == run(3));
}

/// Remembers what was found, and ends the job after so many findings.
struct Noted {
    numbers: RefCell<BTreeMap<String, Vec<f64>>>,
    left: Cell<usize>,
}

impl Noted {
    fn new(left: usize) -> Noted {
        Noted { numbers: RefCell::default(), left: Cell::new(left) }
    }
}

impl Recall<Broken> for Noted {
    fn known(&self, key: &str) -> Option<Vec<f64>> {
        self.numbers.borrow().get(key).cloned()
    }

    fn note(&self, key: String, numbers: &[f64]) -> Result<(), Broken> {
        let before = self.numbers.borrow_mut().insert(key, numbers.to_vec());
        assert!(before.is_none_or(|before| before == numbers));
        let left = self.left.get();
        self.left.set(left - 1);
        if left == 1 { Err(Broken("ended".into())) } else { Ok(()) }
    }
}

#[test]
fn fits_that_were_ended_anywhere_go_on_to_the_same_edits() {
    let subject = demo();
    let spec: AlgoSpec = toml::from_str(&[SMOOTH, AWQ].join("\n")).unwrap();
    let (plan, fed) = (subject.plan(), subject.fed());
    let edits = |graph: &Graph| graph.params().map(|(_, p)| p.clone()).collect::<Vec<_>>();
    let fit = |noted: &Noted| {
        let mut graph = subject.graph.clone();
        spec.fit(&mut graph, &plan, (&fed, noted), &*subject.read).map(|()| edits(&graph))
    };
    let whole = Noted::new(usize::MAX);
    let expected = fit(&whole).unwrap();
    let all = whole.numbers.borrow().len();
    for ended in [1, 2, all / 2, all - 1] {
        let noted = Noted::new(ended);
        assert_eq!(fit(&noted).unwrap_err().0, "ended");
        noted.left.set(usize::MAX);
        assert!(fit(&noted).unwrap() == expected, "ended after {ended}");
        // A group of which only the smoothing is known is fitted once more.
        assert!(usize::MAX - noted.left.get() <= all - ended + 1, "what is known is not sought");
    }
    let changed = |scales: &mut Vec<f64>| scales.iter_mut().for_each(|s| *s *= 2.0);
    whole.numbers.borrow_mut().values_mut().for_each(changed);
    assert!(fit(&whole).unwrap() != expected, "what is known is taken");
}

#[test]
fn tokens_that_are_not_observed_do_not_count_in_what_channels_are_scaled_by() {
    let subject = texts().remove(0);
    let (fed, rows) = (subject.fed(), [[5u32; 9]; 3]);
    let rows: Vec<&[u32]> = rows.iter().map(|row| &row[..]).collect();
    let greatest = |policy: &str| {
        let policy: PolicySpec = toml::from_str(policy).unwrap();
        let emphasis = &Emphasis::of(&policy, &Layout::text(9).unwrap(), &rows).unwrap();
        let pass = Pass { samples: &fed, read: &*subject.read, moments: false, emphasis };
        let mut all: Vec<f64> = Vec::new();
        each_group(
            &mut subject.graph.clone(),
            &pass,
            |_, _| false,
            |_, _, inputs| {
                all.extend(inputs.iter().flat_map(|inputs| &inputs.greatest));
                Ok::<_, Broken>(())
            },
        )
        .unwrap();
        all
    };
    let [all, later, last] = ["", "prefix = 1", "prefix = 8"].map(greatest);
    for (more, less) in [(&all, &later), (&later, &last)] {
        assert!(more.iter().zip(less).all(|(more, less)| more >= less), "{more:?} {less:?}");
        assert!(more != less);
    }
}

#[test]
fn samples_that_feed_a_layer_zeros_alone_leave_its_channels_as_they_are() {
    let subject = random(1, 4);
    let silent = Tensor::full([1, 5, 4], 0.0);
    let fed = [Fed { graph: &subject.graph, inputs: vec![silent] }];
    let spec: AlgoSpec = toml::from_str(SMOOTH).unwrap();
    let fed: (&[Fed<'_>], &dyn Recall<Broken>) = (&fed, &Noted::new(usize::MAX));
    let mut graph = subject.graph.clone();
    spec.fit(&mut graph, &subject.plan(), fed, &*subject.read).unwrap();
    let edits = |graph: &Graph| graph.params().map(|(_, p)| p.clone()).collect::<Vec<_>>();
    assert!(edits(&graph) == edits(&subject.graph));
}

#[test]
fn options_out_of_bounds_and_unknown_ones_are_named() {
    let check = |text: &str| toml::from_str::<AlgoSpec>(text).unwrap().check().unwrap_err();
    let alpha = check("smoothquant = { alpha = 1.5 }").to_string();
    assert!(alpha.contains("algo.smoothquant.alpha") && alpha.contains("1.5"), "{alpha}");
    assert!(check("awq = { grid = 0 }").to_string().contains("algo.awq.grid"));
    let error = toml::from_str::<AlgoSpec>("equalize = { norm = true }").unwrap_err();
    assert!(error.message().contains("norm"), "{error}");
}
