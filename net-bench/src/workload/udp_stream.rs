//! Streams of numbered datagrams. Nothing holds the sender back and nothing is sent again, so the
//! receiver counts what came, by number.
//!
//! A datagram is its number, eight bytes little-endian, and the stream pattern behind it. After the
//! last one the sender says a few times that it has ended, which closes the receiver's window; what
//! arrives behind that still counts. Should all of these get lost, the control channel ends the
//! receiver, later (see [`crate::attend`]).

use super::Shared;
use super::pattern::{PROBE, Pattern};
use super::sequence::{Datagrams, Sequence};
use crate::transport::buffer::Buffer;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// Bytes of a datagram's number.
pub const NUMBER_BYTES: usize = 8;
/// Set in the number that says that the flow has ended.
const END: u64 = 1 << 63;
/// Numbers from here on are no datagram's: calls of the rendezvous look like one.
const MOST: u64 = 1 << 56;
/// How often the end is said.
const ENDS: u32 = 3;

/// One flow of a sending thread.
struct Lane {
    index: usize,
    flow: SocketFlow,
    next: u64,
}

/// The sending ends of a thread's flows, which take turns.
pub struct UdpSender {
    lanes: Vec<Lane>,
    turn: usize,
    shared: Shared,
    datagram: Buffer,
}

impl UdpSender {
    /// For these flows of the test, with `length` bytes per datagram.
    #[must_use]
    pub fn new(flows: Vec<(usize, SocketFlow)>, length: usize, shared: Shared) -> Self {
        let lane = |(index, flow)| Lane {
            index,
            flow,
            next: 0,
        };
        let pattern = Pattern::new(length);
        Self {
            lanes: flows.into_iter().map(lane).collect(),
            turn: 0,
            shared,
            datagram: Buffer::from_fn(length, |index| pattern.at(index as u64, 1)[0]),
        }
    }

    fn sent(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.next).sum()
    }
}

impl Workload for UdpSender {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let lane = &mut self.lanes[self.turn];
        self.datagram[..NUMBER_BYTES].copy_from_slice(&lane.next.to_le_bytes());
        // `None` is a signal, or a queue of the device that is full: the next step tries again.
        if lane.flow.try_send(&self.datagram)?.is_none() {
            return Ok(Work::default());
        }
        lane.next += 1;
        let length = self.datagram.len() as u64;
        self.shared.note(lane.index, lane.next * length);
        self.turn = if self.turn + 1 == self.lanes.len() {
            0
        } else {
            self.turn + 1
        };
        Ok(Work::op(length))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        for _ in 0..ENDS {
            for lane in &mut self.lanes {
                let number = lane.next | END;
                self.datagram[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
                lane.flow.try_send(&self.datagram)?;
            }
        }
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(
            total.ops == self.sent(),
            "{} datagrams were counted and {} numbered",
            total.ops,
            self.sent()
        );
        self.shared.report_datagrams(Datagrams {
            sent: total.ops,
            ..Datagrams::default()
        });
        Ok(Verified {
            checks: total.ops,
            what: "datagrams were numbered and taken by the kernel".to_owned(),
        })
    }
}

/// One flow of a receiving thread.
struct Inbox {
    index: usize,
    flow: SocketFlow,
    sequence: Sequence,
    received: u64,
    /// Whether the sender said that it has ended.
    ended: bool,
    /// Whether nothing can come any more.
    hung_up: bool,
}

/// What a step of a receiver saw.
enum Seen {
    /// A datagram of the stream.
    Data,
    /// Nothing of interest.
    Nothing,
    /// A flow ended, or can receive no more.
    End,
}

/// The receiving ends of a thread's flows. They work until all senders have ended, and count what
/// straggles in until the control channel says that nothing more will come.
pub struct UdpReceiver {
    inboxes: Vec<Inbox>,
    /// Absent for one flow, which is waited for in the receive call itself.
    poller: Option<Poller>,
    shared: Shared,
    pattern: Pattern,
    buffer: Buffer,
    length: usize,
    tally: Datagrams,
}

