//! One calibration in several processes, as a person or a scheduler runs it.

use crate::support::{demo_folder, pixie, samples};
use assert_cmd::Command;
use encircle::cluster::Crew;
use encircle::models::Head;
use encircle::pipeline::{Numerics, Outcome, Recipe, Shared, Silent, quantize};
use encircle::quant::QuantParams;
use std::fs;
use std::path::PathBuf;
use std::sync::{Barrier, Mutex};
use tempfile::TempDir;

/// A folder with the demo checkpoint and seven calibration rows of three lengths.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: demo_folder(0..7) };
        let questions = ["Name the digit.", "What is it?", "Which digit is it?"];
        let mut rows = String::new();
        for i in 0..7 {
            let name = format!("train_00{i}.jpg");
            let question = questions[i % 3];
            rows += &format!("{{\"image\": \"{name}\", \"question\": \"{question}\"}}\n");
        }
        fs::write(desk.at("rows.jsonl"), rows).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, line: &str, env: &[(&str, &str)]) -> (i32, String) {
        let mut command = Command::cargo_bin("encircle").unwrap();
        command.current_dir(self.folder.path()).args(line.split(' '));
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
            command.env_remove(name);
        }
        let output = command.envs(env.iter().copied()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked at"), "{stderr}");
        (output.status.code().unwrap(), stderr)
    }

    #[track_caller]
    fn does(&self, line: &str) {
        assert_eq!(self.run(line, &[]), (0, String::new()), "{line}");
    }

    #[track_caller]
    fn fails(&self, line: &str, facts: &[&str]) {
        let (code, stderr) = self.run(line, &[]);
        assert_eq!((code, stderr.matches("error: ").count()), (2, 1), "{line}: {stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "no {fact:?} in: {stderr}");
        }
    }

    fn files(&self, folder: &str) -> [Vec<u8>; 2] {
        ["model.circle", "model.q.circle"].map(|name| fs::read(self.at(folder).join(name)).unwrap())
    }
}

const JOB: &str = "quantize ck --calib rows.jsonl";

#[test]
fn shards_merged_in_any_order_give_the_bytes_of_one_run() {
    let desk = Desk::new();
    // to nearest with exact ranges, by squared error with histograms, on the quantized stream
    for (recipe, observer) in [
        ("--preset npu", ""),
        ("--preset w8a8 --set algo.rounding=mse", " --set *=observer:percentile:99.9"),
        ("--preset w4a16", ""),
        // modalities weighed by their numbers in all rows, without the common head
        ("--preset w8a8", " --set policy.modality=equal --set policy.prefix=isolate"),
    ] {
        let job = format!("{JOB} {recipe}{observer}");
        desk.does(&format!("{job} -o whole"));
        for i in 1..=3 {
            desk.does(&format!("{job} -o parts --shard {i}/3 --threads {i}"));
        }
        let part = |i: usize| format!("parts/statistics.{i}-of-3.stats");
        desk.does(&format!("merge {} {} -o some.stats --partial", part(3), part(1)));
        desk.does(&format!("merge some.stats {} -o all.stats", part(2)));
        desk.does(&format!("{job} --statistics all.stats -o joined"));
        assert!(desk.files("whole") == desk.files("joined"), "{recipe}: other bytes");
    }
}

/// A process of three, played by a thread.
struct Played<'a> {
    rank: usize,
    slot: &'a Mutex<Vec<u8>>,
    barrier: &'a Barrier,
}

impl Crew for Played<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        3
    }

    fn spread(&self, from: usize, bytes: Vec<u8>) -> Vec<u8> {
        if from == self.rank {
            *self.slot.lock().unwrap() = bytes;
        }
        self.barrier.wait();
        let bytes = self.slot.lock().unwrap().clone();
        self.barrier.wait();
        bytes
    }
}

/// What files are made of: grids and values of all weights.
fn chosen(outcome: &Outcome) -> Vec<(String, Option<QuantParams>, Option<Vec<f32>>)> {
    let value = |id| {
        let value = outcome.graph.value(id);
        let weight = outcome.rounded.get(id).map(|tensor| tensor.dense().data().to_vec());
        (value.name.clone(), value.qparams.clone(), weight)
    };
    outcome.graph.ids().map(value).collect()
}

