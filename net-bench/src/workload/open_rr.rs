//! Requests at moments that a schedule sets, whether or not earlier ones were answered: the load of
//! users who do not wait for each other.
//!
//! Latency counts from the moment at which a request was *meant* to go. A closed loop sends nothing
//! while it waits, and so measures a stall once; here every request that the stall delayed shows it.
//! One thread sends and receives, so that no hand-over between threads is part of what is measured.
//! Until shortly before the next request is due the thread sleeps in the kernel, and wakes when a
//! response comes; the rest of the time it spins, because a timer of the kernel is late by its slack.

use super::Shared;
use super::rr::{ANSWERED, Sizes, check_number, proven, put_number};
use super::schedule::{SPIN, Schedule, Timetable};
use super::sequence::Datagrams;
use crate::test::{Arrival, Test, Transport};
use crate::transport::Flow;
use crate::transport::buffer::Buffer;
use crate::transport::poller::{Interest, Poller};
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use bench_sys::calls;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use reports::measure::{Clock, Recorder, Ticks, Verified, Workload};
use reports::model::Work;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Requests that a thread may have outstanding over all its flows.
const MAX_OUTSTANDING: usize = 1 << 16;

/// How long the last responses may take after the last request.
const LAST_RESPONSES: Duration = Duration::from_secs(1);

/// One flow and its outstanding requests.
struct Lane {
    index: usize,
    flow: SocketFlow,
    /// The number of the next request.
    next: u64,
    /// Responses received; of a stream also the number of the one that is due.
    answered: u64,
    /// How much of the current request the kernel has taken; all of it between requests.
    sent: usize,
    /// How much of the current response has come.
    received: usize,
    /// When each outstanding request was meant to go, by number; zero when it was answered.
    intended: Box<[Ticks]>,
}

impl Lane {
    fn slot(&self, number: u64) -> usize {
        number as usize & (self.intended.len() - 1)
    }
}

/// The asking ends of a thread's flows.
pub struct OpenRequester {
    lanes: Vec<Lane>,
    /// Absent for one flow.
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    datagrams: bool,
    busy_poll: bool,
    request: Buffer,
    response: Buffer,
    timetable: Timetable,
    clock: Clock,
    turn: usize,
    started: bool,
    schedule: Schedule,
    tally: Datagrams,
}

impl OpenRequester {
    /// For these flows of the test.
    #[must_use]
    pub fn new(
        test: &Test,
        arrival: &Arrival,
        flows: Vec<(usize, SocketFlow)>,
        sizes: Sizes,
        shared: Shared,
    ) -> Self {
        let slots = (MAX_OUTSTANDING / flows.len()).next_power_of_two();
        let lane = |(index, flow)| Lane {
            index,
            flow,
            next: 0,
            answered: 0,
            sent: 0,
            received: 0,
            intended: vec![0; slots].into_boxed_slice(),
        };
        let all = f64::from(test.flows);
        let first = flows.first().map_or(0, |(index, _)| *index);
        let share = flows.len() as f64 / all;
        Self {
            timetable: Timetable::new(arrival, share, first as f64 / all, first as u64),
            lanes: flows.into_iter().map(lane).collect(),
            poller: None,
            shared,
            sizes,
            datagrams: test.transport == Transport::Udp,
            busy_poll: test.busy_poll,
            request: Buffer::zeroed(sizes.request),
            // One byte more, so that a longer datagram is not taken for a response.
            response: Buffer::zeroed(sizes.response + 1),
            clock: Clock::get(),
            turn: 0,
            started: false,
            schedule: Schedule::default(),
            tally: Datagrams::default(),
        }
    }

    /// Sends the request that is due, or goes on with one that the kernel took in part. What it does
    /// not take now is tried again in the next step, and late by then.
    #[inline]
    fn send(&mut self, now: Ticks) -> anyhow::Result<()> {
        let lane = &mut self.lanes[self.turn];
        if lane.sent == 0 {
            let slot = lane.slot(lane.next);
            if lane.intended[slot] != 0 && !self.datagrams {
                // As many outstanding as there is room for: the server has to answer first.
                return Ok(());
            }
        }
        put_number(lane.next, &mut self.request);
        let Some(taken) = lane.flow.try_send(&self.request[lane.sent..])? else {
            return Ok(());
        };
        lane.sent += taken;
        if lane.sent < self.sizes.request {
            return Ok(());
        }
        lane.sent = 0;
        let slot = lane.slot(lane.next);
        // Of a datagram, whatever stood here was never answered.
        lane.intended[slot] = self.timetable.due();
        lane.next += 1;
        self.turn = if self.turn + 1 == self.lanes.len() {
            0
        } else {
            self.turn + 1
        };
        self.schedule.sent += 1;
        self.timetable.advance(self.clock, 1);
        self.schedule.missed += u64::from(now >= self.timetable.due());
        Ok(())
    }

    /// Receives on a flow that has something. Returns when the request was meant to go whose
    /// response is complete, or `None` if none is.
    #[inline]
    fn receive(&mut self) -> anyhow::Result<Option<Ticks>> {
        let place = match &mut self.poller {
            None => 0,
            Some(poller) => match poller.next_ready_within(Duration::ZERO)? {
                Some(place) => place,
                None => return Ok(None),
            },
        };
        if self.datagrams {
            self.receive_datagram(place)
        } else {
            self.receive_stream(place)
        }
    }

