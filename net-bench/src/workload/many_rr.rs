//! Request and response over several flows of one thread, one transaction outstanding on each;
//! the flows take turns under epoll.

use super::Shared;
use super::rr::{ANSWERED, ASKED, Sizes, check_number, proven, put_number};
use crate::transport::Flow;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Ticks, Verified, Workload};
use reports::model::Work;

/// One end of one flow, between system calls.
pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) flow: SocketFlow,
    /// What this end sends, and how much of the current one the kernel has taken.
    pub(super) outgoing: Vec<u8>,
    pub(super) sent: usize,
    /// Whether the poller was asked to say when there is room for the rest.
    awaits_room: bool,
    /// What this end receives, and how much of the current one has come.
    pub(super) incoming: Vec<u8>,
    pub(super) received: usize,
    /// Completed transactions.
    pub(super) number: u64,
    /// When the current one began.
    start: Ticks,
}

impl Lane {
    pub(super) fn new(index: usize, flow: SocketFlow, outgoing: usize, incoming: usize) -> Self {
        Self {
            index,
            flow,
            outgoing: vec![0; outgoing],
            sent: 0,
            awaits_room: false,
            incoming: vec![0; incoming],
            received: 0,
            number: 0,
            start: 0,
        }
    }

    /// Sends on; what does not go out now goes when the poller says that there is room.
    #[inline]
    pub(super) fn send(&mut self, poller: &Poller, lane: usize) -> anyhow::Result<()> {
        self.sent += self
            .flow
            .try_send(&self.outgoing[self.sent..])?
            .unwrap_or(0);
        if self.sending() != self.awaits_room {
            self.awaits_room = self.sending();
            let interest = if self.awaits_room {
                Interest::Send
            } else {
                Interest::Receive
            };
            poller.watch(&self.flow, lane, interest)?;
        }
        Ok(())
    }

    /// Receives on; `Some(true)` when a message is complete, `Some(false)` at the end.
    #[inline]
    pub(super) fn receive(&mut self) -> anyhow::Result<Option<bool>> {
        match self.flow.try_receive(&mut self.incoming[self.received..])? {
            None => Ok(None),
            Some(0) if self.received == 0 => Ok(Some(false)),
            Some(0) => anyhow::bail!(
                "{}: the peer closed the connection after {} of {} bytes of a message",
                self.flow.peer(),
                self.received,
                self.incoming.len()
            ),
            Some(count) => {
                self.received += count;
                Ok((self.received == self.incoming.len()).then_some(true))
            }
        }
    }

    /// Whether a message of this end is still on its way out.
    #[inline]
    pub(super) fn sending(&self) -> bool {
        self.sent < self.outgoing.len()
    }
}

pub(super) fn poller(lanes: &[Lane], busy_poll: bool) -> anyhow::Result<Poller> {
    for lane in lanes {
        lane.flow.set_blocking(false)?;
    }
    let flows = lanes.iter().map(|lane| &lane.flow);
    Ok(Poller::new(flows, Interest::Receive)?.with_busy_poll(busy_poll))
}

pub(super) fn numbered(lanes: &[Lane]) -> u64 {
    lanes.iter().map(|lane| lane.number).sum()
}

/// The asking ends of a thread's flows.
pub struct ManyRequester {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    busy_poll: bool,
    started: bool,
}

impl ManyRequester {
    /// For these flows of the test; with `busy_poll` the thread never sleeps.
    #[must_use]
    pub fn new(
        flows: Vec<(usize, SocketFlow)>,
        sizes: Sizes,
        busy_poll: bool,
        shared: Shared,
    ) -> Self {
        let lane = |(index, flow)| Lane::new(index, flow, sizes.request, sizes.response);
        Self {
            lanes: flows.into_iter().map(lane).collect(),
            poller: None,
            shared,
            sizes,
            busy_poll,
            started: false,
        }
    }

    /// The first request of every flow.
    #[cold]
    fn start(&mut self, rec: &mut Recorder) -> anyhow::Result<()> {
        self.started = true;
        let poller = prepared(&mut self.poller)?;
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.start = rec.stamp();
            put_number(lane.number, &mut lane.outgoing);
            lane.send(poller, place)?;
        }
        Ok(())
    }

    /// Finishes the outstanding transaction of a flow by waiting for it.
    fn finish(lane: &mut Lane, sizes: Sizes) -> anyhow::Result<()> {
        lane.flow.set_blocking(true)?;
        lane.flow.send_all(&lane.outgoing[lane.sent..])?;
        let ended = !lane
            .flow
            .receive_exact(&mut lane.incoming[lane.received..])?;
        anyhow::ensure!(
            !ended,
            "{}: the peer closed the connection after {} transactions",
            lane.flow.peer(),
            lane.number
        );
        check_number(lane.number, sizes.echoed(), &lane.incoming)?;
        lane.number += 1;
        lane.flow.end()
    }
}

