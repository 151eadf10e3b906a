//! An io_uring over one file and one pool of buffers.
//!
//! The ring tracks which buffers the kernel holds. Only idle ones can be looked at or submitted
//! again, and dropping the ring waits until the kernel has returned them all: that is what makes
//! its interface safe.

use super::Buffers;
use super::form::{Form, Handle, Spot};
use super::setup::{self, Features, Setup};
use crate::engine::{Completion, Op, Wait};
use io_uring::cqueue::EntryMarker as _;
use io_uring::squeue::EntryMarker as _;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, types};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An io_uring, the file it works on and the buffers it works with.
pub struct Ring<F: AsRawFd, M: Form> {
    submitter: ManuallyDrop<Submitter<'static>>,
    submission: ManuallyDrop<SubmissionQueue<'static, M::Sqe>>,
    completion: ManuallyDrop<CompletionQueue<'static, M::Cqe>>,
    /// What the three above borrow; freed after them.
    owner: NonNull<IoUring<M::Sqe, M::Cqe>>,
    buffers: ManuallyDrop<Buffers>,
    /// Which buffers the kernel holds, by index.
    lent: Vec<bool>,
    in_flight: usize,
    form: M,
    handle: Handle,
    fixed_buffers: Fixed,
    /// A thread of the kernel looks at the queues by itself: waiting is looking, too.
    kernel_thread: bool,
    /// Completions are polled for, within the calls that wait.
    polled: bool,
    complete_min: usize,
    complete_max: usize,
    force_async: u32,
    /// How many operations are left until one is.
    until_async: u32,
    /// Stays open as long as requests name its descriptor.
    _file: Arc<F>,
}

/// How the buffers are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    /// Not at all.
    No,
    /// All of them as one.
    Whole,
    /// Each for itself.
    Each,
}

// SAFETY: everything the raw pointers lead to is owned by this value alone. Rings with a single
// issuer refuse other threads' submissions with an error, which is not a matter of memory.
unsafe impl<F: AsRawFd + Send + Sync, M: Form> Send for Ring<F, M> {}

