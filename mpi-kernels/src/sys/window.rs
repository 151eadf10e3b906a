//! A window of non-blocking messages: all posted, then all awaited.
//!
//! rsmpi's request collections allocate and cannot express what OSU's bandwidth test does, a whole
//! window received into one buffer. Both are a matter of a request array that is made once.

use super::succeeded;
use mpi::ffi;
use mpi::point_to_point::Status;
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Equivalence;
use std::ffi::c_int;
use std::ptr;

/// Requests and statuses of a fixed number of messages to or from one rank.
pub struct Window {
    comm: ffi::MPI_Comm,
    datatype: ffi::MPI_Datatype,
    peer: c_int,
    tag: c_int,
    pub(super) requests: Vec<ffi::MPI_Request>,
    statuses: Vec<ffi::MPI_Status>,
    /// How many of them are in use.
    used: usize,
}

impl Window {
    /// A window of `messages` messages with one peer. The communicator must be the world, which
    /// outlives everything but `MPI_Finalize`.
    pub fn new(world: &SimpleCommunicator, peer: i32, tag: i32, messages: usize) -> Self {
        // SAFETY: RSMPI_REQUEST_NULL is a constant that the C shim of mpi-sys initialises.
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: MPI_Status is a C struct of integers, for which zeroes are a valid value.
        let status: ffi::MPI_Status = unsafe { std::mem::zeroed() };
        Self {
            comm: world.as_raw(),
            datatype: u8::equivalent_datatype().as_raw(),
            peer,
            tag,
            requests: vec![null; messages],
            statuses: vec![status; messages],
            used: messages,
        }
    }

    /// Uses so many of the window's places from now on, at most all.
    pub fn use_places(&mut self, messages: usize) {
        self.used = messages.min(self.requests.len());
    }

    /// Sends the message as often as the window has places, and waits until all have left.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.post_sends(message)?;
        self.wait_all()
    }

    /// Receives as many messages as the window has places, all into the one buffer.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.post_receives(buffer)?;
        self.wait_all()
    }

    /// How many bytes each message of the last received window had.
    pub fn received_bytes(&self) -> impl Iterator<Item = i32> {
        self.statuses[..self.used]
            .iter()
            .map(|status| Status::from_raw(*status).count(u8::equivalent_datatype()))
    }

    /// Posts all sends. Until [`Window::wait_all`] returned, the caller keeps the message as it is.
    pub(super) fn post_sends(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let count = c_int::try_from(message.len())?;
        for request in &mut self.requests[..self.used] {
            // SAFETY: callers keep the message borrowed or own it until wait_all has completed
            // every request, and MPI only reads it; several sends may read one buffer at a time
            // (MPI 2.2 and later).
            let code = unsafe {
                ffi::MPI_Isend(
                    message.as_ptr().cast(),
                    count,
                    self.datatype,
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Isend", code)?;
        }
        Ok(())
    }

    /// Posts all receives. Until [`Window::wait_all`] returned, the caller leaves the buffer alone.
    pub(super) fn post_receives(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let count = c_int::try_from(buffer.len())?;
        for request in &mut self.requests[..self.used] {
            // SAFETY: callers keep the buffer borrowed exclusively or own it until wait_all has
            // completed every request, and none writes beyond `count` bytes. The messages overwrite
            // each other, as in OSU's test; all of a window have the same content, so their order
            // is no matter.
            let code = unsafe {
                ffi::MPI_Irecv(
                    buffer.as_mut_ptr().cast(),
                    count,
                    self.datatype,
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Irecv", code)?;
        }
        Ok(())
    }

    /// Makes persistent requests of all sends, which [`Window::start_all`] starts.
    pub(super) fn init_sends(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let count = c_int::try_from(message.len())?;
        for request in &mut self.requests {
            // SAFETY: the caller owns the message, keeps it where it is until the requests are
            // freed and lets nobody write to it while they are started. MPI only reads it.
            let code = unsafe {
                ffi::MPI_Send_init(
                    message.as_ptr().cast(),
                    count,
                    self.datatype,
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Send_init", code)?;
        }
        Ok(())
    }

    /// Makes persistent requests of all receives, which [`Window::start_all`] starts.
    pub(super) fn init_receives(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let count = c_int::try_from(buffer.len())?;
        for request in &mut self.requests {
            // SAFETY: the caller owns the buffer, keeps it where it is until the requests are freed
            // and lets nobody touch it while they are started; none writes beyond `count` bytes.
            let code = unsafe {
                ffi::MPI_Recv_init(
                    buffer.as_mut_ptr().cast(),
                    count,
                    self.datatype,
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Recv_init", code)?;
        }
        Ok(())
    }

    /// Starts all persistent requests.
    pub(super) fn start_all(&mut self) -> anyhow::Result<()> {
        let messages = self.requests.len() as c_int;
        // SAFETY: init_sends or init_receives made every request, and none is started.
        let code = unsafe { ffi::MPI_Startall(messages, self.requests.as_mut_ptr()) };
        succeeded("MPI_Startall", code)
    }

    /// Starts the first of the persistent requests.
    #[inline(always)]
    pub(super) fn start_one(&mut self) -> anyhow::Result<()> {
        // SAFETY: init_sends or init_receives made the request, and it is not started. A window
        // has a message.
        let code = unsafe { ffi::MPI_Start(self.requests.as_mut_ptr()) };
        succeeded("MPI_Start", code)
    }

    /// Waits for the first request.
    #[inline(always)]
    pub(super) fn wait_one(&mut self) -> anyhow::Result<()> {
        // SAFETY: a window has a request, and MPI_STATUS_IGNORE is what MPI_Wait may be given.
        let code = unsafe { ffi::MPI_Wait(self.requests.as_mut_ptr(), ffi::RSMPI_STATUS_IGNORE) };
        succeeded("MPI_Wait", code)
    }

    pub(super) fn wait_all(&mut self) -> anyhow::Result<()> {
        // At most spec::MAX_WINDOW, which a C int holds.
        let messages = self.used as c_int;
        // SAFETY: both arrays have as many elements or more, and each of these requests was posted
        // just now.
        let code = unsafe {
            ffi::MPI_Waitall(
                messages,
                self.requests.as_mut_ptr(),
                self.statuses.as_mut_ptr(),
            )
        };
        succeeded("MPI_Waitall", code)
    }
}
