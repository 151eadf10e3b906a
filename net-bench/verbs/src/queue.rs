//! Completion queues and the channel of their events.

use crate::device::{Context, Domain};
use crate::error::{Error, check};
use rdma_sys::{ibv_comp_channel, ibv_cq, ibv_poll_cq, ibv_req_notify_cq, ibv_srq, ibv_wc};
use rdma_sys::{ibv_srq_attr, ibv_srq_init_attr};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::Duration;

/// The most completions that one call reads.
pub const BATCH: usize = 64;

/// Events are acknowledged so many at a time, because that takes a lock.
const ACKNOWLEDGED_AT_ONCE: u32 = 64;

/// Where completion queues tell that they have something.
#[derive(Debug)]
pub(crate) struct Channel {
    raw: NonNull<ibv_comp_channel>,
    context: Context,
}

impl Channel {
    pub(crate) fn open(context: &Context) -> Result<Rc<Self>, Error> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs().ibv_create_comp_channel)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| Error::last("ibv_create_comp_channel"))?;
        let channel = Self {
            raw,
            context: context.clone(),
        };
        // Reading an event must not block: `wait` has a deadline.
        nonblocking(channel.descriptor())?;
        Ok(Rc::new(channel))
    }

    fn descriptor(&self) -> i32 {
        // SAFETY: the channel is open.
        unsafe { (*self.raw.as_ptr()).fd }
    }

    /// Sleeps until a queue tells something, at most for some time. `None` if none did.
    pub(crate) fn wait(&self, patience: Duration) -> Result<Option<*mut ibv_cq>, Error> {
        if !readable(self.descriptor(), patience)? {
            return Ok(None);
        }
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        let get = self.context.verbs().ibv_get_cq_event;
        // SAFETY: the channel is open, and both places are the call's to fill in.
        if unsafe { get(self.raw.as_ptr(), &raw mut queue, &raw mut context) } != 0 {
            let error = std::io::Error::last_os_error();
            return match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(Error::last("ibv_get_cq_event")),
            };
        }
        Ok(Some(queue))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: it is open, and the queues that use it hold it.
        let _ = unsafe { (self.context.verbs().ibv_destroy_comp_channel)(self.raw.as_ptr()) };
    }
}

fn nonblocking(descriptor: i32) -> Result<(), Error> {
    // SAFETY: plain calls on a descriptor that is open.
    let returned = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    check("fcntl of a channel of events", returned.min(0))
}

/// Waits until a descriptor can be read from; whether it can.
pub(crate) fn readable(descriptor: i32, patience: Duration) -> Result<bool, Error> {
    let mut wanted = libc::pollfd {
        fd: descriptor,
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up, so that nobody spins through the last millisecond.
    let milliseconds = patience.as_micros().div_ceil(1000);
    let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
    // SAFETY: one entry is given.
    let returned = unsafe { libc::poll(&raw mut wanted, 1, milliseconds) };
    if returned < 0 {
        let error = std::io::Error::last_os_error();
        return match error.kind() {
            std::io::ErrorKind::Interrupted => Ok(false),
            _ => Err(Error::last("poll of a channel of events")),
        };
    }
    Ok(returned > 0)
}

/// A completion queue.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    raw: NonNull<ibv_cq>,
    /// Events that were read and not acknowledged; destroying the queue would wait for them.
    unacknowledged: Cell<u32>,
    /// Whether it will tell the next completion.
    armed: Cell<bool>,
    channel: Option<Rc<Channel>>,
    context: Context,
}