    #[inline]
    fn receive_stream(&mut self, place: usize) -> anyhow::Result<Option<Ticks>> {
        let lane = &mut self.lanes[place];
        let buffer = &mut self.response[lane.received..self.sizes.response];
        let Some(count) = lane.flow.try_receive(buffer)? else {
            return Ok(None);
        };
        anyhow::ensure!(
            count > 0,
            "{}: the peer closed the connection after {} transactions",
            lane.flow.peer(),
            lane.answered
        );
        lane.received += count;
        if lane.received < self.sizes.response {
            return Ok(None);
        }
        check_number(lane.answered, self.sizes.echoed(), &self.response)?;
        lane.received = 0;
        let slot = lane.slot(lane.answered);
        Ok(Some(self.complete(place, slot)))
    }

    #[inline]
    fn receive_datagram(&mut self, place: usize) -> anyhow::Result<Option<Ticks>> {
        let lane = &mut self.lanes[place];
        let Some(count) = lane.flow.try_receive(&mut self.response)? else {
            return Ok(None);
        };
        let cut = count == 0 && lane.flow.is_closed();
        anyhow::ensure!(!cut, "{}: the flow was cut", lane.flow.peer());
        let number = match self.response.first_chunk::<8>() {
            Some(number) if count == self.sizes.response => u64::from_le_bytes(*number),
            _ => {
                self.tally.foreign += 1;
                return Ok(None);
            }
        };
        let slot = lane.slot(number);
        let outstanding = number < lane.next && lane.next - number <= lane.intended.len() as u64;
        if !outstanding || lane.intended[slot] == 0 {
            self.tally.duplicates += u64::from(outstanding);
            self.tally.late += u64::from(!outstanding);
            return Ok(None);
        }
        Ok(Some(self.complete(place, slot)))
    }

    fn complete(&mut self, place: usize, slot: usize) -> Ticks {
        let lane = &mut self.lanes[place];
        lane.answered += 1;
        let bytes = lane.answered * self.sizes.transaction();
        self.shared.note(lane.index, bytes);
        std::mem::take(&mut lane.intended[slot])
    }

    /// Sleeps until shortly before the next request is due, or until something comes.
    fn rest(&self, now: Ticks) -> anyhow::Result<()> {
        if self.busy_poll {
            return Ok(());
        }
        let left = self.clock.ns(self.timetable.due().saturating_sub(now));
        let left = Duration::from_nanos(left);
        match left.checked_sub(SPIN) {
            None => Ok(()),
            Some(left) => wait(self.waited_for(), left),
        }
    }

    fn waited_for(&self) -> BorrowedFd<'_> {
        match &self.poller {
            Some(poller) => poller.as_fd(),
            None => self.lanes[0].flow.as_fd(),
        }
    }

    fn outstanding(&self) -> u64 {
        let of = |lane: &Lane| lane.next - lane.answered;
        self.lanes.iter().map(of).sum()
    }

    /// Whether a request went out in part; a stream cannot leave it at that.
    fn finish_sending(&mut self) -> anyhow::Result<()> {
        let lane = &mut self.lanes[self.turn];
        if lane.sent == 0 {
            return Ok(());
        }
        lane.flow.set_blocking(true)?;
        lane.flow.send_all(&self.request[lane.sent..])?;
        lane.flow.set_blocking(false)?;
        lane.sent = 0;
        lane.next += 1;
        self.schedule.sent += 1;
        Ok(())
    }
}

fn wait(fd: BorrowedFd<'_>, patience: Duration) -> anyhow::Result<()> {
    let mut watched = [PollFd::new(fd, PollFlags::POLLIN)];
    calls::count(1);
    match ppoll(&mut watched, Some(TimeSpec::from_duration(patience)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for responses"),
    }
}

impl Workload for OpenRequester {
    fn prepare(&mut self) -> anyhow::Result<()> {
        for lane in &self.lanes {
            lane.flow.set_blocking(false)?;
        }
        if self.lanes.len() > 1 {
            let flows = self.lanes.iter().map(|lane| &lane.flow);
            self.poller = Some(Poller::new(flows, Interest::Receive)?);
        }
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        if !self.started {
            self.started = true;
            self.timetable.start(self.clock);
        }
        let now = rec.stamp();
        if now >= self.timetable.due() {
            self.send(now)?;
        }
        match self.receive()? {
            Some(intended) => {
                let now = rec.stamp();
                rec.record_ns(self.clock.ns(now.saturating_sub(intended)));
                Ok(Work::op(self.sizes.transaction()))
            }
            None => {
                self.rest(now)?;
                Ok(Work::default())
            }
        }
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        if !self.started {
            return Ok(Work::default());
        }
        self.schedule.unsent += self.timetable.overdue(self.clock);
        self.finish_sending()?;
        let mut work = Work::default();
        let mut patience = Instant::now();
        // A stream's responses all come, unless the peer is dead, which the watcher notices.
        while self.outstanding() > 0 && (!self.datagrams || patience.elapsed() < LAST_RESPONSES) {
            if self.receive()?.is_some() {
                work += Work::op(self.sizes.transaction());
                patience = Instant::now();
            } else {
                wait(self.waited_for(), Duration::from_millis(10))?;
            }
        }
        if !self.datagrams {
            for lane in &mut self.lanes {
                lane.flow.end()?;
            }
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let answered: u64 = self.lanes.iter().map(|lane| lane.answered).sum();
        let asked: u64 = self.lanes.iter().map(|lane| lane.next).sum();
        self.shared.report_schedule(self.schedule);
        if self.datagrams {
            (self.tally.sent, self.tally.received) = (asked, answered);
            self.tally.unanswered = asked - answered;
            self.shared.report_datagrams(self.tally);
        } else {
            anyhow::ensure!(
                asked == answered,
                "{asked} requests were sent and {answered} answered"
            );
        }
        proven(total, answered, ANSWERED)
    }
}
