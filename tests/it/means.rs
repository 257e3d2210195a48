//! What a job may use of the machine, memory and threads, does not show in its files.

use crate::written::{Like, checkpoint, samples};
use encircle::checkpoint::Checkpoint;
use encircle::circle::WriteOptions;
use encircle::models::Head;
use encircle::pipeline::{self, Claim, Durable, Fixed, Means, Numerics, Pending, Recipe, Silent};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than any of these jobs takes; one that hangs never ends.
const ENOUGH: Duration = Duration::from_secs(120);

/// Weights are read in every way that there is: once, by two networks, rotated, scaled, and as many
/// times as a search wants.
const JOBS: [Numbers; 9] = [
    ("npu", &["algo.rotate={tries=1}"]),
    ("npu", &["policy.activation.observer=\"ema:0.9\""]),
    ("npu", &["algo.equalize={}", "algo.smoothquant={}"]),
    ("w8a8-minmax", &[]),
    ("w8a8", &["algo.options.sweeps=1"]),
    ("npu", &["algo.rounding=mse", "algo.awq={}", "algo.rotate={tries=2}"]),
    ("npu", &["algo.rounding=autoround", "algo.options.steps=3"]),
    ("w4a16-fast", &[]),
    ("w4a16-best", &["algo.options.sweeps=1", "algo.options.refits=1"]),
];
/// So many of them do not look at how inputs meet, which takes long where there are many.
const LIGHT: usize = 4;

/// A recipe and what is set in it.
type Numbers = (&'static str, &'static [&'static str]);

/// Models of all sorts of widths, which neither panels of products divide nor blocks of those matrices
/// that are made on demand.
fn likes(hidden: Range<usize>, intermediate: Range<usize>) -> impl Strategy<Value = Like> {
    let heads = prop_oneof![Just([1, 1]), Just([4, 2]), Just([6, 2]), Just([5, 1])];
    let head_dim = (1usize..6).prop_map(|quarter| 4 * quarter);
    (1usize..4, hidden, intermediate, heads, head_dim, any::<bool>()).prop_map(
        |(layers, hidden, intermediate, heads, head_dim, tied)| Like {
            layers,
            hidden,
            intermediate,
            heads,
            head_dim,
            tied,
        },
    )
}

/// Bytes of memory.
fn memories() -> impl Strategy<Value = u64> {
    (14u32..28, 8u64..16).prop_map(|(bits, eighths)| eighths << (bits - 3))
}

/// Both files of a job with so much memory and so many threads, all that is finished being put down.
fn files(
    ck: &Path,
    out: PathBuf,
    (name, sets): Numbers,
    memory: Option<u64>,
    threads: usize,
) -> [Vec<u8>; 2] {
    let mut numerics = Numerics::find(name).unwrap();
    for set in sets {
        numerics.set_key(set).unwrap().unwrap();
    }
    let Numerics { policy, algo, products } = numerics;
    let durable = memory.map(|_| Durable { every: Duration::ZERO, fresh: false });
    let (folder, _claim) = (out.join("spool"), Claim::of(&out.join("spool")).unwrap());
    let means = Means { memory, folder: Some(folder), durable };
    let (fixed, head) = (Fixed::default(), Head::Logits);
    let recipe = Recipe { policy, algo, products, seq_len: None, fixed, head, means };
    let checkpoint = Checkpoint::open(ck).unwrap();
    let samples = &samples()[..3];
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let outcome =
            pipeline::quantize(&checkpoint, samples, &samples[..1], &recipe, &Silent).unwrap();
        let mut pending = Pending::default();
        pipeline::write_model(&outcome, &out, &WriteOptions::default(), &mut pending).unwrap();
        pending.commit().unwrap();
    });
    ["model.circle", "model.q.circle"].map(|name| fs::read(out.join(name)).unwrap())
}

/// Neither blocks of matrices nor legs nor lanes show, and no two threads wait for each other.
fn holds(like: &Like, job: Numbers, memory: u64, threads: usize) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    checkpoint(&at("ck"), like);
    let expected = files(&at("ck"), at("plenty"), job, None, 1);
    let (ck, out) = (at("ck"), at("little"));
    let (done, found) = mpsc::channel();
    thread::spawn(move || done.send(files(&ck, out, job, Some(memory), threads)));
    let found = found.recv_timeout(ENOUGH);
    prop_assert!(found.is_ok(), "hangs or panics: {found:?}");
    prop_assert!(found.unwrap() == expected, "other bytes");
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_time: 60_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn files_are_the_same_bytes_with_any_memory_and_any_number_of_threads(
        like in likes(1..180, 1..700),
        job in prop::sample::select(&JOBS[..]),
        memory in memories(),
        threads in 1usize..17,
    ) {
        holds(&like, job, memory, threads)?;
    }
}

proptest! {
    #![proptest_config(cases(5))]
    #[test]
    fn matrices_made_in_several_blocks_give_the_same_bytes(
        like in likes(128..256, 6000..9000),
        job in prop::sample::select(&JOBS[..LIGHT]),
        memory in memories(),
        threads in 1usize..17,
    ) {
        holds(&like, job, memory, threads)?;
    }
}