impl CompletionQueue {
    /// A queue for at least so many completions, on a completion vector.
    pub(crate) fn open(
        context: &Context,
        entries: u32,
        channel: Option<&Rc<Channel>>,
        vector: u32,
    ) -> Result<Self, Error> {
        let wanted = i32::try_from(entries.max(1)).unwrap_or(i32::MAX);
        let events = channel.map_or(ptr::null_mut(), |channel| channel.raw.as_ptr());
        let vector = (vector % context.limits().vectors).cast_signed();
        let create = context.verbs().ibv_create_cq;
        // SAFETY: context and channel are open.
        let raw = unsafe { create(context.raw(), wanted, ptr::null_mut(), events, vector) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let most = context.limits().completions;
            Error::last(format!("ibv_create_cq for {wanted} completions"))
                .and(&format!("the device has at most {most}"))
                .and_memlock()
        })?;
        Ok(Self {
            raw,
            unacknowledged: Cell::new(0),
            armed: Cell::new(false),
            channel: channel.cloned(),
            context: context.clone(),
        })
    }

    pub(crate) fn raw(&self) -> *mut ibv_cq {
        self.raw.as_ptr()
    }

    /// For how many completions it has room.
    pub(crate) fn entries(&self) -> u32 {
        // SAFETY: the queue is open.
        u32::try_from(unsafe { (*self.raw()).cqe }).unwrap_or(0)
    }

    /// Reads what is there, at most `most` and at most [`BATCH`]; how many it were. So many of the
    /// entries are filled in.
    ///
    /// # Safety
    /// There is room for [`BATCH`] entries, which nobody else uses meanwhile.
    #[inline]
    pub(crate) unsafe fn read(&self, entries: *mut ibv_wc, most: usize) -> Result<usize, Error> {
        let most = most.min(BATCH) as i32;
        // SAFETY: the queue is open; for the room the caller vouches.
        let read = unsafe { ibv_poll_cq(self.raw(), most, entries) };
        usize::try_from(read).map_err(|_| Error::returned("ibv_poll_cq", read))
    }

    /// Asks for an event at the next completion, unless that was done; whether it was.
    pub(crate) fn arm(&self) -> Result<bool, Error> {
        if self.armed.get() {
            return Ok(true);
        }
        // SAFETY: the queue is open.
        let returned = unsafe { ibv_req_notify_cq(self.raw(), 0) };
        check("ibv_req_notify_cq", returned)?;
        self.armed.set(true);
        Ok(false)
    }

    /// Notes an event that was read.
    pub(crate) fn told(&self) {
        self.armed.set(false);
        let count = self.unacknowledged.get() + 1;
        self.unacknowledged.set(count);
        if count >= ACKNOWLEDGED_AT_ONCE {
            self.acknowledge();
        }
    }

    fn acknowledge(&self) {
        let count = self.unacknowledged.replace(0);
        if count > 0 {
            // SAFETY: so many events of this queue were read.
            unsafe { (self.context.verbs().ibv_ack_cq_events)(self.raw(), count) };
        }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.acknowledge();
        // SAFETY: it is open, and the queue pairs that complete to it are gone. The channel is held
        // until afterwards.
        let _ = unsafe { (self.context.verbs().ibv_destroy_cq)(self.raw()) };
        self.channel = None;
    }
}

/// A receive queue that queue pairs share (SRQ).
#[derive(Debug)]
pub(crate) struct SharedReceives {
    raw: NonNull<ibv_srq>,
    domain: Rc<Domain>,
}

impl SharedReceives {
    pub(crate) fn open(domain: &Rc<Domain>, requests: u32) -> Result<Self, Error> {
        let mut attributes = ibv_srq_init_attr {
            srq_context: ptr::null_mut(),
            attr: ibv_srq_attr {
                max_wr: requests,
                max_sge: 1,
                srq_limit: 0,
            },
        };
        // SAFETY: the domain is open.
        let raw = unsafe { (domain.verbs().ibv_create_srq)(domain.raw(), &raw mut attributes) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            Error::last(format!("ibv_create_srq for {requests} receives")).and_memlock()
        })?;
        Ok(Self {
            raw,
            domain: domain.clone(),
        })
    }

    pub(crate) fn raw(&self) -> *mut ibv_srq {
        self.raw.as_ptr()
    }
}

impl Drop for SharedReceives {
    fn drop(&mut self) {
        // SAFETY: it is open, and the queue pairs that take from it are gone.
        let _ = unsafe { (self.domain.verbs().ibv_destroy_srq)(self.raw.as_ptr()) };
    }
}
