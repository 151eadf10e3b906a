//! A stream over one flow: one end sends, the other receives, blocking calls only.

use super::Shared;
use super::inlet::Inlet;
use super::outlet::Outlet;
use crate::transport::Flow;
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
pub struct Sender<O> {
    flow: SocketFlow,
    index: usize,
    shared: Shared,
    outlet: O,
    length: usize,
    position: u64,
}

impl<O: Outlet> Sender<O> {
    /// For flow `index` of the test, with `length` bytes per send through `outlet`.
    pub fn new(flow: SocketFlow, index: usize, length: usize, outlet: O, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            outlet,
            length,
            position: 0,
        }
    }
}

impl<O: Outlet> Workload for Sender<O> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.outlet.prepare(&self.flow)?;
        self.flow.prepare_stream()
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let sends = self
            .outlet
            .send(&mut self.flow, self.position, self.length)?;
        let work = Work {
            ops: sends as u64,
            bytes: (sends * self.length) as u64,
        };
        self.position += work.bytes;
        self.shared.note(self.index, self.position);
        Ok(work)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let told = self.outlet.finish(&self.flow)?;
        if let Some(tally) = told.zerocopy {
            self.shared.report_zerocopy(tally);
        }
        if let Some(ring) = told.ring {
            self.shared.report_ring(ring);
        }
        self.flow.end()?;
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.position, total.ops, SENT)
    }
}

/// The receiving end of a flow. It works until the other end ends.
pub struct Receiver<I> {
    flow: SocketFlow,
    index: usize,
    shared: Shared,
    inlet: I,
    position: u64,
    reads: u64,
    ended: bool,
}

impl<I: Inlet> Receiver<I> {
    /// For flow `index` of the test, through `inlet`.
    pub fn new(flow: SocketFlow, index: usize, inlet: I, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            inlet,
            position: 0,
            reads: 0,
            ended: false,
        }
    }

    #[inline]
    fn read(&mut self) -> anyhow::Result<Work> {
        let count = self.inlet.receive(&mut self.flow, self.position)?;
        if count == 0 {
            self.ended = true;
            return Ok(Work::default());
        }
        self.position += count as u64;
        self.shared.note(self.index, self.position);
        self.reads += 1;
        Ok(Work::op(count as u64))
    }
}

impl<I: Inlet> Workload for Receiver<I> {
    /// The window opens when there is something to receive, not while the sender gets ready.
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.inlet.prepare(&self.flow)?;
        self.flow.wait_for_first_byte()?;
        self.flow.prepare_stream()
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
        if let Some(ring) = self.inlet.finish() {
            self.shared.report_ring(ring);
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.position, self.reads, self.inlet.proves())
    }
}
