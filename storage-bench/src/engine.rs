//! Engines: the ways in which I/O reaches the kernel.
//!
//! An engine owns the buffers, takes operations and gives completions back. It never looks at a
//! clock: the job around it stamps, so that all engines are timed by the same lines. The job is
//! generic over its engine, so the timed loop has no dispatch in it.

mod null;
mod passthrough;
mod psync;
mod trim;
mod uring;
mod workers;

pub use null::Null;
pub use passthrough::block_name;
pub use psync::Psync;
pub use uring::probe as probe_uring;
pub use uring::{Commands, Files, Nops, Uring};
pub use workers::{Helpers, Workers};

use crate::spec::EngineOptions;
use crate::sys::Buffers;
use reports::model::Flag;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Moves bytes from the file into a buffer.
    Read,
    /// Moves bytes from a buffer into the file.
    Write,
    /// Gives a range of the file back: a hole in a file, a discard of a device's blocks.
    Trim,
    /// Makes everything written so far durable.
    Fsync,
    /// As `Fsync`, without metadata that reading does not need.
    Fdatasync,
}

impl Kind {
    /// The word for error messages.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Trim => "trim",
            Self::Fsync => "fsync",
            Self::Fdatasync => "fdatasync",
        }
    }

    /// Whether it moves bytes, so that their number is its result; else that is zero.
    #[inline(always)]
    #[must_use]
    pub fn moves_bytes(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether it makes writes durable, and is no I/O by itself.
    #[inline(always)]
    #[must_use]
    pub fn flushes(self) -> bool {
        matches!(self, Self::Fsync | Self::Fdatasync)
    }
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes; at most a buffer's.
    pub len: u32,
    /// Which of the engine's buffers; one that moves no bytes has one all the same, by which its
    /// completion is known.
    pub buffer: usize,
}

/// One ended operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The buffer it was submitted with.
    pub buffer: usize,
    /// Bytes moved, zero for an operation that moves none, or a negated errno.
    pub result: i32,
}

/// How long [`Engine::exchange`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all, and nothing is asked of the kernel for it: only what has ended by itself is taken.
    Peek,
    /// Not at all, but the kernel is let finish what it left to this thread.
    No,
    /// Until at least one operation has ended, if any is under way; or as many as
    /// [`EngineOptions::iodepth_batch_complete_min`] says.
    One,
    /// As `One`, but no longer than this; with nothing under way it waits all of it.
    AtMost(Duration),
}

/// What an engine is opened with.
pub struct Opening {
    /// The file that all operations go to.
    pub file: Arc<File>,
    /// The memory that they move; an operation names one of these buffers.
    pub buffers: Buffers,
    /// How the engine is to be set up.
    pub options: EngineOptions,
}

/// A way to do I/O on one file.
///
/// A buffer belongs to the engine from `queue` until its completion was reaped; only then may it
/// be looked at or used again.
pub trait Engine: Send + Sized {
    /// Whether operations move bytes; else each has a length of zero.
    const MOVES: bool = true;
    /// Whether threads of the kernel may do a part of the work, whose CPU time is nobody's else.
    const HELPED: bool = false;

    /// Opens the engine on the thread that will use it.
    ///
    /// # Errors
    /// What is missing; [`reports::model::Unavailable`] if this machine does not offer it.
    fn open(opening: Opening) -> anyhow::Result<Self>;

    /// Takes one operation.
    fn queue(&mut self, op: Op);

    /// Hands everything queued to the kernel, waits as `wait` says, and appends all operations
    /// that have ended to `done`.
    ///
    /// # Errors
    /// What the kernel says of the engine itself; a failed operation is a completion.
    fn exchange(&mut self, done: &mut Vec<Completion>, wait: Wait) -> io::Result<()>;

    /// Hands everything queued to the kernel without waiting for anything and without reaping.
    ///
    /// # Errors
    /// As for `exchange`.
    fn submit(&mut self) -> io::Result<()>;

    /// An idle buffer's content.
    fn buffer(&self, index: usize) -> &[u8];

    /// An idle buffer, to be written.
    fn buffer_mut(&mut self, index: usize) -> &mut [u8];

    /// What is really in use, for the report.
    fn facts(&self) -> Value;

    /// What was asked for and is not in force.
    fn flags(&self) -> Vec<Flag> {
        Vec::new()
    }
}
