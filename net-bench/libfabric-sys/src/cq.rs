//! Completion queues.

use crate::error::{Error, text};
use crate::fabric::Domain;
use crate::handle::Handle;
use crate::mr::Slots;
use crate::raw::calls::{fi_cq_open, fi_cq_read, fi_cq_readerr, fi_cq_strerror};
use crate::raw::constants::{
    FI_CQ_COND_NONE, FI_CQ_FORMAT_TAGGED, FI_EAGAIN, FI_EAVAIL, FI_RECV, FI_WAIT_NONE,
};
use crate::raw::structures::{FiCqAttr, FiCqErrEntry, FiCqTaggedEntry, FidCq};
use std::mem::MaybeUninit;
use std::ptr;

/// The most completions that one call reads.
pub const BATCH: usize = 16;

/// An operation that has completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Completion {
    /// Its slot, which is free again.
    pub slot: usize,
    /// Whether it was a receive; else it was a send.
    pub received: bool,
    /// Bytes received. Of a send, providers leave it undefined.
    pub length: usize,
    /// The tag of a tagged receive.
    pub tag: u64,
}

/// A completion queue that is polled, for the operations of one endpoint.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    handle: Handle<FidCq>,
    domain: Domain,
}

/// An error, with room for what newer versions of libfabric append.
#[repr(C)]
struct ErrorEntry {
    entry: FiCqErrEntry,
    _more: [u64; 8],
}

impl CompletionQueue {
    /// A queue with room for `size` completions.
    pub(crate) fn open(domain: &Domain, size: usize) -> Result<Self, Error> {
        let mut attr = FiCqAttr {
            size,
            flags: 0,
            format: FI_CQ_FORMAT_TAGGED,
            wait_obj: FI_WAIT_NONE,
            signaling_vector: 0,
            wait_cond: FI_CQ_COND_NONE,
            wait_set: ptr::null_mut(),
        };
        let what = format!("fi_cq_open for {size} completions");
        // SAFETY: the domain is open; the object that the call stores is new.
        let handle = unsafe {
            Handle::open(domain.library(), what, |cq| {
                fi_cq_open(domain.raw(), &raw mut attr, cq, ptr::null_mut())
            })
        }?;
        Ok(Self {
            handle,
            domain: domain.clone(),
        })
    }

    pub(crate) fn handle(&self) -> &Handle<FidCq> {
        &self.handle
    }

    /// Reads what is there, at most [`BATCH`] and at most what `into` holds, and frees the slots;
    /// how many it was. This also drives operations on, where the provider leaves that to its user.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        slots: &mut Slots,
        into: &mut [Completion],
    ) -> Result<usize, Error> {
        let mut entries = [const { MaybeUninit::<FiCqTaggedEntry>::uninit() }; BATCH];
        let most = into.len().min(BATCH);
        // SAFETY: the queue is open and has this format; there is room for so many entries.
        let returned = unsafe { fi_cq_read(self.handle.raw(), entries.as_mut_ptr().cast(), most) };
        let Ok(read) = usize::try_from(returned) else {
            return if returned == -(FI_EAGAIN as isize) {
                Ok(0)
            } else {
                Err(self.error(slots, returned))
            };
        };
        let mut count = 0;
        for entry in &entries[..read.min(most)] {
            // SAFETY: the call has filled in as many entries as it said.
            let entry = unsafe { entry.assume_init_ref() };
            // What belongs to no slot is none of ours.
            let Some(slot) = slots.land(entry.op_context) else {
                continue;
            };
            into[count] = Completion {
                slot,
                received: entry.flags & FI_RECV != 0,
                length: entry.len,
                tag: entry.tag,
            };
            count += 1;
        }
        Ok(count)
    }

    /// The error of an operation, whose slot is free again; or of reading itself.
    #[cold]
    fn error(&self, slots: &mut Slots, returned: isize) -> Error {
        let library = self.domain.library();
        if returned != -(FI_EAVAIL as isize) {
            return Error::of(library, "fi_cq_read", returned as i64);
        }
        let mut room = MaybeUninit::<ErrorEntry>::zeroed();
        // SAFETY: all zeroes is a valid entry: no pointers, no room for the provider's own data.
        // The queue is open. The text belongs to the provider and is copied.
        unsafe {
            let entry = (&raw mut (*room.as_mut_ptr()).entry).cast::<FiCqErrEntry>();
            let returned = fi_cq_readerr(self.handle.raw(), entry, 0);
            if returned < 0 {
                return Error::of(library, "fi_cq_readerr", returned as i64);
            }
            let entry = *entry;
            let slot = slots.land(entry.op_context);
            let kind = if entry.flags & FI_RECV != 0 {
                "receive"
            } else {
                "send"
            };
            let what = slot.map_or_else(
                || "an operation".to_owned(),
                |slot| format!("the {kind} in slot {slot}"),
            );
            let said = text(fi_cq_strerror(
                self.handle.raw(),
                entry.prov_errno,
                entry.err_data,
                ptr::null_mut(),
                0,
            ));
            Error::of(library, what, -i64::from(entry.err)).and_provider(entry.prov_errno, said)
        }
    }
}
