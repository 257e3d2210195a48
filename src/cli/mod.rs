//! The command line: arguments in two stages (typed, then meant), output for people and machines.
//!
//! Exit codes: 0 done, 1 compared and found wanting (`--strict`, `verify`), 2 failed, 130
//! stopped by Ctrl-C or SIGTERM.

mod args;
mod artifact;
mod artifact_args;
mod bench_toy;
mod budget;
mod demo;
mod eval;
mod generate;
mod plan;
mod quantize;
mod recipe;
mod rope;
mod run;
mod shard;
mod synth;
mod terminal;
mod threads;
mod values;
mod weights;

use args::{Cli, Command};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ended, if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Wanting,
    Stopped,
    Misused,
}

const FAILED: u8 = 2;

type Outcome = Result<Verdict, Box<dyn Error>>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = terminal::outlive_limits().map_err(Into::into).and_then(|()| run());
    match result {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Wanting) => ExitCode::from(1),
        Ok(Verdict::Stopped) => ExitCode::from(terminal::INTERRUPTED),
        Ok(Verdict::Misused) => ExitCode::from(FAILED),
        Err(error) => {
            report(error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

fn run() -> Outcome {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(answer) => return answered(&answer),
    };
    match &cli.command {
        Command::Quantize(args) => threads::start(args.threads)?,
        Command::Plan(args) => threads::start(args.job.threads)?,
        // They compute nothing.
        Command::Inspect(_) | Command::Verify(_) | Command::Extract(_) | Command::Merge(_) => {}
        _ => threads::start(None)?,
    }
    match cli.command {
        Command::Quantize(args) if args.weights_only => weights::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Rope(args) => rope::run(&args),
        Command::BenchToy(args) => bench_toy::run(&args),
        Command::Inspect(args) => artifact::inspect(&args),
        Command::Verify(args) => artifact::verify(&args),
        Command::Extract(args) => artifact::extract(&args),
        Command::Export(args) => artifact::export(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Synth(args) => synth::run(&args),
        Command::Merge(args) => shard::merge(&args),
        Command::Completions(args) => {
            terminal::stdout().write_all(&Cli::completions(args.shell))?;
            Ok(Verdict::Fine)
        }
    }
}

/// Prints the help that somebody has asked for, or what is wrong with the command line.
fn answered(answer: &clap::Error) -> Outcome {
    let printed = answer.print();
    if answer.use_stderr() {
        return Ok(Verdict::Misused);
    }
    terminal::heard(printed, ())?;
    Ok(Verdict::Fine)
}

/// Prints an error and what caused it. A bare one of the system is that of standard output, as all
/// others name their file.
fn report(error: &(dyn Error + 'static)) {
    let mut message = match error.downcast_ref::<io::Error>() {
        Some(e) => format!("error: standard output: cannot write: {e}"),
        None => format!("error: {error}"),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message += &format!("\n  because: {text}");
        }
        source = cause.source();
    }
    let _ = writeln!(io::stderr(), "{message}");
}
