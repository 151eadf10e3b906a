//! What can go wrong.

use crate::library::{Library, Missing};
use libc::c_char;
use std::ffi::CStr;

/// An error of libfabric or of this layer over it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is no libfabric here.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A call failed.
    #[error("{what}: {text} (libfabric error {code}){more}")]
    Call {
        /// The call and what it was about.
        what: String,
        /// The positive number of the error, one of [`crate::raw::constants::ERRORS`].
        code: i32,
        /// libfabric's text for it.
        text: String,
        /// What the provider adds, or what to do; begins with a separator unless it is empty.
        more: String,
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
    /// The error of a call that returned `returned`, which is a negated number.
    pub(crate) fn of(library: &Library, what: impl Into<String>, returned: i64) -> Self {
        let code = i32::try_from(-returned).unwrap_or(i32::MAX);
        Self::Call {
            what: what.into(),
            code,
            text: library.error_text(code),
            more: String::new(),
        }
    }

    /// The same error with what the provider adds, or what to do.
    pub(crate) fn and(mut self, words: &str) -> Self {
        if let (Self::Call { more, .. }, false) = (&mut self, words.is_empty()) {
            *more = format!("; {words}");
        }
        self
    }

    /// The same error with the provider's own, unless that says nothing new.
    pub(crate) fn and_provider(self, number: i32, said: Option<String>) -> Self {
        match said {
            Some(said)
                if number != 0 && !matches!(&self, Self::Call { text, .. } if *text == said) =>
            {
                self.and(&format!("the provider says: {said} ({number})"))
            }
            _ => self,
        }
    }

    /// Whether it is this error of libfabric's, given as a positive number.
    #[must_use]
    pub fn is(&self, number: i32) -> bool {
        matches!(self, Self::Call { code, .. } if *code == number)
    }
}

/// A call's result, where 0 and more is success.
pub(crate) fn check(
    library: &Library,
    what: impl Into<String>,
    returned: impl Into<i64>,
) -> Result<(), Error> {
    match returned.into() {
        0.. => Ok(()),
        error => Err(Error::of(library, what, error)),
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
