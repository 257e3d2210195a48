//! Work that stays on one thread, and work on many items that asks whether it may go to others.

use super::Par;
use rayon::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` on the calling thread: nothing under it goes to others of the pool.
///
/// A thread that waits for pieces which it gave to the pool takes up other work meanwhile. Where that
/// wants a lock which the waiting one holds, neither goes on. So whoever holds a lock over such work is
/// alone, and so is who runs beside others that may wait for it.
pub fn alone<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_ALONE.set(self.0);
        }
    }
    let _before = Before(IS_ALONE.replace(true));
    work()
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
}
