//! Streams of numbered datagrams. Nothing holds the sender back and nothing is sent again, so the
//! receiver counts what came, by number.
//!
//! A datagram is its number, eight bytes little-endian, and the stream pattern behind it. After the
//! last one the sender says a few times that it has ended, which closes the receiver's window; what
//! arrives behind that still counts. Should all of these get lost, the control channel ends the
//! receiver, later (see [`crate::attend`]).

pub mod timed;

use super::Shared;
use super::pattern::{PROBE, Pattern};
use super::sequence::{Datagrams, Sequence};
use super::uring::datagrams::{ReceiveSlots, SendSlots};
use crate::control::handshake::NAME;
use crate::test::{Engine, MAX_DATAGRAM, Receive, Test};
use crate::transport::buffer::Buffer;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use bench_sys::mmsg::{ReceiveBatch, SendBatch};
use bench_sys::sockopt::{set_udp_gro, set_udp_segment};
use reports::measure::{Recorder, Verified, Workload};
use reports::model::{Unavailable, Work};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;
use timed::TimedBatch;

/// Bytes of a datagram's number.
pub const NUMBER_BYTES: usize = 8;
/// Set in the number that says that the flow has ended.
const END: u64 = 1 << 63;
/// Numbers from here on are no datagram's: what begins with the protocol's name looks like one.
const MOST: u64 = 1 << 56;
/// Most datagrams that one call sends or receives one by one. The kernel cuts no more than 64 out
/// of one send before Linux 6.9.
pub const BATCH: usize = 64;
/// How many joined messages one call receives, each up to 64 KiB.
const JOINED: usize = 8;
/// How long to wait before the end is said, each time that it is: a receiver whose buffer is full
/// loses what comes all at once.
const ENDS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(2),
    Duration::from_millis(20),
];

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
    length: usize,
    outlet: Outlet,
}

/// How many datagrams one call sends, and out of which memory.
enum Outlet {
    One(Buffer),
    /// As many as there are, each of its own.
    Several(SendBatch),
    /// One behind the other, cut by the kernel or the card.
    Joined(Buffer),
    /// Several, each with the time at which it is to go.
    Timed(TimedBatch),
    /// Several through io_uring.
    Ring(Box<SendSlots>),
}

impl Outlet {
    /// For a thread of a test that has so many of its flows.
    fn new(test: &Test, flows: usize, length: usize) -> anyhow::Result<Self> {
        let pattern = Pattern::new(length)?;
        let byte = |index: usize| pattern.at((index % length) as u64, 1)[0];
        let filled = |mut batch: SendBatch| {
            for index in 0..batch.count() {
                let datagram = batch.datagram_mut(index);
                datagram.copy_from_slice(pattern.at(0, length));
            }
            batch
        };
        Ok(match test.engine {
            Engine::Mmsg => Self::Several(filled(SendBatch::new(BATCH, length))),
            Engine::Txtime => {
                let arrival = test.arrival.as_ref().context("a schedule was asked for")?;
                let per_s = arrival.rate_per_s * flows as f64 / f64::from(test.flows);
                let batch = filled(SendBatch::timed(timed::batch(per_s), length));
                Self::Timed(TimedBatch::new(batch, per_s))
            }
            Engine::Gso => {
                let count = (MAX_DATAGRAM as usize / length).clamp(1, BATCH);
                Self::Joined(Buffer::from_fn(count * length, byte))
            }
            Engine::Uring => Self::Ring(Box::new(SendSlots::new(pattern.at(0, length)))),
            _ => Self::One(Buffer::from_fn(length, byte)),
        })
    }

    /// Sends the datagrams from number `next` on; says how many the kernel took. What it does not
    /// take has used up no number.
    #[inline]
    fn send(&mut self, flow: &SocketFlow, next: u64, length: usize) -> anyhow::Result<u64> {
        match self {
            Self::One(datagram) => {
                put(next, datagram);
                Ok(u64::from(flow.try_send(datagram)?.is_some()))
            }
            Self::Several(batch) => {
                for index in 0..batch.count() {
                    put(next + index as u64, batch.datagram_mut(index));
                }
                match batch.send(flow.as_fd()) {
                    Ok(count) => Ok(count as u64),
                    Err(error) => flow.explain("sending to", &error).map(|_| 0),
                }
            }
            Self::Timed(timed) => timed.send(flow, next),
            Self::Joined(buffer) => {
                let mut count = 0;
                for datagram in buffer.chunks_exact_mut(length) {
                    put(next + count, datagram);
                    count += 1;
                }
                Ok(flow.try_send(buffer)?.map_or(0, |_| count))
            }
            Self::Ring(slots) => slots.send(flow, next, put),
        }
    }
}

