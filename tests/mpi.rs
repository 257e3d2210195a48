//! Processes that `mpirun` starts: the same bytes as one alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const ENCIRCLE: &str = env!("CARGO_BIN_EXE_encircle");

fn together(folder: &Path, processes: usize, arguments: &[&str]) -> Option<Output> {
    let count = processes.to_string();
    let launch = ["--allow-run-as-root", "--oversubscribe", "-n", &count, ENCIRCLE];
    let mut command = Command::new("mpirun");
    command.args(launch).args(arguments).current_dir(folder);
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("mpirun is not installed: skipped");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// Five rows of the demo, and the demo's checkpoint.
fn job(folder: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = fs::read_to_string(root.join("assets/vqa/train.jsonl")).unwrap();
    let rows: String = rows.lines().take(5).map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("rows.jsonl"), rows).unwrap();
    for i in 0..5 {
        let name = format!("train_00{i}.jpg");
        fs::copy(root.join("assets/vqa").join(&name), folder.join(&name)).unwrap();
    }
    let checkpoint = root.join("assets/pixie").display().to_string();
    let words = ["quantize", &checkpoint, "--calib", "rows.jsonl", "--threads", "1"];
    words.map(str::to_owned).to_vec()
}

#[test]
fn three_processes_write_the_bytes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path());
    for preset in ["npu", "w4a16-fast", "w8a8"] {
        let one = format!("{preset}-one");
        let arguments = ["--preset", preset, "-o", &one].map(str::to_owned);
        let done = Command::new(ENCIRCLE)
            .args(job.iter().chain(&arguments))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for processes in [2, 3] {
            let many = format!("{preset}-{processes}");
            let own = ["--preset", preset, "-o", &many].map(str::to_owned);
            let arguments: Vec<&str> = job.iter().chain(&own).map(String::as_str).collect();
            let Some(done) = together(folder.path(), processes, &arguments) else { return };
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{said}");
            for file in ["model.circle", "model.q.circle", "recipe.toml"] {
                let read = |out: &str| fs::read(folder.path().join(out).join(file)).unwrap();
                assert!(read(&one) == read(&many), "{preset}, {processes} processes: {file}");
            }
        }
    }
}

#[test]
fn a_process_that_cannot_go_on_ends_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path());
    let npu = ["--preset", "npu"];
    let wrong = [["--set", "*.gated=observer:ema:0.9"], ["--shard", "1/2"]];
    for (wrong, fact) in wrong.iter().zip(["ema", "--shard"]) {
        let arguments: Vec<&str> =
            job.iter().map(String::as_str).chain(npu).chain(*wrong).collect();
        let Some(done) = together(folder.path(), 3, &arguments) else { return };
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(fact), "{said}");
    }
}
