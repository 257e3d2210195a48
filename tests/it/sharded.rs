//! One calibration in several processes, as a person or a scheduler runs it.

use crate::support::path;
use assert_cmd::Command;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with the demo checkpoint and seven calibration rows of three lengths.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.at("ck")).unwrap();
        for entry in fs::read_dir(path("assets/pixie")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), desk.at("ck").join(entry.file_name())).unwrap();
        }
        let questions = ["Name the digit.", "What is it?", "Which digit is it?"];
        let mut rows = String::new();
        for i in 0..7 {
            let name = format!("train_00{i}.jpg");
            fs::copy(path("assets/vqa").join(&name), desk.at(&name)).unwrap();
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