#[inline]
fn put(number: u64, datagram: &mut [u8]) {
    datagram[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
}

impl UdpSender {
    /// For these flows of the test, with `length` bytes per datagram.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(
        test: &Test,
        flows: Vec<(usize, SocketFlow)>,
        length: usize,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        let lane = |(index, flow)| Lane {
            index,
            flow,
            next: 0,
        };
        Ok(Self {
            outlet: Outlet::new(test, flows.len(), length)?,
            lanes: flows.into_iter().map(lane).collect(),
            turn: 0,
            shared,
            length,
        })
    }

    fn sent(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.next).sum()
    }
}

impl Workload for UdpSender {
    fn prepare(&mut self) -> anyhow::Result<()> {
        for lane in &self.lanes {
            match &mut self.outlet {
                Outlet::Joined(_) => segment(&lane.flow, self.length)?,
                // There is one lane (Test::check).
                Outlet::Ring(slots) => slots.prepare(&lane.flow)?,
                Outlet::Timed(_) => timed::prepare(&lane.flow)?,
                Outlet::One(_) | Outlet::Several(_) => {}
            }
            lane.flow.prepare_stream()?;
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let lane = &mut self.lanes[self.turn];
        // None taken is a signal, or a full queue of the device: the next step tries again.
        let ops = self.outlet.send(&lane.flow, lane.next, self.length)?;
        lane.next += ops;
        let length = self.length as u64;
        self.shared.note(lane.index, lane.next * length);
        self.turn = if self.turn + 1 == self.lanes.len() {
            0
        } else {
            self.turn + 1
        };
        Ok(Work {
            ops,
            bytes: ops * length,
        })
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        if let Outlet::Ring(slots) = &mut self.outlet
            && let Some(ring) = slots.finish()
        {
            self.shared.report_ring(ring);
        }
        if let Outlet::Timed(_) = self.outlet {
            // What has no time of its own would overtake what waits for its.
            thread::sleep(timed::AHEAD);
        }
        let mut last = vec![0; self.length];
        for pause in ENDS {
            thread::sleep(pause);
            for lane in &mut self.lanes {
                lane.flow.set_blocking(true)?;
                put(lane.next | END, &mut last);
                lane.flow.try_send(&last)?;
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

/// Has what is sent on a flow cut into datagrams.
fn segment(flow: &SocketFlow, length: usize) -> anyhow::Result<()> {
    // Test::check keeps the length within a datagram's.
    set_udp_segment(flow.as_fd(), length as u16).map_err(|error| {
        let refusal = Unavailable(format!(
            "--engine gso: the kernel cannot cut sends to {} into datagrams of {length} bytes: \
             {error} (UDP_SEGMENT, since Linux 4.18); use --engine mmsg",
            flow.peer()
        ));
        refusal.into()
    })
}

/// Lets the kernel join what comes on a flow.
fn join(flow: &SocketFlow) -> anyhow::Result<()> {
    set_udp_gro(flow.as_fd(), true).map_err(|error| {
        let refusal = Unavailable(format!(
            "--receive gro: the kernel does not join datagrams from {}: {error} (UDP_GRO, since \
             Linux 5.0); use --receive mmsg",
            flow.peer()
        ));
        refusal.into()
    })
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

/// The receiving ends of a thread's flows. They work until all senders have ended, and count what
/// straggles in until the control channel says that nothing more will come.
pub struct UdpReceiver {
    inboxes: Vec<Inbox>,
    /// Absent for one flow, which is waited for in the receive call itself.
    poller: Option<Poller>,
    shared: Shared,
    pattern: Pattern,
    inlet: Inlet,
    busy_poll: bool,
    length: usize,
    tally: Datagrams,
}

/// How many datagrams one call receives, and into which memory.
enum Inlet {
    One(Buffer),
    /// Several, each maybe joined of several that came together.
    Several(ReceiveBatch),
    /// Several through io_uring.
    Ring(Box<ReceiveSlots>),
}

impl Inlet {
    fn new(receive: Receive, length: usize) -> Self {
        // One byte more, so that a longer datagram is not taken for one of the stream.
        match receive {
            Receive::Mmsg => Self::Several(ReceiveBatch::new(BATCH, length + 1, false)),
            Receive::Gro => Self::Several(ReceiveBatch::new(JOINED, 1 << 16, true)),
            Receive::Uring => Self::Ring(Box::new(ReceiveSlots::new(length + 1))),
            _ => Self::One(Buffer::zeroed(length + 1)),
        }
    }

    /// How many messages came; `None` if it has to be tried again, `Some(0)` at the end.
    #[inline]
    fn receive(&mut self, flow: &SocketFlow) -> anyhow::Result<Option<usize>> {
        match self {
            Self::One(buffer) => flow.try_receive(buffer),
            Self::Ring(slots) => slots.wait(),
            Self::Several(batch) => match batch.receive(flow.as_fd()) {
                Ok(1) if batch.datagram(0).is_empty() => Ok(Some(0)),
                Ok(count) => Ok(Some(count)),
                Err(error) => flow.explain("receiving from", &error),
            },
        }
    }
}

impl UdpReceiver {
    /// For these flows of the test, with `length` bytes per datagram.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(
        test: &Test,
        flows: Vec<(usize, SocketFlow)>,
        length: usize,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        let inbox = |(index, flow)| Inbox {
            index,
            flow,
            sequence: Sequence::default(),
            received: 0,
            ended: false,
            hung_up: false,
        };
        Ok(Self {
            inboxes: flows.into_iter().map(inbox).collect(),
            poller: None,
            shared,
            pattern: Pattern::new(length)?,
            inlet: Inlet::new(test.receive, length),
            busy_poll: test.busy_poll,
            length,
            tally: Datagrams::default(),
        })
    }

    /// Receives on the next flow that has something; says what was new.
    #[inline]
    fn receive(&mut self) -> anyhow::Result<Work> {
        let place = match &mut self.poller {
            Some(poller) => poller.next_ready()?,
            None => 0,
        };
        let inbox = &mut self.inboxes[place];
        let Some(count) = self.inlet.receive(&inbox.flow)? else {
            return Ok(Work::default());
        };
        if count == 0 && inbox.flow.is_closed() {
            inbox.hung_up = true;
            if let Some(poller) = &self.poller {
                poller.forget(&inbox.flow)?;
            }
            return Ok(Work::default());
        }
        let mut reader = Reader {
            inbox,
            pattern: &self.pattern,
            tally: &mut self.tally,
            length: self.length,
            fresh: 0,
        };
        match &mut self.inlet {
            Inlet::Ring(slots) => slots.take(|datagram| reader.take(datagram))?,
            Inlet::One(buffer) => reader.take(&buffer[..count])?,
            Inlet::Several(batch) => {
                for index in 0..count {
                    match batch.segment(index) {
                        None => reader.take(batch.datagram(index))?,
                        Some(size) => {
                            for datagram in batch.datagram(index).chunks(size.max(1)) {
                                reader.take(datagram)?;
                            }
                        }
                    }
                }
            }
        }
        let ops = reader.fresh;
        let length = self.length as u64;
        let inbox = &self.inboxes[place];
        self.shared.note(inbox.index, inbox.received * length);
        Ok(Work {
            ops,
            bytes: ops * length,
        })
    }

    fn all_ended(&self) -> bool {
        let over = |inbox: &Inbox| inbox.ended || inbox.hung_up;
        self.inboxes.iter().all(over)
    }
}

/// What looks at the datagrams of one call.
struct Reader<'a> {
    inbox: &'a mut Inbox,
    pattern: &'a Pattern,
    tally: &'a mut Datagrams,
    length: usize,
    /// How many came for the first time.
    fresh: u64,
}

impl Reader<'_> {
    #[inline]
    fn take(&mut self, datagram: &[u8]) -> anyhow::Result<()> {
        let number = match datagram.first_chunk::<NUMBER_BYTES>() {
            Some(number) if datagram.len() == self.length => u64::from_le_bytes(*number),
            _ => {
                self.foreign(datagram);
                return Ok(());
            }
        };
        if number >= MOST {
            if number & END != 0 {
                self.inbox.ended = true;
            } else {
                self.foreign(datagram);
            }
            return Ok(());
        }
        let tail = datagram.len().saturating_sub(PROBE).max(NUMBER_BYTES);
        self.pattern.check(tail as u64, &datagram[tail..])?;
        if self.inbox.sequence.note(number, self.tally) {
            self.inbox.received += 1;
            self.fresh += 1;
        }
        Ok(())
    }

    /// Something that no sender of a stream says. What the two sides repeated while they met may
    /// come late and is no stranger's.
    #[cold]
    fn foreign(&mut self, datagram: &[u8]) {
        if !datagram.starts_with(&NAME) {
            self.tally.foreign += 1;
        }
    }
}

impl Workload for UdpReceiver {
    /// The window opens when there is something to receive, not while the sender gets ready.
    fn prepare(&mut self) -> anyhow::Result<()> {
        for inbox in &self.inboxes {
            match &mut self.inlet {
                Inlet::Several(batch) if batch.joins() => join(&inbox.flow)?,
                // There is one inbox (Test::check).
                Inlet::Ring(slots) => slots.prepare(&inbox.flow)?,
                Inlet::One(_) | Inlet::Several(_) => {}
            }
        }
        if let [first, _, ..] = self.inboxes.as_slice() {
            first.flow.wait_for_first_byte()?;
            for inbox in &self.inboxes {
                inbox.flow.set_blocking(false)?;
            }
            let flows = self.inboxes.iter().map(|inbox| &inbox.flow);
            let poller = Poller::new(flows, Interest::Receive)?;
            self.poller = Some(poller.with_busy_poll(self.busy_poll));
        } else {
            self.inboxes[0].flow.wait_for_first_byte()?;
            self.inboxes[0].flow.prepare_stream()?;
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.receive()?;
        if self.all_ended() {
            rec.finish();
        }
        Ok(work)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while !self.inboxes.iter().all(|inbox| inbox.hung_up) {
            work += self.receive()?;
        }
        if let Inlet::Ring(slots) = &mut self.inlet
            && let Some(ring) = slots.finish()
        {
            self.shared.report_ring(ring);
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

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    #[test]
    fn whatever_a_datagram_holds_is_counted_and_nothing_else_happens() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        let flow = SocketFlow::new(socket, "nobody".to_owned()).expect("a flow");
        let mut inbox = Inbox {
            index: 0,
            flow,
            sequence: Sequence::default(),
            received: 0,
            ended: false,
            hung_up: false,
        };
        let (length, pattern) = (100, Pattern::new(100).expect("memory"));
        let mut random = fastrand::Rng::with_seed(12);
        let (mut tally, mut fresh, mut faults) = (Datagrams::default(), 0, 0);
        const ROUNDS: u64 = 20_000;
        for round in 0..ROUNDS {
            let mut datagram = pattern.at(0, length).to_vec();
            put(round / 2, &mut datagram);
            for _ in 0..random.usize(0..3) {
                let place = random.usize(0..datagram.len());
                match random.u8(0..4) {
                    0 => datagram[place] = random.u8(..),
                    1 => datagram.truncate(place.max(1)),
                    2 => datagram.push(random.u8(..)),
                    _ => put(random.u64(..), &mut datagram),
                }
                if datagram.len() < NUMBER_BYTES {
                    break;
                }
            }
            let mut reader = Reader {
                inbox: &mut inbox,
                pattern: &pattern,
                tally: &mut tally,
                length,
                fresh: 0,
            };
            match reader.take(&datagram) {
                Ok(()) => fresh += reader.fresh,
                Err(error) => {
                    assert!(error.to_string().contains("corrupt"), "{error}");
                    faults += 1;
                }
            }
        }
        assert_eq!(tally.received, fresh);
        let seen = tally.received + tally.duplicates + tally.late + tally.foreign + faults;
        assert!(
            seen <= ROUNDS && seen > ROUNDS / 2,
            "{tally:?} and {faults} faults"
        );
    }
}
