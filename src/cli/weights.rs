//! `encircle quantize --weights-only`.

use super::args::QuantizeArgs;
use super::quantize::{checkpoint, headline, shape, warn_stale, written_json, wrote};
use super::recipe::recipe;
use super::terminal::{Bars, left_out, seconds, stdout};
use super::{Outcome, Verdict, plan};
use crate::circle::WriteOptions;
use crate::pipeline::{self, Claim, Recipe, Rounded, quantize_weights};
use crate::report::{bytes, counted};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// What is written into OUT.
const FILES: [&str; 2] = [pipeline::QUANTIZED, pipeline::RECIPE];

pub(super) fn run(args: &QuantizeArgs) -> Outcome {
    let start = Instant::now();
    let recipe = recipe(args)?;
    pipeline::check_files(&args.out, FILES)?;
    let (name, checkpoint) = checkpoint(args)?;
    let bars = Bars::new(!args.json && std::io::stderr().is_terminal()).stop_on_interrupt()?;
    let _claim = Claim::of(&args.out)?;
    let how = WriteOptions { payloads: args.buffers.into(), ..WriteOptions::default() };
    let rounded = match quantize_weights(&checkpoint, &recipe, &args.out, &how, &bars) {
        Ok(rounded) => rounded,
        Err(stopped @ pipeline::Error::Stopped { .. }) => {
            eprintln!("{stopped}: nothing was finished that a rerun could go on from");
            return Ok(Verdict::Stopped);
        }
        Err(error) => return Err(error.into()),
    };
    bars.finish();
    warn_stale(args, std::slice::from_ref(&rounded.written));
    let facts =
        Facts { name: &name, args, rounded: &rounded, total: start.elapsed().as_secs_f64() };
    let mut stdout = stdout();
    match args.json {
        true => writeln!(stdout, "{}", facts.json())?,
        false => stdout.write_all(facts.text().as_bytes())?,
    }
    for tensor in rounded.unquantized.iter().filter(|_| args.verbose) {
        eprintln!("  {} is float", tensor.name);
    }
    Ok(Verdict::Fine)
}

/// `encircle plan --weights-only`.
pub(super) fn plan(args: &QuantizeArgs, recipe: &Recipe) -> Outcome {
    pipeline::check_files(&args.out, FILES)?;
    let (name, checkpoint) = checkpoint(args)?;
    let how = WriteOptions { payloads: args.buffers.into(), ..WriteOptions::default() };
    let outlook =
        |machine| pipeline::outlook_weights(&checkpoint, recipe, (&args.out, &how), machine);
    // Whatever needs no machine is refused before it is measured.
    outlook(None)?;
    let machine = plan::measured(args, recipe)?;
    let outlook = outlook(Some(&machine))?;
    let free = pipeline::free(&args.out);
    let mut stdout = stdout();
    if args.json {
        let facts = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checkpoint": name,
            "preset": args.recipe_name(),
            "weights_only": true,
            "estimate": outlook,
            "output": outlook.file.size,
            "free_disk": free,
            "machine": machine,
            "refused": outlook.refused,
        });
        writeln!(stdout, "{facts}")?;
    } else {
        let what = format!("plan for {name} · {} · weights only", args.recipe_name());
        let free = free.map_or("?".into(), bytes);
        let file = (&outlook.file.name, bytes(outlook.file.size));
        writeln!(stdout, "encircle {} · {what}\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(stdout, "  input       {} read, a few rows at a time", bytes(outlook.read))?;
        writeln!(stdout, "  output      {}  {}, {free} free", file.0, file.1)?;
        let rate = bytes((machine.disk * 1e9) as u64);
        match outlook.seconds {
            Some(time) => {
                let time = plan::duration(time);
                writeln!(stdout, "  time        about {time}, at {rate} a second")?;
            }
            None => writeln!(
                stdout,
                "  time        that of the recipe's rewrites, which no plan tells"
            )?,
        }
        if let Some(refusal) = &outlook.refused {
            writeln!(stdout, "\n  refused     {refusal}")?;
        }
    }
    Ok(if outlook.refused.is_some() { Verdict::Wanting } else { Verdict::Fine })
}

/// One set of facts, in two forms.
struct Facts<'a> {
    name: &'a str,
    args: &'a QuantizeArgs,
    rounded: &'a Rounded,
    total: f64,
}

impl Facts<'_> {
    fn text(&self) -> String {
        let Rounded { graph, layout, unquantized, integers, unread, written, .. } = self.rounded;
        let mut out = headline(self.name, &format!("{} · weights only", self.args.recipe_name()));
        out += &shape(layout);
        out += &format!("  graph       {}\n", counted(graph.nodes.len(), "operator"));
        for (bits, tensors, elements) in integers {
            let millions = *elements as f64 / 1e6;
            out += &format!(
                "  weights     {} of {bits}-bit integers, {millions:.1} M elements\n",
                counted(*tensors, "tensor")
            );
        }
        out += &format!(
            "  QuantCheck  activations stay float: {} without qparams\n",
            counted(unquantized.len(), "real tensor")
        );
        let way = match layout.spans() {
            [] => "--grid and --visual-start add a picture",
            _ => "nor does any other",
        };
        out += &left_out(*unread, way);
        out += "\n  not compared with float: there are no rows to compare on\n\n";
        out += &wrote(written);
        out += &format!(
            "\n  {} in all, {} read and written a second\n",
            seconds(self.total),
            bytes(self.rate() as u64)
        );
        out
    }

    /// Bytes read and written a second.
    fn rate(&self) -> f64 {
        (self.rounded.read + self.rounded.written.size) as f64 / self.total
    }

    fn json(&self) -> Value {
        let Rounded { layout, unquantized, integers, unread, read, written, .. } = self.rounded;
        let integers: Vec<Value> = integers
            .iter()
            .map(|(bits, tensors, elements)| {
                json!({"bits": bits, "tensors": tensors, "elements": elements})
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checkpoint": self.name,
            "preset": self.args.recipe_name(),
            "weights_only": true,
            "layout": {"seq_len": layout.seq_len(), "pictures": layout.grids()},
            "activations": "float",
            "integers": integers,
            "error": null,
            "eval": null,
            "quantcheck": {"unquantized": unquantized.len(), "tensors": unquantized},
            "unread_tensors": unread,
            "read_bytes": read,
            "files": [written_json(written)],
            "total_seconds": self.total,
        })
    }
}
