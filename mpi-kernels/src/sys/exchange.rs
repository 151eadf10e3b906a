//! Messages with several ranks at once: all receives posted, all sends posted, all awaited. Rings,
//! stencils and halves of a machine are lists of such links.

use super::succeeded;
use crate::memory::Buffer;
use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Equivalence;
use std::ffi::c_int;
use std::ptr;

/// One message out and one in at each exchange; both carry the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The rank that gets this rank's message, if one does.
    pub to: Option<i32>,
    /// The rank whose message arrives here, if one does.
    pub from: Option<i32>,
    /// What tells the message from others of the same rank.
    pub tag: i32,
}

/// A fixed list of links with a message buffer for each direction of each.
pub struct Exchange {
    comm: ffi::MPI_Comm,
    links: Vec<Link>,
    size: usize,
    out: Buffer<u8>,
    into: Buffer<u8>,
    requests: Vec<ffi::MPI_Request>,
    statuses: Vec<ffi::MPI_Status>,
}

impl Exchange {
    /// Messages of `size` bytes over these links. The communicator must be the world, which
    /// outlives everything but `MPI_Finalize`.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(world: &SimpleCommunicator, links: Vec<Link>, size: usize) -> anyhow::Result<Self> {
        // SAFETY: RSMPI_REQUEST_NULL is a constant that the C shim of mpi-sys initialises.
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: MPI_Status is a C struct of integers, for which zeroes are a valid value.
        let status: ffi::MPI_Status = unsafe { std::mem::zeroed() };
        c_int::try_from(size)?;
        Ok(Self {
            comm: world.as_raw(),
            size,
            out: Buffer::filled(links.len() * size, 0)?,
            into: Buffer::filled(links.len() * size, 0)?,
            requests: vec![null; 2 * links.len()],
            statuses: vec![status; 2 * links.len()],
            links,
        })
    }

    /// The links.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The message that leaves over a link.
    pub fn out(&mut self, link: usize) -> &mut [u8] {
        &mut self.out[link * self.size..(link + 1) * self.size]
    }

    /// The message that arrived over a link.
    pub fn arrived(&mut self, link: usize) -> &mut [u8] {
        &mut self.into[link * self.size..(link + 1) * self.size]
    }

    /// Exchanges all messages at once: MPI_Irecv of all, MPI_Isend of all, MPI_Waitall.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline]
    pub fn all_at_once(&mut self) -> anyhow::Result<()> {
        let datatype = u8::equivalent_datatype().as_raw();
        // Checked in `new`.
        let count = self.size as c_int;
        let mut posted = 0;
        for (index, link) in self.links.iter().enumerate() {
            let Some(from) = link.from else { continue };
            // SAFETY: each link has its own part of `into`, `size` bytes long, which nothing else
            // touches until MPI_Waitall below has completed the request.
            let code = unsafe {
                ffi::MPI_Irecv(
                    self.into.as_mut_ptr().add(index * self.size).cast(),
                    count,
                    datatype,
                    from,
                    link.tag,
                    self.comm,
                    ptr::from_mut(&mut self.requests[posted]),
                )
            };
            succeeded("MPI_Irecv", code)?;
            posted += 1;
        }
        for (index, link) in self.links.iter().enumerate() {
            let Some(to) = link.to else { continue };
            // SAFETY: as above for `out`, which MPI only reads.
            let code = unsafe {
                ffi::MPI_Isend(
                    self.out.as_ptr().add(index * self.size).cast(),
                    count,
                    datatype,
                    to,
                    link.tag,
                    self.comm,
                    ptr::from_mut(&mut self.requests[posted]),
                )
            };
            succeeded("MPI_Isend", code)?;
            posted += 1;
        }
        // SAFETY: the first `posted` requests were posted just now, and both arrays are longer:
        // two places for each link, of which a C int holds the number.
        let code = unsafe {
            ffi::MPI_Waitall(
                posted as c_int,
                self.requests.as_mut_ptr(),
                self.statuses.as_mut_ptr(),
            )
        };
        succeeded("MPI_Waitall", code)
    }

    /// Exchanges the messages link by link, each by MPI_Sendrecv; every link must have both ends.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline]
    pub fn one_by_one(&mut self) -> anyhow::Result<()> {
        let datatype = u8::equivalent_datatype().as_raw();
        // Checked in `new`.
        let count = self.size as c_int;
        for (index, link) in self.links.iter().enumerate() {
            let (Some(to), Some(from)) = (link.to, link.from) else {
                anyhow::bail!("MPI_Sendrecv needs a link with both ends");
            };
            // SAFETY: each link has its own part of `out` and of `into`, `size` bytes long; the
            // buffers do not overlap, and the call returns when both messages are complete.
            let code = unsafe {
                ffi::MPI_Sendrecv(
                    self.out.as_ptr().add(index * self.size).cast(),
                    count,
                    datatype,
                    to,
                    link.tag,
                    self.into.as_mut_ptr().add(index * self.size).cast(),
                    count,
                    datatype,
                    from,
                    link.tag,
                    self.comm,
                    self.statuses.as_mut_ptr(),
                )
            };
            succeeded("MPI_Sendrecv", code)?;
        }
        Ok(())
    }
}
