//! Signals stay the program's. Some providers (shm, psm3) put handlers of their own before SIGINT and
//! SIGTERM when they are loaded or opened, which call the ones before them twice or end the program;
//! a program that ends in good order closes what it opened anyway.

use libc::{SIGINT, SIGTERM, c_int, sigaction};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEPT: [c_int; 2] = [SIGINT, SIGTERM];

/// Puts back the handlers that were there when it was made.
pub(crate) struct Kept {
    before: [sigaction; 2],
    /// One at a time: another would keep what a provider has put there meanwhile.
    _turn: MutexGuard<'static, ()>,
}

/// Keeps the program's handlers while something in libfabric is opened.
pub(crate) fn keep() -> Kept {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = KEPT.map(|signal| {
        let mut action = MaybeUninit::<sigaction>::zeroed();
        // SAFETY: the signal exists, and all zeroes, which are the default, are valid.
        unsafe {
            sigaction(signal, ptr::null(), action.as_mut_ptr());
            action.assume_init()
        }
    });
    Kept {
        before,
        _turn: turn,
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for (signal, action) in KEPT.into_iter().zip(&self.before) {
            // SAFETY: these were the handlers before, and still are functions of the program.
            unsafe { sigaction(signal, action, ptr::null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> usize {
        let mut action = MaybeUninit::<sigaction>::zeroed();
        // SAFETY: as in `keep`.
        unsafe {
            sigaction(SIGTERM, ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction
        }
    }

    #[test]
    fn handlers_put_there_meanwhile_are_gone() {
        let before = now();
        let kept = keep();
        // SAFETY: to ignore a signal is always allowed.
        unsafe { libc::signal(SIGTERM, libc::SIG_IGN) };
        assert_eq!(now(), libc::SIG_IGN);
        drop(kept);
        assert_eq!(now(), before);
    }
}
