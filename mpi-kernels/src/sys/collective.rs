//! Collective calls, blocking and started, with the buffers that they work on.
//!
//! rsmpi lacks reduce_scatter and the neighbourhood, and what it has of the rest allocates requests
//! or lists of counts with each call. Here the arguments are made once; a [`Call`] owns its buffers
//! and checks when it is made that they hold what its function reads and writes.

use super::{ElementType, in_place, succeeded};
use crate::kernel::collective::shape::InPlace;
use crate::memory::Buffer;
use mpi::collective::SystemOperation;
use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::topology::{CartesianCommunicator, SimpleCommunicator};
use mpi::traits::Communicator;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

/// Blocks of elements that follow each other in a buffer.
pub struct Blocks {
    counts: Vec<c_int>,
    starts: Vec<c_int>,
    elements: usize,
}

impl Blocks {
    /// Blocks of so many elements each.
    ///
    /// # Errors
    /// More elements than a C int counts.
    pub fn new(counts: &[usize]) -> anyhow::Result<Self> {
        let mut blocks = Self {
            counts: Vec::with_capacity(counts.len()),
            starts: Vec::with_capacity(counts.len()),
            elements: 0,
        };
        for &count in counts {
            blocks.starts.push(c_int::try_from(blocks.elements)?);
            blocks.counts.push(c_int::try_from(count)?);
            blocks.elements += count;
        }
        c_int::try_from(blocks.elements)?;
        Ok(blocks)
    }

    /// The elements of all blocks.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The elements of each block.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let blocks = self.starts.iter().zip(&self.counts);
        // Both come from numbers without a sign.
        blocks.map(|(&start, &count)| start as usize..(start + count) as usize)
    }

    fn are_equal(&self) -> bool {
        self.counts.windows(2).all(|pair| pair[0] == pair[1])
    }
}

/// The ranks that a call is among.
pub enum Group<'w> {
    /// All, as they are.
    World(&'w SimpleCommunicator),
    /// All, on a grid.
    Grid(CartesianCommunicator),
}

impl Group<'_> {
    fn raw(&self) -> ffi::MPI_Comm {
        match self {
            Self::World(comm) => comm.as_raw(),
            Self::Grid(comm) => comm.as_raw(),
        }
    }

    fn size(&self) -> usize {
        let size = match self {
            Self::World(comm) => comm.size(),
            Self::Grid(comm) => comm.size(),
        };
        usize::try_from(size).unwrap_or(0)
    }
}

/// How many blocks a function finds in a buffer.
#[derive(Clone, Copy)]
pub enum Peers {
    /// None.
    Nobody,
    /// One.
    One,
    /// One for each rank.
    Ranks,
    /// One for each neighbour on the grid.
    Neighbours,
}

impl Peers {
    fn number(self, group: &Group<'_>) -> usize {
        match (self, group) {
            (Self::Nobody, _) => 0,
            (Self::One, _) => 1,
            (Self::Ranks, group) => group.size(),
            // Two for each dimension; without a grid the function is refused by MPI itself.
            (Self::Neighbours, Group::Grid(grid)) => {
                2 * usize::try_from(grid.num_dimensions()).unwrap_or(0)
            }
            (Self::Neighbours, Group::World(_)) => 0,
        }
    }
}

/// How a function is told its blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// One count for all blocks of a buffer.
    Equal,
    /// Lists of counts.
    Listed,
    /// One count for both buffers, of elements that are reduced.
    Reduced,
    /// Lists of the counts into which elements are divided when they have been reduced.
    ReducedListed,
}

impl Telling {
    fn reduces(self) -> bool {
        matches!(self, Self::Reduced | Self::ReducedListed)
    }

    fn lists(self) -> bool {
        matches!(self, Self::Listed | Self::ReducedListed)
    }
}

