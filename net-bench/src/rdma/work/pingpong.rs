//! One message, or one write, there and one back: the latency tests of perftest and fabtests.
//!
//! In mode compat every operation is signalled and its completion awaited, and a receive is posted
//! again before each message goes, as `ib_send_lat` has it: that of the message before, which has been
//! checked. In mode fast few are signalled, and the receive is posted while the message is on its way.
//!
//! Between an arrival and the post that answers it nothing is done but what has to be: a stamp on the
//! side that asks. What was noticed is checked, recorded and noted while the other side works, and
//! what the next operation carries is written then, too.

use super::lanes::Lanes;
use crate::rdma::port::{Completed, Completion, Delivery, Port};
use crate::rdma::test::Operation;
use reports::measure::{Clock, Recorder, Ticks, Verified, Workload};
use reports::model::Work;
use std::time::Duration;

/// Most round trips of a step.
const ROUNDS: u64 = 64;

/// A step that has taken so long goes on no longer.
const BRIEF: Duration = Duration::from_millis(1);

/// One end of it.
pub struct PingPong<P> {
    lanes: Lanes<P>,
    /// Whether this end begins, and times.
    asks: bool,
    lane: usize,
    held: Held,
    brief: Ticks,
}

/// What arrived last, as far as it is not dealt with.
#[derive(Default)]
struct Held {
    /// Whether what arrives is checked after the next post; else at once.
    late: bool,
    /// Whether its receive is posted again later, too.
    keeps: bool,
    unchecked: Option<Arrival>,
    /// The receive that is to be posted again.
    spent: Option<u32>,
}

/// An operation of the other side that was counted, and is to be checked.
#[derive(Clone, Copy)]
struct Arrival {
    lane: usize,
    number: u64,
    /// What completed; of a write nothing does.
    completed: Option<Completed>,
}

impl Held {
    /// Holds an arrival until the next post, and checks the one before it if that was not done.
    #[inline]
    fn hold<P: Port>(&mut self, lanes: &mut Lanes<P>, arrival: Arrival) -> anyhow::Result<()> {
        self.check(lanes)?;
        self.unchecked = Some(arrival);
        Ok(())
    }

    /// Checks what is to be checked.
    #[inline]
    fn check<P: Port>(&mut self, lanes: &mut Lanes<P>) -> anyhow::Result<()> {
        let Some(arrival) = self.unchecked.take() else {
            return Ok(());
        };
        lanes.note(arrival.lane);
        match arrival.completed {
            Some(completed) => lanes.check(arrival.lane, arrival.number, completed),
            None => lanes.check_written(arrival.lane, arrival.number),
        }
    }
}

impl<P: Port> PingPong<P> {
    /// For connected lanes, which take turns.
    pub fn new(lanes: Lanes<P>, asks: bool) -> Self {
        // What arrived last stays as it is until another one has taken its place: there have to be two.
        let kept = match lanes.test.operation {
            Operation::Send | Operation::Tagged => lanes.test.receives > 1,
            Operation::WriteData => lanes.test.receives > 1 && lanes.port.depth() > 1,
            _ => lanes.port.depth() > 1,
        };
        let late = lanes.delivery() == Delivery::InOrder && kept;
        let keeps = late || !lanes.compat();
        Self {
            lanes,
            asks,
            lane: 0,
            held: Held {
                late,
                keeps,
                ..Held::default()
            },
            brief: Clock::get().ticks(BRIEF),
        }
    }

    fn writes(&self) -> bool {
        self.lanes.test.operation == Operation::Write
    }

    /// Sends the next one of a lane. Inlined, as all between an arrival and the post is: where code is
    /// emulated, each call costs as much as dozens of other instructions.
    #[inline(always)]
    fn send(&mut self, lane: usize) -> anyhow::Result<()> {
        while self.lanes.in_flight(lane) == u64::from(self.lanes.port.depth())
            || self.lanes.post(lane, 1, false)? == 0
        {
            self.poll()?;
        }
        Ok(())
    }

