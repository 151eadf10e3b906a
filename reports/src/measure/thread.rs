//! The timed loop of one thread.

use super::clock::{Clock, Ticks};
use super::latencies::Latencies;
use super::recorder::Recorder;
use super::stop::stop_requested;
use super::watch::Cpu;
use super::{Limit, Plan, Verified, Workload};
use crate::model::Work;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// How often a loop looks at the world outside: a stop request, a failed neighbour.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// What one thread did in the measured window.
#[derive(Debug, Clone)]
pub struct ThreadTotals {
    /// Work completed in the window.
    pub work: Work,
    /// First and last stamp of the window.
    pub window: (Ticks, Ticks),
    /// CPU used in the window.
    pub cpu: Cpu,
    /// CPU that threads of the kernel used in the window for this one, in seconds.
    pub kernel_cpu_s: f64,
    /// What the workload proved.
    pub verified: Verified,
    /// Latencies not yet handed over in a slice.
    pub(super) main: Box<Latencies>,
    /// The extra histograms.
    pub(super) extra: Vec<Latencies>,
    /// Whether a stop request ended the window before its limit.
    pub(super) stopped_early: bool,
}

/// One slice of the window as one thread saw it.
pub(super) struct Slice {
    pub(super) index: usize,
    pub(super) t0: Ticks,
    pub(super) t1: Ticks,
    pub(super) work: Work,
    /// The latencies of the slice; `None` if there were none or no empty histogram was at hand.
    pub(super) latencies: Option<Box<Latencies>>,
}

/// What a thread shares with the coordinator while it runs.
pub(super) struct Link {
    /// Slices go out here.
    pub(super) slices: Sender<(usize, Slice)>,
    /// Empty histograms come back here, so that the loop never allocates or clears one.
    pub(super) spares: Receiver<Box<Latencies>>,
    /// This thread's number.
    pub(super) thread: usize,
}

/// Runs ramp, warm-up and the measured window, then drains and verifies.
///
/// `go` is the moment at which the first thread starts.
pub(super) fn drive(
    workload: &mut dyn Workload,
    mut rec: Recorder,
    plan: &Plan,
    go: Ticks,
    abort: &AtomicBool,
    link: &Link,
) -> anyhow::Result<ThreadTotals> {
    let clock = rec.clock();
    let share = plan.ramp.mul_f64(link.thread as f64 / plan.threads as f64);
    sleep_until(clock, go + clock.ticks(share), abort);

    rec.stamp();
    let warm_end = match plan.warmup {
        Limit::Duration(length) => go + clock.ticks(plan.ramp + length),
        Limit::Ops(_) | Limit::UntilDone => Ticks::MAX,
    };
    let mut total = Work::default();
    if plan.warmup != Limit::Ops(0) && rec.last() < warm_end {
        let mut warm = Window::new(plan.warmup, warm_end, None);
        total += warm.run(workload, &mut rec, abort)?;
    }
    rec.reset();

    let kernel_before = workload.kernel_cpu_s();
    let cpu_before = Cpu::of_this_thread();
    let opened = rec.stamp();
    workload.window_opens(opened);
    let deadline = match plan.run {
        Limit::Duration(length) => opened + clock.ticks(length),
        Limit::Ops(_) | Limit::UntilDone => Ticks::MAX,
    };
    let ticker = Ticker::new(link, opened, clock.ticks(plan.interval));
    let mut window = Window::new(plan.run, deadline, Some(ticker));
    let work = window.run(workload, &mut rec, abort)?;
    let closed = rec.last();
    let cpu = Cpu::of_this_thread() - cpu_before;
    let kernel_cpu_s = (workload.kernel_cpu_s() - kernel_before).max(0.0);
    window.close(&mut rec, work, closed);

    total += work;
    total += workload.drain()?;
    let verified = workload.verify(total)?;
    anyhow::ensure!(
        verified.checks > 0,
        "nothing was verified: no {}",
        verified.what
    );
    Ok(ThreadTotals {
        work,
        window: (opened, closed),
        cpu,
        kernel_cpu_s,
        verified,
        main: rec.main,
        extra: rec.extra,
        stopped_early: window.stopped_early,
    })
}

fn sleep_until(clock: Clock, moment: Ticks, abort: &AtomicBool) {
    loop {
        let left = clock.ns(moment.saturating_sub(clock.now()));
        if left == 0 || abort.load(Ordering::Relaxed) || stop_requested() {
            return;
        }
        std::thread::sleep(Duration::from_nanos(left).min(LOOK_AROUND));
    }
}

