//! Weights with a grid for every group of inputs, through the whole job.

use crate::support::{path, pixie, samples};
use assert_cmd::Command;
use encircle::circle::WriteOptions;
use encircle::graph::{Graph, ValueId};
use encircle::models::Head;
use encircle::pipeline::{
    self, Claim, Durable, Fixed, Means, Numerics, Outcome, Pending, Progress, Recipe, Silent,
};
use encircle::quant::QuantParams;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Divides every width of the demo's linear layers.
const GROUP: usize = 32;

fn recipe(sets: &[&str], means: Means) -> Recipe {
    let mut numerics = Numerics::find("npu").unwrap();
    let two_streams = ["algo.rounding=qronos", "algo.options.alpha=0.5"];
    for set in two_streams.iter().chain(sets) {
        numerics.set_key(set).unwrap().unwrap();
    }
    let Numerics { policy, algo, products } = numerics;
    let (fixed, head) = (Fixed::default(), Head::Logits);
    Recipe { policy, algo, products, seq_len: None, fixed, head, means }
}

fn quantize(recipe: &Recipe, progress: &dyn Progress) -> Result<Outcome, pipeline::Error> {
    pipeline::quantize(&pixie(), &samples(2), &[], recipe, progress)
}

/// Grid and values of every weight.
fn weights(outcome: &Outcome) -> Vec<(String, Option<QuantParams>, Vec<f32>)> {
    let of = |graph: &Graph, id: ValueId| {
        let value = graph.value(id);
        let tensor = outcome.rounded.get(id).unwrap().dense();
        (value.name.clone(), value.qparams.clone(), tensor.data().to_vec())
    };
    outcome.graph.params().map(|(id, _)| of(&outcome.graph, id)).collect()
}

fn means(folder: &Path, memory: Option<u64>) -> Means {
    let durable = Some(Durable { every: Duration::ZERO, fresh: false });
    Means { memory, folder: Some(folder.to_owned()), durable }
}

/// Every scale of every group is in the result, whether all was in memory, or streamed through files,
/// or taken up again after an interruption.
#[test]
fn streamed_or_taken_up_again_groups_are_those_of_a_job_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let group = format!("policy.weight.group={GROUP}");
    let sets = [group.as_str(), "algo.options.sweeps=1"];
    let whole = quantize(&recipe(&sets, Means::default()), &Silent).unwrap();
    let expected = weights(&whole);
    let mut cut = 0;
    for (name, grid, values) in &expected {
        let Some(QuantParams::Affine { scale, zero_point, .. }) = grid else { continue };
        let grid = grid.as_ref().unwrap();
        if let Some(group) = grid.group() {
            cut += 1;
            assert_eq!((group, scale.len()), (GROUP, values.len() / GROUP), "{name}");
            assert_eq!(zero_point.len(), scale.len(), "{name}");
            // Groups of a row have scales of their own.
            assert!(scale.windows(2).any(|pair| pair[0] != pair[1]), "{name}");
        }
        // Tables and gains keep theirs.
        let (linear, table) = (name.ends_with("_proj.weight"), name.contains("embed_tokens"));
        assert!(!linear || grid.group().is_some(), "{name}");
        assert!(!table || grid.group().is_none(), "{name}");
    }
    assert!(cut > 7, "{cut} weights in groups");

    let _ours = ["tight", "again"].map(|name| Claim::of(&at(name)).unwrap());
    // As little as can be: stages one by one, matrices some rows at a time.
    let streamed = quantize(&recipe(&sets, means(&at("tight"), Some(1))), &Silent).unwrap();
    let made = |outcome: &Outcome| {
        let ids = outcome.graph.params().map(|(id, _)| id);
        ids.filter(|id| outcome.rounded.get(*id).unwrap().is_made()).count()
    };
    assert!(made(&whole) == 0 && made(&streamed) > 7, "{}", made(&streamed));
    assert!(weights(&streamed) == expected, "streamed");

    let again = recipe(&sets, means(&at("again"), None));
    let after = stopped(&again);
    assert!(matches!(after, pipeline::Error::Stopped { .. }), "{after}");
    assert!(pipeline::is_unfinished(&at("again")));
    let resumed = quantize(&again, &Silent).unwrap();
    assert!(weights(&resumed) == expected, "taken up again");
}

