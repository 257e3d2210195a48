//! Bounded access to the tables of a FlatBuffer: every offset, size and count is checked before it
//! is used, and the work a file may cause is limited by its size.

use std::cell::Cell;
use std::ops::Range;

use super::error::{Error, ErrorKind, Result};

/// What a table costs at least. Tables may be shared by many parents; the sum of the costs is
/// limited, so that a small file cannot unfold into a large model.
const TABLE_COST: u64 = 64;
/// Work units a file may cost per byte. A table that is not shared takes at least 8 bytes with the
/// offset to it, so that files without sharing stay below 8 and there is room for shared strings.
const COST_PER_BYTE: u64 = 16;
/// Work units any file may cost.
const COST_BASE: u64 = 1 << 16;

/// The bytes of a file and what may still be read of them.
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
    limit: u64,
    spent: Cell<u64>,
}

/// One table.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    file: &'a File<'a>,
    at: usize,
    size: usize,
    vtable: &'a [u8],
}

/// A vector whose bytes are known to lie within the file.
#[derive(Clone, Copy)]
pub(super) struct Vector<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) count: usize,
}

impl<'a> File<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let limit = (bytes.len() as u64).saturating_mul(COST_PER_BYTE).saturating_add(COST_BASE);
        Self { bytes, limit, spent: Cell::new(0) }
    }

    /// The table that the first four bytes point to.
    pub(super) fn root(&'a self) -> Result<Table<'a>> {
        self.table(self.follow(0)?)
    }

    fn charge(&self, cost: u64) -> Result<()> {
        let spent = self.spent.get().saturating_add(cost);
        self.spent.set(spent);
        if spent > self.limit {
            return Err(Error::new(ErrorKind::WorkLimit { limit: self.limit }));
        }
        Ok(())
    }

    fn get(&self, at: usize, len: usize, what: &str) -> Result<&'a [u8]> {
        let end = at.checked_add(len);
        end.and_then(|end| self.bytes.get(at..end)).ok_or_else(|| {
            Error::malformed(format!(
                "{what} of {len} bytes at offset {at} passes the end of the file ({} bytes)",
                self.bytes.len()
            ))
        })
    }

    fn u32(&self, at: usize, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(array(self.get(at, 4, what)?)?))
    }

    /// Follows the offset that stands at `at`.
    fn follow(&self, at: usize) -> Result<usize> {
        let distance = index(self.u32(at, "offset")?)?;
        match at.checked_add(distance) {
            Some(to) if distance != 0 && to < self.bytes.len() => Ok(to),
            _ => Err(Error::malformed(format!(
                "offset {distance} at {at} does not point into the file ({} bytes)",
                self.bytes.len()
            ))),
        }
    }

    fn table(&'a self, at: usize) -> Result<Table<'a>> {
        self.charge(TABLE_COST)?;
        if !at.is_multiple_of(4) {
            return Err(Error::malformed(format!("table at offset {at} is not aligned")));
        }
        let back = i32::from_le_bytes(array(self.get(at, 4, "table")?)?);
        let outside = || Error::malformed(format!("table at {at} has its vtable out of the file"));
        let place = i64::try_from(at).map_err(|_| outside())? - i64::from(back);
        let place = usize::try_from(place).map_err(|_| outside())?;
        let head = self.get(place, 4, "vtable")?;
        let vtable_size = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let size = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if vtable_size < 4 || !vtable_size.is_multiple_of(2) || size < 4 {
            return Err(Error::malformed(format!(
                "vtable at {place} claims {vtable_size} bytes for a table of {size}"
            )));
        }
        let vtable = self.get(place, vtable_size, "vtable")?;
        self.get(at, size, "table")?;
        Ok(Table { file: self, at, size, vtable })
    }
}

impl<'a> Table<'a> {
    /// Where a field of `size` bytes lies; `None` where the table lacks it.
    fn field(&self, slot: u16, size: usize) -> Result<Option<usize>> {
        let entry = 4 + 2 * usize::from(slot);
        let Some(&[low, high]) = self.vtable.get(entry..entry + 2) else { return Ok(None) };
        let offset = usize::from(u16::from_le_bytes([low, high]));
        if offset == 0 {
            return Ok(None);
        }
        if offset < 4 || offset + size > self.size {
            return Err(Error::malformed(format!(
                "field {slot} lies at {offset} of a table of {} bytes",
                self.size
            )));
        }
        Ok(Some(self.at + offset))
    }

    /// The bytes of a scalar field; `None` where the table lacks it.
    pub(super) fn scalar<const N: usize>(&self, slot: u16) -> Result<Option<[u8; N]>> {
        let Some(at) = self.field(slot, N)? else { return Ok(None) };
        array(self.file.get(at, N, "field")?).map(Some)
    }

    pub(super) fn bool(&self, slot: u16, default: bool) -> Result<bool> {
        Ok(self.scalar::<1>(slot)?.map_or(default, |b| b != [0]))
    }

