//! Completion queues.

use crate::error::{Error, text};
use crate::fabric::Domain;
use crate::handle::Handle;
use crate::mr::Slots;
use crate::raw::calls::{
    fi_control, fi_cq_open, fi_cq_read, fi_cq_readerr, fi_cq_strerror, fi_trywait,
};
use crate::raw::constants::{
    FI_CQ_COND_NONE, FI_CQ_FORMAT_DATA, FI_CQ_FORMAT_TAGGED, FI_EAGAIN, FI_EAVAIL, FI_GETWAIT,
    FI_REMOTE_CQ_DATA, FI_REMOTE_WRITE, FI_RX_CQ_DATA, FI_TAGGED, FI_WAIT_FD, FI_WAIT_NONE,
};
use crate::raw::structures::{FiCqAttr, FiCqDataEntry, FiCqErrEntry, FiCqTaggedEntry, Fid, FidCq};
use libc::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// The most completions that one call reads.
pub const BATCH: usize = 64;

/// With fewer entries no queue is tried.
const FEWEST: usize = 16;

/// An operation that has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// What this side posted.
    Posted {
        /// Its slot, which is free again.
        slot: usize,
        /// For how many operations of its endpoint it stands, itself and those that were posted
        /// before it without a signal. Their slots are free again, too.
        count: u32,
    },
    /// A message, or a peer's write that took a receive.
    Received {
        /// The receive's slot, which is free again.
        slot: usize,
        /// Bytes received.
        length: usize,
        /// The tag of a tagged receive.
        tag: u64,
        /// The data that came with a write.
        data: Option<u64>,
    },
    /// A peer's write with data that took no receive.
    Written {
        /// Bytes written, where the provider tells.
        length: usize,
        /// The data that came with it.
        data: u64,
    },
}

/// A completion queue that is polled, for the operations of all endpoints of a set.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    handle: Handle<FidCq>,
    domain: Domain,
    entries: usize,
    /// What can be waited on: it belongs to the provider.
    descriptor: Option<c_int>,
    /// Whether a peer's write with data takes a receive.
    takes_receives: bool,
    /// Whether entries have tags. Providers without tags may not have that format.
    tagged: bool,
}

/// What is read of a completion, in two formats.
trait Entry: Copy {
    fn data(&self) -> FiCqDataEntry;
    fn tag(&self) -> u64;
}

impl Entry for FiCqDataEntry {
    #[inline]
    fn data(&self) -> FiCqDataEntry {
        *self
    }

    #[inline]
    fn tag(&self) -> u64 {
        0
    }
}

impl Entry for FiCqTaggedEntry {
    #[inline]
    fn data(&self) -> FiCqDataEntry {
        FiCqDataEntry {
            op_context: self.op_context,
            flags: self.flags,
            len: self.len,
            buf: self.buf,
            data: self.data,
        }
    }

    #[inline]
    fn tag(&self) -> u64 {
        self.tag
    }
}

/// Whether operations of a domain's offer may have tags.
fn has_tags(domain: &Domain) -> bool {
    domain.info().caps() & FI_TAGGED != 0
}

/// An error, with room for what newer versions of libfabric append.
#[repr(C)]
struct ErrorEntry {
    entry: FiCqErrEntry,
    _more: [u64; 8],
}

impl CompletionQueue {
    /// A queue with room for `entries` completions, or fewer if the provider has no queue so long;
    /// with `wait` one that can be waited on, if the provider has that.
    pub(crate) fn open(domain: &Domain, entries: usize, wait: bool) -> Result<Self, Error> {
        let (handle, entries) = if wait {
            Self::longest(domain, entries, FI_WAIT_FD)
                .or_else(|_| Self::longest(domain, entries, FI_WAIT_NONE))?
        } else {
            Self::longest(domain, entries, FI_WAIT_NONE)?
        };
        let mut descriptor: c_int = -1;
        if wait {
            let room = (&raw mut descriptor).cast();
            // SAFETY: the queue is open; of one with a descriptor the call stores it, of another it
            // fails.
            if unsafe { fi_control(handle.fid(), FI_GETWAIT, room) } != 0 {
                descriptor = -1;
            }
        }
        Ok(Self {
            handle,
            domain: domain.clone(),
            entries,
            descriptor: (descriptor >= 0).then_some(descriptor),
            takes_receives: domain.info().mode() & FI_RX_CQ_DATA != 0,
            tagged: has_tags(domain),
        })
    }

    /// Providers do not tell how long a queue can be: it is halved until they take it. What they say
    /// of the first is the error if they take none.
    fn longest(
        domain: &Domain,
        wanted: usize,
        wait_obj: u32,
    ) -> Result<(Handle<FidCq>, usize), Error> {
        let mut entries = wanted;
        Self::of(domain, entries, wait_obj)
            .map(|handle| (handle, wanted))
            .or_else(|error| {
                while entries > FEWEST {
                    entries = (entries / 2).max(FEWEST);
                    if let Ok(handle) = Self::of(domain, entries, wait_obj) {
                        return Ok((handle, entries));
                    }
                }
                Err(error)
            })
    }

