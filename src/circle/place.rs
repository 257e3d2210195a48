//! Where the payloads of a file lie, known before any of them is: whoever has several hands puts them
//! there in whatever order they are done, and the tables, which say how they are meant, last.

use super::emit::{Emitted, Fixup, SIZE_MAX, too_large};
use super::error::{Error, ErrorKind, Result};
use super::model::Model;
use super::write::{WriteOptions, tables};

/// Payloads start at multiples of this, as the schema demands of `Buffer.data`.
const ALIGN: u64 = 16;

/// The place of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its buffer in the model.
    pub buffer: usize,
    /// Byte of the file that its data begins at.
    pub data: u64,
    /// What stands right before the data of a payload inside the FlatBuffer: its length.
    pub count: Option<[u8; 4]>,
}

/// The places of all payloads of a file. Bytes that belong to nothing are zero.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Bytes that are kept for the tables.
    head: u64,
    size: u64,
    /// In the order of the file: those inside the FlatBuffer, then those behind it.
    places: Vec<Place>,
}

impl Placed {
    /// The places that [`super::write_with`] gives the payloads of `model`.
    ///
    /// The grids of its tensors may still be stand-ins, if no two of them have equal vectors: the
    /// tables with the real ones, of the same lengths, then fit before the payloads, since equal
    /// vectors are written once.
    ///
    /// # Errors
    /// Those of [`super::write_with`] that need no payload, such as a file that would be too large.
    pub fn of(model: &Model, how: &WriteOptions) -> Result<Placed> {
        Placed::behind(model, &tables(model, how)?)
    }

    /// Places behind `tables`.
    pub(super) fn behind(model: &Model, tables: &Emitted) -> Result<Placed> {
        let head = tables.bytes.len() as u64;
        if head > SIZE_MAX {
            return Err(too_large(head));
        }
        let overflow = || too_large(u64::MAX);
        let (mut at, mut places) = (head, Vec::new());
        let fixups = |fixups: &[Fixup]| fixups.iter().map(|fixup| fixup.buffer).collect::<Vec<_>>();
        for buffer in fixups(&tables.inline) {
            let (data, len) = ((at + 4).next_multiple_of(ALIGN), model.buffers[buffer].len());
            at = data.checked_add(len).ok_or_else(overflow)?;
            // One that does not fit is refused below, with the size of the whole file.
            let count = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
            places.push(Place { buffer, data, count: Some(count) });
        }
        if !places.is_empty() && at > SIZE_MAX {
            return Err(too_large(at));
        }
        for buffer in fixups(&tables.appended) {
            let data = at.next_multiple_of(ALIGN);
            at = data.checked_add(model.buffers[buffer].len()).ok_or_else(overflow)?;
            places.push(Place { buffer, data, count: None });
        }
        Ok(Placed { head, size: at, places })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The place of every payload, in the order of the file.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What the file begins with: the tables of `model`, which is the one that the places were found
    /// for, but for its grids.
    ///
    /// # Errors
    /// A model whose tables do not fit there or speak of other payloads.
    pub fn tables(&self, model: &Model, how: &WriteOptions) -> Result<Vec<u8>> {
        let mut tables = tables(model, how)?;
        self.tell(&mut tables)?;
        let needed = tables.bytes.len() as u64;
        if needed > self.head {
            return Err(Error::new(ErrorKind::TooLarge { needed, limit: self.head }));
        }
        tables.bytes.resize(usize::try_from(self.head).map_err(|_| too_large(self.head))?, 0);
        Ok(tables.bytes)
    }

    /// Tells the tables where the payloads lie.
    pub(super) fn tell(&self, tables: &mut Emitted) -> Result<()> {
        let fields: Vec<(usize, usize)> = (tables.inline.iter().chain(&tables.appended))
            .map(|fixup| (fixup.field, fixup.buffer))
            .collect();
        let same = |((_, buffer), place): (&(usize, usize), &Place)| *buffer == place.buffer;
        if fields.len() != self.places.len() || !fields.iter().zip(&self.places).all(same) {
            return Err(Error::malformed("the model has other payloads than its places are for"));
        }
        for ((field, _), place) in fields.into_iter().zip(&self.places) {
            match place.count {
                Some(count) => {
                    let start = place.data - count.len() as u64;
                    tables.refer(field, usize::try_from(start).map_err(|_| too_large(start))?)?;
                }
                None => {
                    tables.bytes[field..field + 8].copy_from_slice(&place.data.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}
