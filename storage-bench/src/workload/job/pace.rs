//! When the next operation may begin.
//!
//! In an open loop that is what a schedule says, which knows nothing of the device: an operation
//! that finds all slots taken stays due, and its response time counts from when it was meant to
//! begin. Nothing is skipped and nothing moved, however long the device stalls. Two cursors run
//! over the same schedule, one at the operation that begins next and one at the first that is not
//! due yet; what lies between them is the backlog, which so takes no memory.
//!
//! Until shortly before the next operation is due the thread sleeps in its engine, where a
//! completion wakes it; the rest of the time it polls, because a timer of the kernel is late.

use crate::engine::Wait;
use crate::spec::{Arrival, Spec};
use nix::sys::prctl::set_timerslack;
use reports::measure::{Clock, Ticks};
use std::ops::AddAssign;
use std::time::Duration;

/// How long before something is due the thread stops sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// The longest sleep: the harness looks at its deadline between two steps.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);
/// What the kernel may add to the thread's sleeps, in nanoseconds; its default is 50 µs.
const TIMER_SLACK_NS: u64 = 1;

/// How the schedule of an open loop was kept in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Operations that became due.
    pub offered: u64,
    /// The most operations that were due at a time and had not begun; of several jobs the sum.
    pub backlog_max: u64,
    /// Operations that were due at the end and had not begun.
    pub unsent: u64,
}

impl AddAssign for Kept {
    fn add_assign(&mut self, other: Self) {
        self.offered += other.offered;
        self.backlog_max += other.backlog_max;
        self.unsent += other.unsent;
    }
}

/// The pace of one job.
#[derive(Debug)]
pub enum Pace {
    /// A closed loop: whenever a slot is free.
    Closed,
    /// An open loop: when the schedule says.
    Open(Box<Open>),
}

/// The state of an open loop.
#[derive(Debug)]
pub struct Open {
    clock: Clock,
    /// At the operation that begins next.
    head: Cursor,
    /// At the first operation that is not due yet.
    tail: Cursor,
    /// Operations that had become due when the window opened.
    before: u64,
    backlog_max: u64,
    /// Since when a slot is free; [`Ticks::MAX`] while none is.
    free_since: Ticks,
    /// The last moment that the job told of.
    now: Ticks,
}

impl Pace {
    /// The pace of one of the jobs of a specification, on the thread that will keep it.
    #[must_use]
    pub fn new(spec: &Spec, job: usize, seed: u64) -> Self {
        let Some(iops) = spec.offered_iops() else {
            return Self::Closed;
        };
        // Where the kernel refuses, operations begin later, which `late_start_ns` shows.
        let _ = set_timerslack(TIMER_SLACK_NS);
        let clock = Clock::get();
        let jobs = spec.numjobs as f64;
        let head = Cursor {
            arrival: spec.pace.arrival.unwrap_or_default(),
            // Not the numbers that choose the offsets.
            random: fastrand::Rng::with_seed(seed ^ 0x0070_6163_6500),
            gap: 1e9 * jobs / iops / clock.ns_per_tick(),
            phase: job as f64 / jobs,
            elapsed: 0.0,
            start: 0,
            due: 0,
            number: 0,
        };
        Self::Open(Box::new(Open {
            clock,
            tail: head.clone(),
            head,
            before: 0,
            backlog_max: 0,
            free_since: 0,
            now: 0,
        }))
    }

    /// The moment at which the next operation was meant to begin, if that has come.
    #[inline(always)]
    pub fn due(&mut self, now: Ticks) -> Option<Ticks> {
        match self {
            Self::Closed => Some(now),
            Self::Open(open) => open.due(now),
        }
    }

    /// Says that the operation that was due has been taken on.
    #[inline(always)]
    pub fn begun(&mut self) {
        if let Self::Open(open) = self {
            open.head.advance();
        }
    }

