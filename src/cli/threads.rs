//! How many threads compute.

use crate::report::counted;
use rayon::ThreadPoolBuilder;
use std::env;
use std::io::{self, Write};
use std::thread::available_parallelism;

/// Threads for each core, at most: one that has nothing to do asks all others for work, so that many
/// more than there are cores only keep each other busy.
const PER_CORE: usize = 8;

/// Starts as many threads as are asked for, here or in the environment, within reason; without a word
/// as many as there are cores.
pub(super) fn start(asked: Option<u16>) -> Result<(), String> {
    let told = || env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&threads| threads > 0);
    let cores = available_parallelism().map_or(1, usize::from);
    let asked = asked.map(usize::from).or_else(told).unwrap_or(cores);
    let most = PER_CORE * cores;
    if asked > most {
        let most = format_args!("only {most} are started, {PER_CORE} for each core");
        let _ = writeln!(io::stderr(), "warning: {asked} threads: {most}");
    }
    let threads = asked.min(most);
    let started = ThreadPoolBuilder::new().num_threads(threads).build_global();
    started.map_err(|source| format!("cannot start {}: {source}", counted(threads, "thread")))
}
