//! What can go wrong.

use libc::c_char;
use rdma_sys::ibv_wc_status;
use std::ffi::CStr;
use std::io;

/// An error of a device, of its library, or of this layer over them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This host lacks something: a library, the kernel's part, a device. Says what to do.
    #[error("{0}")]
    Missing(String),
    /// A call failed.
    #[error("{what}: {cause}{remedy}")]
    Call {
        /// The call and what it was about.
        what: String,
        /// The system's error.
        cause: io::Error,
        /// What to do; begins with a separator unless it is empty.
        remedy: String,
    },
    /// An operation failed.
    #[error("{what} failed: {status} (status {code}, vendor error {vendor:#x}){remedy}")]
    Completion {
        /// The operation, its lane and its number.
        what: String,
        /// libibverbs' words for the status.
        status: String,
        /// The status, one of `ibv_wc_status`.
        code: u32,
        /// The vendor's number for it.
        vendor: u32,
        /// What it means here; begins with a separator unless it is empty.
        remedy: String,
    },
    /// The peer did not do in time what was waited for.
    #[error("{what}: nothing came within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: f64,
    },
    /// This layer refuses: the reason.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// The error of a call that left its reason in `errno`.
    pub(crate) fn last(what: impl Into<String>) -> Self {
        Self::call(what, io::Error::last_os_error())
    }

    /// The error of a call that returned its reason; some return -1 and leave it in `errno`.
    pub(crate) fn returned(what: impl Into<String>, returned: i32) -> Self {
        match returned {
            -1 => Self::last(what),
            code => Self::call(what, io::Error::from_raw_os_error(code.saturating_abs())),
        }
    }

    fn call(what: impl Into<String>, cause: io::Error) -> Self {
        Self::Call {
            what: what.into(),
            cause,
            remedy: String::new(),
        }
    }

    /// The same error with what to do about it.
    pub(crate) fn and(mut self, words: &str) -> Self {
        if let (Self::Call { remedy, .. }, false) = (&mut self, words.is_empty()) {
            *remedy = format!("; {words}");
        }
        self
    }

    /// The same error with the limit of locked memory, if that is what it may be about.
    pub(crate) fn and_memlock(self) -> Self {
        let code = match &self {
            Self::Call { cause, .. } => cause.raw_os_error(),
            _ => None,
        };
        match code {
            Some(libc::ENOMEM | libc::EPERM) => {
                let words = memlock(memlock_limit());
                self.and(&words)
            }
            _ => self,
        }
    }
}

/// A call's result, where 0 is success.
pub(crate) fn check(what: impl Into<String>, returned: i32) -> Result<(), Error> {
    match returned {
        0 => Ok(()),
        code => Err(Error::returned(what, code)),
    }
}

/// Bytes that this process may lock in memory; `None` without a limit.
fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is the call's to fill in.
    let returned = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (returned == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// What to do when the kernel does not lock memory.
fn memlock(limit_bytes: Option<u64>) -> String {
    match limit_bytes {
        Some(bytes) => format!(
            "this process may lock {bytes} bytes of memory (RLIMIT_MEMLOCK), and devices lock what \
             they work on: raise it with `ulimit -l unlimited`, or for all logins with `* - memlock \
             unlimited` in /etc/security/limits.conf"
        ),
        None => {
            "there is no limit on locked memory (RLIMIT_MEMLOCK), so there is too little memory, \
                 or the device has no room for more: take fewer lanes, a lower depth, or shorter \
                 messages"
                .to_owned()
        }
    }
}

/// What a status of an operation means for a benchmark; empty where its name says it all.
pub(crate) fn meaning(status: ibv_wc_status::Type) -> &'static str {
    match status {
        ibv_wc_status::IBV_WC_RETRY_EXC_ERR => {
            "; the peer did not acknowledge it after all retries: it has gone, or the route to it has \
             (its GID is not reachable from ours)"
        }
        ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR => {
            "; the receiver had no receive posted for it after all retries: it posts too few"
        }
        ibv_wc_status::IBV_WC_WR_FLUSH_ERR => {
            "; its queue pair had failed before, or the connection was ended"
        }
        ibv_wc_status::IBV_WC_REM_ACCESS_ERR => {
            "; the peer's memory does not allow it: wrong key, address or length"
        }
        ibv_wc_status::IBV_WC_REM_INV_REQ_ERR => {
            "; the peer cannot take it: it is longer than the receive, or the peer's queue pair does \
             not allow the operation"
        }
        ibv_wc_status::IBV_WC_LOC_LEN_ERR => {
            "; it is longer than the receive posted for it, or than a packet may be"
        }
        _ => "",
    }
}

/// A copy of C's text; `None` for a null pointer.
///
/// # Safety
/// The pointer is null or leads to text that ends with a zero byte.
pub(crate) unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_be_locked_comes_with_the_limit_and_the_remedy() {
        let error = Error::returned("ibv_reg_mr of 4096 bytes", libc::ENOMEM);
        let told = error.and(&memlock(Some(65536))).to_string();
        assert!(told.starts_with("ibv_reg_mr of 4096 bytes: "), "{told}");
        for word in [
            "65536 bytes",
            "RLIMIT_MEMLOCK",
            "ulimit -l unlimited",
            "limits.conf",
        ] {
            assert!(told.contains(word), "{word} in {told}");
        }
        assert!(memlock(None).contains("lower depth"));
    }

    #[test]
    fn numbers_are_read_whatever_their_sign() {
        let positive = Error::returned("x", libc::EINVAL).to_string();
        assert_eq!(positive, Error::returned("x", -libc::EINVAL).to_string());
        assert!(positive.contains("os error 22"), "{positive}");
    }

    #[test]
    fn a_dead_peer_and_a_slow_one_are_told_apart() {
        assert!(meaning(ibv_wc_status::IBV_WC_RETRY_EXC_ERR).contains("gone"));
        assert!(meaning(ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR).contains("too few"));
        assert_eq!(meaning(ibv_wc_status::IBV_WC_FATAL_ERR), "");
    }
}