    /// How long to wait where nothing is due yet.
    #[must_use]
    pub fn wait(&self, now: Ticks) -> Wait {
        match self {
            Self::Closed => Wait::One,
            Self::Open(open) => open.wait(now),
        }
    }

    /// Whether an operation found a free slot at the moment at which it was meant to begin: if it
    /// begins late all the same, that is this program's doing.
    #[inline(always)]
    pub fn prompt(&self, intended: Ticks) -> bool {
        match self {
            Self::Closed => false,
            Self::Open(open) => intended >= open.free_since,
        }
    }

    /// Says that nothing more can begin before something has ended.
    #[inline(always)]
    pub fn full(&mut self) {
        if let Self::Open(open) = self {
            open.free_since = Ticks::MAX;
        }
    }

    /// Says what time it is, and whether operations have just ended.
    #[inline(always)]
    pub fn reaped(&mut self, now: Ticks, some: bool) {
        if let Self::Open(open) = self {
            open.now = now;
            if some && open.free_since == Ticks::MAX {
                open.free_since = now;
            }
        }
    }

    /// Says that the measured window opens: what was counted so far belongs to the warm-up.
    pub fn opens(&mut self, now: Ticks) {
        if let Self::Open(open) = self {
            open.due(now);
            open.before = open.tail.number;
            open.backlog_max = open.backlog();
        }
    }

    /// How the schedule was kept in the window, which ends here.
    pub fn close(&mut self) -> Kept {
        match self {
            Self::Closed => Kept::default(),
            Self::Open(open) => {
                open.due(open.now);
                Kept {
                    offered: open.tail.number - open.before,
                    backlog_max: open.backlog_max,
                    unsent: open.backlog(),
                }
            }
        }
    }
}

impl Open {
    #[inline]
    fn due(&mut self, now: Ticks) -> Option<Ticks> {
        if self.head.start == 0 {
            self.head.begin(now);
            self.tail.begin(now);
        }
        while self.tail.due <= now {
            self.tail.advance();
        }
        self.backlog_max = self.backlog_max.max(self.backlog());
        (self.head.due <= now).then_some(self.head.due)
    }

    fn backlog(&self) -> u64 {
        self.tail.number - self.head.number
    }

    fn wait(&self, now: Ticks) -> Wait {
        let left = self.clock.ns(self.head.due.saturating_sub(now));
        match Duration::from_nanos(left).checked_sub(SPIN) {
            None => Wait::No,
            Some(left) => Wait::AtMost(left.min(LONGEST_SLEEP)),
        }
    }
}

/// A place in a schedule.
#[derive(Debug, Clone)]
struct Cursor {
    arrival: Arrival,
    random: fastrand::Rng,
    /// The mean distance of two operations, in ticks.
    gap: f64,
    /// The share of the first gap after which a schedule of equal distances begins: jobs take turns.
    phase: f64,
    /// Ticks from the start to when this operation is due, with their fraction.
    elapsed: f64,
    start: Ticks,
    due: Ticks,
    /// How many operations come before this one.
    number: u64,
}

impl Cursor {
    fn begin(&mut self, now: Ticks) {
        self.start = now;
        self.elapsed = match self.arrival {
            Arrival::Const => self.gap * self.phase,
            Arrival::Poisson => self.next_gap(),
        };
        self.due = now + self.elapsed as Ticks;
    }

    #[inline]
    fn advance(&mut self) {
        self.elapsed += self.next_gap();
        self.due = self.start + self.elapsed as Ticks;
        self.number += 1;
    }