/// The error of a job that is stopped while it rounds.
fn stopped(recipe: &Recipe) -> pipeline::Error {
    struct Midway(AtomicUsize);
    impl Progress for Midway {
        fn begin(&self, phase: &'static str, _: usize) {
            self.0.store(if phase == "round" { 3 } else { usize::MAX }, Ordering::Relaxed);
        }
        fn step(&self) {
            let left = self.0.load(Ordering::Relaxed);
            self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        }
        fn stopped(&self) -> bool {
            self.0.load(Ordering::Relaxed) == 0
        }
    }
    quantize(recipe, &Midway(AtomicUsize::new(usize::MAX))).err().unwrap()
}

/// No file may say less than was calibrated: groups have no place in one.
#[test]
fn a_file_with_groups_is_refused_with_what_could_take_them() {
    let group = format!("policy.weight.group={GROUP}");
    let outcome = quantize(&recipe(&[&group, "algo.rounding=rtn"], Means::default()), &Silent);
    let folder = tempfile::tempdir().unwrap();
    let (how, mut pending) = (WriteOptions::default(), Pending::default());
    let written = pipeline::write_model(&outcome.unwrap(), folder.path(), &how, &mut pending);
    let error = written.err().unwrap().to_string();
    for part in ["proj.weight", "groups of 32 inputs", "GGML_Q4_0", "encircle eval", "axis = 0"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn groups_that_do_not_fit_are_refused_with_layer_width_and_key() {
    let error = |sets: &[&str]| {
        quantize(&recipe(sets, Means::default()), &Silent).err().unwrap().to_string()
    };
    let width = error(&["policy.weight.group=64"]);
    for part in ["visual", "group = 64 does not divide its 96 inputs", "decided by weight"] {
        assert!(width.contains(part), "no {part:?} in {width}");
    }
    let learned = error(&["policy.weight.group=32", "algo.rounding=autoround"]);
    for part in ["algo.rounding = \"autoround\"", "group = 32", ".weight", "axis = 0"] {
        assert!(learned.contains(part), "no {part:?} in {learned}");
    }
}

#[test]
fn the_command_line_measures_groups_and_writes_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "the digit is seven on a red square ".repeat(12))
        .unwrap();
    let run = |line: &str| {
        let mut command = Command::cargo_bin("encircle").unwrap();
        let model = path("assets/pixie").display().to_string();
        let args = line.split(' ').map(|word| if word == "MODEL" { &model } else { word });
        let output = command.current_dir(folder.path()).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let judge = "eval MODEL --calib a.txt --text a.txt --context 24 --json --recipe npu \
                 --set algo.rounding=rtn";
    let figure = |more: &str| {
        let (code, json, stderr) = run(&format!("{judge}{more}"));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let facts: serde_json::Value = serde_json::from_str(&json).unwrap();
        facts["quantized"]["kl_all"].as_f64().unwrap()
    };
    let [rows, groups] = ["", " --set policy.weight.group=32"].map(figure);
    assert!(groups != rows && groups > 0.0, "{groups} {rows}");
    let activation = run(&format!("{judge} --set policy.activation.group=32"));
    assert_eq!(activation.0, Some(2));
    assert!(activation.2.contains("only weights of linear layers"), "{}", activation.2);
    for job in ["--recipe npu", "MODEL --weights-only --recipe w4 --seq-len 14"] {
        for command in ["quantize", "plan"] {
            let (code, _, stderr) =
                run(&format!("{command} {job} --set policy.weight.group=32 -o out"));
            assert_eq!((code, stderr.matches("error: ").count()), (Some(2), 1), "{stderr}");
            for part in [".weight: groups of 32 inputs", "GGML_Q4_0", "encircle eval"] {
                assert!(stderr.contains(part), "no {part:?} in {stderr}");
            }
            assert!(!folder.path().join("out").exists());
        }
    }
}
