//! `cargo xtask`: long measurements of the released program, which is built first.

mod accuracy;
mod bench;
mod plain;

use accuracy::Accuracy;
use bench::Bench;
use clap::Parser;
use std::error::Error;
use std::path::Path;
use std::process::Command;

#[derive(Parser)]
#[command(about = "Long measurements of encircle")]
enum Task {
    /// Perplexity, divergence, exact match, seconds and peak memory of every method
    Accuracy(Accuracy),
    /// Speed as ratios to the peer, to other products and to ourselves
    Bench(Bench),
}

fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no repository above xtask")?;
    let built = Command::new("cargo").args(["build", "--release"]).current_dir(root).status()?;
    if !built.success() {
        return Err("the program does not build".into());
    }
    match task {
        Task::Accuracy(task) => accuracy::run(&task, root),
        Task::Bench(task) => bench::run(&task, root),
    }
}
