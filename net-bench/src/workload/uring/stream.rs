//! Bytes in order, over one flow.

use super::{PATIENCE, REARM, RingUse, UNPREPARED, buffers, check_cut, refusal};
use crate::transport::socket::SocketFlow;
use crate::workload::inlet::Inlet;
use crate::workload::outlet::{LAST_COMPLETIONS, Outlet, Told, ZeroCopy, place};
use crate::workload::pattern::{PERIOD, PROBE, Pattern};
use crate::workload::stream::RECEIVED;
use anyhow::Context;
use bench_sys::ring::{ReceiveRing, Received, Refused, SendKind, SendRing};
use nix::libc;
use std::io;
use std::time::Instant;

/// About how many bytes one chain of sends hands to the kernel.
const CHAIN_BYTES: usize = 1 << 20;
/// Most sends of a chain.
const MOST_SENDS: usize = 64;

/// Whether the kernel is asked to fill several buffers with one receive.
const BUNDLES: bool = true;

/// How many sends go to the kernel together.
#[must_use]
pub fn depth(length: usize) -> usize {
    (CHAIN_BYTES / length.max(1)).clamp(1, MOST_SENDS)
}

/// Sends several buffers with one system call.
pub struct Sending {
    kind: SendKind,
    length: usize,
    depth: usize,
    ring: Option<SendRing<SocketFlow>>,
}

impl Sending {
    /// For sends of `length` bytes.
    #[must_use]
    pub fn new(length: usize, kind: SendKind) -> Self {
        Self {
            kind,
            length,
            depth: depth(length),
            ring: None,
        }
    }
}

fn option(kind: SendKind) -> &'static str {
    match kind {
        SendKind::Copied => "--engine uring",
        SendKind::Uncopied => "--engine uring-zerocopy",
    }
}

/// What a send that the kernel did not take means; an error unless it is to be tried again.
#[cold]
fn explain(kind: SendKind, flow: &SocketFlow, error: io::Error) -> anyhow::Result<()> {
    match (error.raw_os_error(), kind) {
        (Some(libc::ENOMEM | libc::EINVAL | libc::EOPNOTSUPP), SendKind::Uncopied) => {
            let what = "IORING_OP_SEND_ZC";
            Err(refusal(option(kind), &Refused { what, error }))
        }
        _ => flow.explain("sending to", &error).map(drop),
    }
}

impl Outlet for Sending {
    fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        let pattern = Pattern::new(self.length)?;
        let memory = pattern.at(0, self.length + PERIOD);
        let ring = SendRing::new(flow.clone(), memory, self.depth, self.kind);
        self.ring = Some(ring.map_err(|refused| refusal(option(self.kind), &refused))?);
        Ok(())
    }

    #[inline]
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize> {
        let ring = self.ring.as_mut().context(UNPREPARED)?;
        for index in 0..self.depth {
            ring.queue(place(position + (index * length) as u64) as usize, length);
        }
        loop {
            match ring.flush(PATIENCE) {
                Ok(true) => return Ok(self.depth),
                Ok(false) => check_cut(flow)?,
                Err(error) => explain(self.kind, flow, error)?,
            }
        }
    }

    fn finish(&mut self, flow: &SocketFlow) -> anyhow::Result<Told> {
        let mut ring = self.ring.take().context(UNPREPARED)?;
        let (mut seen, mut since) = (ring.usage().completed, Instant::now());
        while !ring
            .release(PATIENCE)
            .context("cannot wait for completions of sends")?
        {
            if ring.usage().completed > seen {
                (seen, since) = (ring.usage().completed, Instant::now());
            }
            anyhow::ensure!(
                since.elapsed() < LAST_COMPLETIONS,
                "the kernel completed {} of {} sends to {}",
                ring.usage().completed,
                ring.usage().sends,
                flow.peer()
            );
        }
        let usage = ring.usage();
        let mut told = RingUse::new(ring.grants(), self.depth, self.length);
        told.enters = ring.enters();
        Ok(Told {
            zerocopy: (self.kind == SendKind::Uncopied).then_some(ZeroCopy {
                sends: usage.sends,
                completed: usage.completed,
                copied: usage.copied,
            }),
            ring: Some(told),
        })
    }
}

/// Receives with one request that stays armed.
pub struct Receiving {
    length: usize,
    count: u16,
    ring: Option<ReceiveRing<SocketFlow>>,
    /// The probes at the ends of a read are all that is compared.
    pattern: Pattern,
}

impl Receiving {
    /// For at most `length` bytes per read.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        Ok(Self {
            length,
            count: buffers(length as u64),
            ring: None,
            pattern: Pattern::new(PROBE)?,
        })
    }
}

impl Inlet for Receiving {
    fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        let ring = ReceiveRing::new(flow.clone(), self.count, self.length, BUNDLES);
        self.ring = Some(ring.map_err(|refused| refusal("--receive uring", &refused))?);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, flow: &mut SocketFlow, position: u64) -> anyhow::Result<usize> {
        let ring = self.ring.as_mut().context(UNPREPARED)?;
        loop {
            match ring.receive(REARM) {
                Ok(Received::Bytes(bytes)) => {
                    self.pattern.check(position, bytes)?;
                    return Ok(bytes.len());
                }
                Ok(Received::Empty) => return Ok(0),
                Ok(Received::Nothing) => check_cut(flow)?,
                Err(error) => {
                    flow.explain("receiving from", &error)?;
                }
            }
        }
    }

    fn proves(&self) -> &'static str {
        RECEIVED
    }

    fn finish(&mut self) -> Option<RingUse> {
        let ring = self.ring.take()?;
        let mut told = RingUse::new(ring.grants(), ring.buffers().into(), self.length);
        told.enters = ring.enters();
        told.starved = ring.starved();
        Some(told)
    }
}
