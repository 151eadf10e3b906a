//! One end of a pair of ranks: a buffer for each direction, and the raw calls that move them.
//!
//! The endpoint owns its buffers, because persistent requests refer to them between the calls. What
//! is said of safety below rests on two things: no method returns while a message is under way, and
//! errors of MPI calls end the job (`MPI_ERRORS_ARE_FATAL`), so that none is left under way either.

use super::{Window, succeeded};
use crate::memory::Buffer;
use mpi::ffi;
use mpi::point_to_point::Status;
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Equivalence;
use std::ffi::c_int;

/// A rank's buffers, and its requests of messages to and from one peer.
pub struct Endpoint {
    comm: ffi::MPI_Comm,
    datatype: ffi::MPI_Datatype,
    peer: c_int,
    tag: c_int,
    ack_tag: c_int,
    out: Buffer<u8>,
    into: Buffer<u8>,
    sends: Window,
    receives: Window,
    persistent: bool,
}

impl Endpoint {
    /// An end with buffers of `size` bytes and windows of `messages` messages each way, whose
    /// acknowledgements have the tag after `tag`. The communicator must be the world, which
    /// outlives everything but `MPI_Finalize`.
    ///
    /// # Errors
    /// Too little memory, or a size beyond a C `int`.
    pub fn new(
        world: &SimpleCommunicator,
        peer: usize,
        tag: i32,
        size: usize,
        messages: usize,
    ) -> anyhow::Result<Self> {
        let peer = c_int::try_from(peer)?;
        // What the calls below count in.
        c_int::try_from(size)?;
        Ok(Self {
            comm: world.as_raw(),
            datatype: u8::equivalent_datatype().as_raw(),
            peer,
            tag,
            ack_tag: tag + 1,
            out: Buffer::filled(size, 0)?,
            into: Buffer::filled(size, 0)?,
            sends: Window::new(world, peer, tag, messages),
            receives: Window::new(world, peer, tag, messages),
            persistent: false,
        })
    }

    /// Makes the windows persistent: their requests are made here, once.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn make_persistent(mut self) -> anyhow::Result<Self> {
        self.persistent = true;
        self.sends.init_sends(&self.out)?;
        self.receives.init_receives(&mut self.into)?;
        Ok(self)
    }

    /// What is sent, to be filled.
    pub fn outgoing(&mut self) -> &mut [u8] {
        &mut self.out
    }

    /// What was received.
    pub fn arrived(&mut self) -> &mut [u8] {
        &mut self.into
    }

    /// Sends the message with `MPI_Send`.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn send(&mut self) -> anyhow::Result<()> {
        send(self, &self.out, self.tag)
    }

    /// Receives a message with `MPI_Recv`.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn receive(&mut self) -> anyhow::Result<()> {
        let count = self.into.len() as c_int;
        // SAFETY: the buffer is exclusively borrowed and has `count` bytes: an endpoint with
        // more than a C int holds is not made. MPI_STATUS_IGNORE is what MPI_Recv may be given.
        let code = unsafe {
            ffi::MPI_Recv(
                self.into.as_mut_ptr().cast(),
                count,
                self.datatype,
                self.peer,
                self.tag,
                self.comm,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        succeeded("MPI_Recv", code)
    }

    /// Receives a message with `MPI_Recv` and returns its length in bytes.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn receive_counted(&mut self) -> anyhow::Result<i32> {
        // SAFETY: MPI_Status is a C struct of integers, for which zeroes are a valid value.
        let mut status: ffi::MPI_Status = unsafe { std::mem::zeroed() };
        // SAFETY: as in `receive`, with a status of this function's own.
        let code = unsafe {
            ffi::MPI_Recv(
                self.into.as_mut_ptr().cast(),
                self.into.len() as c_int,
                self.datatype,
                self.peer,
                self.tag,
                self.comm,
                &raw mut status,
            )
        };
        succeeded("MPI_Recv", code)?;
        Ok(Status::from_raw(status).count(u8::equivalent_datatype()))
    }

    /// Sends one message with a non-blocking or persistent call, and waits for it.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn post_send(&mut self) -> anyhow::Result<()> {
        if self.persistent {
            self.sends.start_one()?;
        } else {
            self.sends.post_sends(&self.out)?;
        }
        self.sends.wait_one()
    }

    /// Receives one message with a non-blocking or persistent call, and waits for it.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn post_receive(&mut self) -> anyhow::Result<()> {
        if self.persistent {
            self.receives.start_one()?;
        } else {
            self.receives.post_receives(&mut self.into)?;
        }
        self.receives.wait_one()
    }

    /// Sends a window of messages.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn send_window(&mut self) -> anyhow::Result<()> {
        if self.persistent {
            self.sends.start_all()?;
            self.sends.wait_all()
        } else {
            self.sends.send(&self.out)
        }
    }

    /// Receives a window of messages.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn receive_window(&mut self) -> anyhow::Result<()> {
        if self.persistent {
            self.receives.start_all()?;
            self.receives.wait_all()
        } else {
            self.receives.receive(&mut self.into)
        }
    }

    /// Receives one window and sends another at the same time.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn exchange_windows(&mut self) -> anyhow::Result<()> {
        if self.persistent {
            self.receives.start_all()?;
            self.sends.start_all()?;
        } else {
            self.receives.post_receives(&mut self.into)?;
            self.sends.post_sends(&self.out)?;
        }
        self.sends.wait_all()?;
        self.receives.wait_all()
    }

    /// How many bytes each message of the last received window had.
    pub fn received_bytes(&self) -> impl Iterator<Item = i32> {
        self.receives.received_bytes()
    }

    /// Sends one byte that says that all has arrived.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn acknowledge(&self) -> anyhow::Result<()> {
        send(self, &[1], self.ack_tag)
    }

    /// Waits for the peer's byte.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn await_acknowledgement(&self) -> anyhow::Result<()> {
        let mut ack = 0u8;
        // SAFETY: the byte lives until the call returns.
        let code = unsafe {
            ffi::MPI_Recv(
                (&raw mut ack).cast(),
                1,
                self.datatype,
                self.peer,
                self.ack_tag,
                self.comm,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        succeeded("MPI_Recv", code)
    }
}

#[inline(always)]
fn send(end: &Endpoint, message: &[u8], tag: c_int) -> anyhow::Result<()> {
    // SAFETY: the message is borrowed until the call returns, and its length is a C int: an
    // endpoint with larger buffers is not made.
    let code = unsafe {
        ffi::MPI_Send(
            message.as_ptr().cast(),
            message.len() as c_int,
            end.datatype,
            end.peer,
            tag,
            end.comm,
        )
    };
    succeeded("MPI_Send", code)
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.persistent {
            return;
        }
        for request in self
            .sends
            .requests
            .iter_mut()
            .chain(&mut self.receives.requests)
        {
            // SAFETY: each request is persistent and inactive, and is not used again. An error ends
            // the job.
            unsafe { ffi::MPI_Request_free(request) };
        }
    }
}
