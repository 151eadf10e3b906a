//! The raw calls with which ranks begin an iteration together.

use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Equivalence};
use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr;

/// The tag of the dissemination barrier's messages. No kernel uses it.
const TAG: c_int = 701;

/// A communicator for the calls of this module. They return no code: MPI aborts the job on errors,
/// which this program leaves as it is.
#[derive(Clone, Copy)]
pub struct Together<'w> {
    comm: ffi::MPI_Comm,
    rank: c_int,
    ranks: c_int,
    byte: ffi::MPI_Datatype,
    number: ffi::MPI_Datatype,
    no_status: *mut ffi::MPI_Status,
    lives: PhantomData<&'w SimpleCommunicator>,
}

impl<'w> Together<'w> {
    /// For the ranks of a communicator. Does not communicate.
    #[must_use]
    pub fn of(comm: &'w SimpleCommunicator) -> Self {
        Self {
            comm: comm.as_raw(),
            rank: comm.rank(),
            ranks: comm.size(),
            byte: u8::equivalent_datatype().as_raw(),
            number: i64::equivalent_datatype().as_raw(),
            // SAFETY: a constant that the C shim of mpi-sys initialises.
            no_status: unsafe { ffi::RSMPI_STATUS_IGNORE },
            lives: PhantomData,
        }
    }

    /// `MPI_Barrier`.
    #[inline(always)]
    pub fn barrier(&self) {
        // SAFETY: the communicator is borrowed for as long as this lives.
        unsafe { ffi::MPI_Barrier(self.comm) };
    }

    /// The dissemination barrier (Hensgen, Finkel and Manber 1988): ⌈log₂ p⌉ rounds, in the k-th of
    /// which a rank tells the one 2ᵏ after it and hears from the one 2ᵏ before it, with empty
    /// messages.
    #[inline(always)]
    pub fn disseminate(&self) {
        let mut distance = 1;
        while distance < self.ranks {
            let to = (self.rank + distance) % self.ranks;
            let from = (self.rank + self.ranks - distance) % self.ranks;
            // SAFETY: nothing is read from or written to the buffers of length 0; the communicator
            // is borrowed for as long as this lives.
            unsafe {
                ffi::MPI_Sendrecv(
                    ptr::null(),
                    0,
                    self.byte,
                    to,
                    TAG,
                    ptr::null_mut(),
                    0,
                    self.byte,
                    from,
                    TAG,
                    self.comm,
                    self.no_status,
                )
            };
            distance *= 2;
        }
    }

    /// Rank 0's number, by `MPI_Bcast`.
    #[inline(always)]
    pub fn broadcast(&self, own: i64) -> i64 {
        let mut number = own;
        // SAFETY: one number of the datatype's type, borrowed for the call; the communicator is
        // borrowed for as long as this lives.
        unsafe {
            ffi::MPI_Bcast(
                ptr::from_mut(&mut number).cast(),
                1,
                self.number,
                0,
                self.comm,
            )
        };
        number
    }
}
