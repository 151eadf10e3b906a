//! One message, or one write, there and one back: the latency tests of perftest and fabtests.
//!
//! In mode compat every operation is signalled and its completion awaited, and a receive is posted
//! again before the next message goes, as `ib_send_lat` has it. In mode fast few are signalled, and
//! the receive is posted while the message is on its way.

use super::lanes::Lanes;
use crate::rdma::port::{Completed, Completion, Port};
use crate::rdma::test::Operation;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// One end of it.
pub struct PingPong<P> {
    lanes: Lanes<P>,
    /// Whether this end begins, and times.
    asks: bool,
    lane: usize,
    /// The receive that is to be posted again.
    spent: Option<u32>,
}

impl<P: Port> PingPong<P> {
    /// For connected lanes, which take turns.
    pub fn new(lanes: Lanes<P>, asks: bool) -> Self {
        Self {
            lanes,
            asks,
            lane: 0,
            spent: None,
        }
    }

    fn writes(&self) -> bool {
        self.lanes.test.operation == Operation::Write
    }

    /// Sends the next one of a lane.
    #[inline]
    fn send(&mut self, lane: usize) -> anyhow::Result<()> {
        while self.lanes.in_flight(lane) == u64::from(self.lanes.port.depth())
            || self.lanes.post(lane, 1, false)? == 0
        {
            self.poll()?;
        }
        if let Some(slot) = self.spent.take() {
            self.lanes.port.post_receive(slot)?;
        }
        Ok(())
    }

    #[inline]
    fn poll(&mut self) -> anyhow::Result<usize> {
        let count = self.lanes.poll()?;
        for index in 0..count {
            let completion = self.lanes.completion(index);
            take(&mut self.lanes, &mut self.spent, completion)?;
        }
        Ok(count)
    }

    /// Waits for the next one of the other side on a lane; `false` if there will be none.
    #[inline]
    fn await_next(&mut self, lane: usize) -> anyhow::Result<bool> {
        // It may have come while this side waited for something else. Who asks waits for as many
        // answers as it has asked; who answers, for one more than it has answered.
        let due = self.lanes.posted[lane] + u64::from(!self.asks);
        if self.writes() {
            while !self.lanes.written(lane) {
                // Verbs need no poll for what is written to memory.
                let look = self.lanes.look_due();
                if look {
                    self.lanes.look_around()?;
                }
                if P::POLL_TO_PROGRESS || look {
                    let nothing = self.poll()? == 0;
                    if nothing && look && self.over() {
                        return Ok(false);
                    }
                }
            }
            self.lanes.receive_written(lane)?;
        } else {
            while self.lanes.received[lane] < due {
                if self.poll()? == 0 && self.over() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether the other side has ended, and all of it is here.
    #[inline]
    fn over(&self) -> bool {
        !self.asks && self.lanes.missing() == Some(0)
    }

    /// Waits until what this side sent has completed, as perftest and fabtests do each time that it is
    /// signalled.
    #[inline]
    fn await_own(&mut self, lane: usize) -> anyhow::Result<()> {
        while self.lanes.is_signalled(lane) && self.lanes.in_flight(lane) > 0 {
            self.poll()?;
        }
        Ok(())
    }

    #[inline]
    fn ask(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.lanes.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let lane = self.lane;
        self.lane = self.lanes.after(lane);
        self.send(lane)?;
        if self.lanes.compat() {
            self.await_own(lane)?;
        }
        self.await_next(lane)?;
        rec.lap();
        self.lanes.note(lane);
        Ok(self.lanes.work(1))
    }

    #[inline]
    fn answer(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let lane = self.lane;
        if !self.await_next(lane)? {
            rec.finish();
            return Ok(Work::default());
        }
        self.lane = self.lanes.after(lane);
        self.send(lane)?;
        if self.lanes.compat() {
            self.await_own(lane)?;
        }
        self.lanes.note(lane);
        Ok(self.lanes.work(1))
    }
}

/// Counts what completed; a receive is posted again now, or when the next message has gone.
#[inline]
fn take<P: Port>(
    lanes: &mut Lanes<P>,
    spent: &mut Option<u32>,
    completion: Completion,
) -> anyhow::Result<()> {
    let lane = completion.lane as usize;
    match completion.completed {
        Completed::Posted { count, .. } => lanes.complete(lane, count),
        received @ Completed::Received { slot, .. } => {
            lanes.receive(lane, received)?;
            let at_once = if lanes.compat() {
                Some(slot)
            } else {
                spent.replace(slot)
            };
            if let Some(slot) = at_once {
                lanes.port.post_receive(slot)?;
            }
        }
    }
    Ok(())
}

impl<P: Port> Workload for PingPong<P> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.asks {
            self.ask(rec)
        } else {
            self.answer(rec)
        }
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        // A window that closed early leaves an asker that still waits for answers.
        while !self.asks && !self.over() {
            let lane = self.lane;
            if !self.await_next(lane)? {
                break;
            }
            self.lane = self.lanes.after(lane);
            self.send(lane)?;
            work += self.lanes.work(1);
        }
        let spent = &mut self.spent;
        self.lanes
            .part(|lanes, completion| take(lanes, spent, completion))?;
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let (posted, received): (u64, u64) = (
            self.lanes.posted.iter().sum(),
            self.lanes.received.iter().sum(),
        );
        anyhow::ensure!(
            total.ops == received && posted == received,
            "{} round trips were counted, {posted} operations posted and {received} received",
            total.ops
        );
        let what = if self.lanes.test.verify {
            "operations carried their numbers and every byte of their payload"
        } else {
            "operations carried their numbers"
        };
        Ok(Verified {
            checks: self.lanes.checks,
            what: what.to_owned(),
        })
    }
}
