//! A window of memory that one rank lends and another reads and writes: MPI's one-sided calls, for
//! which rsmpi has nothing.
//!
//! Safety rests on three things. The window owns its memory and buffers, so they live as long as
//! MPI may use them. Every epoch that a method opens is closed before anybody looks at a buffer:
//! that is what [`crate::kernel::one_sided`] does, and what MPI demands. And errors of MPI calls on
//! windows end the job, as is MPI's default.

use super::{ElementType, succeeded};
use crate::memory::Buffer;
use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::ffi::{c_int, c_void};
use std::ptr;

/// Where a window's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// `MPI_Win_allocate`: the library chooses it.
    Allocate,
    /// `MPI_Win_create` on memory of ours.
    Create,
    /// `MPI_Win_create_dynamic`, and memory of ours attached to it.
    Dynamic,
}

/// A window over a pair of ranks, and this rank's buffers for its operations.
///
/// Both ranks lend memory of the same length, `places` messages; operations go from a place of a
/// buffer to the same place at the peer.
pub struct Rma {
    comm: SimpleCommunicator,
    win: ffi::MPI_Win,
    own: c_int,
    peer: c_int,
    /// The group of the peer alone, for PSCW.
    peers: ffi::MPI_Group,
    /// The displacement of the peer's memory.
    base: ffi::MPI_Aint,
    message_bytes: usize,
    count: c_int,
    datatype: ffi::MPI_Datatype,
    sum: ffi::MPI_Op,
    lent: *mut u8,
    lent_bytes: usize,
    /// The lent memory, where the library did not allocate it: only kept.
    _memory: Option<Buffer<u8>>,
    attached: bool,
    out: Buffer<u8>,
    into: Buffer<u8>,
    compare: [u8; 8],
}

/// The memory of a window and the buffers of its operations, before the window is made: what one
/// rank alone may lack.
pub struct Parts {
    kind: Memory,
    lent_bytes: usize,
    memory: Option<Buffer<u8>>,
    out: Buffer<u8>,
    into: Buffer<u8>,
}

impl Parts {
    /// `bytes` of memory to lend, and buffers of as many bytes for what operations send and fetch,
    /// if they do.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(kind: Memory, bytes: usize, sends: bool, fetches: bool) -> anyhow::Result<Self> {
        let buffer = |needed: bool| Buffer::filled(if needed { bytes } else { 0 }, 0);
        let memory = match kind {
            Memory::Allocate => None,
            Memory::Create | Memory::Dynamic => Some(buffer(true)?),
        };
        Ok(Self {
            kind,
            lent_bytes: bytes,
            memory,
            out: buffer(sends)?,
            into: buffer(fetches)?,
        })
    }
}

impl Rma {
    /// Makes the window; both ranks of `pair`, which has no others, call it alike.
    ///
    /// # Errors
    /// The code of an MPI call that failed, or a message beyond a C `int`.
    pub fn new(
        pair: SimpleCommunicator,
        parts: Parts,
        message_bytes: usize,
        element: ElementType,
    ) -> anyhow::Result<Self> {
        let Parts {
            kind,
            lent_bytes,
            mut memory,
            out,
            into,
        } = parts;
        let own = pair.rank();
        let (win, lent) = make(&pair, kind, memory.as_deref_mut(), lent_bytes)?;
        let peers = group_of(&pair, 1 - own)?;
        let mut rma = Self {
            comm: pair,
            win,
            own,
            peer: 1 - own,
            peers,
            base: 0,
            message_bytes,
            count: c_int::try_from(message_bytes / element.bytes())?,
            datatype: element.raw(),
            // SAFETY: RSMPI_SUM is a constant that the C shim of mpi-sys initialises.
            sum: unsafe { ffi::RSMPI_SUM },
            lent,
            lent_bytes,
            _memory: memory,
            attached: false,
            out,
            into,
            compare: [0; 8],
        };
        if kind == Memory::Dynamic {
            rma.attach()?;
        }
        Ok(rma)
    }

