//! An io_uring over one file and one pool of buffers.
//!
//! The ring tracks which buffers the kernel holds. Only idle ones can be looked at or submitted
//! again, and dropping the ring waits until the kernel has returned them all: that is what makes
//! its interface safe.

use super::Buffers;
use crate::engine::{Completion, Direction, Op};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, opcode, squeue, types};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// What the kernel granted of what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Set-up flags in force.
    pub setup_flags: Vec<&'static str>,
    /// Why a set-up flag is not in force.
    pub refused: Vec<String>,
    /// Whether the ring's own descriptor is registered.
    pub registered_ring: Result<(), String>,
    /// Whether the file is registered.
    pub registered_file: Result<(), String>,
    /// Whether the buffers are registered.
    pub registered_buffers: Result<(), String>,
}

/// An io_uring, the file it works on and the buffers it works with.
pub struct Ring<F: AsRawFd> {
    submitter: ManuallyDrop<Submitter<'static>>,
    submission: ManuallyDrop<SubmissionQueue<'static>>,
    completion: ManuallyDrop<CompletionQueue<'static>>,
    /// What the three above borrow; freed after them.
    owner: NonNull<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    /// Which buffers the kernel holds, by index.
    lent: Vec<bool>,
    in_flight: usize,
    fixed_file: bool,
    fixed_buffers: bool,
    file: Arc<F>,
}

// SAFETY: everything the raw pointers lead to is owned by this value alone. Rings with a single
// issuer refuse other threads' submissions with an error, which is not a matter of memory.
unsafe impl<F: AsRawFd + Send + Sync> Send for Ring<F> {}

impl<F: AsRawFd> Ring<F> {
    /// A ring with room for every buffer to be in flight at once. Registers the ring, the file and
    /// the buffers; what the kernel refuses of that is done without and noted.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_setup` without any flags.
    pub fn new(file: Arc<F>, buffers: Buffers) -> io::Result<(Self, Features)> {
        let entries = u32::try_from(buffers.count()).map_err(io::Error::other)?;
        let (ring, setup_flags, refused) = set_up(entries)?;
        let owner = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the box was just leaked, so it lives until `drop` frees it, after the borrows
        // made here; nothing else refers to it.
        let (mut submitter, submission, completion) = unsafe { &mut *owner.as_ptr() }.split();

        let noted = |result: io::Result<()>| result.map_err(|error| error.to_string());
        let registered_ring = noted(submitter.register_ring_fd());
        let registered_file = noted(submitter.register_files(&[file.as_raw_fd()]));
        let (base, len) = buffers.region();
        let region = libc::iovec {
            iov_base: base.cast(),
            iov_len: len,
        };
        // SAFETY: the region stays allocated until `drop` has closed the ring.
        let registered_buffers = noted(unsafe { submitter.register_buffers(&[region]) });
        let features = Features {
            setup_flags,
            refused,
            registered_ring,
            registered_file,
            registered_buffers,
        };
        let ring = Self {
            submitter: ManuallyDrop::new(submitter),
            submission: ManuallyDrop::new(submission),
            completion: ManuallyDrop::new(completion),
            owner,
            lent: vec![false; buffers.count()],
            buffers: ManuallyDrop::new(buffers),
            in_flight: 0,
            fixed_file: features.registered_file.is_ok(),
            fixed_buffers: features.registered_buffers.is_ok(),
            file,
        };
        Ok((ring, features))
    }

    /// Queues one operation on an idle buffer; nothing reaches the kernel before `exchange`.
    ///
    /// # Panics
    /// If the kernel holds the buffer: the caller lost count.
    #[inline]
    pub fn queue(&mut self, op: Op) {
        assert!(!self.lent[op.buffer], "one operation per buffer at a time");
        let entry = self.entry(op).user_data(op.buffer as u64);
        // SAFETY: the entry's buffer is idle and becomes lent, so nobody touches or frees it until
        // its completion was reaped; the file is held by `self`.
        let pushed = unsafe { self.submission.push(&entry) };
        pushed.expect("the ring has an entry for every buffer");
        self.lent[op.buffer] = true;
        self.in_flight += 1;
    }