    fn of(domain: &Domain, size: usize, wait_obj: u32) -> Result<Handle<FidCq>, Error> {
        let mut attr = FiCqAttr {
            size,
            flags: 0,
            format: if has_tags(domain) {
                FI_CQ_FORMAT_TAGGED
            } else {
                FI_CQ_FORMAT_DATA
            },
            wait_obj,
            signaling_vector: 0,
            wait_cond: FI_CQ_COND_NONE,
            wait_set: ptr::null_mut(),
        };
        let what = format!("fi_cq_open for {size} completions");
        // SAFETY: the domain is open; the object that the call stores is new.
        unsafe {
            Handle::open(domain.library(), what, |cq| {
                fi_cq_open(domain.raw(), &raw mut attr, cq, ptr::null_mut())
            })
        }
    }

    pub(crate) fn handle(&self) -> &Handle<FidCq> {
        &self.handle
    }

    /// How many completions there is room for.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// Whether it can be waited on.
    pub(crate) fn waits(&self) -> bool {
        self.descriptor.is_some()
    }

    /// Sleeps until there may be something to read, at most `patience`; at once where the provider
    /// has nothing to wait on.
    pub(crate) fn wait(&self, patience: Duration) -> Result<(), Error> {
        let Some(descriptor) = self.descriptor else {
            return Ok(());
        };
        let library = self.domain.library();
        let mut queue: *mut Fid = self.handle.fid();
        // SAFETY: fabric and queue are open, and it is one queue.
        let returned = unsafe { fi_trywait(self.domain.fabric().raw(), &raw mut queue, 1) };
        if returned == -FI_EAGAIN {
            return Ok(());
        }
        crate::error::check(library, "fi_trywait", returned)?;
        let mut wanted = libc::pollfd {
            fd: descriptor,
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        // SAFETY: one descriptor, a time, and no mask of signals. Interrupted or not, whoever waits
        // looks at the queue again.
        unsafe { libc::ppoll(&raw mut wanted, 1, &raw const time, ptr::null()) };
        Ok(())
    }

    /// Reads what is there, at most `most` and at most [`BATCH`], and frees the slots. This also
    /// drives operations on, where the provider leaves that to its user.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        slots: &mut Slots,
        most: usize,
        each: impl FnMut(Completion),
    ) -> Result<(), Error> {
        // SAFETY: the queue was opened with that format.
        unsafe {
            if self.tagged {
                self.poll_as::<FiCqTaggedEntry>(slots, most, each)
            } else {
                self.poll_as::<FiCqDataEntry>(slots, most, each)
            }
        }
    }

    /// # Safety
    /// The queue has this format.
    #[inline]
    unsafe fn poll_as<E: Entry>(
        &mut self,
        slots: &mut Slots,
        most: usize,
        mut each: impl FnMut(Completion),
    ) -> Result<(), Error> {
        let mut entries = [const { MaybeUninit::<E>::uninit() }; BATCH];
        let most = most.min(BATCH);
        // SAFETY: the queue is open and has this format by the caller's promise; there is room for so many entries.
        let returned = unsafe { fi_cq_read(self.handle.raw(), entries.as_mut_ptr().cast(), most) };
        let Ok(read) = usize::try_from(returned) else {
            return if returned == -(FI_EAGAIN as isize) {
                Ok(())
            } else {
                Err(self.error(slots, returned))
            };
        };
        for entry in &entries[..read.min(most)] {
            // SAFETY: the call has filled in as many entries as it said.
            let whole = unsafe { entry.assume_init_ref() };
            let entry = whole.data();
            let written = entry.flags & FI_REMOTE_WRITE != 0;
            if written && !self.takes_receives {
                // What it says of a context is not ours.
                each(Completion::Written {
                    length: entry.len,
                    data: entry.data,
                });
                continue;
            }
            // What belongs to no slot is none of ours.
            let Some(landed) = slots.land(entry.op_context) else {
                continue;
            };
            each(if landed.received {
                Completion::Received {
                    slot: landed.slot,
                    length: entry.len,
                    tag: whole.tag(),
                    data: (entry.flags & FI_REMOTE_CQ_DATA != 0).then_some(entry.data),
                }
            } else {
                Completion::Posted {
                    slot: landed.slot,
                    count: landed.count,
                }
            });
        }
        Ok(())
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
            let what = slots.words(entry.op_context);
            slots.land(entry.op_context);
            let what = what.unwrap_or_else(|| "an operation".to_owned());
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
