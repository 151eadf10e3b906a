//! Ways to take a stream from the kernel.

use super::outlet::pipe;
use super::pattern::{PROBE, Pattern};
use super::stream::RECEIVED;
use super::uring::RingUse;
use crate::transport::Flow;
use crate::transport::buffer::Buffer;
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use bench_sys::calls;
use bench_sys::transfer::splice;
use nix::sys::socket::{MsgFlags, recv};
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};

/// What a receiver proves that does not look at what it receives.
const UNSEEN: &str = "reads were counted, their bytes not looked at";

/// A way to receive.
pub trait Inlet: Send {
    /// What has to be done before the first receive.
    ///
    /// # Errors
    /// What the kernel refuses, and the remedy.
    fn prepare(&mut self, _flow: &SocketFlow) -> anyhow::Result<()> {
        Ok(())
    }

    /// Receives what is there, waiting for the first byte, and checks that it belongs at `position`
    /// of the stream, as far as it can be seen. Returns how much; 0 means that the peer has ended.
    ///
    /// # Errors
    /// The peer is gone, or the bytes are wrong.
    fn receive(&mut self, flow: &mut SocketFlow, position: u64) -> anyhow::Result<usize>;

    /// What each receive proves.
    fn proves(&self) -> &'static str;

    /// What there is to tell after the last receive.
    fn finish(&mut self) -> Option<RingUse> {
        None
    }
}

/// Receives into memory.
pub struct Copied {
    buffer: Buffer,
    /// The probes at the ends of a read are all that is compared.
    pattern: Pattern,
}

impl Copied {
    /// For at most `length` bytes per read.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        Ok(Self {
            buffer: Buffer::zeroed(length),
            pattern: Pattern::new(PROBE)?,
        })
    }
}

impl Inlet for Copied {
    #[inline]
    fn receive(&mut self, flow: &mut SocketFlow, position: u64) -> anyhow::Result<usize> {
        let count = flow.receive(&mut self.buffer)?;
        self.pattern.check(position, &self.buffer[..count])?;
        Ok(count)
    }

    fn proves(&self) -> &'static str {
        RECEIVED
    }
}

/// Has the kernel throw away what came (MSG_TRUNC on TCP).
pub struct Discarded(Buffer);

impl Discarded {
    /// For at most `length` bytes per read.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self(Buffer::zeroed(length))
    }
}

impl Inlet for Discarded {
    #[inline]
    fn receive(&mut self, flow: &mut SocketFlow, _position: u64) -> anyhow::Result<usize> {
        loop {
            calls::count(1);
            match recv(flow.as_fd().as_raw_fd(), &mut self.0, MsgFlags::MSG_TRUNC) {
                // What is returned was taken off the stream, not written to the buffer.
                Ok(count) => return Ok(count),
                Err(errno) => {
                    flow.explain("receiving from", &errno.into())?;
                }
            }
        }
    }

    fn proves(&self) -> &'static str {
        UNSEEN
    }
}

/// Moves what came through a pipe to where nothing is kept (splice).
pub struct Spliced {
    from: PipeReader,
    to: PipeWriter,
    sink: File,
    length: usize,
}

impl Spliced {
    /// For at most `length` bytes per read.
    ///
    /// # Errors
    /// The pipe cannot be made, or /dev/null not opened.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        let (from, to) = pipe(length)?;
        let sink = OpenOptions::new().write(true).open("/dev/null");
        Ok(Self {
            from,
            to,
            sink: sink.context("cannot open /dev/null")?,
            length,
        })
    }
}

impl Inlet for Spliced {
    #[inline]
    fn receive(&mut self, flow: &mut SocketFlow, _position: u64) -> anyhow::Result<usize> {
        let count = loop {
            match splice(flow.as_fd(), None, self.to.as_fd(), self.length) {
                Ok(count) => break count,
                Err(error) => {
                    flow.explain("receiving from", &error)?;
                }
            }
        };
        let mut held = count;
        while held > 0 {
            held -= splice(self.from.as_fd(), None, self.sink.as_fd(), held)
                .context("cannot splice what came into /dev/null")?;
        }
        Ok(count)
    }

    fn proves(&self) -> &'static str {
        UNSEEN
    }
}