impl<F: AsRawFd, M: Form> Ring<F, M> {
    /// A ring with room for every buffer to be in flight at once. Registers the ring, the file and
    /// the buffers; what the kernel refuses of that is done without and noted.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_setup` without any flag that is not asked for.
    pub fn new(
        file: Arc<F>,
        buffers: Buffers,
        form: M,
        setup: &Setup,
    ) -> io::Result<(Self, Features)> {
        let entries = u32::try_from(buffers.count()).map_err(io::Error::other)?;
        let (ring, setup_flags, refused) = setup::build::<M>(entries, setup)?;
        let owner = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the box was just leaked, so it lives until `drop` frees it, after the borrows
        // made here; nothing else refers to it.
        let (mut submitter, submission, completion) = unsafe { &mut *owner.as_ptr() }.split();

        let noted = |result: io::Result<()>| result.map_err(|error| error.to_string());
        let registered_ring = noted(submitter.register_ring_fd());
        let registered_file = setup
            .register_file
            .then(|| noted(submitter.register_files(&[file.as_raw_fd()])));
        let pieces = buffers.pieces(M::PARTS);
        let registered_buffers = setup.register_buffers.then(|| {
            // SAFETY: the region stays allocated until `drop` has closed the ring.
            let registered = unsafe { submitter.register_buffers(&pieces) };
            registered.map_err(|error| setup::not_registered(&error, buffers.total_bytes()))
        });
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
            form,
            handle: match features.registered_file {
                Some(Ok(())) => Handle::Registered,
                _ => Handle::Descriptor(file.as_raw_fd()),
            },
            fixed_buffers: match features.registered_buffers {
                Some(Ok(())) if pieces.len() == 1 => Fixed::Whole,
                Some(Ok(())) => Fixed::Each,
                _ => Fixed::No,
            },
            kernel_thread: setup.kernel_thread.is_some(),
            polled: setup.polled,
            complete_min: setup.complete_min,
            complete_max: setup.complete_max,
            force_async: setup.force_async,
            until_async: setup.force_async,
            _file: file,
        };
        Ok((ring, features))
    }

    /// Queues one operation on an idle buffer; nothing reaches the kernel before `exchange`.
    ///
    /// # Panics
    /// If the kernel holds the buffer: the caller lost count.
    #[inline(always)]
    pub fn queue(&mut self, op: Op) {
        let lent = std::mem::replace(&mut self.lent[op.buffer], true);
        assert!(!lent, "one operation per buffer at a time");
        let spot = Spot {
            force_async: self.force_async > 0 && self.forces_async(),
            ..self.spot(op)
        };
        let mut entry = self.form.entry(op, spot);
        entry.set_user_data(u64::from(op.len) << 32 | op.buffer as u64);
        while self.kernel_thread && self.submission.is_full() {
            // The kernel's thread says what it has taken some time after it was done.
            self.submission.sync();
            std::hint::spin_loop();
        }
        // SAFETY: the entry's buffer is idle and becomes lent, so nobody touches or frees it until
        // its completion was reaped; the file is held by `self`.
        let pushed = unsafe { self.submission.push(&entry) };
        pushed.expect("the ring has an entry for every buffer");
        self.in_flight += 1;
    }

    /// Where the operation takes place.
    #[inline(always)]
    fn spot(&self, op: Op) -> Spot {
        if !M::MOVES {
            return Spot {
                file: self.handle,
                address: std::ptr::null_mut(),
                registered: None,
                force_async: false,
            };
        }
        assert!(
            op.len as usize <= self.buffers.bytes(),
            "it fits its buffer"
        );
        Spot {
            file: self.handle,
            address: self.buffers.address(op.buffer),
            registered: match self.fixed_buffers {
                Fixed::No => None,
                Fixed::Whole => Some(0),
                // There are at most two buffers for each of 4096 slots.
                Fixed::Each => Some(op.buffer as u16),
            },
            force_async: false,
        }
    }

    /// Whether the next operation is one that is left to a thread of the kernel.
    fn forces_async(&mut self) -> bool {
        self.until_async -= 1;
        let forces = self.until_async == 0;
        if forces {
            self.until_async = self.force_async;
        }
        forces
    }

    /// Says that trims are discards of a device's blocks; else they are holes in a file.
    pub fn discard_blocks(&mut self) {
        self.form.discard_blocks();
    }

    /// Submits what is queued, waits for nothing and reaps nothing.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_enter`.
    #[inline]
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0, None)
    }

    /// Submits what is queued, waits as `wait` says, and appends every operation that has ended to
    /// `done`, as far as one reaping goes. With nothing in flight and no time given it returns at
    /// once.
    ///
    /// # Errors
    /// What the kernel says of `io_uring_enter`.
    #[inline]
    pub fn exchange(&mut self, done: &mut Vec<Completion>, wait: Wait) -> io::Result<()> {
        match wait {
            Wait::Peek => {
                self.enter(0, None)?;
                self.reap(done);
            }
            Wait::No => {
                self.enter(0, None)?;
                self.run_deferred()?;
                self.reap(done);
            }
            Wait::One => {
                let mut wanted = self.complete_min.min(self.in_flight);
                loop {
                    self.enter(if self.kernel_thread { 0 } else { wanted }, None)?;
                    wanted = wanted.saturating_sub(self.reap(done));
                    if wanted == 0 {
                        break;
                    }
                    std::hint::spin_loop();
                }
            }
            Wait::AtMost(time) if self.kernel_thread || self.polled => {
                self.look_until(done, Instant::now() + time)?;
            }
            Wait::AtMost(time) => {
                self.enter(1, Some(time))?;
                self.reap(done);
            }
        }
        Ok(())
    }

    /// Waits by looking: a polled ring knows no time limit, and one with a kernel thread is not to
    /// be entered at all.
    fn look_until(&mut self, done: &mut Vec<Completion>, end: Instant) -> io::Result<()> {
        if self.in_flight == 0 {
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            return Ok(());
        }
        loop {
            self.enter(0, None)?;
            if self.reap(done) > 0 || Instant::now() >= end {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    /// Lets the kernel finish what it left to the thread that asks for it: under DEFER_TASKRUN a
    /// call that waits for nothing would find nothing.
    #[inline]
    fn run_deferred(&mut self) -> io::Result<()> {
        if self.in_flight == 0 {
            return Ok(());
        }
        const GETEVENTS: u32 = 1;
        // SAFETY: nothing is submitted, and there is no argument.
        let entered = unsafe {
            self.submitter
                .enter::<libc::sigset_t>(0, 0, GETEVENTS, None)
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    #[inline]
    fn enter(&mut self, wanted: usize, at_most: Option<Duration>) -> io::Result<()> {
        self.submission.sync();
        let entered = match at_most {
            None => self.submitter.submit_and_wait(wanted),
            Some(time) => {
                let time = types::Timespec::from(time);
                let limit = types::SubmitArgs::new().timespec(&time);
                self.submitter.submit_with_args(wanted, &limit)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => bearable(error),
        }
    }

    #[inline]
    fn reap(&mut self, done: &mut Vec<Completion>) -> usize {
        self.completion.sync();
        let most = self.completion.len().min(self.complete_max);
        done.reserve(most);
        let mut reaped = 0;
        // In step, so that neither has to ask for room each time.
        let places = done.spare_capacity_mut()[..most].iter_mut();
        for (place, entry) in places.zip(self.completion.by_ref()) {
            let named = entry.user_data();
            let (buffer, len) = (named as u32 as usize, (named >> 32) as u32);
            self.lent[buffer] = false;
            place.write(Completion {
                buffer,
                result: M::result(&entry, len),
            });
            reaped += 1;
        }
        // SAFETY: so many were just written behind the others.
        unsafe { done.set_len(done.len() + reaped) };
        self.in_flight -= reaped;
        self.completion.sync();
        // Learns which entries the kernel has taken, so that they can be filled again.
        self.submission.sync();
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

/// What ends a call without anything being wrong. A signal: whoever minds it is told elsewhere.
/// Busy: completions wait to be reaped first. What was not taken is submitted next time. Time:
/// nothing ended within it.
#[cold]
fn bearable(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME) => Ok(()),
        _ => Err(error),
    }
}

impl<F: AsRawFd, M: Form> Drop for Ring<F, M> {
    fn drop(&mut self) {
        let mut done = Vec::with_capacity(self.lent.len());
        while self.in_flight > 0 && self.exchange(&mut done, Wait::One).is_ok() {}
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