pub(super) fn prepared(poller: &mut Option<Poller>) -> anyhow::Result<&mut Poller> {
    poller
        .as_mut()
        .ok_or_else(|| anyhow::anyhow!("the flows were not prepared"))
}

impl Workload for ManyRequester {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = Some(poller(&self.lanes, self.busy_poll)?);
        Ok(())
    }

    /// Waits until one transaction is complete and begins the flow's next.
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        if !self.started {
            self.start(rec)?;
        }
        let poller = prepared(&mut self.poller)?;
        loop {
            let place = poller.next_ready()?;
            let lane = &mut self.lanes[place];
            if lane.sending() {
                lane.send(poller, place)?;
                continue;
            }
            match lane.receive()? {
                None => {}
                Some(false) => anyhow::bail!(
                    "{}: the peer closed the connection after {} transactions",
                    lane.flow.peer(),
                    lane.number
                ),
                Some(true) => {
                    check_number(lane.number, self.sizes.echoed(), &lane.incoming)?;
                    let now = rec.stamp();
                    rec.record_since(lane.start);
                    lane.number += 1;
                    let bytes = lane.number * self.sizes.transaction();
                    self.shared.note(lane.index, bytes);
                    (lane.start, lane.sent, lane.received) = (now, 0, 0);
                    put_number(lane.number, &mut lane.outgoing);
                    lane.send(poller, place)?;
                    return Ok(Work::op(self.sizes.transaction()));
                }
            }
        }
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        for lane in &mut self.lanes {
            if self.started {
                Self::finish(lane, self.sizes)?;
                let bytes = lane.number * self.sizes.transaction();
                self.shared.note(lane.index, bytes);
                work += Work::op(self.sizes.transaction());
            } else {
                lane.flow.end()?;
            }
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, numbered(&self.lanes), ANSWERED)
    }
}

/// The answering ends of a thread's flows. They work until all other ends have ended.
pub struct ManyResponder {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    busy_poll: bool,
    open: usize,
}

impl ManyResponder {
    /// For these flows of the test; with `busy_poll` the thread never sleeps.
    #[must_use]
    pub fn new(
        flows: Vec<(usize, SocketFlow)>,
        sizes: Sizes,
        busy_poll: bool,
        shared: Shared,
    ) -> Self {
        let lane = |(index, flow)| {
            let mut lane = Lane::new(index, flow, sizes.response, sizes.request);
            // Nothing is owed before a request came.
            lane.sent = sizes.response;
            lane
        };
        Self {
            open: flows.len(),
            lanes: flows.into_iter().map(lane).collect(),
            poller: None,
            shared,
            sizes,
            busy_poll,
        }
    }

    /// Goes on with the next flow that can. A transaction counts when its request is complete and
    /// its response on the way.
    #[inline]
    fn answer(&mut self) -> anyhow::Result<Work> {
        let poller = prepared(&mut self.poller)?;
        let place = poller.next_ready()?;
        let lane = &mut self.lanes[place];
        if lane.sending() {
            lane.send(poller, place)?;
            return Ok(Work::default());
        }
        match lane.receive()? {
            None => Ok(Work::default()),
            Some(false) => {
                poller.forget(&lane.flow)?;
                self.open -= 1;
                Ok(Work::default())
            }
            Some(true) => {
                check_number(lane.number, self.sizes.request.min(8), &lane.incoming)?;
                let echoed = self.sizes.echoed();
                lane.outgoing[..echoed].copy_from_slice(&lane.incoming[..echoed]);
                lane.number += 1;
                let bytes = lane.number * self.sizes.transaction();
                self.shared.note(lane.index, bytes);
                (lane.sent, lane.received) = (0, 0);
                lane.send(poller, place)?;
                Ok(Work::op(self.sizes.transaction()))
            }
        }
    }
}

impl Workload for ManyResponder {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = Some(poller(&self.lanes, self.busy_poll)?);
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.answer()?;
        if self.open == 0 {
            rec.finish();
        }
        Ok(work)
    }

    /// A window that closed early leaves requesters that still wait for answers.
    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while self.open > 0 {
            work += self.answer()?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, numbered(&self.lanes), ASKED)
    }
}
