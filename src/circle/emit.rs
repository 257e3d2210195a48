//! A forward FlatBuffer emitter: parents before children, so that every offset points ahead and
//! payloads can follow, streamed, when all tables stand. Vectors and strings follow all tables, so
//! that equal ones are written once: two graphs that share weights share their scales too.

use std::collections::{BTreeMap, HashMap};

use super::error::{Error, ErrorKind, Result};

/// Readers hold a FlatBuffer's size in an `int`.
pub(super) const SIZE_MAX: u64 = (1 << 31) - 1;

/// One field of a table. A scalar given here is always physically written, default or not: loaders
/// disagree with the schema about some defaults.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Bool(bool),
    I8(i8),
    U8(u8),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F32(f32),
    Str(&'a str),
    Bools(&'a [bool]),
    U8s(&'a [u8]),
    /// A byte vector whose data starts at a multiple of 16 (`force_align`).
    U8sAligned(&'a [u8]),
    U16s(&'a [u16]),
    I32s(&'a [i32]),
    U32s(&'a [u32]),
    I64s(&'a [i64]),
    F32s(&'a [f32]),
    Table(Fields<'a>),
    Tables(Vec<Fields<'a>>),
    /// An offset to the payload vector of this buffer, filled in once its place is known.
    Payload(usize),
    /// The place of this buffer's payload behind the FlatBuffer, filled in likewise.
    Appended(usize),
}

/// The fields of a table by slot.
pub(super) type Fields<'a> = Vec<(u16, Node<'a>)>;

impl Node<'_> {
    fn inline_size(&self) -> usize {
        match self {
            Node::Bool(_) | Node::I8(_) | Node::U8(_) => 1,
            Node::I64(_) | Node::U64(_) | Node::Appended(_) => 8,
            _ => 4,
        }
    }
}

/// A field of a buffer's table that waits for the place of its payload.
pub(super) struct Fixup {
    /// Where the field lies.
    pub(super) field: usize,
    /// The index of the buffer.
    pub(super) buffer: usize,
}

/// The tables of a file, complete but for the places of the payloads.
#[derive(Default)]
pub(super) struct Emitted {
    pub(super) bytes: Vec<u8>,
    pub(super) inline: Vec<Fixup>,
    pub(super) appended: Vec<Fixup>,
    vtables: BTreeMap<Vec<u16>, usize>,
    leaves: Vec<Leaf>,
    /// Places in `leaves`.
    known: HashMap<Content, usize>,
}

/// A vector or string: where its data must lie, its length in elements, its bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Content {
    align: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// A vector or string, and the fields that refer to it.
struct Leaf {
    content: Content,
    fields: Vec<usize>,
}

impl Emitted {
    /// Lays out `root` and everything below it.
    pub(super) fn new(identifier: [u8; 4], root: &Fields<'_>) -> Result<Self> {
        let mut emitted = Self::default();
        emitted.bytes.extend_from_slice(&[0; 4]);
        emitted.bytes.extend_from_slice(&identifier);
        let at = emitted.table(root)?;
        emitted.refer(0, at)?;
        emitted.known = HashMap::new();
        for leaf in std::mem::take(&mut emitted.leaves) {
            emitted.align(leaf.content.align.max(4), 4);
            let at = emitted.bytes.len();
            emitted.count(leaf.content.count)?;
            emitted.bytes.extend_from_slice(&leaf.content.bytes);
            for field in leaf.fields {
                emitted.refer(field, at)?;
            }
        }
        Ok(emitted)
    }

    /// Makes the offset field at `from` point to `to`.
    pub(super) fn refer(&mut self, from: usize, to: usize) -> Result<()> {
        let distance = to.checked_sub(from).and_then(|d| u32::try_from(d).ok());
        let distance = distance.ok_or_else(|| too_large(to as u64))?;
        self.bytes[from..from + 4].copy_from_slice(&distance.to_le_bytes());
        Ok(())
    }

    /// Pads so that `offset` bytes further on a multiple of `align` is met.
    fn align(&mut self, align: usize, offset: usize) {
        while !(self.bytes.len() + offset).is_multiple_of(align) {
            self.bytes.push(0);
        }
    }

    fn table(&mut self, fields: &Fields<'_>) -> Result<usize> {
        let mut order: Vec<&(u16, Node<'_>)> = fields.iter().collect();
        // Largest first: no padding is needed then; slots break ties, so the bytes are determined.
        order.sort_by_key(|(slot, node)| (std::cmp::Reverse(node.inline_size()), *slot));
        let (vtable, places) = plan(&order)?;
        let vtable_at = self.vtable(vtable);
        let widest = order.first().map_or(4, |(_, node)| node.inline_size().max(4));
        self.align(widest, 4);
        let at = self.bytes.len();
        let back = i32::try_from(at - vtable_at).map_err(|_| too_large(at as u64))?;
        self.bytes.extend_from_slice(&back.to_le_bytes());
        for (_, node) in &order {
            self.inline(node);
        }
        self.align(4, 0);
        for ((_, node), place) in order.iter().zip(places) {
            self.child(node, at + place)?;
        }
        Ok(at)
    }

    /// Writes a vtable, or finds the equal one that stands already.
    fn vtable(&mut self, vtable: Vec<u16>) -> usize {
        if let Some(&at) = self.vtables.get(&vtable) {
            return at;
        }
        self.align(2, 0);
        let at = self.bytes.len();
        vtable.iter().for_each(|entry| self.bytes.extend_from_slice(&entry.to_le_bytes()));
        self.vtables.insert(vtable, at);
        at
    }

    fn inline(&mut self, node: &Node<'_>) {
        let bytes = &mut self.bytes;
        match node {
            Node::Bool(v) => bytes.push(u8::from(*v)),
            Node::I8(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::U8(v) => bytes.push(*v),
            Node::I32(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::U32(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::F32(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::I64(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::U64(v) => bytes.extend_from_slice(&v.to_le_bytes()),
            Node::Appended(_) => bytes.extend_from_slice(&[0; 8]),
            _ => bytes.extend_from_slice(&[0; 4]),
        }
    }

    /// Emits what a field refers to and makes the field at `field` refer to it.
    fn child(&mut self, node: &Node<'_>, field: usize) -> Result<()> {
        match node {
            Node::Str(text) => {
                let bytes = text.bytes().chain([0]).collect();
                self.leaf(Content { align: 1, count: text.len(), bytes }, field);
            }
            Node::Bools(v) => self.vector(v, 1, |&b| [u8::from(b)], field),
            Node::U8s(v) => self.vector(v, 1, |&b| [b], field),
            Node::U8sAligned(v) => self.vector(v, 16, |&b| [b], field),
            Node::U16s(v) => self.vector(v, 2, |x| x.to_le_bytes(), field),
            Node::I32s(v) => self.vector(v, 4, |x| x.to_le_bytes(), field),
            Node::U32s(v) => self.vector(v, 4, |x| x.to_le_bytes(), field),
            Node::F32s(v) => self.vector(v, 4, |x| x.to_le_bytes(), field),
            Node::I64s(v) => self.vector(v, 8, |x| x.to_le_bytes(), field),
            Node::Table(fields) => {
                let at = self.table(fields)?;
                self.refer(field, at)?;
            }
            Node::Tables(tables) => self.tables(tables, field)?,
            Node::Payload(buffer) => self.inline.push(Fixup { field, buffer: *buffer }),
            Node::Appended(buffer) => self.appended.push(Fixup { field, buffer: *buffer }),
            _ => {}
        }
        Ok(())
    }

    fn vector<T, const N: usize>(
        &mut self,
        items: &[T],
        align: usize,
        bytes: impl Fn(&T) -> [u8; N],
        field: usize,
    ) {
        let content =
            Content { align, count: items.len(), bytes: items.iter().flat_map(bytes).collect() };
        self.leaf(content, field);
    }

    /// Remembers that the field at `field` refers to this.
    fn leaf(&mut self, content: Content, field: usize) {
        match self.known.get(&content) {
            Some(&at) => self.leaves[at].fields.push(field),
            None => {
                self.known.insert(content.clone(), self.leaves.len());
                self.leaves.push(Leaf { content, fields: vec![field] });
            }
        }
    }

    fn tables(&mut self, tables: &[Fields<'_>], field: usize) -> Result<()> {
        self.align(4, 0);
        let at = self.bytes.len();
        self.refer(field, at)?;
        self.count(tables.len())?;
        self.bytes.resize(at + 4 + 4 * tables.len(), 0);
        for (i, fields) in tables.iter().enumerate() {
            let child = self.table(fields)?;
            self.refer(at + 4 + 4 * i, child)?;
        }
        Ok(())
    }

    fn count(&mut self, count: usize) -> Result<()> {
        let count = u32::try_from(count).map_err(|_| too_large(count as u64))?;
        self.bytes.extend_from_slice(&count.to_le_bytes());
        Ok(())
    }
}

/// The vtable of fields laid out in this order, and each field's place in the table.
fn plan(order: &[&(u16, Node<'_>)]) -> Result<(Vec<u16>, Vec<usize>)> {
    let slots = order.iter().map(|(slot, _)| usize::from(*slot) + 1).max().unwrap_or(0);
    let mut vtable = vec![0u16; 2 + slots];
    let mut places = Vec::with_capacity(order.len());
    let mut place = 4usize;
    for (slot, node) in order {
        let entry = u16::try_from(place).map_err(|_| Error::malformed("table too wide"))?;
        vtable[2 + usize::from(*slot)] = entry;
        places.push(place);
        place += node.inline_size();
    }
    let narrow = |n: usize| u16::try_from(n).map_err(|_| Error::malformed("table too wide"));
    vtable[0] = narrow(2 * vtable.len())?;
    vtable[1] = narrow(place)?;
    Ok((vtable, places))
}

/// The error of a file that passes the limit.
pub(super) fn too_large(needed: u64) -> Error {
    Error::new(ErrorKind::TooLarge { needed, limit: SIZE_MAX })
}
