//! Requests and responses that are one datagram each. Either may get lost, so a requester waits
//! for a response only so long, counts it as unanswered, and goes on.

use super::Shared;
use super::rr::{ANSWERED, Sizes, put_number};
use super::sequence::Datagrams;
use crate::transport::buffer::Buffer;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Ticks, Verified, Workload};
use reports::model::Work;
use std::time::Duration;

/// When a request counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(1);

/// One end of one flow.
struct Lane {
    index: usize,
    flow: SocketFlow,
    /// The number of the outstanding request.
    number: u64,
    /// Responses received, or requests answered.
    done: u64,
    /// When the outstanding request began.
    start: Ticks,
}

fn lanes(flows: Vec<(usize, SocketFlow)>) -> Vec<Lane> {
    let lane = |(index, flow)| Lane {
        index,
        flow,
        number: 0,
        done: 0,
        start: 0,
    };
    flows.into_iter().map(lane).collect()
}

/// A poller for several flows; one flow is waited for in the receive call itself.
fn poller(lanes: &[Lane], busy_poll: bool) -> anyhow::Result<Option<Poller>> {
    if lanes.len() == 1 {
        return Ok(None);
    }
    for lane in lanes {
        lane.flow.set_blocking(false)?;
    }
    let flows = lanes.iter().map(|lane| &lane.flow);
    let poller = Poller::new(flows, Interest::Receive)?;
    Ok(Some(poller.with_busy_poll(busy_poll)))
}

/// The asking ends of a thread's flows, one request outstanding on each.
pub struct UdpRequester {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    request: Buffer,
    response: Buffer,
    echoed: usize,
    busy_poll: bool,
    started: bool,
    tally: Datagrams,
}

impl UdpRequester {
    /// For these flows of the test; with `busy_poll` the thread never sleeps.
    #[must_use]
    pub fn new(
        flows: Vec<(usize, SocketFlow)>,
        sizes: Sizes,
        busy_poll: bool,
        shared: Shared,
    ) -> Self {
        Self {
            lanes: lanes(flows),
            poller: None,
            shared,
            sizes,
            request: Buffer::zeroed(sizes.request),
            // One byte more, so that a longer datagram is not taken for a response.
            response: Buffer::zeroed(sizes.response + 1),
            echoed: sizes.echoed(),
            busy_poll,
            started: false,
            tally: Datagrams::default(),
        }
    }

    /// Sends the next request of a flow.
    #[inline]
    fn ask(&mut self, place: usize) -> anyhow::Result<()> {
        let lane = &mut self.lanes[place];
        put_number(lane.number, &mut self.request);
        // A request that the kernel does not take is lost like any other.
        lane.flow.try_send(&self.request)?;
        self.tally.sent += 1;
        Ok(())
    }

    #[cold]
    fn start(&mut self, rec: &mut Recorder) -> anyhow::Result<()> {
        self.started = true;
        for place in 0..self.lanes.len() {
            self.lanes[place].start = rec.stamp();
            self.ask(place)?;
        }
        Ok(())
    }

    /// The flow on which a response to its outstanding request came, or `None` after a while in
    /// which none did.
    #[inline]
    fn receive(&mut self) -> anyhow::Result<Option<usize>> {
        loop {
            let place = match &mut self.poller {
                None => 0,
                Some(poller) => match poller.next_ready_within(PATIENCE)? {
                    Some(place) => place,
                    None => return Ok(None),
                },
            };
            let lane = &mut self.lanes[place];
            let received = match self.poller {
                None => lane.flow.wait_receive(&mut self.response, Some(PATIENCE))?,
                Some(_) => lane.flow.try_receive(&mut self.response)?,
            };
            match received {
                // The only flow waited its time; one of several was woken for nothing.
                None if self.poller.is_none() => return Ok(None),
                None => {}
                Some(count) => {
                    let number = lane.number.to_le_bytes();
                    if count == self.sizes.response
                        && self.response[..self.echoed] == number[..self.echoed]
                    {
                        return Ok(Some(place));
                    }
                    anyhow::ensure!(
                        !lane.flow.is_closed(),
                        "{}: the flow was cut",
                        lane.flow.peer()
                    );
                    self.stray(count);
                }
            }
        }
    }

    /// A response to a request that was given up, or something of another size.
    #[cold]
    fn stray(&mut self, count: usize) {
        if count == self.sizes.response {
            self.tally.late += 1;
        } else {
            self.tally.foreign += 1;
        }
    }