    /// Lends this rank's memory to a dynamic window, and learns where the peer's is.
    fn attach(&mut self) -> anyhow::Result<()> {
        // SAFETY: the memory is this window's own, has that length and lives until it is detached.
        let code = unsafe {
            ffi::MPI_Win_attach(self.win, self.lent.cast(), self.lent_bytes as ffi::MPI_Aint)
        };
        succeeded("MPI_Win_attach", code)?;
        self.attached = true;
        let mut address: ffi::MPI_Aint = 0;
        // SAFETY: it only turns the pointer into a number.
        let code = unsafe { ffi::MPI_Get_address(self.lent.cast(), &raw mut address) };
        succeeded("MPI_Get_address", code)?;
        let mut both = [0i64; 2];
        let own = [address as i64];
        self.comm.all_gather_into(&own[..], &mut both[..]);
        self.base = both[usize::from(self.own == 0)] as ffi::MPI_Aint;
        Ok(())
    }

    /// The pair of ranks.
    pub fn pair(&self) -> &SimpleCommunicator {
        &self.comm
    }

    /// What operations send, to be filled between epochs.
    pub fn outgoing(&mut self) -> &mut [u8] {
        &mut self.out
    }

    /// What operations fetched, to be looked at between epochs.
    pub fn fetched(&mut self) -> &mut [u8] {
        &mut self.into
    }

