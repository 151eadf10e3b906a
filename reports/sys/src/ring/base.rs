//! What sending and receiving rings have in common.

use super::{Grants, Refused};
use crate::calls;
use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, IoUring, Probe, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// How long what is in flight may take to be cancelled.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// An io_uring and the socket that it works on.
pub(super) struct Base<F: AsFd> {
    submitter: ManuallyDrop<Submitter<'static>>,
    submission: ManuallyDrop<SubmissionQueue<'static>>,
    completion: ManuallyDrop<CompletionQueue<'static>>,
    /// What the three above borrow; freed after them.
    owner: NonNull<IoUring>,
    socket: F,
    fixed_socket: bool,
    /// What came of asking.
    pub(super) grants: Grants,
    /// How often the kernel was entered.
    pub(super) enters: u64,
    /// The thread that made the ring. What is registered for it, the ring's own descriptor among
    /// it, means something else to any other.
    home: ThreadId,
}

// SAFETY: everything the raw pointers lead to is owned by this value alone. Rings with a single
// issuer refuse other threads' calls with an error, which is not a matter of memory.
unsafe impl<F: AsFd + Send> Send for Base<F> {}

impl<F: AsFd> Base<F> {
    /// A ring with room for `entries` requests at once and `completions` answers, on `socket`.
    pub(super) fn new(socket: F, entries: u32, completions: u32) -> Result<Self, Refused> {
        let mut grants = Grants::default();
        let ring = set_up(entries, completions, &mut grants).map_err(|error| Refused {
            what: "io_uring_setup",
            error,
        })?;
        let owner = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the box was just leaked, so it lives until `drop` frees it, after the borrows
        // made here; nothing else refers to it.
        let (submitter, submission, completion) = unsafe { &mut *owner.as_ptr() }.split();
        let mut base = Self {
            submitter: ManuallyDrop::new(submitter),
            submission: ManuallyDrop::new(submission),
            completion: ManuallyDrop::new(completion),
            owner,
            fixed_socket: false,
            socket,
            grants,
            enters: 0,
            home: thread::current().id(),
        };
        base.check_age()?;
        let registered = base.submitter.register_ring_fd();
        base.grants.note("registered_ring", registered);
        let fd = base.socket.as_fd().as_raw_fd();
        let registered = base.submitter.register_files(&[fd]);
        base.fixed_socket = base.grants.note("registered_socket", registered);
        Ok(base)
    }

    /// Refuses kernels that lack what cannot be asked for by name: sends that are taken whole
    /// (MSG_WAITALL, 5.19) and receives that stay armed (6.0). The operation that came with the
    /// second can be asked for.
    fn check_age(&self) -> Result<(), Refused> {
        let mut probe = Probe::new();
        let asked = self.submitter.register_probe(&mut probe);
        asked.map_err(|error| Refused {
            what: "IORING_REGISTER_PROBE",
            error,
        })?;
        if probe.is_supported(opcode::SendZc::CODE) {
            return Ok(());
        }
        Err(Refused {
            what: "IORING_OP_SEND_ZC, which tells kernels that have all that it takes",
            error: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        })
    }