    /// What is left to do when the next one has gone: the other side works meanwhile.
    #[inline]
    fn catch_up(&mut self, lane: usize) -> anyhow::Result<()> {
        self.held.check(&mut self.lanes)?;
        if self.lanes.compat() {
            self.await_own(lane)?;
            self.lanes.fill_ahead(self.lane);
            return Ok(());
        }
        if let Some(slot) = self.held.spent.take() {
            self.lanes.port.post_receive(slot)?;
        }
        if self.lanes.in_flight(lane) * 2 > u64::from(self.lanes.port.depth()) {
            self.poll()?;
        }
        self.lanes.fill_ahead(self.lane);
        Ok(())
    }

    #[inline]
    fn poll(&mut self) -> anyhow::Result<usize> {
        let count = self.lanes.poll()?;
        for index in 0..count {
            let completion = self.lanes.completion(index);
            take(&mut self.lanes, &mut self.held, completion)?;
        }
        Ok(count)
    }

    /// Waits for the next one of the other side on a lane; `false` if there will be none.
    #[inline(always)]
    fn await_next(&mut self, lane: usize) -> anyhow::Result<bool> {
        // It may have come while this side waited for something else. Who asks waits for as many
        // answers as it has asked; who answers, for one more than it has answered.
        let due = self.lanes.posted[lane] + u64::from(!self.asks);
        if self.writes() {
            let looks = self.lanes.looks();
            while !self.lanes.written(lane, looks) {
                if self.poll()? == 0 && self.over() {
                    return Ok(false);
                }
            }
            let arrival = Arrival {
                lane,
                number: self.lanes.count_arrival(lane),
                completed: None,
            };
            self.held.hold(&mut self.lanes, arrival)?;
            if !self.held.late {
                self.held.check(&mut self.lanes)?;
            }
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

    /// The lane whose turn it is; the turn passes on.
    #[inline]
    fn turn(&mut self) -> usize {
        let lane = self.lane;
        self.lane = self.lanes.after(lane);
        lane
    }

    /// Asks some times in a row, and is answered.
    #[inline]
    fn ask(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let begun = rec.last();
        let most = rec.left().min(ROUNDS);
        let mut rounds = 0;
        // When the round trip began that ended with the last stamp.
        let mut unrecorded = None;
        while rounds < most && rec.last().saturating_sub(begun) < self.brief {
            if self.lanes.shared.stopped() {
                rec.finish();
                break;
            }
            let lane = self.turn();
            self.send(lane)?;
            if let Some(begun) = unrecorded {
                rec.record_since(begun);
            }
            self.catch_up(lane)?;
            self.await_next(lane)?;
            unrecorded = Some(rec.last());
            rec.stamp();
            rounds += 1;
        }
        if let Some(begun) = unrecorded {
            rec.record_since(begun);
        }
        Ok(self.lanes.work(rounds))
    }

    /// Answers some times in a row.
    #[inline]
    fn answer(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let begun = rec.last();
        let mut rounds = 0;
        while rounds < ROUNDS && rec.last().saturating_sub(begun) < self.brief {
            if !self.await_next(self.lane)? {
                rec.finish();
                break;
            }
            let lane = self.turn();
            self.send(lane)?;
            rec.stamp();
            self.catch_up(lane)?;
            rounds += 1;
        }
        Ok(self.lanes.work(rounds))
    }
}

/// Counts what completed; a receive is posted again at once, or when it has been checked.
#[inline]
fn take<P: Port>(
    lanes: &mut Lanes<P>,
    held: &mut Held,
    completion: Completion,
) -> anyhow::Result<()> {
    let lane = completion.lane as usize;
    let received @ Completed::Received { slot, .. } = completion.completed else {
        if let Completed::Posted { count, .. } = completion.completed {
            lanes.complete(lane, count);
        }
        return Ok(());
    };
    if held.late {
        let arrival = Arrival {
            lane,
            number: lanes.count_arrival(lane),
            completed: Some(received),
        };
        held.hold(lanes, arrival)?;
    } else {
        lanes.receive(lane, received)?;
        lanes.note(lane);
    }
    let checked = if held.keeps {
        held.spent.replace(slot)
    } else {
        Some(slot)
    };
    checked.map_or(Ok(()), |slot| lanes.port.post_receive(slot))
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
            self.catch_up(lane)?;
            work += self.lanes.work(1);
        }
        let held = &mut self.held;
        held.check(&mut self.lanes)?;
        self.lanes
            .part(|lanes, completion| take(lanes, held, completion))?;
        held.check(&mut self.lanes)?;
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