/// What the functions take, each some of it.
pub struct Arguments {
    comm: ffi::MPI_Comm,
    datatype: ffi::MPI_Datatype,
    op: ffi::MPI_Op,
    root: c_int,
    /// All elements of `out`, for reductions.
    count: c_int,
    out: *const c_void,
    out_count: c_int,
    out_counts: *const c_int,
    out_starts: *const c_int,
    into: *mut c_void,
    into_count: c_int,
    into_counts: *const c_int,
    into_starts: *const c_int,
}

/// A collective function of MPI: blocking, and started to be awaited.
pub trait Function: sealed::Raw + 'static {}

mod sealed {
    use super::{Arguments, Peers, Telling};
    use mpi::ffi;
    use std::ffi::c_int;

    pub trait Raw {
        const NAME: &'static str;
        const STARTED_NAME: &'static str;
        const BLOCKS: (Peers, Peers, Telling);
        /// # Safety
        /// The buffers hold what the function reads and writes.
        unsafe fn call(arguments: &Arguments) -> c_int;
        /// # Safety
        /// As for `call`, and until the request has completed.
        unsafe fn start(arguments: &Arguments, request: *mut ffi::MPI_Request) -> c_int;
    }
}

macro_rules! functions {
    ($($name:ident: $call:ident, $start:ident, $out:ident -> $into:ident, $telling:ident
        ($($argument:ident),*);)*) => { $(
        #[doc = concat!("`", stringify!($call), "` and `", stringify!($start), "`.")]
        pub struct $name;
        impl Function for $name {}
        impl sealed::Raw for $name {
            const NAME: &'static str = stringify!($call);
            const STARTED_NAME: &'static str = stringify!($start);
            const BLOCKS: (Peers, Peers, Telling) = (Peers::$out, Peers::$into, Telling::$telling);
            #[inline(always)]
            unsafe fn call(arguments: &Arguments) -> c_int {
                // SAFETY: the caller's.
                unsafe { ffi::$call($(arguments.$argument),*) }
            }
            #[inline(always)]
            unsafe fn start(arguments: &Arguments, request: *mut ffi::MPI_Request) -> c_int {
                // SAFETY: the caller's.
                unsafe { ffi::$start($(arguments.$argument),*, request) }
            }
        }
    )* };
}

functions! {
    Barrier: MPI_Barrier, MPI_Ibarrier, Nobody -> Nobody, Equal (comm);
    Bcast: MPI_Bcast, MPI_Ibcast, One -> One, Equal (into, into_count, datatype, root, comm);
    Reduce: MPI_Reduce, MPI_Ireduce, One -> One, Reduced
        (out, into, count, datatype, op, root, comm);
    Allreduce: MPI_Allreduce, MPI_Iallreduce, One -> One, Reduced
        (out, into, count, datatype, op, comm);
    ReduceScatter: MPI_Reduce_scatter, MPI_Ireduce_scatter, One -> Ranks, ReducedListed
        (out, into, into_counts, datatype, op, comm);
    ReduceScatterBlock: MPI_Reduce_scatter_block, MPI_Ireduce_scatter_block, One -> Ranks, Reduced
        (out, into, into_count, datatype, op, comm);
    Scan: MPI_Scan, MPI_Iscan, One -> One, Reduced (out, into, count, datatype, op, comm);
    Exscan: MPI_Exscan, MPI_Iexscan, One -> One, Reduced (out, into, count, datatype, op, comm);
    Gather: MPI_Gather, MPI_Igather, One -> Ranks, Equal
        (out, out_count, datatype, into, into_count, datatype, root, comm);
    Gatherv: MPI_Gatherv, MPI_Igatherv, One -> Ranks, Listed
        (out, out_count, datatype, into, into_counts, into_starts, datatype, root, comm);
    Scatter: MPI_Scatter, MPI_Iscatter, Ranks -> One, Equal
        (out, out_count, datatype, into, into_count, datatype, root, comm);
    Scatterv: MPI_Scatterv, MPI_Iscatterv, Ranks -> One, Listed
        (out, out_counts, out_starts, datatype, into, into_count, datatype, root, comm);
    Allgather: MPI_Allgather, MPI_Iallgather, One -> Ranks, Equal
        (out, out_count, datatype, into, into_count, datatype, comm);
    Allgatherv: MPI_Allgatherv, MPI_Iallgatherv, One -> Ranks, Listed
        (out, out_count, datatype, into, into_counts, into_starts, datatype, comm);
    Alltoall: MPI_Alltoall, MPI_Ialltoall, Ranks -> Ranks, Equal
        (out, out_count, datatype, into, into_count, datatype, comm);
    Alltoallv: MPI_Alltoallv, MPI_Ialltoallv, Ranks -> Ranks, Listed
        (out, out_counts, out_starts, datatype, into, into_counts, into_starts, datatype, comm);
    NeighborAllgather: MPI_Neighbor_allgather, MPI_Ineighbor_allgather, One -> Neighbours, Equal
        (out, out_count, datatype, into, into_count, datatype, comm);
    NeighborAlltoall: MPI_Neighbor_alltoall, MPI_Ineighbor_alltoall, Neighbours -> Neighbours, Equal
        (out, out_count, datatype, into, into_count, datatype, comm);
}

