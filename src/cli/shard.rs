//! Shares of a calibration: `quantize --shard` and `merge`.

use super::args::{MergeArgs, QuantizeArgs};
use super::terminal::{Bars, end_on_interrupt, stdout};
use super::{Outcome, Verdict};
use crate::cluster::{Crew, Share};
use crate::pipeline::{self, Known, Shared};
use crate::report::bytes;
use serde_json::json;
use std::env;
use std::error::Error;
use std::io::Write;
use std::path::Path;

/// `I/N`, or `auto` and `auto/N` from what Slurm or Kubernetes tell.
pub(super) fn share(text: &str) -> Result<Share, Box<dyn Error>> {
    let told = |name: &str| env::var(name).ok();
    let (auto, of) = match text.split_once('/') {
        Some((auto, of)) => (auto, Some(of.to_owned())),
        None => (text, None),
    };
    match auto {
        "auto" => told_share(&told, of),
        _ => Ok(text.parse()?),
    }
}

/// Whether a launcher of MPI started this process: what those of Open MPI, MPICH and Slurm tell.
#[cfg(feature = "mpi")]
pub(super) fn launched() -> bool {
    let told = ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"];
    told.iter().any(|name| env::var_os(name).is_some())
}

/// The share that the environment tells: index from 0 (Kubernetes) or from the array's least.
fn told_share(
    told: &dyn Fn(&str) -> Option<String>,
    of: Option<String>,
) -> Result<Share, Box<dyn Error>> {
    let number = |name: &'static str| -> Result<Option<usize>, String> {
        let Some(text) = told(name) else { return Ok(None) };
        let parsed = text.trim().parse().map(Some);
        parsed.map_err(|_| format!("--shard auto: {name}: found {text:?}, expected a number"))
    };
    let (from_zero, known) = if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
        let least = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let count = number("SLURM_ARRAY_TASK_COUNT")?;
        let asked = of.as_ref().and_then(|of| of.parse::<usize>().ok());
        // of some elements that are put again, Slurm does not tell what they were part of
        let again = match (count, asked) {
            (Some(count), Some(asked)) => count != asked,
            (count, _) => count == Some(1) && least > 1,
        };
        if again {
            let (count, of) = (count.unwrap_or(0), of.as_deref().unwrap_or("all of them"));
            return Err(format!(
                "--shard auto: SLURM_ARRAY_TASK_COUNT: found {count}, expected {of}; put a part of an \
                 array again with --shard I/N"
            )
            .into());
        }
        (id.checked_sub(least).map(|above| above / step), count)
    } else if let Some(index) = number("JOB_COMPLETION_INDEX")? {
        (Some(index), number("JOB_COMPLETIONS")?)
    } else {
        return Err(
            "--shard auto: found neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX in the \
                    environment, expected one of them; or say --shard I/N"
                .into(),
        );
    };
    let of = match of {
        Some(text) => Some(text.parse().map_err(|_| format!("--shard auto/{text}: no number"))?),
        None => known,
    };
    let of = of.ok_or(
        "--shard auto: found no SLURM_ARRAY_TASK_COUNT or JOB_COMPLETIONS in the environment, \
         expected the number of shards; or say --shard auto/N",
    )?;
    let share = from_zero.and_then(|index| Share::new(index.checked_add(1)?, of));
    let index = from_zero.map_or("below the array's least".into(), |index| (index + 1).to_string());
    share.ok_or_else(|| format!("--shard auto: shard {index} of {of}: out of range").into())
}

/// Whether finished work is put down: a share is its own unit of work, and of layers that all processes
/// round at once none could go on alone.
pub(super) fn is_durable(args: &QuantizeArgs, crew: &dyn Crew) -> bool {
    args.shard.is_none() && crew.size() == 1
}

/// Observes one share and writes its statistics.
pub(super) fn observe(args: &QuantizeArgs, share: Share, job: &Shared<'_>, bars: &Bars) -> Outcome {
    let (collected, rows) = pipeline::observe(job, share, bars)?;
    bars.finish();
    let path = args.out.join(share.file_name());
    let size = pipeline::write_statistics(&collected, &path)?;
    let mut stdout = stdout();
    let [first, last] = [rows.start + 1, rows.end];
    if args.json {
        let facts = json!({
            "shard": share.to_string(),
            "rows": {"first": first, "last": last, "of": job.calib.len()},
            "file": path.display().to_string(),
            "size": size,
        });
        writeln!(stdout, "{facts}")?;
    } else {
        let of = job.calib.len();
        writeln!(stdout, "shard {share}: calibration rows {first}-{last} of {of} observed")?;
        writeln!(stdout, "  wrote {}  {}", path.display(), bytes(size))?;
    }
    Ok(Verdict::Fine)
}

/// `encircle merge`.
pub(super) fn merge(args: &MergeArgs) -> Outcome {
    end_on_interrupt()?;
    let known = joined(args.files.iter().map(AsRef::as_ref))?;
    if !args.partial {
        known.complete()?;
    }
    let size = pipeline::write_statistics(&known.collected, &args.out)?;
    let mut stdout = stdout();
    let rows = known.collected.rows();
    let (seen, of) = (rows.to_string(), rows.total());
    if args.json {
        let facts =
            json!({"rows": seen, "of": of, "file": args.out.display().to_string(), "size": size});
        writeln!(stdout, "{facts}")?;
    } else {
        writeln!(stdout, "calibration rows {seen} of {of}")?;
        writeln!(stdout, "  wrote {}  {}", args.out.display(), bytes(size))?;
    }
    Ok(Verdict::Fine)
}

fn joined<'a>(mut files: impl Iterator<Item = &'a Path>) -> Result<Known, Box<dyn Error>> {
    let first = files.next().ok_or("merge: found no file, expected at least one")?;
    let mut known = pipeline::read_statistics(first)?;
    for file in files {
        known.merge(&pipeline::read_statistics(file)?)?;
    }
    Ok(known)
}

#[cfg(test)]
mod tests;
