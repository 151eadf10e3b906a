//! A stream over one flow: one end sends, the other receives, blocking calls only.

use super::Shared;
use super::pattern::Pattern;
use crate::transport::Flow;
use crate::transport::buffer::Buffer;
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// What a sender proves.
pub(super) const SENT: &str = "sends were taken whole";
/// What a receiver proves.
pub(super) const RECEIVED: &str = "reads began and ended with the bytes of their position";

/// Compares what the harness counted with how far the flows got.
///
/// # Errors
/// Both amounts.
pub(super) fn proven(
    total: Work,
    carried: u64,
    checks: u64,
    what: &str,
) -> anyhow::Result<Verified> {
    anyhow::ensure!(
        total.bytes == carried,
        "{} bytes were counted and {carried} carried",
        total.bytes
    );
    Ok(Verified {
        checks,
        what: what.to_owned(),
    })
}

/// The sending end of a flow.
pub struct Sender<F> {
    flow: F,
    index: usize,
    shared: Shared,
    pattern: Pattern,
    length: usize,
    position: u64,
}

impl<F: Flow> Sender<F> {
    /// For flow `index` of the test, with `length` bytes per send.
    pub fn new(flow: F, index: usize, length: usize, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            pattern: Pattern::new(length),
            length,
            position: 0,
        }
    }
}

impl<F: Flow> Workload for Sender<F> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        self.flow
            .send_all(self.pattern.at(self.position, self.length))?;
        self.position += self.length as u64;
        self.shared.note(self.index, self.position);
        Ok(Work::op(self.length as u64))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        self.flow.end()?;
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.position, total.ops, SENT)
    }
}

/// The receiving end of a flow. It works until the other end ends.
pub struct Receiver {
    flow: SocketFlow,
    index: usize,
    shared: Shared,
    pattern: Pattern,
    buffer: Buffer,
    position: u64,
    reads: u64,
    ended: bool,
}

impl Receiver {
    /// For flow `index` of the test, with at most `length` bytes per read.
    #[must_use]
    pub fn new(flow: SocketFlow, index: usize, length: usize, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            // The probes at the ends of a read are all that is compared.
            pattern: Pattern::new(super::pattern::PROBE),
            buffer: Buffer::zeroed(length),
            position: 0,
            reads: 0,
            ended: false,
        }
    }

    #[inline]
    fn read(&mut self) -> anyhow::Result<Work> {
        let count = self.flow.receive(&mut self.buffer)?;
        if count == 0 {
            self.ended = true;
            return Ok(Work::default());
        }
        self.pattern.check(self.position, &self.buffer[..count])?;
        self.position += count as u64;
        self.shared.note(self.index, self.position);
        self.reads += 1;
        Ok(Work::op(count as u64))
    }
}

impl Workload for Receiver {
    /// The window opens when there is something to receive, not while the sender gets ready.
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.flow.wait_for_first_byte()
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.read()?;
        if self.ended {
            rec.finish();
        }
        Ok(work)
    }

    /// A window that closed early leaves bytes on their way, which still have to be counted.
    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while !self.ended {
            work += self.read()?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.position, self.reads, RECEIVED)
    }
}