impl UdpReceiver {
    /// For these flows of the test, with `length` bytes per datagram.
    #[must_use]
    pub fn new(flows: Vec<(usize, SocketFlow)>, length: usize, shared: Shared) -> Self {
        let inbox = |(index, flow)| Inbox {
            index,
            flow,
            sequence: Sequence::default(),
            received: 0,
            ended: false,
            hung_up: false,
        };
        Self {
            inboxes: flows.into_iter().map(inbox).collect(),
            poller: None,
            shared,
            pattern: Pattern::new(length),
            // One byte more, so that a longer datagram is not taken for one of the stream.
            buffer: Buffer::zeroed(length + 1),
            length,
            tally: Datagrams::default(),
        }
    }

    /// Receives on the next flow that has something.
    #[inline]
    fn receive(&mut self) -> anyhow::Result<Seen> {
        let place = match &mut self.poller {
            Some(poller) => poller.next_ready()?,
            None => 0,
        };
        let inbox = &mut self.inboxes[place];
        match inbox.flow.try_receive(&mut self.buffer)? {
            None => Ok(Seen::Nothing),
            Some(0) => {
                inbox.hung_up = true;
                if let Some(poller) = &self.poller {
                    poller.forget(&inbox.flow)?;
                }
                Ok(Seen::End)
            }
            Some(count) => self.take(place, count),
        }
    }

    #[inline]
    fn take(&mut self, place: usize, count: usize) -> anyhow::Result<Seen> {
        let inbox = &mut self.inboxes[place];
        let datagram = &self.buffer[..count];
        let number = match datagram.first_chunk::<NUMBER_BYTES>() {
            Some(number) if count == self.length => u64::from_le_bytes(*number),
            _ => {
                self.tally.foreign += 1;
                return Ok(Seen::Nothing);
            }
        };
        if number & END != 0 {
            inbox.ended = true;
            return Ok(Seen::End);
        }
        if number >= MOST {
            self.tally.foreign += 1;
            return Ok(Seen::Nothing);
        }
        let tail = count.saturating_sub(PROBE).max(NUMBER_BYTES);
        self.pattern.check(tail as u64, &datagram[tail..])?;
        if inbox.sequence.note(number, &mut self.tally) {
            inbox.received += 1;
            self.shared
                .note(inbox.index, inbox.received * self.length as u64);
            return Ok(Seen::Data);
        }
        Ok(Seen::Nothing)
    }
}

impl Workload for UdpReceiver {
    /// The window opens when there is something to receive, not while the sender gets ready.
    fn prepare(&mut self) -> anyhow::Result<()> {
        if let [first, _, ..] = self.inboxes.as_slice() {
            first.flow.wait_for_first_byte()?;
            for inbox in &self.inboxes {
                inbox.flow.set_blocking(false)?;
            }
            let flows = self.inboxes.iter().map(|inbox| &inbox.flow);
            self.poller = Some(Poller::new(flows, Interest::Receive)?);
        } else {
            self.inboxes[0].flow.wait_for_first_byte()?;
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        match self.receive()? {
            Seen::Data => return Ok(Work::op(self.length as u64)),
            Seen::Nothing => {}
            Seen::End => {
                if self
                    .inboxes
                    .iter()
                    .all(|inbox| inbox.ended || inbox.hung_up)
                {
                    rec.finish();
                }
            }
        }
        Ok(Work::default())
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while !self.inboxes.iter().all(|inbox| inbox.hung_up) {
            if matches!(self.receive()?, Seen::Data) {
                work += Work::op(self.length as u64);
            }
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(
            total.ops == self.tally.received,
            "{} datagrams were counted and {} received",
            total.ops,
            self.tally.received
        );
        if self.inboxes.iter().any(|inbox| !inbox.ended) {
            self.shared.report_end_lost();
        }
        self.shared.report_datagrams(self.tally);
        Ok(Verified {
            checks: total.ops,
            what: "datagrams had a new number and the bytes that belong there".to_owned(),
        })
    }
}
