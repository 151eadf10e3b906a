//! Descriptors that this process has and did not open itself.

use std::os::fd::{BorrowedFd, RawFd};

/// Gives a descriptor that the process has at this moment to `look`. One that is closed meanwhile
/// makes system calls fail or look at another one; `look` must not write to it.
pub fn with_descriptor<T>(number: RawFd, look: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the number was found in /proc/self/fd by the main thread, which alone runs the MPI
    // library, and is not -1. It is borrowed for one call that only asks the kernel about it: no
    // memory is in play if somebody closed it.
    look(unsafe { BorrowedFd::borrow_raw(number) })
}
