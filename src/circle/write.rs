//! Writing a model: tables first, payloads streamed behind them, the same bytes every time.

use std::io::Write;

use super::emit::Emitted;
use super::encode;
use super::error::{Error, Result};
use super::model::Model;
use super::place::Placed;

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
    let mut tables = tables(model, how)?;
    let placed = Placed::behind(model, &tables)?;
    placed.tell(&mut tables)?;
    out.write_all(&tables.bytes)?;
    let mut at = tables.bytes.len() as u64;
    for place in placed.places() {
        let start = place.data - place.count.map_or(0, |count| count.len() as u64);
        out.write_all(&[0; 32][..usize::try_from(start - at).unwrap_or(0)])?;
        if let Some(count) = place.count {
            out.write_all(&count)?;
        }
        let buffer = &model.buffers[place.buffer];
        let named = |e: Error| e.within(format_args!("buffers[{}]", place.buffer));
        buffer.write_to(out).map_err(named)?;
        at = place.data + buffer.len();
    }
    Ok(at)
}

/// The tables of a file, which know no places yet.
pub(super) fn tables(model: &Model, how: &WriteOptions) -> Result<Emitted> {
    let fields = encode::model(model, how)?;
    Emitted::new(how.format.identifier(), &fields)
}
