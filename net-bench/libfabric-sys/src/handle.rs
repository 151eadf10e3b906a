//! Ownership of libfabric's objects.

use crate::error::{Error, check};
use crate::library::Library;
use crate::raw::calls::fi_close;
use crate::raw::structures::Fid;
use crate::signals;
use libc::c_int;
use std::ptr::{self, NonNull};

/// An open object, closed when dropped.
///
/// It stays in the thread that made it: whether two threads may use objects of one domain at once
/// is for the provider to say.
#[derive(Debug)]
pub(crate) struct Handle<T>(NonNull<T>);

impl<T> Handle<T> {
    /// The object that a call opens.
    ///
    /// # Safety
    /// If it succeeds, `call` stores an open object that begins with a [`Fid`] and that nobody else
    /// closes.
    pub(crate) unsafe fn open(
        library: &Library,
        what: impl Into<String>,
        call: impl FnOnce(*mut *mut T) -> c_int,
    ) -> Result<Self, Error> {
        let mut object = ptr::null_mut();
        let what = what.into();
        let _kept = signals::keep();
        check(library, what.as_str(), call(&raw mut object))?;
        NonNull::new(object)
            .map(Self)
            .ok_or_else(|| Error::Refused(format!("{what}: the provider opened nothing")))
    }

    /// The object, for a call.
    pub(crate) fn raw(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// What the object begins with.
    pub(crate) fn fid(&self) -> *mut Fid {
        self.0.as_ptr().cast()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the object is open and owned by this value. Whatever refers to it holds it, so
        // it is dropped first. An error here has nobody to go to; the object is lost then.
        let _ = unsafe { fi_close(self.fid()) };
    }
}
