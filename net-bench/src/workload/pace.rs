//! Streams at a rate: each send waits until it is due, whatever became of those before.
//!
//! The schedule is absolute. A sender that was held up makes up for it by sending back to back until
//! it is on time again, so that over a window the rate is that which was asked for, or a count says
//! how much of it is missing. With several datagrams per call the call is what is due: the batch
//! leaves when its first datagram is to.

use super::Shared;
use super::schedule::{SPIN, Schedule, Timetable};
use crate::test::Arrival;
use bench_sys::calls;
use reports::measure::{Clock, Recorder, Verified, Workload};
use reports::model::Work;
use std::thread;
use std::time::Duration;

/// How long the thread sleeps at most, so that the end of the window is not slept through.
const NAP: Duration = Duration::from_millis(10);

/// A sender that keeps a schedule.
pub struct Paced {
    inner: Box<dyn Workload + Send>,
    timetable: Timetable,
    clock: Clock,
    shared: Shared,
    schedule: Schedule,
    started: bool,
}

impl Paced {
    /// Has `inner` keep the schedule of `share` of all flows, of which the first is flow `first` of
    /// `all`.
    #[must_use]
    pub fn new(
        inner: Box<dyn Workload + Send>,
        arrival: &Arrival,
        (first, own, all): (usize, usize, u32),
        shared: Shared,
    ) -> Self {
        let all = f64::from(all);
        let (share, phase) = (own as f64 / all, first as f64 / all);
        Self {
            inner,
            timetable: Timetable::new(arrival, share, phase, first as u64),
            clock: Clock::get(),
            shared,
            schedule: Schedule::default(),
            started: false,
        }
    }
}

impl Workload for Paced {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.inner.prepare()
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if !self.started {
            self.started = true;
            self.timetable.start(self.clock);
        }
        let now = rec.stamp();
        if now < self.timetable.due() && !self.shared.stopped() {
            let left = self.clock.ns(self.timetable.due() - now);
            if let Some(left) = Duration::from_nanos(left).checked_sub(SPIN) {
                calls::count(1);
                thread::sleep(left.min(NAP));
            }
            return Ok(Work::default());
        }
        let work = self.inner.step(rec)?;
        self.schedule.sent += work.ops;
        self.timetable.advance(self.clock, work.ops);
        self.schedule.missed += u64::from(work.ops > 0 && now >= self.timetable.due());
        Ok(work)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        if self.started {
            self.schedule.unsent += self.timetable.overdue(self.clock);
        }
        self.inner.drain()
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        self.shared.report_schedule(self.schedule);
        self.inner.verify(total)
    }
}
