//! The memory of a job does not depend on the number of layers. A binary of its own: what it measures
//! is the greatest memory of its whole process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod written;

use encircle::checkpoint::Checkpoint;
use encircle::circle::{Payloads, WriteOptions};
use encircle::models::Head;
use encircle::pipeline::{self, Fixed, Job, Means, Numerics, Pending, Recipe, Silent};
use serde::{Deserialize, Serialize};
use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use written::{Like, checkpoint, samples};

/// Of the job; the program itself is not counted in it.
const MEMORY: u64 = 64 << 20;

/// Length and hash of a file, of which little is in memory at a time.
fn digest(path: &Path) -> (usize, u64) {
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 1 << 16]);
    let (mut len, mut hash) = (0, DefaultHasher::new());
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return (len, hash.finish()),
            count => {
                len += count;
                hash.write(&buffer[..count]);
            }
        }
    }
}

/// Rounds the weights alone.
fn weights(checkpoint: &Checkpoint, out: &Path) -> Found {
    let Numerics { policy, algo, products } = Numerics::find("w8").unwrap();
    let (fixed, head, means) = (Fixed::default(), Head::Logits, Means::default());
    let recipe = Recipe { policy, algo, products, seq_len: Some(48), fixed, head, means };
    let how = WriteOptions::default();
    pipeline::quantize_weights(checkpoint, &recipe, out, &how, &Silent).unwrap();
    let file = digest(&out.join("model.q.circle"));
    Found { files: [file, file], peak: peak(), planned: (0, Vec::new()) }
}

/// Plans, quantizes and writes both files.
fn run(checkpoint: &Checkpoint, recipe: &str, means: Means, out: &Path) -> Found {
    let Numerics { policy, algo, products } = Numerics::find(recipe).unwrap();
    let (fixed, head) = (Fixed::default(), Head::Logits);
    let recipe = Recipe { policy, algo, products, seq_len: None, fixed, head, means };
    let samples = samples();
    let (calib, eval) = (&samples[..], &samples[..2]);
    let (payloads, stages) = (Payloads::Inline, None);
    let job = Job { checkpoint, calib, eval, recipe: &recipe, payloads, stages };
    let planned = pipeline::estimate(&job, None).unwrap();
    let outcome =
        pipeline::quantize(checkpoint, &samples, &samples[..2], &recipe, &Silent).unwrap();
    let mut pending = Pending::default();
    pipeline::write_model(&outcome, out, &WriteOptions::default(), &mut pending).unwrap();
    pending.commit().unwrap();
    let files = ["model.circle", "model.q.circle"].map(|name| digest(&out.join(name)));
    let sizes = planned.files.iter().map(|file| file.size).collect();
    Found { files, peak: peak(), planned: (planned.memory / 1_000_000, sizes) }
}

/// The most memory this process ever had, in MB. Linux tells; elsewhere nothing is measured.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1000)
}

/// What a process of its own makes of a checkpoint, and its greatest memory.
#[derive(Serialize, Deserialize)]
struct Found {
    files: [(usize, u64); 2],
    peak: Option<u64>,
    /// What was planned: memory in MB, and bytes of the files.
    planned: (u64, Vec<u64>),
}

/// The variables that tell such a process what to do: folder of the job, layers, recipe, memory.
const TASK: [&str; 4] = ["JOB_FOLDER", "JOB_LAYERS", "JOB_RECIPE", "JOB_MEMORY"];
/// In place of a recipe: weights alone.
const ALONE: &str = "weights only";
const NAME: &str = "memory_does_not_depend_on_the_number_of_layers_and_bytes_not_on_memory";

/// Does the task that this process was given, if it was.
fn work() -> Option<()> {
    let mut task = Vec::new();
    for name in TASK {
        task.push(env::var(name).ok()?);
    }
    let folder = Path::new(&task[0]);
    let means =
        Means { memory: task[3].parse().ok(), folder: Some(folder.join("spool")), durable: None };
    let checkpoint = Checkpoint::open(&folder.join(&task[1])).unwrap();
    let out = folder.join("out");
    let found = match &task[2][..] {
        ALONE => weights(&checkpoint, &out),
        recipe => run(&checkpoint, recipe, means, &out),
    };
    let found = serde_json::to_vec(&found).unwrap();
    fs::write(folder.join("found.json"), found).unwrap();
    Some(())
}

fn ask_once(folder: &Path, layers: usize, recipe: &str, memory: u64) -> Found {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", NAME]).env(TASK[0], folder).env(TASK[1], layers.to_string());
    process.env(TASK[2], recipe).env(TASK[3], memory.to_string());
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&fs::read(folder.join("found.json")).unwrap()).unwrap()
}

/// The peak is the median of three: how much of it the allocator holds on to depends on when threads
/// meet.
fn ask(folder: &Path, layers: usize, recipe: &str, memory: u64) -> Found {
    let mut found = [(); 3].map(|()| ask_once(folder, layers, recipe, memory));
    found.sort_by_key(|found| found.peak);
    let [_, middle, _] = found;
    middle
}

/// What was planned before anything started came true within a quarter.
fn as_planned(recipe: &str, found: &Found) {
    let (memory, sizes) = &found.planned;
    let near = |what: &str, planned: u64, real: u64| {
        let line = format!("{recipe}: {what}: planned {planned}, found {real}");
        println!("{line}");
        assert!(4 * planned.abs_diff(real) <= real, "{line}");
    };
    for (planned, (real, _)) in sizes.iter().zip(&found.files) {
        near("bytes of a file", *planned, *real as u64);
    }
    if let Some(peak) = found.peak {
        near("MB of memory", *memory, peak);
    }
}

#[test]
fn memory_does_not_depend_on_the_number_of_layers_and_bytes_not_on_memory() {
    if work().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for layers in [4, 12] {
        checkpoint(&folder.path().join(layers.to_string()), &Like::large(layers));
    }
    for recipe in ["npu", "w4a16-fast"] {
        let [few, many] = [4, 12].map(|layers| ask(folder.path(), layers, recipe, MEMORY));
        // That of a job that is never short of memory is always the same.
        let all = ask_once(folder.path(), 12, recipe, 8 << 30);
        assert_eq!(many.files, all.files, "{recipe}");
        for found in [&few, &many, &all] {
            as_planned(recipe, found);
        }
        let (Some(few), Some(many), Some(all)) = (few.peak, many.peak, all.peak) else { continue };
        println!("{recipe}: {few} MB with 4 layers, {many} with 12, {all} all in memory");
        // Which thread is how far decides about some MB, and matrices of moments come and go in sizes
        // that leave gaps between them. 8 layers of weights are 100 MB.
        assert!(4 * many <= 5 * few, "{recipe}: {few} MB with 4 layers, {many} with 12");
        assert!(2 * many < all, "{recipe}: {many} MB streamed, {all} MB in memory");
    }
    let [few, many] = [4, 12].map(|layers| ask_once(folder.path(), layers, ALONE, MEMORY));
    if let (Some(few), Some(many)) = (few.peak, many.peak) {
        println!("{ALONE}: {few} MB with 4 layers, {many} with 12");
        // Tables and grids do grow; 8 layers of weights are 100 MB.
        assert!(many <= few + 8, "{ALONE}: {few} MB with 4 layers, {many} with 12");
    }
    let left = fs::read_dir(folder.path().join("spool")).unwrap().count();
    assert_eq!(left, 0, "nothing is left");
}