#[test]
fn processes_that_meet_at_every_layer_choose_what_one_chooses() {
    let checkpoint = pixie();
    let calib = samples(5);
    // on one stream, and on two with what the residual stream lost and weighed modalities
    for (name, keys) in [
        ("w4a16-fast", &["algo.rotate.tries=1"][..]),
        ("w4a16-best", &["algo.options.sweeps=1", "algo.rotate.tries=1", "policy.modality=equal"]),
    ] {
        let mut numerics = Numerics::find(name).unwrap();
        keys.iter().for_each(|key| numerics.set_key(key).unwrap().unwrap());
        let effective = numerics.text();
        let Numerics { policy, algo, products } = numerics;
        let (fixed, means) = Default::default();
        let recipe =
            Recipe { policy, algo, products, seq_len: None, fixed, head: Head::Logits, means };
        let job = Shared {
            checkpoint: &checkpoint,
            calib: &calib,
            eval: &[],
            recipe: &recipe,
            effective: &effective,
        };
        let one = quantize(&checkpoint, &calib, &[], &recipe, &Silent).unwrap();
        let (slot, barrier) = (Mutex::default(), Barrier::new(3));
        std::thread::scope(|scope| {
            let play = |rank| {
                let crew = Played { rank, slot: &slot, barrier: &barrier };
                scope.spawn(move || job.together(&crew, &Silent).unwrap())
            };
            for (rank, thread) in [0, 1, 2].map(play).into_iter().enumerate() {
                let outcome = thread.join().unwrap();
                assert!(outcome.compared < calib.len());
                assert!(chosen(&outcome) == chosen(&one), "{name}: process {rank} chose otherwise");
            }
        });
    }
}

#[test]
fn a_scheduler_tells_which_shard_to_observe() {
    let desk = Desk::new();
    let job = format!("{JOB} --preset npu -o parts");
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "1"),
        ("SLURM_ARRAY_TASK_MIN", "0"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    let done = (0, String::new());
    assert_eq!(desk.run(&format!("{job} --shard auto"), &slurm), done);
    let kubernetes = [("JOB_COMPLETION_INDEX", "0")];
    assert_eq!(desk.run(&format!("{job} --shard auto/2"), &kubernetes), done);
    desk.does("merge parts/statistics.1-of-2.stats parts/statistics.2-of-2.stats -o all.stats");
    desk.fails(&format!("{job} --shard auto"), &["SLURM_ARRAY_TASK_ID", "--shard I/N"]);
}

#[test]
fn statistics_that_do_not_fit_are_refused_and_nothing_is_lost() {
    let desk = Desk::new();
    let job = format!("{JOB} --preset npu");
    for i in 1..=2 {
        desk.does(&format!("{job} -o parts --shard {i}/2"));
    }
    desk.does(&format!("{JOB} --preset w8a8 -o other --shard 2/2"));
    let [one, two] = [1, 2].map(|i| format!("parts/statistics.{i}-of-2.stats"));
    let good = fs::read(desk.at(&one)).unwrap();
    let merge = |files: &str| format!("merge {files} -o all.stats");
    // of a file of something else no more is read than its first bytes, however long it is
    fs::File::create(desk.at("long.stats")).unwrap().set_len(5 << 30).unwrap();
    desk.fails(&merge("long.stats"), &["long.stats", "magic"]);
    let other = "other/statistics.2-of-2.stats";
    desk.fails(&merge(&format!("{one} {other}")), &[other, "recipe: found"]);
    desk.fails(&merge(&format!("{one} {two} {one}")), &[&one, "rows 1-4 are in both"]);
    desk.fails(&merge(&two), &["missing shards", "rows 1-4 of 7"]);
    desk.fails(&format!("{job} -o new --statistics {one}"), &[&one, "rows 5-7 of 7"]);
    fs::write(desk.at("cut.stats"), &good[..good.len() / 2]).unwrap();
    desk.fails(&merge(&format!("{two} cut.stats")), &["cut.stats", "end of the file"]);
    desk.fails(&merge("rows.jsonl"), &["rows.jsonl", "magic"]);
    desk.fails(&merge("none.stats"), &["none.stats", "cannot read"]);
    assert!(!desk.at("all.stats").exists() && !desk.at("new").exists());
    assert!(fs::read(desk.at(&one)).unwrap() == good);
    desk.does(&merge(&format!("{one} {two}")));
    // another checkpoint, and other rows
    let config = fs::read_to_string(desk.at("ck/config.json")).unwrap();
    fs::write(desk.at("ck/config.json"), format!("{config}\n")).unwrap();
    desk.fails(
        &format!("{job} -o new --statistics all.stats"),
        &["all.stats", "checkpoint: found"],
    );
    fs::write(desk.at("ck/config.json"), config).unwrap();
    let rows = fs::read_to_string(desk.at("rows.jsonl")).unwrap();
    fs::write(desk.at("rows.jsonl"), rows.replace("train_003", "train_004")).unwrap();
    let facts = ["all.stats", "calibration rows: found"];
    desk.fails(&format!("{job} -o new --statistics all.stats"), &facts);
}

#[test]
fn the_moving_average_and_impossible_shards_are_refused_by_name() {
    let desk = Desk::new();
    let job = format!("{JOB} --preset npu -o parts");
    desk.fails(
        &format!("{job} --set *.gated=observer:ema:0.9 --shard 1/2"),
        &["ema", "order", "minmax"],
    );
    desk.fails(&format!("{job} --shard 1/8"), &["1/8", "found 7"]);
    desk.fails(&format!("{job} --shard 3/2"), &["`3/2`", "I/N"]);
    assert!(!desk.at("parts").exists());
}