    #[inline]
    fn next_gap(&mut self) -> f64 {
        match self.arrival {
            Arrival::Const => self.gap,
            // The gaps of a Poisson process are exponential; 1 − u is never 0.
            Arrival::Poisson => -(1.0 - self.random.f64()).ln() * self.gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, PaceSpec};

    fn pace(arrival: Arrival, iops: f64, jobs: usize, job: usize, seed: u64) -> Box<Open> {
        let spec = Spec {
            numjobs: jobs,
            pace: PaceSpec {
                rate_iops: Some(iops),
                arrival: Some(arrival),
                ..PaceSpec::default()
            },
            ..spec::example()
        };
        match Pace::new(&spec, job, seed) {
            Pace::Open(open) => open,
            Pace::Closed => panic!("a rate opens the loop"),
        }
    }

    /// When the first operations are due, in nanoseconds after the start.
    fn moments(arrival: Arrival, jobs: usize, job: usize, seed: u64) -> Vec<f64> {
        let mut pace = pace(arrival, 1000.0, jobs, job, seed);
        let ns_per_tick = pace.clock.ns_per_tick();
        pace.head.begin(1);
        let moments = (0..20_000).map(|_| {
            let due = pace.head.elapsed * ns_per_tick;
            pace.head.advance();
            due
        });
        moments.collect()
    }

    #[test]
    fn jobs_take_turns_at_equal_distances() {
        for job in 0..4 {
            let due = moments(Arrival::Const, 4, job, 7);
            assert!((due[0] - 1e6 * job as f64).abs() < 1.0, "{}", due[0]);
            assert!(
                due.windows(2)
                    .all(|pair| (pair[1] - pair[0] - 4e6).abs() < 1.0)
            );
        }
    }

    #[test]
    fn poisson_arrivals_have_exponential_gaps_and_come_back_with_their_seed() {
        let due = moments(Arrival::Poisson, 2, 0, 1);
        assert_eq!(due, moments(Arrival::Poisson, 2, 0, 1));
        assert_ne!(due, moments(Arrival::Poisson, 2, 0, 2));
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > 2e6).count() as f64 / gaps.len() as f64;
        assert!((mean / 2e6 - 1.0).abs() < 0.05, "mean gap {mean}");
        // e⁻¹ of all gaps are longer than the mean.
        assert!(
            (longer - 0.3679).abs() < 0.02,
            "{longer} are longer than the mean"
        );
    }

    #[test]
    fn what_was_not_begun_stays_due_and_is_counted() {
        let mut open = pace(Arrival::Const, 1000.0, 1, 0, 1);
        let ms = |ms: u64| 1 + open.clock.ticks(Duration::from_millis(ms));
        let (start, tenth, last) = (ms(0), ms(100), ms(200));
        assert_eq!(open.due(start), Some(start));
        let mut pace = Pace::Open(open);
        pace.begun();
        pace.opens(start);
        // A hundredth of a second too late, the first is still the one of the second millisecond.
        let second = pace.due(tenth).expect("it is due");
        assert!(second.abs_diff(ms_after(&pace, start, 1)) < 10);
        for _ in 0..50 {
            pace.begun();
        }
        pace.reaped(last + 10, true);
        let kept = pace.close();
        assert_eq!(
            (kept.offered, kept.unsent, kept.backlog_max),
            (200, 150, 150)
        );
    }

    fn ms_after(pace: &Pace, start: Ticks, ms: u64) -> Ticks {
        match pace {
            Pace::Open(open) => start + open.clock.ticks(Duration::from_millis(ms)),
            Pace::Closed => start,
        }
    }

    #[test]
    fn sleeps_end_before_the_next_is_due_and_before_the_harness_must_look() {
        let mut open = pace(Arrival::Const, 200.0, 1, 0, 1);
        open.due(1);
        open.head.advance();
        let at = |us| 1 + open.clock.ticks(Duration::from_micros(us));
        match open.wait(at(0)) {
            Wait::AtMost(time) => {
                assert!(time > Duration::from_millis(4) && time < Duration::from_millis(5))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(open.wait(at(4970)), Wait::No);
        let mut slow = pace(Arrival::Const, 1.0, 1, 0, 1);
        slow.due(1);
        slow.head.advance();
        assert_eq!(slow.wait(1), Wait::AtMost(LONGEST_SLEEP));
    }
}
