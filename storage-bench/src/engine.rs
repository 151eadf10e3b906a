//! Engines: the ways in which I/O reaches the kernel.
//!
//! An engine owns the buffers, takes operations and gives completions back. It never looks at a
//! clock: the job around it stamps, so that all engines are timed by the same lines. The job is
//! generic over its engine, so the timed loop has no dispatch in it.

mod null;
mod psync;
mod uring;

pub use null::Null;
pub use psync::Psync;
pub use uring::Uring;
pub use uring::probe as probe_uring;

use crate::sys::Buffers;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the file into a buffer.
    Read,
    /// From a buffer into the file.
    Write,
}

impl Direction {
    /// The word for error messages.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One operation: a whole buffer, from or to this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// Which way.
    pub direction: Direction,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Which of the engine's buffers.
    pub buffer: usize,
}

/// One ended operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The buffer it was submitted with.
    pub buffer: usize,
    /// Bytes moved, or a negated errno.
    pub result: i32,
}

/// A way to do I/O on one file.
///
/// A buffer belongs to the engine from `queue` until its completion was reaped; only then may it
/// be looked at or used again.
pub trait Engine: Send + Sized {
    /// Opens the engine on the thread that will use it.
    ///
    /// # Errors
    /// What is missing; [`reports::model::Unavailable`] if this machine does not offer it.
    fn open(file: Arc<File>, buffers: Buffers) -> anyhow::Result<Self>;

    /// Takes one operation.
    fn queue(&mut self, op: Op);

    /// Hands everything queued to the kernel without waiting for anything.
    ///
    /// # Errors
    /// What the kernel says of the engine itself.
    fn submit(&mut self) -> io::Result<()>;

    /// Hands everything queued to the kernel, waits for at least one operation to end if any is
    /// under way, and appends all that have ended to `done`.
    ///
    /// # Errors
    /// What the kernel says of the engine itself; a failed operation is a completion.
    fn exchange(&mut self, done: &mut Vec<Completion>) -> io::Result<()>;

    /// An idle buffer's content.
    fn buffer(&self, index: usize) -> &[u8];

    /// An idle buffer, to be written.
    fn buffer_mut(&mut self, index: usize) -> &mut [u8];

    /// What is really in use, for the report.
    fn facts(&self) -> Value;
}
