//! Rounds of incast: every flow asks at the same moment for one block, and the round is over when the
//! last block has arrived. The other ends are those of request and response.
//!
//! One thread has all the flows, so that a round begins without waking anybody: its requests leave
//! back to back, and how far apart the first and the last were is part of the result.

use super::Shared;
use super::many_rr::{Lane, numbered, poller, prepared};
use super::rr::{ANSWERED, Sizes, check_number, proven, put_number};
use crate::transport::Flow;
use crate::transport::poller::Poller;
use crate::transport::socket::SocketFlow;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// Bytes of a request: the number of its round.
pub const REQUEST_BYTES: u64 = 8;

/// Time from the beginning of a round to the arrival of a flow's block, of every flow.
const BLOCK: usize = 0;
/// Time that it took to send the requests of a round.
const SPREAD: usize = 1;

/// The asking ends of all flows.
pub struct Gatherer {
    lanes: Vec<Lane>,
    poller: Option<Poller>,
    shared: Shared,
    sizes: Sizes,
    rounds: u64,
    /// How long each flow waited for its blocks, all rounds together, in nanoseconds.
    waits_ns: Vec<u64>,
}

impl Gatherer {
    /// For these flows of the test, which are all of its flows.
    #[must_use]
    pub fn new(flows: Vec<(usize, SocketFlow)>, sizes: Sizes, shared: Shared) -> Self {
        let lane = |(index, flow)| Lane::new(index, flow, sizes.request, sizes.response);
        Self {
            waits_ns: vec![0; flows.len()],
            lanes: flows.into_iter().map(lane).collect(),
            poller: None,
            shared,
            sizes,
            rounds: 0,
        }
    }

    /// Sends the requests of a round, one after the other.
    fn ask(&mut self) -> anyhow::Result<()> {
        let poller = prepared(&mut self.poller)?;
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            (lane.sent, lane.received) = (0, 0);
            put_number(lane.number, &mut lane.outgoing);
            lane.send(poller, place)?;
        }
        Ok(())
    }

    /// Goes on with the next flow that can. Returns its place if its block is now complete.
    #[inline]
    fn gather(&mut self) -> anyhow::Result<Option<usize>> {
        let poller = prepared(&mut self.poller)?;
        let place = poller.next_ready()?;
        let lane = &mut self.lanes[place];
        if lane.sending() {
            lane.send(poller, place)?;
            return Ok(None);
        }
        match lane.receive()? {
            None => Ok(None),
            Some(false) => anyhow::bail!(
                "{}: the peer closed the connection after {} blocks",
                lane.flow.peer(),
                lane.number
            ),
            Some(true) => {
                check_number(lane.number, self.sizes.echoed(), &lane.incoming)?;
                lane.number += 1;
                let bytes = lane.number * self.sizes.transaction();
                self.shared.note(lane.index, bytes);
                Ok(Some(place))
            }
        }
    }
}

impl Workload for Gatherer {
    fn extra_histograms(&self) -> &'static [&'static str] {
        &["block_ns", "request_spread_ns"]
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        self.poller = Some(poller(&self.lanes, false)?);
        Ok(())
    }

    /// One round.
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let clock = rec.clock();
        let begun = rec.stamp();
        self.ask()?;
        let asked = rec.stamp();
        rec.record_extra(SPREAD, clock.ns(asked.saturating_sub(begun)));
        let mut outstanding = self.lanes.len();
        while outstanding > 0 {
            let Some(place) = self.gather()? else {
                continue;
            };
            let wait = clock.ns(rec.stamp().saturating_sub(begun));
            rec.record_extra(BLOCK, wait);
            self.waits_ns[place] += wait;
            outstanding -= 1;
        }
        rec.record_since(begun);
        self.rounds += 1;
        Ok(Work::op((self.lanes.len() * self.sizes.response) as u64))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        for lane in &mut self.lanes {
            lane.flow.end()?;
        }
        self.shared.report_waits(std::mem::take(&mut self.waits_ns));
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(
            total.ops == self.rounds,
            "{} rounds were counted and {} carried out",
            total.ops,
            self.rounds
        );
        let blocks = Work {
            ops: total.ops * self.lanes.len() as u64,
            bytes: total.bytes,
        };
        let expected = blocks.ops * self.sizes.response as u64;
        anyhow::ensure!(
            blocks.bytes == expected,
            "{} bytes were counted, and the blocks of {} rounds have {expected}",
            blocks.bytes,
            self.rounds
        );
        proven(blocks, numbered(&self.lanes), ANSWERED)
    }
}
