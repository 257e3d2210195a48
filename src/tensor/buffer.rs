//! Payloads that are used again: a value lives for one operator or two, so the next one of its size
//! finds memory that is already mapped and often still in the cache.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes that a thread keeps for itself, at most: about a second-level cache.
const KEPT: usize = 4 << 20;
/// Bytes kept for all threads, at most: what one loads or writes, another may free.
const SHARED: usize = 256 << 20;
/// Smaller payloads are left to the allocator, in elements.
const SMALL: usize = 64;

/// Numbers of a tensor or of a packed operand. Dropped, they go to the stock
/// of the thread or of all.
#[derive(Debug)]
pub(super) struct Buffer {
    /// At least `len` elements; what lies behind is of no meaning.
    elements: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` elements of arbitrary content, for someone who writes all of them.
    pub(super) fn arbitrary(len: usize) -> Buffer {
        let elements = match len {
            ..SMALL => None,
            _ => MINE.with_borrow_mut(|stock| stock.take(len)).or_else(|| common(|s| s.take(len))),
        };
        Buffer { elements: elements.unwrap_or_else(|| vec![0.0; rounded(len)]), len }
    }

    /// The elements as a vector.
    pub(super) fn into_vec(mut self) -> Vec<f32> {
        let mut elements = std::mem::take(&mut self.elements);
        elements.truncate(self.len);
        elements
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(elements: Vec<f32>) -> Buffer {
        Buffer { len: elements.len(), elements }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.elements[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.elements[..self.len]
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Buffer) -> bool {
        **self == **other
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::arbitrary(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.elements.len() < SMALL {
            return;
        }
        let elements = std::mem::take(&mut self.elements);
        // A thread that ends has no stock any more; the allocator takes the memory then.
        let give = |stock: &RefCell<Stock>| {
            let mut stock = stock.borrow_mut();
            stock.limit = OWN.load(Ordering::Relaxed);
            stock.give(elements)
        };
        let left = MINE.try_with(give).unwrap_or_default();
        if let Some(elements) = left {
            common(|stock| stock.give(elements));
        }
    }
}

thread_local! {
    static MINE: RefCell<Stock> = const { RefCell::new(Stock::new(KEPT)) };
}

/// What the stock of each thread may hold.
static OWN: AtomicUsize = AtomicUsize::new(KEPT);

/// Does something to the stock of all threads.
fn common<T>(with: impl FnOnce(&mut Stock) -> T) -> T {
    static ALL: Mutex<Stock> = Mutex::new(Stock::new(SHARED));
    with(&mut ALL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps no more than that for all threads from now on, and as much by each alone in all.
pub(super) fn keep(bytes: usize) {
    OWN.store(KEPT.min(bytes / rayon::current_num_threads()), Ordering::Relaxed);
    common(|stock| {
        stock.limit = bytes.min(SHARED);
        if stock.bytes > stock.limit {
            *stock = Stock::new(stock.limit);
        }
    });
}

/// Gives the memory back that is kept for all threads.
pub(super) fn release() {
    common(|stock| *stock = Stock::new(stock.limit));
}

/// Free payloads by size class.
struct Stock {
    shelves: Vec<Vec<Vec<f32>>>,
    bytes: usize,
    limit: usize,
}

impl Stock {
    const fn new(limit: usize) -> Stock {
        Stock { shelves: Vec::new(), bytes: 0, limit }
    }

    /// A free payload of at least `len` elements that wastes less than half of itself.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let first = class(rounded(len));
        let shelf = self.shelves.iter_mut().skip(first).take(3).find(|shelf| !shelf.is_empty())?;
        let elements = shelf.pop()?;
        self.bytes -= size_of::<f32>() * elements.len();
        Some(elements)
    }

    /// Keeps a payload, or hands it back where it would take too much of the limit.
    fn give(&mut self, elements: Vec<f32>) -> Option<Vec<f32>> {
        let bytes = size_of::<f32>() * elements.len();
        if bytes > self.limit / 2 || self.bytes + bytes > self.limit {
            return Some(elements);
        }
        let class = class(elements.len());
        if self.shelves.len() <= class {
            self.shelves.resize_with(class + 1, Vec::new);
        }
        self.bytes += bytes;
        self.shelves[class].push(elements);
        None
    }
}

/// The size class that `len` elements fill: four classes from a power of two to the next.
fn class(len: usize) -> usize {
    let power = len.ilog2();
    4 * power as usize + (len >> (power - 2)) - 4
}

/// The smallest size of a class that holds `len` elements.
fn rounded(len: usize) -> usize {
    match len {
        ..SMALL => len,
        _ => len.next_multiple_of(1 << (len.ilog2() - 2)),
    }
}

#[cfg(test)]
mod tests;
