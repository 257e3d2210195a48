//! Work that stays on one thread, and work on many items that asks whether it may go to others.

use super::Par;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` on the calling thread: nothing under it goes to others of the pool.
///
/// A thread that waits for pieces which it gave to the pool takes up other work meanwhile. Where that
/// wants a lock which the waiting one holds, neither goes on. So whoever holds a lock over such work is
/// alone, and so is who runs beside others that may wait for it.
pub fn alone<T>(work: impl FnOnce() -> T) -> T {
    let _alone = Alone::new();
    work()
}

/// The calling thread is alone as long as this lives.
#[derive(Debug)]
struct Alone {
    before: bool,
}

impl Alone {
    fn new() -> Alone {
        Alone { before: IS_ALONE.replace(true) }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        IS_ALONE.set(self.before);
    }
}

/// A mutex whose holder is [`alone`]. That somebody panicked under it is no news to the next.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Over `value`.
    pub fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    /// Waits until nobody holds it.
    pub fn hold(&self) -> Held<'_, T> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Held { value, _alone: Alone::new() }
    }
}

/// What a [`Lock`] guards, until this is dropped.
#[derive(Debug)]
pub struct Held<'a, T> {
    value: MutexGuard<'a, T>,
    _alone: Alone,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// What `work` makes of every item, in order: by all threads, or by the caller if it is [`alone`].
///
/// # Errors
/// That of the first item that failed, whoever was faster; what comes after it need not be done.
pub fn each<T: Send, R: Send, E: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if matches!(Par::free(), Par::Seq) {
        return items.into_iter().map(work).collect();
    }
    let failed = AtomicUsize::new(usize::MAX);
    let one = |(i, item): (usize, T)| {
        (i < failed.load(Ordering::Relaxed)).then(|| {
            let result = work(item);
            if result.is_err() {
                failed.fetch_min(i, Ordering::Relaxed);
            }
            result
        })
    };
    let items: Vec<T> = items.into_iter().collect();
    let done: Vec<Option<Result<R, E>>> = items.into_par_iter().enumerate().map(one).collect();
    done.into_iter().flatten().collect()
}

impl Par {
    /// All threads, unless the caller is [`alone`].
    pub fn free() -> Par {
        if IS_ALONE.get() { Par::Seq } else { Par::All }
    }

    /// Calls `work` on every `len` elements of `data`, the last being what is left, with their number.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn pieces<T: Send>(
        self,
        data: &mut [T],
        len: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let one = |(i, piece): (usize, &mut [T])| work(i, piece);
        match self {
            Par::Seq => data.chunks_mut(len).enumerate().for_each(one),
            Par::All => data.par_chunks_mut(len).enumerate().for_each(one),
        }
    }
}
