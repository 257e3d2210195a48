//! `encircle rope`: position ids and rotary tables that a person can check.

use super::args::RopeArgs;
use super::{Outcome, Verdict};
use crate::checkpoint::{Checkpoint, read_within};
use crate::layout::{Layout, RopeScaling, Rotary, RotaryError, Segment};
use crate::report::counted;
use serde::Deserialize;
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;

/// One case of a layout file; other fields are for its reader, not for us.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    name: Option<String>,
    segments: Vec<Segment>,
}

/// The longest layout file believed, in bytes.
const FILE_MAX: u64 = 64 << 20;

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
    let mut stdout = std::io::stdout().lock();
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
                return Err(
                    "--layout FILE, or --seq-len N with --grid and --visual-start, is needed"
                        .into(),
                );
            }
        };
        return Ok(vec![("layout".into(), layout)]);
    };
    let place = path.display();
    let bytes = read_within(path, FILE_MAX).map_err(|e| format!("{place}: cannot read: {e}"))?;
    // In two steps, so that a mistake inside a case can name the case.
    let cases = match serde_json::from_slice(&bytes).map_err(|e| format!("{place}: {e}"))? {
        Value::Array(cases) => cases,
        _ => return Err(format!("{place}: expected a list of cases, found one value").into()),
    };
    let layout = |(i, case): (usize, Value)| -> Result<(String, Layout), Box<dyn Error>> {
        let label = match case["name"].as_str() {
            Some(name) => format!("case {i} ({name})"),
            None => format!("case {i}"),
        };
        let case: Case =
            serde_json::from_value(case).map_err(|e| format!("{place}: {label}: {e}"))?;
        let layout =
            Layout::new(&case.segments, merge).map_err(|e| format!("{place}: {label}: {e}"))?;
        Ok((case.name.unwrap_or(label), layout))
    };
    cases.into_iter().enumerate().map(layout).collect()
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
        let (cos, sin) = rotary.tables(&ids);
        for (label, table) in [("cos", cos), ("sin", sin)] {
            for (i, row) in table.data().chunks(rotary.head_dim).enumerate() {
                let half: Vec<String> =
                    row[..rotary.head_dim / 2].iter().map(|x| format!("{x:>7.4}")).collect();
                out += &format!("  {label}[{i}] {}\n", half.join(" "));
            }
        }
    }
    out + "\n"
}