/// One phase of the loop: until a moment, an operation count, or the end of the work.
struct Window<'a> {
    deadline: Ticks,
    ops: u64,
    ticker: Option<Ticker<'a>>,
    stopped_early: bool,
}

impl<'a> Window<'a> {
    fn new(limit: Limit, deadline: Ticks, ticker: Option<Ticker<'a>>) -> Self {
        let ops = match limit {
            Limit::Ops(ops) => ops,
            Limit::Duration(_) | Limit::UntilDone => u64::MAX,
        };
        Self {
            deadline,
            ops,
            ticker,
            stopped_early: false,
        }
    }

    /// The loop itself: one dynamic call, one addition and two comparisons around each step.
    fn run(
        &mut self,
        workload: &mut dyn Workload,
        rec: &mut Recorder,
        abort: &AtomicBool,
    ) -> anyhow::Result<Work> {
        let mut done = Work::default();
        let mut look = rec.last();
        while done.ops < self.ops && !rec.finished() {
            let before = rec.last();
            rec.left = self.ops - done.ops;
            let work = workload.step(rec)?;
            // Who has nothing left to do has ended with its last operation, not with this look.
            if rec.last() == before && !(rec.finished() && work.ops == 0 && done.ops > 0) {
                rec.stamp();
            }
            if rec.last() >= look {
                match self.look_around(rec, done, abort) {
                    Some(next) => look = next,
                    None => {
                        done += work;
                        break;
                    }
                }
            }
            done += work;
        }
        Ok(done)
    }

    /// Sends due slices and says when to look again, or `None` when the phase is over.
    #[cold]
    fn look_around(&mut self, rec: &mut Recorder, done: Work, abort: &AtomicBool) -> Option<Ticks> {
        let now = rec.last();
        let mut next = now + rec.clock().ticks(LOOK_AROUND);
        if let Some(ticker) = &mut self.ticker {
            if now >= ticker.due {
                ticker.tick(rec, done, now, now >= self.deadline);
                // What the tick itself cost belongs to no operation.
                rec.stamp();
            }
            next = next.min(ticker.due);
        }
        if now >= self.deadline {
            return None;
        }
        if stop_requested() || abort.load(Ordering::Relaxed) {
            self.stopped_early = true;
            return None;
        }
        Some(next.min(self.deadline))
    }

    /// Sends the last slice, which may be shorter than the others.
    fn close(&mut self, rec: &mut Recorder, done: Work, closed: Ticks) {
        if let Some(ticker) = &mut self.ticker
            && closed > ticker.opened
        {
            ticker.send(rec, done, closed);
        }
    }
}

/// Cuts the window into slices.
struct Ticker<'a> {
    link: &'a Link,
    length: Ticks,
    index: usize,
    /// Start of the current slice.
    opened: Ticks,
    /// When the current slice is due to end.
    due: Ticks,
    /// Work done when the current slice opened.
    counted: Work,
}

impl<'a> Ticker<'a> {
    fn new(link: &'a Link, opened: Ticks, length: Ticks) -> Self {
        Self {
            link,
            length,
            index: 0,
            opened,
            due: opened + length,
            counted: Work::default(),
        }
    }

    /// Ends every slice that was due by `now`. After a stall the slices it swallowed are empty and
    /// the operation that ended it belongs to the slice in which it completed. When the window is
    /// `closing`, a remainder of less than half a slice is left to the last slice.
    fn tick(&mut self, rec: &mut Recorder, done: Work, now: Ticks, closing: bool) {
        let grace = if closing { self.length / 2 } else { 0 };
        while now >= self.due + grace {
            self.send(rec, done, self.due);
            self.due += self.length;
        }
    }

    fn send(&mut self, rec: &mut Recorder, done: Work, t1: Ticks) {
        let latencies = if rec.main.is_empty() {
            None
        } else {
            let spare = self.link.spares.try_recv().ok();
            spare.map(|empty| std::mem::replace(&mut rec.main, empty))
        };
        let work = Work {
            ops: done.ops - self.counted.ops,
            bytes: done.bytes - self.counted.bytes,
        };
        let slice = Slice {
            index: self.index,
            t0: self.opened,
            t1,
            work,
            latencies,
        };
        // The coordinator outlives the threads; if it is gone, nobody is left to tell.
        let _ = self.link.slices.send((self.link.thread, slice));
        self.index += 1;
        self.opened = t1;
        self.counted = done;
    }
}