    pub(super) fn i8(&self, slot: u16, default: i8) -> Result<i8> {
        Ok(self.scalar(slot)?.map_or(default, i8::from_le_bytes))
    }

    pub(super) fn u8(&self, slot: u16, default: u8) -> Result<u8> {
        Ok(self.scalar(slot)?.map_or(default, u8::from_le_bytes))
    }

    pub(super) fn i32(&self, slot: u16, default: i32) -> Result<i32> {
        Ok(self.scalar(slot)?.map_or(default, i32::from_le_bytes))
    }

    pub(super) fn u32(&self, slot: u16, default: u32) -> Result<u32> {
        Ok(self.scalar(slot)?.map_or(default, u32::from_le_bytes))
    }

    pub(super) fn u64(&self, slot: u16, default: u64) -> Result<u64> {
        Ok(self.scalar(slot)?.map_or(default, u64::from_le_bytes))
    }

    /// The vector that a field refers to, its elements `size` bytes each. Nothing is charged.
    pub(super) fn vector(&self, slot: u16, size: usize) -> Result<Option<Vector<'a>>> {
        let Some(field) = self.field(slot, 4)? else { return Ok(None) };
        let at = self.file.follow(field)?;
        let count = index(self.file.u32(at, "vector")?)?;
        let len = count.checked_mul(size).ok_or_else(|| Error::malformed("vector overflows"))?;
        let bytes = self.file.get(at + 4, len, "vector")?;
        Ok(Some(Vector { bytes, at: at + 4, count }))
    }

    /// A vector of scalars, copied out; empty where the table lacks it.
    pub(super) fn scalars<T, const N: usize>(
        &self,
        slot: u16,
        from: fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        Ok(self.maybe_scalars(slot, from)?.unwrap_or_default())
    }

    /// A vector of scalars, copied out; `None` where the table lacks it.
    pub(super) fn maybe_scalars<T, const N: usize>(
        &self,
        slot: u16,
        from: fn([u8; N]) -> T,
    ) -> Result<Option<Vec<T>>> {
        let Some(vector) = self.vector(slot, N)? else { return Ok(None) };
        self.file.charge(vector.bytes.len() as u64)?;
        Ok(Some(vector.bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()))
    }

    /// A string; `None` where the table lacks it. Bytes that are not UTF-8 are replaced, since
    /// names carry no meaning for the file's structure.
    pub(super) fn string(&self, slot: u16) -> Result<Option<String>> {
        let Some(vector) = self.vector(slot, 1)? else { return Ok(None) };
        self.file.charge(vector.bytes.len() as u64)?;
        Ok(Some(String::from_utf8_lossy(vector.bytes).into_owned()))
    }

    /// The table that a field refers to.
    pub(super) fn child(&self, slot: u16) -> Result<Option<Table<'a>>> {
        let Some(field) = self.field(slot, 4)? else { return Ok(None) };
        self.file.table(self.file.follow(field)?).map(Some)
    }

    /// Reads every table of a vector of tables; `name` is the field's name, for errors.
    pub(super) fn children<T>(
        &self,
        slot: u16,
        name: &str,
        mut read: impl FnMut(Table<'a>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(vector) = self.vector(slot, 4).map_err(|e| e.within(name))? else {
            return Ok(Vec::new());
        };
        // No allocation by the count: each table costs at least 4 bytes of the file, but may be
        // the same table again and again, which only the charge sees.
        let mut items = Vec::new();
        for i in 0..vector.count {
            let item = self
                .file
                .follow(vector.at + 4 * i)
                .and_then(|at| self.file.table(at))
                .and_then(&mut read)
                .map_err(|e| e.within(format_args!("{name}[{i}]")))?;
            items.push(item);
        }
        Ok(items)
    }

    /// Which slots the table has, for tables whose schema is unknown.
    pub(super) fn present(&self) -> Vec<u16> {
        let entries = self.vtable.as_chunks::<2>().0.iter().skip(2);
        (0u16..).zip(entries).filter(|(_, entry)| **entry != [0, 0]).map(|(slot, _)| slot).collect()
    }

    /// A range of the file given by `offset` and `size` fields rather than a vector.
    pub(super) fn range(&self, offset: u64, size: u64) -> Result<Range<usize>> {
        let end = offset.checked_add(size).filter(|&end| end <= self.file.bytes.len() as u64);
        let range =
            end.and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        range.ok_or_else(|| {
            Error::malformed(format!(
                "payload of {size} bytes at offset {offset} passes the end of the file ({} bytes)",
                self.file.bytes.len()
            ))
        })
    }

    /// The bytes of a range, charged as if read.
    pub(super) fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        self.file.charge(range.len() as u64)?;
        Ok(self.file.get(range.start, range.len(), "range")?.to_vec())
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::malformed("field of another size"))
}

fn index(value: u32) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::malformed("offset passes the address space"))
}