/// What a call is made from.
pub struct Parts<'w> {
    /// Among whom.
    pub group: Group<'w>,
    /// This rank.
    pub rank: usize,
    /// Of what.
    pub element: ElementType,
    /// What reductions do.
    pub op: SystemOperation,
    /// What this rank gives.
    pub out: Blocks,
    /// What it gets.
    pub into: Blocks,
    /// What `MPI_IN_PLACE` stands for, if it is used.
    pub in_place: Option<InPlace>,
}

/// One rank's part of a collective: its buffers and the arguments of its calls.
pub struct Call<'w, F> {
    parts: Parts<'w>,
    out: Buffer<u8>,
    into: Buffer<u8>,
    arguments: Arguments,
    request: ffi::MPI_Request,
    null: ffi::MPI_Request,
    function: PhantomData<F>,
}

impl<'w, F: Function> Call<'w, F> {
    /// The function's name, blocking.
    pub const NAME: &'static str = F::NAME;

    /// A call with buffers for its parts.
    ///
    /// # Errors
    /// Too little memory.
    ///
    /// # Panics
    /// Parts that do not fit the function.
    pub fn new(parts: Parts<'w>) -> anyhow::Result<Self> {
        let (givers, getters, telling) = F::BLOCKS;
        let (out, into) = (&parts.out, &parts.into);
        assert_eq!(out.counts.len(), givers.number(&parts.group));
        assert_eq!(into.counts.len(), getters.number(&parts.group));
        assert!(telling.lists() || (out.are_equal() && into.are_equal()));
        assert!(!telling.reduces() || out.elements == into.elements);
        let bytes = parts.element.bytes();
        // SAFETY: RSMPI_REQUEST_NULL is a constant that the C shim of mpi-sys initialises.
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut call = Self {
            out: Buffer::filled(out.elements * bytes, 0)?,
            into: Buffer::filled(into.elements * bytes, 0)?,
            arguments: Arguments {
                comm: parts.group.raw(),
                datatype: parts.element.raw(),
                op: parts.op.as_raw(),
                root: 0,
                count: c_int::try_from(out.elements)?,
                out: ptr::null(),
                out_count: out.counts.first().copied().unwrap_or(0),
                out_counts: out.counts.as_ptr(),
                out_starts: out.starts.as_ptr(),
                into: ptr::null_mut(),
                into_count: into.counts.first().copied().unwrap_or(0),
                into_counts: into.counts.as_ptr(),
                into_starts: into.starts.as_ptr(),
            },
            request: null,
            null,
            function: PhantomData,
            parts,
        };
        call.aim(0);
        Ok(call)
    }

