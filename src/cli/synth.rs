//! `encircle synth`.

use super::args::SynthArgs;
use super::terminal::{Bars, stdout};
use super::{Outcome, Verdict, demo};
use crate::checkpoint::Files;
use crate::pipeline::Progress;
use crate::report::{bytes, counted};
use crate::synth::{self, Request};
use std::io::{IsTerminal, Write};

pub(super) fn run(args: &SynthArgs) -> Outcome {
    let request = Request { like: args.like.clone(), layers: args.layers, seed: args.seed };
    let companion = Files::embedded(demo::checkpoint());
    let bars = Bars::new(!args.json && std::io::stderr().is_terminal()).stop_on_interrupt()?;
    let begin = |total| bars.begin("write", total);
    let step = || {
        bars.step();
        !bars.stopped()
    };
    let made = match synth::synthesize(&request, &companion, &args.out, &begin, &step) {
        Err(stopped @ synth::Error::Stopped { .. }) => {
            eprintln!("{stopped}");
            return Ok(Verdict::Stopped);
        }
        made => made?,
    };
    bars.finish();
    let mut stdout = stdout();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string(&made)?)?;
    } else {
        let billions = made.parameters as f64 / 1e9;
        writeln!(
            stdout,
            "wrote {}  {billions:.2} billion parameters, {}, {} in {}",
            made.path.display(),
            counted(made.tensors, "tensor"),
            bytes(made.bytes),
            counted(made.shards, "shard")
        )?;
    }
    Ok(Verdict::Fine)
}
