//! Statistics as bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ENCSTATS` |
//! | 4 | version of this form, little endian |
//! | 8 | length of the header |
//! | … | header: origin and rows, JSON, for people to read |
//! | 8 | length of the body |
//! | … | body: observers by class, postcard |
//! | 8 | FNV-1a of all before |

use super::collected::Classes;
use super::{ClusterError, Collected, Fnv, Origin, Rows};
use serde::{Deserialize, Serialize};

/// How a file of statistics begins.
pub const MAGIC: &[u8; 8] = b"ENCSTATS";
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    origin: Origin,
    rows: Rows,
}

impl Collected {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = Header { origin: self.origin.clone(), rows: self.rows.clone() };
        let header = serde_json::to_vec(&header).expect("invariant: text and numbers are JSON");
        let body = postcard::to_stdvec(&self.classes).expect("invariant: observers are plain data");
        let mut out = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        for part in [&header, &body] {
            out.extend((part.len() as u64).to_le_bytes());
            out.extend(part);
        }
        let mut hash = Fnv::default();
        hash.add(&out);
        out.extend(hash.0.to_le_bytes());
        out
    }

    /// What [`Collected::to_bytes`] made; allocates in proportion to the bytes.
    ///
    /// # Errors
    /// The part that is cut, damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Collected, ClusterError> {
        let mut rest = bytes;
        if take(&mut rest, 8, "magic")? != MAGIC {
            return Err(malformed("magic", "other bytes", "ENCSTATS: a file of statistics"));
        }
        let version = number(take(&mut rest, 4, "version")?);
        if version != u64::from(VERSION) {
            return Err(malformed("version", version, VERSION));
        }
        let header = part(&mut rest, "header")?;
        let body = part(&mut rest, "body")?;
        let mut hash = Fnv::default();
        hash.add(&bytes[..bytes.len() - rest.len()]);
        let stored = number(take(&mut rest, 8, "checksum")?);
        if hash.0 != stored {
            return Err(malformed(
                "checksum",
                format!("{stored:016x}"),
                format!("{:016x}", hash.0),
            ));
        }
        if !rest.is_empty() {
            return Err(malformed("end", format!("{} more bytes", rest.len()), "none"));
        }
        let Header { origin, rows } = serde_json::from_slice(header)
            .map_err(|e| malformed("header", e, "origin and rows"))?;
        if !rows.sound() {
            return Err(malformed("rows", rows, "ascending ranges within the total"));
        }
        let (classes, left): (Classes, &[u8]) = postcard::take_from_bytes(body)
            .map_err(|e| malformed("body", e, "observers by class"))?;
        if !left.is_empty() {
            return Err(malformed("body", format!("{} more bytes", left.len()), "none"));
        }
        Ok(Collected { origin, rows, classes })
    }
}

fn malformed(field: &'static str, found: impl ToString, expected: impl ToString) -> ClusterError {
    ClusterError::Malformed { field, found: found.to_string(), expected: expected.to_string() }
}

fn take<'a>(
    rest: &mut &'a [u8],
    len: usize,
    field: &'static str,
) -> Result<&'a [u8], ClusterError> {
    let Some((head, tail)) = rest.split_at_checked(len) else {
        let found = format!("the end of the file after {} bytes", rest.len());
        return Err(malformed(field, found, format!("{len} bytes")));
    };
    *rest = tail;
    Ok(head)
}

/// A part with its length before it.
fn part<'a>(rest: &mut &'a [u8], field: &'static str) -> Result<&'a [u8], ClusterError> {
    let len = number(take(rest, 8, field)?);
    take(rest, usize::try_from(len).unwrap_or(usize::MAX), field)
}

/// Little endian, at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}
