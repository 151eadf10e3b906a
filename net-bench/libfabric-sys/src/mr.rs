//! Memory that operations work on.
//!
//! A provider reads and writes a buffer at any time between the call that posts an operation and
//! its completion, in this thread, in one of its own, or through the card. So the memory is cut
//! into slots, each with what the provider keeps of one operation, and a slot in flight cannot be
//! touched.

use crate::error::Error;
use crate::fabric::Domain;
use crate::handle::Handle;
use crate::raw::calls::fi_mr_reg;
use crate::raw::constants::{FI_MR_LOCAL, FI_MR_PROV_KEY, FI_RECV, FI_SEND};
use crate::raw::structures::{FiContext2, FidMr};
use libc::c_void;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};

/// Slots begin at multiples of this many bytes, so that no two share a cache line.
const STRIDE: usize = 64;

/// The memory begins at a multiple of this many bytes, the page of most machines.
const PAGE: usize = 4096;

/// Slots of equal size, registered with the provider if it asks for that.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Closed before the memory goes.
    registration: Option<Handle<FidMr>>,
    memory: Memory,
    contexts: Memory,
    in_flight: Box<[bool]>,
    length: usize,
    stride: usize,
}

impl Slots {
    /// `count` slots of `length` bytes each, all zero.
    pub(crate) fn new(domain: &Domain, count: usize, length: usize) -> Result<Self, Error> {
        let too_much = || {
            Error::Refused(format!(
                "no memory for {count} slots of {length} bytes: take fewer, or shorter messages"
            ))
        };
        if count == 0 || length == 0 {
            return Err(Error::Refused("no slots, or slots of no size".to_owned()));
        }
        let stride = length
            .checked_next_multiple_of(STRIDE)
            .ok_or_else(too_much)?;
        let bytes = stride.checked_mul(count).ok_or_else(too_much)?;
        let room = count
            .checked_mul(size_of::<FiContext2>())
            .ok_or_else(too_much)?;
        let memory = Memory::new(bytes).ok_or_else(too_much)?;
        let contexts = Memory::new(room).ok_or_else(too_much)?;
        let mode = domain.info().domain().mr_mode.cast_unsigned();
        let wanted = mode & FI_MR_LOCAL != 0;
        let registration = wanted.then(|| register(domain, &memory)).transpose()?;
        Ok(Self {
            registration,
            memory,
            contexts,
            in_flight: vec![false; count].into(),
            length,
            stride,
        })
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes in each.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// What the provider calls the memory.
    #[inline]
    pub(crate) fn description(&self) -> *mut c_void {
        match &self.registration {
            // SAFETY: the registration is open, and its provider filled it in.
            Some(registration) => unsafe { (*registration.raw()).mem_desc },
            None => ptr::null_mut(),
        }
    }

    /// A slot's bytes.
    ///
    /// # Panics
    /// There is no such slot, or it is in flight.
    #[inline]
    pub(crate) fn bytes(&mut self, slot: usize) -> &mut [u8] {
        assert!(!self.in_flight[slot], "slot {slot} is in flight");
        // SAFETY: the slot is inside the memory, since the index was checked above; no provider
        // works on it, and the borrow keeps everyone else out.
        unsafe {
            let start = self.memory.start.as_ptr().add(slot * self.stride);
            std::slice::from_raw_parts_mut(start, self.length)
        }
    }

    /// Marks a slot as in flight, with `length` bytes of it to be used; its bytes and what the
    /// provider may keep of the operation there.
    #[inline]
    pub(crate) fn launch(
        &mut self,
        slot: usize,
        length: usize,
    ) -> Result<(*mut c_void, *mut c_void), Error> {
        if self.in_flight.get(slot) != Some(&false) || length > self.length {
            return Err(self.misuse(slot, length));
        }
        self.in_flight[slot] = true;
        // SAFETY: the slot is inside both memories, since the index was checked above.
        unsafe {
            let bytes = self.memory.start.as_ptr().add(slot * self.stride);
            let context = self
                .contexts
                .start
                .as_ptr()
                .add(slot * size_of::<FiContext2>());
            Ok((bytes.cast(), context.cast()))
        }
    }

    #[cold]
    fn misuse(&self, slot: usize, length: usize) -> Error {
        Error::Refused(match self.in_flight.get(slot) {
            None => format!("slot {slot}: there are {}", self.in_flight.len()),
            Some(true) => format!("slot {slot} is in flight"),
            Some(false) => format!("{length} bytes do not fit into a slot of {}", self.length),
        })
    }

    /// Marks a slot as free after its operation was refused.
    #[inline]
    pub(crate) fn recall(&mut self, slot: usize) {
        self.in_flight[slot] = false;
    }

    /// Marks the slot as free whose operation completed, and says which it is; `None` if no slot in
    /// flight belongs to what the completion brought.
    #[inline]
    pub(crate) fn land(&mut self, context: *mut c_void) -> Option<usize> {
        let offset = context
            .addr()
            .checked_sub(self.contexts.start.as_ptr().addr())?;
        let slot = offset / size_of::<FiContext2>();
        let flag = self.in_flight.get_mut(slot)?;
        std::mem::replace(flag, false).then_some(slot)
    }
}

/// Registers memory for messages. It has to outlive its registration.
fn register(domain: &Domain, memory: &Memory) -> Result<Handle<FidMr>, Error> {
    let mode = domain.info().domain().mr_mode.cast_unsigned();
    let key = match mode & FI_MR_PROV_KEY {
        0 => domain.new_key(),
        _ => 0,
    };
    let (buffer, bytes) = (memory.start.as_ptr().cast(), memory.layout.size());
    let access = FI_SEND | FI_RECV;
    // SAFETY: the domain is open, the memory is as long as is said; the object that the call stores
    // is new.
    unsafe {
        Handle::open(
            domain.library(),
            format!("fi_mr_reg of {bytes} bytes"),
            |mr| {
                let none = ptr::null_mut();
                fi_mr_reg(domain.raw(), buffer, bytes, access, 0, key, 0, mr, none)
            },
        )
    }
}

/// Zeroed memory that begins on a page.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `bytes` of it, more than none; `None` if there is not so much.
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        // SAFETY: all callers ask for more than nothing.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: from `alloc_zeroed` with this layout. The endpoint that worked on it is closed
        // before its slots go.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Library, Query};

    #[test]
    fn memory_is_registered_under_keys_of_its_own() {
        if let Err(missing) = Library::load() {
            println!("SKIPPED registered memory: {missing}");
            return;
        }
        // This provider takes registrations, though it asks for none.
        let query = Query {
            provider: Some("tcp;ofi_rxm".to_owned()),
            ..Query::default()
        };
        let Ok(mut offers) = query.find() else {
            println!("SKIPPED registered memory: no provider tcp;ofi_rxm");
            return;
        };
        let domain = Domain::open(offers.remove(0)).expect("a domain");
        let memory = Memory::new(3 * PAGE).expect("three pages");
        let one = register(&domain, &memory).expect("registered");
        let two = register(&domain, &memory).expect("registered again");
        // SAFETY: both are open.
        let keys = unsafe { ((*one.raw()).key, (*two.raw()).key) };
        assert_ne!(keys.0, keys.1);
    }
}