    /// Chooses the root of the next call, for functions that have one.
    pub fn aim(&mut self, root: usize) {
        self.assert_idle();
        // Ranks come from a C int.
        self.arguments.root = root as c_int;
        let at_root = root == self.parts.rank;
        self.arguments.out = match self.parts.in_place {
            Some(InPlace::Out) => in_place(),
            Some(InPlace::OutOfRoot) if at_root => in_place(),
            _ => self.out.as_ptr().cast(),
        };
        self.arguments.into = match self.parts.in_place {
            Some(InPlace::IntoOfRoot) if at_root => in_place(),
            _ => self.into.as_mut_ptr().cast(),
        };
    }

    /// What this rank gives, and in which blocks.
    pub fn given(&mut self) -> (&mut [u8], &Blocks) {
        self.assert_idle();
        (&mut self.out, &self.parts.out)
    }

    /// What it gets.
    pub fn got(&mut self) -> &mut [u8] {
        self.assert_idle();
        &mut self.into
    }

    /// Copies what this rank gives to where it gets, from this byte on.
    pub fn copy_given(&mut self, start: usize) {
        self.assert_idle();
        self.into[start..start + self.out.len()].copy_from_slice(&self.out);
    }

    /// A call from beginning to end.
    ///
    /// # Errors
    /// The code of the MPI call.
    #[inline(always)]
    pub fn call(&mut self) -> anyhow::Result<()> {
        self.assert_idle();
        // SAFETY: `new` found that the buffers hold what the counts say, and they are borrowed
        // exclusively; the group lives as long as they do.
        succeeded(F::NAME, unsafe { F::call(&self.arguments) })
    }

    /// Starts a call that [`Self::wait`] ends.
    ///
    /// # Errors
    /// The code of the MPI call.
    #[inline(always)]
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.assert_idle();
        // SAFETY: as for `call`; until the request has completed, every access to the buffers is
        // refused, and dropping them waits for it.
        let code = unsafe { F::start(&self.arguments, &raw mut self.request) };
        succeeded(F::STARTED_NAME, code)
    }

    /// Lets the library make progress with a call that was started.
    ///
    /// # Errors
    /// The code of the MPI call.
    #[inline(always)]
    pub fn test(&mut self) -> anyhow::Result<()> {
        let mut done = 0;
        // SAFETY: the request was started or is null, for which MPI_Test is defined as well.
        let code = unsafe {
            ffi::MPI_Test(
                &raw mut self.request,
                &raw mut done,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        succeeded("MPI_Test", code)
    }

    /// Waits for the end of a call that was started.
    ///
    /// # Errors
    /// The code of the MPI call.
    #[inline(always)]
    pub fn wait(&mut self) -> anyhow::Result<()> {
        // SAFETY: as for `test`.
        let code = unsafe { ffi::MPI_Wait(&raw mut self.request, ffi::RSMPI_STATUS_IGNORE) };
        succeeded("MPI_Wait", code)
    }

    #[inline(always)]
    fn assert_idle(&self) {
        assert!(self.request == self.null, "a call is under way");
    }
}

impl<F> Drop for Call<'_, F> {
    fn drop(&mut self) {
        if self.request != self.null {
            // SAFETY: the request was started, and the library may write until it completes. There
            // is nobody to tell of an error, and MPI ends the job on errors anyway.
            unsafe { ffi::MPI_Wait(&raw mut self.request, ffi::RSMPI_STATUS_IGNORE) };
        }
    }
}

/// How many ranks each dimension of a grid has: `MPI_Dims_create`, as even as can be.
///
/// # Errors
/// The code of the MPI call.
pub fn dimensions<const N: usize>(ranks: usize) -> anyhow::Result<[i32; N]> {
    let mut dimensions = [0; N];
    let (ranks, number) = (c_int::try_from(ranks)?, c_int::try_from(N)?);
    // SAFETY: the array has as many places as it is said to have, and 0 leaves each to MPI.
    let code = unsafe { ffi::MPI_Dims_create(ranks, number, dimensions.as_mut_ptr()) };
    succeeded("MPI_Dims_create", code)?;
    Ok(dimensions)
}