    /// The ring itself, to register memory with.
    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Whether the kernel can fill several buffers with one receive (6.10), and in order: from 6.13
    /// to 6.15 there are kernels that mix the buffers up (liburing issue 1409).
    pub(super) fn bundles(&self) -> io::Result<()> {
        // SAFETY: the box lives as long as `self`, and what is read of it never changes.
        let ring = unsafe { self.owner.as_ref() };
        if !ring.params().is_feature_recvsend_bundle() {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        if is_since(&release, (6, 16)) {
            return Ok(());
        }
        Err(io::Error::other(
            "kernels before 6.16 may mix the buffers up",
        ))
    }

    /// Cancels what is armed, which will say so.
    pub(super) fn disarm(&mut self) -> io::Result<()> {
        self.check_thread()?;
        let time = Some(Timespec::from(LAST_WAIT));
        match self
            .submitter
            .register_sync_cancel(time, CancelBuilder::any())
        {
            // It has just ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// An entry for the socket, whichever way the kernel knows it.
    #[inline]
    pub(super) fn entry(
        &self,
        fixed: impl FnOnce(Fixed) -> squeue::Entry,
        plain: impl FnOnce(Fd) -> squeue::Entry,
    ) -> squeue::Entry {
        if self.fixed_socket {
            fixed(Fixed(0))
        } else {
            plain(Fd(self.socket.as_fd().as_raw_fd()))
        }
    }

    /// Queues a request; nothing reaches the kernel before `enter`.
    ///
    /// # Safety
    /// What the entry points to stays where it is, and is left alone as the operation demands, until
    /// the request has been answered for good.
    ///
    /// # Panics
    /// More requests are queued than the ring was made for.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.submission.push(entry) };
        pushed.expect("the ring has an entry for every request");
    }

    /// Submits what is queued and waits until `wanted` answers are there, for at most `patience`.
    /// Afterwards there may be fewer: a signal came, or the time is over.
    #[inline]
    pub(super) fn enter(&mut self, wanted: usize, patience: Duration) -> io::Result<()> {
        self.check_thread()?;
        self.submission.sync();
        // Tells the kernel which answers have been read.
        self.completion.sync();
        let time = Timespec::from(patience);
        let args = SubmitArgs::new().timespec(&time);
        let entered = self.submitter.submit_with_args(wanted, &args);
        self.enters += 1;
        calls::count(1);
        // Learns which entries the kernel has taken, so that they can be filled again.
        self.submission.sync();
        self.completion.sync();
        match entered {
            Ok(_) => Ok(()),
            // Busy: answers wait to be read first. What was not taken is submitted next time.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn check_thread(&self) -> io::Result<()> {
        if thread::current().id() == self.home {
            return Ok(());
        }
        Err(io::Error::other(
            "an io_uring was used by another thread than the one that made it",
        ))
    }

    /// The next answer that is there.
    #[inline]
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.completion.next()
    }

    /// Whether there is a next answer.
    #[inline]
    pub(super) fn has_next(&self) -> bool {
        !self.completion.is_empty()
    }

    /// Cancels everything in flight and reads answers until `settled` has seen the last one; says
    /// whether that was so.
    pub(super) fn cancel(
        &mut self,
        mut settled: impl FnMut(Option<&cqueue::Entry>) -> bool,
    ) -> bool {
        if settled(None) {
            return true;
        }
        if self.check_thread().is_err() {
            return false;
        }
        // Where there is no such call, closing the ring cancels, some time later.
        let time = Some(Timespec::from(LAST_WAIT));
        let _ = self
            .submitter
            .register_sync_cancel(time, CancelBuilder::any());
        for _ in 0..100 {
            if self.enter(1, LAST_WAIT / 100).is_err() {
                return false;
            }
            while let Some(entry) = self.next() {
                if settled(Some(&entry)) {
                    return true;
                }
            }
        }
        false
    }
}

impl<F: AsFd> Drop for Base<F> {
    fn drop(&mut self) {
        if self.check_thread().is_ok() {
            // A ring is torn down some time after it was closed; until then it would keep the
            // socket open.
            let _ = self.submitter.unregister_files();
            let _ = self.submitter.unregister_ring_fd();
        }
        // SAFETY: none of these is used again; the queues and the submitter go before the ring that
        // they borrow, which was made by `Box::leak`.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            ManuallyDrop::drop(&mut self.submission);
            ManuallyDrop::drop(&mut self.completion);
            drop(Box::from_raw(self.owner.as_ptr()));
        }
    }
}

/// Whether a kernel is of this version or a later one, by its name.
fn is_since(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) >= version,
        _ => false,
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

/// A ring with as many of the flags as the kernel takes.
fn set_up(entries: u32, completions: u32, grants: &mut Grants) -> io::Result<IoUring> {
    loop {
        let flags = &FLAGS[grants.refused.len()..];
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(completions);
        for flag in flags {
            match *flag {
                "no_sqarray" => builder.setup_no_sqarray(),
                "defer_taskrun" => builder.setup_defer_taskrun(),
                "single_issuer" => builder.setup_single_issuer(),
                _ => builder.setup_coop_taskrun(),
            };
        }
        match (builder.build(entries), flags.first()) {
            (Ok(ring), _) => {
                grants.granted = flags.to_vec();
                return Ok(ring);
            }
            (Err(error), Some(newest)) if error.raw_os_error() == Some(libc::EINVAL) => {
                grants.refused.push(format!("{newest}: {error}"));
            }
            (Err(error), _) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for (release, expected) in [
            ("6.18.44-fc", true),
            ("6.16.0", true),
            ("7.0-rc1", true),
            ("6.9.1", false),
            ("6.15.2", false),
            ("5.19", false),
            ("", false),
        ] {
            assert_eq!(is_since(release, (6, 16)), expected, "{release}");
        }
    }
}