    #[inline]
    fn entry(&self, op: Op) -> squeue::Entry {
        let address = self.buffers.address(op.buffer);
        // Bounded by 1 GiB when the options were checked.
        let len = self.buffers.bytes() as u32;
        let fixed = types::Fixed(0);
        let plain = types::Fd(self.file.as_raw_fd());
        macro_rules! build {
            ($with_buffers:ident, $without:ident) => {
                match (self.fixed_file, self.fixed_buffers) {
                    (true, true) => opcode::$with_buffers::new(fixed, address, len, 0)
                        .offset(op.offset)
                        .build(),
                    (false, true) => opcode::$with_buffers::new(plain, address, len, 0)
                        .offset(op.offset)
                        .build(),
                    (true, false) => opcode::$without::new(fixed, address, len)
                        .offset(op.offset)
                        .build(),
                    (false, false) => opcode::$without::new(plain, address, len)
                        .offset(op.offset)
                        .build(),
                }
            };
        }
        match op.direction {
            Direction::Read => build!(ReadFixed, Read),
            Direction::Write => build!(WriteFixed, Write),
        }
    }

    /// Submits what is queued and waits for nothing.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_enter`.
    #[inline]
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// Submits what is queued, waits until at least one operation has ended, and appends every
    /// ended one to `done`. With nothing in flight it returns at once.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_enter`.
    #[inline]
    pub fn exchange(&mut self, done: &mut Vec<Completion>) -> io::Result<()> {
        let wanted = usize::from(self.in_flight > 0);
        loop {
            self.enter(wanted)?;
            if self.reap(done) >= wanted {
                return Ok(());
            }
        }
    }

    #[inline]
    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        self.submission.sync();
        let entered = self.submitter.submit_and_wait(wanted);
        // Learns which entries the kernel has taken, so that they can be filled again.
        self.submission.sync();
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            // A signal: whoever minds it is told elsewhere. Busy: completions wait to be reaped
            // first. What was not taken is submitted next time.
            Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    #[inline]
    fn reap(&mut self, done: &mut Vec<Completion>) -> usize {
        self.completion.sync();
        let before = done.len();
        for entry in &mut *self.completion {
            let buffer = entry.user_data() as usize;
            self.lent[buffer] = false;
            done.push(Completion {
                buffer,
                result: entry.result(),
            });
        }
        let reaped = done.len() - before;
        self.in_flight -= reaped;
        self.completion.sync();
        reaped
    }

    /// An idle buffer's content.
    ///
    /// # Panics
    /// If the kernel holds it.
    #[inline(always)]
    #[must_use]
    pub fn buffer(&self, index: usize) -> &[u8] {
        assert!(!self.lent[index], "the kernel holds this buffer");
        self.buffers.get(index)
    }

    /// An idle buffer, to be written.
    ///
    /// # Panics
    /// If the kernel holds it.
    #[inline(always)]
    pub fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        assert!(!self.lent[index], "the kernel holds this buffer");
        self.buffers.get_mut(index)
    }
}

impl<F: AsRawFd> Drop for Ring<F> {
    fn drop(&mut self) {
        let mut done = Vec::with_capacity(self.lent.len());
        while self.in_flight > 0 && self.exchange(&mut done).is_ok() {}
        // A ring is torn down some time after it was closed; until then it would keep the file
        // open, and a block device that was opened exclusively in use.
        let _ = self.submitter.unregister_files();
        // SAFETY: none of these is used again; the queues and the submitter go before the ring
        // that they borrow, and the ring, made by `Box::leak`, before the buffers that it knows.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            ManuallyDrop::drop(&mut self.submission);
            ManuallyDrop::drop(&mut self.completion);
            drop(Box::from_raw(self.owner.as_ptr()));
            // If the kernel could not be made to return some, it may still write to them: better
            // to leak than to hand that memory to somebody else.
            if self.in_flight == 0 {
                ManuallyDrop::drop(&mut self.buffers);
            }
        }
    }
}

/// The optional set-up flags. Older kernels refuse those they do not know with EINVAL, so they are
/// given up one by one from the newest (6.6) to the oldest (5.19).
const FLAGS: [&str; 4] = [
    "no_sqarray",
    "defer_taskrun",
    "single_issuer",
    "coop_taskrun",
];

/// A ring, the flags in force, and why the others are not.
fn set_up(entries: u32) -> io::Result<(IoUring, Vec<&'static str>, Vec<String>)> {
    let mut refused = Vec::new();
    loop {
        let flags = &FLAGS[refused.len()..];
        let mut builder = IoUring::builder();
        builder.setup_clamp();
        for flag in flags {
            match *flag {
                "no_sqarray" => builder.setup_no_sqarray(),
                "defer_taskrun" => builder.setup_defer_taskrun(),
                "single_issuer" => builder.setup_single_issuer(),
                _ => builder.setup_coop_taskrun(),
            };
        }
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, flags.to_vec(), refused)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !flags.is_empty() => {
                refused.push(format!("{}: {error}", flags[0]));
            }
            Err(error) => return Err(error),
        }
    }
}