    /// Gives up on requests that have waited long enough, and asks anew.
    #[cold]
    fn give_up(&mut self, rec: &mut Recorder) -> anyhow::Result<()> {
        let now = rec.stamp();
        let patience = rec.clock().ticks(PATIENCE);
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            // The kernel's timer may be a little ahead of our clock.
            if now.saturating_sub(lane.start) >= patience / 10 * 9 {
                (lane.start, lane.number) = (now, lane.number + 1);
                self.tally.unanswered += 1;
                self.ask(place)?;
            }
        }
        Ok(())
    }
}

impl Workload for UdpRequester {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = poller(&self.lanes, self.busy_poll)?;
        if let [only] = self.lanes.as_slice() {
            only.flow.set_receive_timeout(PATIENCE)?;
        }
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        if !self.started {
            self.start(rec)?;
        }
        let Some(place) = self.receive()? else {
            self.give_up(rec)?;
            return Ok(Work::default());
        };
        let now = rec.stamp();
        let lane = &mut self.lanes[place];
        rec.record_since(lane.start);
        lane.start = now;
        lane.number += 1;
        lane.done += 1;
        let bytes = self.sizes.transaction();
        self.shared.note(lane.index, lane.done * bytes);
        self.ask(place)?;
        Ok(Work::op(bytes))
    }

    /// What is outstanding is left to itself: its response may never come.
    fn drain(&mut self) -> anyhow::Result<Work> {
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let done: u64 = self.lanes.iter().map(|lane| lane.done).sum();
        self.tally.received = done;
        let outstanding = if self.started { self.lanes.len() } else { 0 } as u64;
        anyhow::ensure!(
            total.ops == done && self.tally.sent == done + self.tally.unanswered + outstanding,
            "{} transactions were counted, and of {} requests {done} were answered, {} were not and \
             {outstanding} are outstanding",
            total.ops,
            self.tally.sent,
            self.tally.unanswered
        );
        self.shared.report_datagrams(self.tally);
        Ok(Verified {
            checks: total.ops,
            what: ANSWERED.to_owned(),
        })
    }
}

/// The answering ends of a thread's flows. They work until the control channel says that nothing
/// more will come.
pub struct UdpResponder {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    request: Buffer,
    response: Buffer,
    busy_poll: bool,
    open: usize,
    tally: Datagrams,
}

impl UdpResponder {
    /// For these flows of the test; with `busy_poll` the thread never sleeps.
    #[must_use]
    pub fn new(
        flows: Vec<(usize, SocketFlow)>,
        sizes: Sizes,
        busy_poll: bool,
        shared: Shared,
    ) -> Self {
        Self {
            open: flows.len(),
            lanes: lanes(flows),
            poller: None,
            shared,
            sizes,
            // One byte more, so that a longer datagram is not taken for a request.
            request: Buffer::zeroed(sizes.request + 1),
            response: Buffer::zeroed(sizes.response),
            busy_poll,
            tally: Datagrams::default(),
        }
    }

    #[inline]
    fn answer(&mut self) -> anyhow::Result<Work> {
        let place = match &mut self.poller {
            None => 0,
            Some(poller) => poller.next_ready()?,
        };
        let lane = &mut self.lanes[place];
        let received = match self.poller {
            None => lane.flow.wait_receive(&mut self.request, None)?,
            Some(_) => lane.flow.try_receive(&mut self.request)?,
        };
        match received {
            None => Ok(Work::default()),
            Some(0) if lane.flow.is_closed() => {
                if let Some(poller) = &self.poller {
                    poller.forget(&lane.flow)?;
                }
                self.open -= 1;
                Ok(Work::default())
            }
            Some(count) if count != self.sizes.request => {
                self.tally.foreign += 1;
                Ok(Work::default())
            }
            Some(_) => {
                let echoed = self.sizes.echoed();
                self.response[..echoed].copy_from_slice(&self.request[..echoed]);
                lane.flow.try_send(&self.response)?;
                lane.done += 1;
                let bytes = self.sizes.transaction();
                self.shared.note(lane.index, lane.done * bytes);
                Ok(Work::op(bytes))
            }
        }
    }
}

impl Workload for UdpResponder {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = poller(&self.lanes, self.busy_poll)?;
        Ok(())
    }

    #[inline]
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
        let done: u64 = self.lanes.iter().map(|lane| lane.done).sum();
        anyhow::ensure!(
            total.ops == done,
            "{} requests were counted and {done} answered",
            total.ops
        );
        (self.tally.received, self.tally.sent) = (done, done);
        self.shared.report_datagrams(self.tally);
        Ok(Verified {
            checks: total.ops,
            what: ASKED_BY_DATAGRAM.to_owned(),
        })
    }
}

/// What an answering end proves; the order is the network's business.
const ASKED_BY_DATAGRAM: &str = "requests were whole and answered";
