//! `encircle inspect`, `verify`, `extract` and `export`: Circle files as tables, whoever made them.

use super::artifact_args::{ExportArgs, ExtractArgs, FormatArg, InspectArgs, VerifyArgs};
use super::quantize::wrote;
use super::terminal::{end_on_interrupt, stdout};
use super::{Outcome, Verdict};
use crate::checkpoint::{read_within, unmappable};
use crate::circle::{self, Format, Model, SubGraph, Target, WriteOptions};
use crate::pipeline::{Written, save};
use crate::runtime::{self, Export, Form};
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The longest file that is read as a whole, in bytes: of a longer one, pages come as they are needed.
const READ_MAX: u64 = 64 << 20;

/// A file's model; payloads of a long file stay there until somebody looks at them.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) format: Format,
}

/// Reads a file. Errors name it.
pub(super) fn open(path: &Path) -> Result<Opened, Box<dyn Error>> {
    let place = path.display();
    let refused = |e: std::io::Error| format!("{place}: cannot read: {e}");
    let metadata = path.metadata().map_err(refused)?;
    if let Some(found) = unmappable(&metadata) {
        return Err(format!("{place}: expected a file, found {found}").into());
    }
    if metadata.len() == 0 {
        return Err(format!("{place}: the file is empty").into());
    }
    let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = match metadata.len() <= READ_MAX {
        true => Arc::new(read_within(path, READ_MAX).map_err(refused)?),
        false => {
            let file = File::open(path).map_err(refused)?;
            // SAFETY: the map is read-only and private. Truncating the file while we run would end the
            // program with a bus error, as with every reader that maps; nothing else can be violated.
            Arc::new(unsafe { memmap2::Mmap::map(&file) }.map_err(refused)?)
        }
    };
    let format = circle::format_of((*bytes).as_ref()).map_err(|e| format!("{place}: {e}"))?;
    let model = circle::read_shared(bytes).map_err(|e| format!("{place}: {e}"))?;
    Ok(Opened { model, format })
}

pub(super) fn inspect(args: &InspectArgs) -> Outcome {
    let Opened { model, .. } = open(&args.file)?;
    let mut stdout = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &circle::to_json(&model))
            .map_err(std::io::Error::from)?;
        writeln!(stdout)?;
        return Ok(Verdict::Fine);
    }
    let title = args.file.display().to_string();
    stdout.write_all(circle::summarize(&model, &title).as_bytes())?;
    if args.tensors {
        writeln!(stdout)?;
        stdout.write_all(circle::list_tensors(&model).as_bytes())?;
    }
    if args.ops {
        writeln!(stdout)?;
        stdout.write_all(circle::list_operators(&model).as_bytes())?;
    }
    Ok(Verdict::Fine)
}

pub(super) fn verify(args: &VerifyArgs) -> Outcome {
    let Opened { model, format } = open(&args.file)?;
    let targets: Vec<Target> = args.target.iter().map(|&target| target.into()).collect();
    let report = match &targets[..] {
        [] if format == Format::TfLite => circle::verify_for(&model, &[Target::Litert]),
        [] => circle::verify(&model),
        targets => circle::verify_for(&model, targets),
    };
    writeln!(stdout(), "{report}")?;
    Ok(if report.is_valid() { Verdict::Fine } else { Verdict::Wanting })
}

pub(super) fn extract(args: &ExtractArgs) -> Outcome {
    end_on_interrupt()?;
    apart(&args.file, &args.out, "-o")?;
    let Opened { model, format } = open(&args.file)?;
    let graph = circle::find_graph(&model, args.graph.as_deref());
    let graph = graph.map_err(|e| format!("{}: {e}", args.file.display()))?;
    let model = circle::alone(&model, graph);
    let part = match args.ops {
        Some([first, last]) => circle::extract(&model, first..=last),
        None => {
            let from: Vec<&str> = args.from.iter().map(String::as_str).collect();
            let to: Vec<&str> = args.to.iter().map(String::as_str).collect();
            circle::extract_between(&model, &from, &to)
        }
    }
    .map_err(|e| format!("{}: {e}", args.file.display()))?;
    put(&part, WriteOptions { format, ..WriteOptions::default() }, &args.out)
}

pub(super) fn export(args: &ExportArgs) -> Outcome {
    end_on_interrupt()?;
    apart(&args.file, &args.out, "-o")?;
    let Opened { model, format } = open(&args.file)?;
    let mut tensors = model.subgraphs.iter().flat_map(|graph| &graph.tensors);
    if args.qdq
        && !tensors.any(|tensor| tensor.quantization.as_ref().is_some_and(|q| !q.scale.is_empty()))
    {
        let found = "found a float file, expected tensors with scales";
        return Err(format!("{}: --qdq: {found}", args.file.display()).into());
    }
    let format = match args.format {
        None => format,
        Some(FormatArg::Circle) => Format::Circle,
        Some(FormatArg::Tflite) => Format::TfLite,
    };
    let form = match (args.qdq, args.target) {
        (true, _) => Form::Qdq,
        (false, Some(target)) => Form::Native(target.into()),
        (false, None) if format == Format::TfLite => Form::Native(Target::Litert),
        (false, None) => Form::Own,
    };
    let blocks = args.weights.map(Into::into);
    let exported = runtime::export(&model, Export { form, format, blocks })
        .map_err(|e| format!("{}: {e}", args.file.display()))?;
    let packed = |model: &Model| {
        let tensors = model.subgraphs.iter().flat_map(|graph| &graph.tensors);
        tensors.filter(|tensor| tensor.dtype.block().is_some()).count()
    };
    if blocks.is_some() && packed(&exported) == packed(&model) {
        eprintln!(
            "warning: no weight was packed: expected float constants of linear layers whose inputs \
             are whole blocks of 32"
        );
    }
    put(&exported, WriteOptions { format, payloads: args.buffers.into() }, &args.out)
}

/// Refuses to write what is read, by whatever path.
pub(super) fn apart(read: &Path, written: &Path, option: &str) -> Result<(), String> {
    match (read.canonicalize(), written.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => {
            let (read, written) = (read.display(), written.display());
            Err(format!(
                "{written}: {option}: found the file that is read, {read}, expected another"
            ))
        }
        _ => Ok(()),
    }
}

fn put(model: &Model, how: WriteOptions, path: &Path) -> Outcome {
    let size = save(model, &how, path)?;
    let sum = |count: fn(&SubGraph) -> usize| model.subgraphs.iter().map(count).sum();
    let [operators, tensors] =
        [sum(|graph| graph.operators.len()), sum(|graph| graph.tensors.len())];
    let written = wrote(&Written { path: path.to_owned(), size, operators, tensors });
    stdout().write_all(written.trim_start().as_bytes())?;
    Ok(Verdict::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_after_it_was_opened_ends_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy("tests/data/circle/linear.q.circle", file.path()).unwrap();
        let written = |model: &Model| circle::to_bytes(model).unwrap();
        let before = written(&circle::read(&std::fs::read(file.path()).unwrap()).unwrap());
        let model = open(file.path()).unwrap().model;
        file.as_file().set_len(0).unwrap();
        assert!(written(&model) == before);
    }
}
