//! Streams over several flows of one thread, which take turns under epoll.

use super::Shared;
use super::pattern::{PROBE, Pattern};
use super::stream::{RECEIVED, SENT, proven};
use crate::test::Test;
use crate::transport::Flow;
use crate::transport::buffer::Buffer;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// One flow of a thread: its number in the test and how far it got.
struct Lane {
    index: usize,
    flow: SocketFlow,
    position: u64,
}

fn lanes(flows: Vec<(usize, SocketFlow)>) -> Vec<Lane> {
    let lane = |(index, flow)| Lane {
        index,
        flow,
        position: 0,
    };
    flows.into_iter().map(lane).collect()
}

fn carried(lanes: &[Lane]) -> u64 {
    lanes.iter().map(|lane| lane.position).sum()
}

fn poller(lanes: &[Lane], interest: Interest, busy_poll: bool) -> anyhow::Result<Poller> {
    for lane in lanes {
        lane.flow.set_blocking(false)?;
    }
    let poller = Poller::new(lanes.iter().map(|lane| &lane.flow), interest)?;
    Ok(poller.with_busy_poll(busy_poll))
}

/// The sending ends of a thread's flows.
pub struct ManySender {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    busy_poll: bool,
    shared: Shared,
    pattern: Pattern,
    length: usize,
    sends: u64,
}

impl ManySender {
    /// For these flows of the test, with `length` bytes per send.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(
        test: &Test,
        flows: Vec<(usize, SocketFlow)>,
        length: usize,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            lanes: lanes(flows),
            poller: None,
            busy_poll: test.busy_poll,
            shared,
            pattern: Pattern::new(length)?,
            length,
            sends: 0,
        })
    }

    /// One send on the next flow that has room. The kernel may take a part; an operation is
    /// complete when its last byte is.
    #[inline]
    fn send(&mut self) -> anyhow::Result<Work> {
        let Some(poller) = &mut self.poller else {
            anyhow::bail!("the flows were not prepared");
        };
        let lane = &mut self.lanes[poller.next_ready()?];
        let length = self.length as u64;
        let rest = length - lane.position % length;
        let data = self.pattern.at(lane.position, rest as usize);
        let taken = lane.flow.try_send(data)?.unwrap_or(0) as u64;
        lane.position += taken;
        self.shared.note(lane.index, lane.position);
        let ops = u64::from(taken == rest);
        self.sends += ops;
        Ok(Work { ops, bytes: taken })
    }
}

impl Workload for ManySender {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = Some(poller(&self.lanes, Interest::Send, self.busy_poll)?);
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        self.send()
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        for lane in &mut self.lanes {
            lane.flow.end()?;
        }
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, carried(&self.lanes), self.sends, SENT)
    }
}

/// The receiving ends of a thread's flows. They work until all other ends have ended.
pub struct ManyReceiver {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    busy_poll: bool,
    shared: Shared,
    pattern: Pattern,
    buffer: Buffer,
    open: usize,
    reads: u64,
}

impl ManyReceiver {
    /// For these flows of the test, with at most `length` bytes per read.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(
        test: &Test,
        flows: Vec<(usize, SocketFlow)>,
        length: usize,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            open: flows.len(),
            lanes: lanes(flows),
            poller: None,
            busy_poll: test.busy_poll,
            shared,
            pattern: Pattern::new(PROBE)?,
            buffer: Buffer::zeroed(length),
            reads: 0,
        })
    }

    /// One read on the next flow that has bytes or has ended.
    #[inline]
    fn read(&mut self) -> anyhow::Result<Work> {
        let Some(poller) = &mut self.poller else {
            anyhow::bail!("the flows were not prepared");
        };
        let lane = &mut self.lanes[poller.next_ready()?];
        match lane.flow.try_receive(&mut self.buffer)? {
            None => Ok(Work::default()),
            Some(0) => {
                poller.forget(&lane.flow)?;
                self.open -= 1;
                Ok(Work::default())
            }
            Some(count) => {
                self.pattern.check(lane.position, &self.buffer[..count])?;
                lane.position += count as u64;
                self.shared.note(lane.index, lane.position);
                self.reads += 1;
                Ok(Work::op(count as u64))
            }
        }
    }
}

impl Workload for ManyReceiver {
    /// The window opens when there is something to receive, not while the sender gets ready.
    fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(lane) = self.lanes.first() {
            lane.flow.wait_for_first_byte()?;
        }
        self.poller = Some(poller(&self.lanes, Interest::Receive, self.busy_poll)?);
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.read()?;
        if self.open == 0 {
            rec.finish();
        }
        Ok(work)
    }

    /// A window that closed early leaves bytes on their way, which still have to be counted.
    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while self.open > 0 {
            work += self.read()?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, carried(&self.lanes), self.reads, RECEIVED)
    }
}