    /// Lets `look` read and write the memory that this rank lends. Nobody else uses it meanwhile:
    /// callers see to that by messages before and after.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn with_memory<R>(&mut self, look: impl FnOnce(&mut [u8]) -> R) -> anyhow::Result<R> {
        // The lock makes what others wrote visible here, and what is written here to them.
        self.lock_rank(ffi::MPI_LOCK_EXCLUSIVE as c_int, self.own)?;
        let memory = if self.lent_bytes == 0 {
            &mut [][..]
        } else {
            // SAFETY: the window's memory begins there, has that length, lives as long as the
            // window, and belongs to this rank alone while it holds its own exclusive lock.
            unsafe { std::slice::from_raw_parts_mut(self.lent, self.lent_bytes) }
        };
        let result = look(memory);
        self.unlock_rank(self.own)?;
        Ok(result)
    }

    #[inline(always)]
    fn place(&self, place: usize) -> (usize, ffi::MPI_Aint) {
        let offset = place * self.message_bytes;
        (offset, self.base + offset as ffi::MPI_Aint)
    }

    /// `MPI_Put` of a place.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn put(&mut self, place: usize) -> anyhow::Result<()> {
        let (offset, displacement) = self.place(place);
        let out = self.out[offset..].as_ptr();
        // SAFETY: the place is within the buffer, and within the peer's memory of equal length. The
        // buffer stays as it is until the epoch ends.
        let code = unsafe {
            ffi::MPI_Put(
                out.cast(),
                self.count,
                self.datatype,
                self.peer,
                displacement,
                self.count,
                self.datatype,
                self.win,
            )
        };
        succeeded("MPI_Put", code)
    }

    /// `MPI_Get` of a place.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn get(&mut self, place: usize) -> anyhow::Result<()> {
        let (offset, displacement) = self.place(place);
        let into = self.into[offset..].as_mut_ptr();
        // SAFETY: as in `put`; nobody looks at the buffer until the epoch ends.
        let code = unsafe {
            ffi::MPI_Get(
                into.cast(),
                self.count,
                self.datatype,
                self.peer,
                displacement,
                self.count,
                self.datatype,
                self.win,
            )
        };
        succeeded("MPI_Get", code)
    }

    /// `MPI_Accumulate` of a place with `MPI_SUM`.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn accumulate(&mut self, place: usize) -> anyhow::Result<()> {
        let (offset, displacement) = self.place(place);
        let out = self.out[offset..].as_ptr();
        // SAFETY: as in `put`.
        let code = unsafe {
            ffi::MPI_Accumulate(
                out.cast(),
                self.count,
                self.datatype,
                self.peer,
                displacement,
                self.count,
                self.datatype,
                self.sum,
                self.win,
            )
        };
        succeeded("MPI_Accumulate", code)
    }

    /// `MPI_Get_accumulate` of a place with `MPI_SUM`.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn get_accumulate(&mut self, place: usize) -> anyhow::Result<()> {
        let (offset, displacement) = self.place(place);
        let out = self.out[offset..].as_ptr();
        let into = self.into[offset..].as_mut_ptr();
        // SAFETY: as in `put` and `get`; the two buffers are apart.
        let code = unsafe {
            ffi::MPI_Get_accumulate(
                out.cast(),
                self.count,
                self.datatype,
                into.cast(),
                self.count,
                self.datatype,
                self.peer,
                displacement,
                self.count,
                self.datatype,
                self.sum,
                self.win,
            )
        };
        succeeded("MPI_Get_accumulate", code)
    }

    /// `MPI_Fetch_and_op` of a place of one element, with `MPI_SUM`.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn fetch_and_op(&mut self, place: usize) -> anyhow::Result<()> {
        let (offset, displacement) = self.place(place);
        let out = self.out[offset..].as_ptr();
        let into = self.into[offset..].as_mut_ptr();
        // SAFETY: as in `get_accumulate`; a place has one element at least.
        let code = unsafe {
            ffi::MPI_Fetch_and_op(
                out.cast(),
                into.cast(),
                self.datatype,
                self.peer,
                displacement,
                self.sum,
                self.win,
            )
        };
        succeeded("MPI_Fetch_and_op", code)
    }

    /// `MPI_Compare_and_swap` of the first place, of one integer, with what [`Rma::expect`] said.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn compare_and_swap(&mut self) -> anyhow::Result<()> {
        // SAFETY: as in `fetch_and_op`; what is compared lies in this struct, which nobody moves
        // within an epoch, because the loop has it borrowed.
        let code = unsafe {
            ffi::MPI_Compare_and_swap(
                self.out.as_ptr().cast(),
                self.compare.as_ptr().cast(),
                self.into.as_mut_ptr().cast(),
                self.datatype,
                self.peer,
                self.base,
                self.win,
            )
        };
        succeeded("MPI_Compare_and_swap", code)
    }

    /// What the next compare-and-swap expects and what it puts there, as the element's bytes.
    #[inline(always)]
    pub fn expect(&mut self, expected: [u8; 8], replacement: [u8; 8]) {
        self.compare = expected;
        let bytes = self.message_bytes;
        self.out[..bytes].copy_from_slice(&replacement[..bytes]);
    }

    /// `MPI_Win_lock` at the peer, shared.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn lock(&mut self) -> anyhow::Result<()> {
        self.lock_rank(ffi::MPI_LOCK_SHARED as c_int, self.peer)
    }

    /// `MPI_Win_unlock` at the peer.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn unlock(&mut self) -> anyhow::Result<()> {
        self.unlock_rank(self.peer)
    }

    #[inline(always)]
    fn lock_rank(&mut self, kind: c_int, rank: c_int) -> anyhow::Result<()> {
        // SAFETY: the rank is in the window's group, and holds no lock of this rank's.
        let code = unsafe { ffi::MPI_Win_lock(kind, rank, 0, self.win) };
        succeeded("MPI_Win_lock", code)
    }

    #[inline(always)]
    fn unlock_rank(&mut self, rank: c_int) -> anyhow::Result<()> {
        // SAFETY: lock_rank locked it.
        let code = unsafe { ffi::MPI_Win_unlock(rank, self.win) };
        succeeded("MPI_Win_unlock", code)
    }

    /// `MPI_Win_flush` of the peer, within a lock.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn flush(&mut self) -> anyhow::Result<()> {
        // SAFETY: callers hold the lock.
        let code = unsafe { ffi::MPI_Win_flush(self.peer, self.win) };
        succeeded("MPI_Win_flush", code)
    }

    /// `MPI_Win_fence`, which both ranks call.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn fence(&mut self) -> anyhow::Result<()> {
        // SAFETY: no other epoch is open, and without assertions nothing is promised.
        let code = unsafe { ffi::MPI_Win_fence(0, self.win) };
        succeeded("MPI_Win_fence", code)
    }

    /// The fence after which none follows, so that locks may.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    pub fn last_fence(&mut self) -> anyhow::Result<()> {
        let assertion = ffi::MPI_MODE_NOSUCCEED as c_int;
        // SAFETY: as promised, no operation follows before another fence.
        let code = unsafe { ffi::MPI_Win_fence(assertion, self.win) };
        succeeded("MPI_Win_fence", code)
    }

    /// `MPI_Win_start` of an access to the peer.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn start(&mut self) -> anyhow::Result<()> {
        // SAFETY: no other epoch is open; the group lives as long as the window.
        let code = unsafe { ffi::MPI_Win_start(self.peers, 0, self.win) };
        succeeded("MPI_Win_start", code)
    }

    /// `MPI_Win_complete` of what [`Rma::start`] opened.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn complete(&mut self) -> anyhow::Result<()> {
        // SAFETY: callers called `start`.
        let code = unsafe { ffi::MPI_Win_complete(self.win) };
        succeeded("MPI_Win_complete", code)
    }

    /// `MPI_Win_post` and `MPI_Win_wait`: lends the memory to the peer for one epoch.
    ///
    /// # Errors
    /// The code of an MPI call that failed.
    #[inline(always)]
    pub fn expose(&mut self) -> anyhow::Result<()> {
        // SAFETY: no other epoch is open; the group lives as long as the window.
        let code = unsafe { ffi::MPI_Win_post(self.peers, 0, self.win) };
        succeeded("MPI_Win_post", code)?;
        // SAFETY: the epoch was opened just now.
        let code = unsafe { ffi::MPI_Win_wait(self.win) };
        succeeded("MPI_Win_wait", code)
    }
}

