//! System calls of a thread, counted by the code that makes them.
//!
//! The kernel tells nobody without privileges how many calls a thread made, and tracing them costs
//! more than the shortest of them. So the timed loops count, at one addition per call, and whoever
//! measures a window reads the count at both of its ends.

use std::cell::Cell;

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// Counts system calls that this thread makes.
#[inline]
pub fn count(calls: u64) {
    MADE.set(MADE.get() + calls);
}

/// How many this thread has counted so far.
#[inline]
#[must_use]
pub fn made() -> u64 {
    MADE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_its_own() {
        let before = made();
        count(2);
        let other = std::thread::spawn(|| {
            count(5);
            made()
        });
        assert_eq!(other.join().expect("it counts"), 5);
        assert_eq!(made() - before, 2);
    }
}
