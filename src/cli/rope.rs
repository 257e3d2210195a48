//! `encircle rope`: position ids and rotary tables that a person can check.

use super::args::RopeArgs;
use super::terminal::stdout;
use super::{Outcome, Verdict};
use crate::checkpoint::{
    self, Checkpoint, ErrorKind, Fields, describe, quoted, read_within, unmarked,
};
use crate::layout::{Layout, RopeScaling, Rotary, RotaryError, Segment};
use crate::models;
use crate::report::counted;
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;

/// The longest layout file believed, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Cosines or sines in a line of text.
const TABLE_COLUMNS: usize = 8;

/// The merge size where nobody says.
const MERGE: usize = 2;

/// The rotary tables where no checkpoint says, as the help tells.
fn assumed() -> Result<Rotary, RotaryError> {
    Rotary::new(128, 10_000.0, RopeScaling::Default)?.with_mrope([24, 20, 20], true)
}

pub(super) fn run(args: &RopeArgs) -> Outcome {
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let config = checkpoint.as_ref().map(Checkpoint::config);
    let known = config.and_then(|c| c.vision.as_ref()).map(|v| v.spatial_merge_size);
    if let (Some(expected), Some(found)) = (known, args.merge)
        && found != expected
    {
        let why = format!("expected {expected}, the spatial_merge_size of the checkpoint");
        return Err(format!("--merge: found {found}, {why}").into());
    }
    let merge = known.or(args.merge).unwrap_or(MERGE);
    let rotary = match config {
        Some(config) => config.text.rope.clone(),
        None => assumed()?,
    };
    let cases = cases(args, merge)?;
    if let Some(checkpoint) = &checkpoint {
        let config = checkpoint.files().describe("config.json");
        for (name, layout) in &cases {
            models::check_layout(checkpoint.config(), layout)
                .map_err(|e| format!("{config}: {name}: {e}"))?;
        }
    }
    let mut stdout = stdout();
    if args.json {
        let cases: Vec<Value> = cases
            .iter()
            .map(|(name, layout)| as_json(name, layout, &rotary, args.tables))
            .collect();
        writeln!(stdout, "{}", json!({ "cases": cases }))?;
    } else {
        for (name, layout) in &cases {
            stdout.write_all(as_text(name, layout, &rotary, args.tables).as_bytes())?;
        }
    }
    Ok(Verdict::Fine)
}

fn cases(args: &RopeArgs, merge: usize) -> Result<Vec<(String, Layout)>, Box<dyn Error>> {
    let Some(path) = &args.layout else {
        let layout = match (args.grid, args.visual_start, args.seq_len) {
            (Some(grid), Some(start), Some(len)) => Layout::single(grid, start, len, merge)?,
            (None, None, Some(len)) => Layout::text(len)?,
            _ => {
                let others = "--grid T,H,W and --visual-start N may stand beside it";
                return Err(format!("--layout FILE or --seq-len N is needed: {others}").into());
            }
        };
        return Ok(vec![("layout".into(), layout)]);
    };
    let place = path.display();
    let bytes = read_within(path, FILE_MAX).map_err(|e| format!("{place}: cannot read: {e}"))?;
    let file: Value =
        serde_json::from_slice(unmarked(&bytes)).map_err(|e| format!("{place}: {e}"))?;
    let Value::Array(cases) = file else {
        let found = describe(&file);
        return Err(format!("{place}: expected a list of cases, found {found}").into());
    };
    let layout = |(i, case): (usize, &Value)| -> Result<(String, Layout), Box<dyn Error>> {
        let name = case["name"].as_str();
        let label = name.map_or(format!("case {i}"), |name| format!("case {i} ({name})"));
        let at = format!("{place}: {label}");
        let segments = segments(&Fields::root(&at, case)?)?;
        let layout = Layout::new(&segments, merge).map_err(|e| format!("{at}: {e}"))?;
        Ok((name.map_or(label, str::to_owned), layout))
    };
    cases.iter().enumerate().map(layout).collect()
}

/// The prompt of a case; its other fields are for whoever compares what follows from it.
fn segments(case: &Fields) -> checkpoint::Result<Vec<Segment>> {
    case.text("name")?;
    let listed = case.objects("segments")?;
    let missing = || case.wrong(ErrorKind::Missing, "segments", "a list of objects", "nothing");
    listed.ok_or_else(missing)?.iter().map(segment).collect()
}