const CACHE_LINE_BYTES: usize = 64;

/// Makes a window and says where this rank's memory begins.
fn make(
    pair: &SimpleCommunicator,
    kind: Memory,
    memory: Option<&mut [u8]>,
    bytes: usize,
) -> anyhow::Result<(ffi::MPI_Win, *mut u8)> {
    let comm = pair.as_raw();
    let length = bytes as ffi::MPI_Aint;
    let mut start: *mut u8 = memory.map_or(ptr::null_mut(), |memory| memory.as_mut_ptr());
    // SAFETY: these are constants that the C shim of mpi-sys initialises.
    let (mut win, info) = unsafe { (ffi::RSMPI_WIN_NULL, ffi::RSMPI_INFO_NULL) };
    let to = &raw mut win;
    // SAFETY: the memory has the length that is said and outlives the window, which the caller
    // keeps beside it; `start` receives a pointer, as MPI_Win_allocate writes through its `baseptr`.
    let (call, code) = unsafe {
        match kind {
            Memory::Allocate => {
                // MPICH 4.0 loses puts into windows whose length is no multiple of 16.
                let length = bytes.next_multiple_of(CACHE_LINE_BYTES) as ffi::MPI_Aint;
                let at: *mut c_void = (&raw mut start).cast();
                let code = ffi::MPI_Win_allocate(length, 1, info, comm, at, to);
                ("MPI_Win_allocate", code)
            }
            Memory::Create => {
                let code = ffi::MPI_Win_create(start.cast(), length, 1, info, comm, to);
                ("MPI_Win_create", code)
            }
            Memory::Dynamic => {
                let code = ffi::MPI_Win_create_dynamic(info, comm, to);
                ("MPI_Win_create_dynamic", code)
            }
        }
    };
    succeeded(call, code)?;
    Ok((win, start))
}

/// The group of one rank of a communicator.
fn group_of(comm: &SimpleCommunicator, rank: c_int) -> anyhow::Result<ffi::MPI_Group> {
    // SAFETY: RSMPI_GROUP_NULL is a constant that the C shim of mpi-sys initialises.
    let (mut all, mut one) = unsafe { (ffi::RSMPI_GROUP_NULL, ffi::RSMPI_GROUP_NULL) };
    // SAFETY: the communicator is alive, and the group goes into a place of this function's own.
    let code = unsafe { ffi::MPI_Comm_group(comm.as_raw(), &raw mut all) };
    succeeded("MPI_Comm_group", code)?;
    // SAFETY: one rank is read, and it is in the group.
    let code = unsafe { ffi::MPI_Group_incl(all, 1, &raw const rank, &raw mut one) };
    succeeded("MPI_Group_incl", code)?;
    // SAFETY: the group was made here and is not used again.
    let code = unsafe { ffi::MPI_Group_free(&raw mut all) };
    succeeded("MPI_Group_free", code)?;
    Ok(one)
}

impl Drop for Rma {
    fn drop(&mut self) {
        // SAFETY: no epoch is open, and both ranks come here at the same step; the memory, the
        // buffers and the communicator are dropped after this. An error ends the job.
        unsafe {
            ffi::MPI_Group_free(&raw mut self.peers);
            if self.attached {
                ffi::MPI_Win_detach(self.win, self.lent.cast());
            }
            ffi::MPI_Win_free(&raw mut self.win);
        }
    }
}
