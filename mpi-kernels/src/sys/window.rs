//! A window of non-blocking messages: all posted, then all awaited.
//!
//! rsmpi's request collections allocate and cannot express what OSU's bandwidth test does, a whole
//! window received into one buffer. Both are a matter of a request array that is made once.

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
    peer: c_int,
    tag: c_int,
    requests: Vec<ffi::MPI_Request>,
    statuses: Vec<ffi::MPI_Status>,
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
            peer,
            tag,
            requests: vec![null; messages],
            statuses: vec![status; messages],
        }
    }

    /// Sends the message as often as the window has places, and waits until all have left.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let datatype = u8::equivalent_datatype();
        let count = c_int::try_from(message.len())?;
        for request in &mut self.requests {
            // SAFETY: the message is borrowed until wait_all has completed every request, and MPI
            // only reads it; several sends may read one buffer at a time (MPI 2.2 and later).
            let code = unsafe {
                ffi::MPI_Isend(
                    message.as_ptr().cast(),
                    count,
                    datatype.as_raw(),
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Isend", code)?;
        }
        self.wait_all()
    }

    /// Receives as many messages as the window has places, all into the one buffer.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let datatype = u8::equivalent_datatype();
        let count = c_int::try_from(buffer.len())?;
        for request in &mut self.requests {
            // SAFETY: the buffer is borrowed exclusively until wait_all has completed every
            // request, and none writes beyond `count` bytes. The messages overwrite each other, as
            // in OSU's test; all of a window have the same content, so their order is no matter.
            let code = unsafe {
                ffi::MPI_Irecv(
                    buffer.as_mut_ptr().cast(),
                    count,
                    datatype.as_raw(),
                    self.peer,
                    self.tag,
                    self.comm,
                    ptr::from_mut(request),
                )
            };
            succeeded("MPI_Irecv", code)?;
        }
        self.wait_all()
    }

    /// How many bytes each message of the last received window had.
    pub fn received_bytes(&self) -> impl Iterator<Item = i32> {
        self.statuses
            .iter()
            .map(|status| Status::from_raw(*status).count(u8::equivalent_datatype()))
    }

    fn wait_all(&mut self) -> anyhow::Result<()> {
        // At most spec::MAX_WINDOW, which a C int holds.
        let messages = self.requests.len() as c_int;
        // SAFETY: both arrays have `messages` elements, and every request was posted just now.
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

/// MPI aborts the job on errors unless told otherwise; this is for when it was told.
fn succeeded(call: &str, code: c_int) -> anyhow::Result<()> {
    anyhow::ensure!(
        code == ffi::MPI_SUCCESS as c_int,
        "{call} failed with MPI error code {code}"
    );
    Ok(())
}
