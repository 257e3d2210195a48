//! Writing a model: tables first, payloads streamed behind them, the same bytes every time.

use std::io::Write;

use super::emit::{Emitted, SIZE_MAX, too_large};
use super::encode;
use super::error::{Error, Result};
use super::model::Model;

/// Payloads start at multiples of this, as the schema demands of `Buffer.data`.
const ALIGN: u64 = 16;

/// Which of the two sister formats to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `CIR0`, version 0.
    #[default]
    Circle,
    /// `TFL3`, version 3: the same tables without Circle's own operators and element types.
    TfLite,
}

impl Format {
    /// Bytes 4..8 of the file.
    pub fn identifier(self) -> [u8; 4] {
        match self {
            Format::Circle => *b"CIR0",
            Format::TfLite => *b"TFL3",
        }
    }

    /// The value of `Model.version`.
    pub fn version(self) -> u32 {
        match self {
            Format::Circle => 0,
            Format::TfLite => 3,
        }
    }
}

/// Where payloads go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payloads {
    /// Inside the FlatBuffer, which limits the file to 2 GiB - 1.
    #[default]
    Inline,
    /// Behind the FlatBuffer, referred to by `Buffer.offset` and `size`. LiteRT reads such files,
    /// onert crashes on them.
    Appended,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The format.
    pub format: Format,
    /// Where payloads go.
    pub payloads: Payloads,
}

/// Writes a Circle file with its payloads inside and returns its size.
pub fn write(model: &Model, out: &mut dyn Write) -> Result<u64> {
    write_with(model, &WriteOptions::default(), out)
}

/// A Circle file in memory.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(model, &mut bytes)?;
    Ok(bytes)
}

/// Writes a file and returns its size. The bytes depend on the model and the options alone; of the
/// payloads, at most one is in memory at a time, and none that is a [`super::Source`].
///
/// A file that would be too large is refused before anything is written.
pub fn write_with(model: &Model, how: &WriteOptions, out: &mut dyn Write) -> Result<u64> {
    let fields = encode::model(model, how)?;
    let mut tables = Emitted::new(how.format.identifier(), &fields)?;
    drop(fields);
    let size = place(model, &mut tables)?;
    out.write_all(&tables.bytes)?;
    let mut at = tables.bytes.len() as u64;
    let head = if tables.inline.is_empty() { 0 } else { 4 };
    for fixup in tables.inline.iter().chain(&tables.appended) {
        let buffer = &model.buffers[fixup.buffer];
        let data = next(at, head);
        out.write_all(&[0; 32][..usize::try_from(data - head - at).unwrap_or(0)])?;
        if head != 0 {
            let count = u32::try_from(buffer.len()).map_err(|_| too_large(size))?;
            out.write_all(&count.to_le_bytes())?;
        }
        let named = |e: Error| e.within(format_args!("buffers[{}]", fixup.buffer));
        buffer.write_to(out).map_err(named)?;
        at = data + buffer.len();
    }
    Ok(at)
}

/// Where the data of a payload starts that follows byte `at` and a head of `head` bytes.
fn next(at: u64, head: u64) -> u64 {
    (at + head).next_multiple_of(ALIGN)
}

/// Decides where every payload lies, tells the tables, and returns the size of the file.
fn place(model: &Model, tables: &mut Emitted) -> Result<u64> {
    let mut at = tables.bytes.len() as u64;
    if at > SIZE_MAX {
        return Err(too_large(at));
    }
    let overflow = || too_large(u64::MAX);
    let mut starts = Vec::with_capacity(tables.inline.len());
    for fixup in &tables.inline {
        let data = next(at, 4);
        starts.push((fixup.field, data - 4));
        at = data.checked_add(model.buffers[fixup.buffer].len()).ok_or_else(overflow)?;
    }
    if !starts.is_empty() && at > SIZE_MAX {
        return Err(too_large(at));
    }
    for (field, start) in starts {
        tables.refer(field, usize::try_from(start).map_err(|_| too_large(start))?)?;
    }
    for fixup in &tables.appended {
        let data = next(at, 0);
        tables.bytes[fixup.field..fixup.field + 8].copy_from_slice(&data.to_le_bytes());
        at = data.checked_add(model.buffers[fixup.buffer].len()).ok_or_else(overflow)?;
    }
    Ok(at)
}
