//! Work that stays on one thread.

use super::Par;
use std::cell::Cell;

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

impl Par {
    /// All threads, unless the caller is [`alone`].
    pub fn free() -> Par {
        if IS_ALONE.get() { Par::Seq } else { Par::All }
    }
}
