//! Memory that devices work on, and tables of requests that they read.
//!
//! A device and the peer behind it change memory while this program runs. So it is held by pointer,
//! never by reference, and a reference to a part of it is made only while nothing works on that
//! part.

use crate::device::Domain;
use crate::error::Error;
use rdma_sys::ibv_mr;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;

/// Memory begins at a multiple of this many bytes, the page of most machines.
const PAGE: usize = 4096;

/// `count` zeroed values, from the start of a page.
#[derive(Debug)]
pub(crate) struct Table<T> {
    start: NonNull<u8>,
    layout: Layout,
    of: PhantomData<T>,
}

impl<T> Table<T> {
    /// `None` if there is not so much memory.
    pub(crate) fn new(count: usize) -> Option<Self> {
        // No values still need an address.
        let bytes = size_of::<T>().checked_mul(count)?.max(1);
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        // SAFETY: the layout has a size.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            start,
            layout,
            of: PhantomData,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// The value at an index, which has to be in the table for the pointer to be used.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> *mut T {
        self.start.as_ptr().cast::<T>().wrapping_add(index)
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: from `alloc_zeroed` with this layout. What works on it was closed before.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Memory that a device may work on.
#[derive(Debug)]
pub(crate) struct Region {
    registration: NonNull<ibv_mr>,
    domain: Rc<Domain>,
    memory: Table<u8>,
}

impl Region {
    /// Zeroed and registered; `what` names it in errors, `access` are `ibv_access_flags`.
    pub(crate) fn new(
        domain: &Rc<Domain>,
        what: &str,
        bytes: usize,
        access: u32,
    ) -> Result<Self, Error> {
        let memory = Table::<u8>::new(bytes).ok_or_else(|| {
            Error::Refused(format!(
                "there are no {bytes} bytes of memory for {what}: take a lower depth, fewer lanes, or \
                 shorter messages"
            ))
        })?;
        let (start, length) = (memory.at(0), memory.bytes());
        let access = access.cast_signed();
        // SAFETY: the domain is open, and the memory as long as is said.
        let registration =
            unsafe { (domain.verbs().ibv_reg_mr)(domain.raw(), start.cast(), length, access) };
        let registration = NonNull::new(registration).ok_or_else(|| {
            Error::last(format!("ibv_reg_mr of {length} bytes for {what}")).and_memlock()
        })?;
        Ok(Self {
            registration,
            domain: domain.clone(),
            memory,
        })
    }

    /// A byte; the offset has to be inside for the pointer to be used.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        self.memory.at(offset)
    }

    /// The key for requests of this side.
    pub(crate) fn local_key(&self) -> u32 {
        // SAFETY: it is registered.
        unsafe { (*self.registration.as_ptr()).lkey }
    }

    /// The key for requests of the peer.
    pub(crate) fn remote_key(&self) -> u32 {
        // SAFETY: it is registered.
        unsafe { (*self.registration.as_ptr()).rkey }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it is registered, and the queue pairs that worked on it are gone.
        let _ = unsafe { (self.domain.verbs().ibv_dereg_mr)(self.registration.as_ptr()) };
    }
}