fn segment(fields: &Fields) -> checkpoint::Result<Segment> {
    let grid = || {
        let numbers = numbers(fields, "grid_thw")?;
        <[usize; 3]>::try_from(numbers).map_err(|numbers| {
            let (expected, found) = ("3 numbers: frames, height and width", numbers.len());
            fields.wrong(ErrorKind::OutOfRange, "grid_thw", expected, found)
        })
    };
    match fields.required_text("kind")? {
        "text" => {
            only(fields, &["kind", "tokens"])?;
            Ok(Segment::Text { tokens: fields.required("tokens", 0..=usize::MAX)? })
        }
        "image" => {
            only(fields, &["kind", "grid_thw"])?;
            Ok(Segment::Image { grid_thw: grid()? })
        }
        "video" => {
            only(fields, &["kind", "grid_thw", "timestamp_tokens"])?;
            let timestamp_tokens = numbers(fields, "timestamp_tokens")?;
            Ok(Segment::Video { grid_thw: grid()?, timestamp_tokens })
        }
        other => {
            let expected = "\"text\", \"image\" or \"video\"";
            Err(fields.wrong(ErrorKind::Unsupported, "kind", expected, quoted(other)))
        }
    }
}

fn numbers(fields: &Fields, name: &str) -> checkpoint::Result<Vec<usize>> {
    let listed = fields.sizes(name, 0..=usize::MAX, usize::MAX)?;
    listed.ok_or_else(|| fields.wrong(ErrorKind::Missing, name, "a list of numbers", "nothing"))
}

/// Refuses fields that nobody would look at.
fn only(fields: &Fields, known: &[&str]) -> checkpoint::Result<()> {
    match fields.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let expected = format!("only {}", known.join(", "));
            Err(fields.wrong(ErrorKind::Unsupported, name, expected, "another field"))
        }
    }
}

fn as_json(name: &str, layout: &Layout, rotary: &Rotary, tables: bool) -> Value {
    let mut case = json!({
        "name": name,
        "seq_len": layout.seq_len(),
        "position_ids": layout.position_ids(),
        "rope_delta": layout.rope_delta(),
    });
    if tables {
        let (cos, sin) = rotary.tables(&layout.position_ids());
        let rows = |t: &crate::tensor::Tensor| -> Vec<Vec<f32>> {
            t.data().chunks(rotary.head_dim).map(<[f32]>::to_vec).collect()
        };
        case["cos"] = json!(rows(&cos));
        case["sin"] = json!(rows(&sin));
    }
    case
}

fn as_text(name: &str, layout: &Layout, rotary: &Rotary, tables: bool) -> String {
    let (tokens, delta) = (counted(layout.seq_len(), "token"), layout.rope_delta());
    let mut out = format!("{name}: {tokens}, rope_delta {delta}\n");
    let ids = layout.position_ids();
    let width = ids.iter().flatten().max().map_or(1, |id| id.to_string().len()).max(3) + 1;
    for (axis, ids) in ["t", "h", "w"].iter().zip(&ids) {
        out += &format!("  {axis} ");
        for (i, id) in ids.iter().enumerate() {
            let wrap = if i > 0 && i % 16 == 0 { "\n    " } else { "" };
            out += &format!("{wrap}{id:>width$}");
        }
        out += "\n";
    }
    if tables {
        let half = rotary.head_dim / 2;
        out +=
            &format!("  cos and sin of the first {half} columns; the other {half} repeat them\n");
        let (cos, sin) = rotary.tables(&ids);
        let last = layout.seq_len().saturating_sub(1).to_string().len();
        for (label, table) in [("cos", cos), ("sin", sin)] {
            for (i, row) in table.data().chunks(rotary.head_dim).enumerate() {
                let label = format!("{:<width$}", format!("{label}[{i}]"), width = last + 5);
                let blank = " ".repeat(label.len());
                for (n, numbers) in row[..half].chunks(TABLE_COLUMNS).enumerate() {
                    out += &format!("  {}", if n == 0 { &label } else { &blank });
                    numbers.iter().for_each(|x| out += &format!(" {x:>7.4}"));
                    out += "\n";
                }
            }
        }
    }
    out + "\n"
}
