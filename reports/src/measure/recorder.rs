//! What one thread records in its timed loop: stamps and latencies, nothing else.

use super::clock::{Clock, Ticks};
use super::latencies::Latencies;
use hdrhistogram::Histogram;

/// The largest latency a histogram holds: one hour. Larger values count as this one.
pub const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

/// An empty latency histogram: 1 ns to one hour at three significant digits (0.1 %).
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    // The bounds are constants that satisfy the constructor's rules.
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("constant bounds are valid")
}

/// One thread's stamps and latencies. Concrete, not shared, and free of allocation once made.
pub struct Recorder {
    clock: Clock,
    last: Ticks,
    finished: bool,
    pub(super) left: u64,
    pub(super) main: Box<Latencies>,
    pub(super) extra: Vec<Latencies>,
}

impl Recorder {
    /// A recorder with `extra` histograms beside the main one.
    #[must_use]
    pub fn new(clock: Clock, extra: usize) -> Self {
        Self {
            clock,
            last: clock.now(),
            finished: false,
            left: u64::MAX,
            main: Box::default(),
            extra: (0..extra).map(|_| Latencies::default()).collect(),
        }
    }

    /// The clock behind the stamps.
    #[inline(always)]
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Reads the clock and remembers the moment as the last stamp.
    #[inline(always)]
    pub fn stamp(&mut self) -> Ticks {
        self.last = self.clock.now();
        self.last
    }

    /// The last stamp, without reading the clock.
    #[inline(always)]
    #[must_use]
    pub fn last(&self) -> Ticks {
        self.last
    }

    /// Ends one operation that began at the last stamp, and begins the next: one clock reading per
    /// operation. Returns the moment.
    #[inline(always)]
    pub fn lap(&mut self) -> Ticks {
        let start = self.last;
        let now = self.stamp();
        self.record_ns(self.clock.ns(now.saturating_sub(start)));
        now
    }

    /// Records an operation that began at `start` and ended at the last stamp. For engines with
    /// many operations in flight: one stamp serves all completions that were reaped together.
    #[inline(always)]
    pub fn record_since(&mut self, start: Ticks) {
        self.record_ns(self.clock.ns(self.last.saturating_sub(start)));
    }

    /// The same for `count` operations that began together.
    #[inline(always)]
    pub fn record_since_n(&mut self, start: Ticks, count: u64) {
        let ns = self.clock.ns(self.last.saturating_sub(start));
        self.main.record_n(ns, count);
    }

    /// Records a latency in nanoseconds.
    #[inline(always)]
    pub fn record_ns(&mut self, ns: u64) {
        self.main.record(ns);
    }

    /// Records a value in the `index`-th extra histogram.
    #[inline(always)]
    pub fn record_extra(&mut self, index: usize, ns: u64) {
        self.extra[index].record(ns);
    }

    /// Says that there is no more work: the phase ends after this step, whatever its limit.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether the workload said that there is no more work.
    #[inline(always)]
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// How many operations the phase still takes: a step that does several does not do more.
    #[inline(always)]
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Forgets what was recorded, as at the end of the warm-up.
    pub(super) fn reset(&mut self) {
        self.main.reset();
        for histogram in &mut self.extra {
            histogram.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_records_the_time_since_the_last_stamp() {
        let clock = Clock::get();
        let mut rec = Recorder::new(clock, 1);
        let start = rec.stamp();
        let end = rec.lap();
        rec.record_extra(0, 7);
        rec.record_since_n(start, 3);
        let mut recorded = new_histogram();
        rec.main.add_to(&mut recorded);
        assert_eq!(recorded.len(), 4);
        assert!(recorded.equivalent(recorded.min(), recorded.max()));
        assert!(recorded.equivalent(recorded.max(), clock.ns(end - start)));
        assert_eq!(rec.extra[0].len(), 1);
        rec.reset();
        assert_eq!((rec.main.len(), rec.extra[0].len()), (0, 0));
    }
}
