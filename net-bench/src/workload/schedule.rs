//! Moments that are set beforehand, for load that does not wait for anybody.

use crate::test::{Arrival, Process};
use reports::measure::{Clock, Ticks};
use serde::{Deserialize, Serialize};
use std::thread;
use std::time::Duration;

/// How long before something is due the thread stops sleeping. The kernel's default timer slack is
/// half of it.
pub(super) const SPIN: Duration = Duration::from_micros(100);

/// The longest that a sender sleeps before it looks whether it was told to stop.
const NAP: Duration = Duration::from_millis(50);

/// How a schedule was kept. All counts are from the first one, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Requests or datagrams sent.
    pub sent: u64,
    /// Of those, the ones sent after the next had become due as well.
    pub missed: u64,
    /// Requests or datagrams that were due at the end and not sent.
    pub unsent: u64,
}

impl Schedule {
    /// All counts, to be checked.
    pub fn counts(&self) -> [u64; 3] {
        [self.sent, self.missed, self.unsent]
    }
}

impl std::ops::AddAssign for Schedule {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.missed += other.missed;
        self.unsent += other.unsent;
    }
}

/// When requests or datagrams are due.
pub(super) struct Timetable {
    process: Process,
    random: fastrand::Rng,
    gap_ns: f64,
    /// Nanoseconds after the start at which the next one is due, with their fraction.
    next_ns: f64,
    start: Ticks,
    /// When the next one is due.
    pub(super) due: Ticks,
}

impl Timetable {
    /// For a thread that has `share` of them all and begins at `phase` of its first gap.
    pub(super) fn new(arrival: &Arrival, share: f64, phase: f64, thread: u64) -> Self {
        let gap_ns = 1e9 / (arrival.rate_per_s * share);
        Self {
            process: arrival.process,
            random: fastrand::Rng::with_seed(arrival.seed.wrapping_add(thread)),
            gap_ns,
            next_ns: gap_ns * phase,
            start: 0,
            due: 0,
        }
    }

    pub(super) fn start(&mut self, clock: Clock) {
        self.start = clock.now();
        self.due = self.start + clock.ticks(Duration::from_nanos(self.next_ns as u64));
    }

    pub(super) fn advance(&mut self, clock: Clock) {
        self.next_ns += match self.process {
            Process::Const => self.gap_ns,
            // The gaps of a Poisson process are exponential; 1 − u is never 0.
            Process::Poisson => -(1.0 - self.random.f64()).ln() * self.gap_ns,
        };
        self.due = self.start + clock.ticks(Duration::from_nanos(self.next_ns as u64));
    }
}

/// Keeps a sender to its schedule. What one call sends goes together, when the first of it is due.
pub(super) struct Pace {
    timetable: Timetable,
    clock: Clock,
    begun: bool,
    schedule: Schedule,
}

impl Pace {
    /// For a thread with `own` of all `flows`, of which `first` is the first.
    pub(super) fn new(arrival: &Arrival, own: usize, first: usize, flows: u32) -> Self {
        let all = f64::from(flows);
        Self {
            timetable: Timetable::new(arrival, own as f64 / all, first as f64 / all, first as u64),
            clock: Clock::get(),
            begun: false,
            schedule: Schedule::default(),
        }
    }

    /// Whether the next datagram is due. If it is not, rests until shortly before it is.
    pub(super) fn due(&mut self) -> bool {
        if !self.begun {
            self.timetable.start(self.clock);
            self.begun = true;
        }
        let now = self.clock.now();
        let left = self.clock.ns(self.timetable.due.saturating_sub(now));
        if let Some(sleep) = Duration::from_nanos(left).checked_sub(SPIN) {
            thread::sleep(sleep.min(NAP));
        }
        left == 0
    }

    /// Notes that so many went in one call.
    pub(super) fn sent(&mut self, count: u64) {
        for _ in 0..count {
            self.timetable.advance(self.clock);
        }
        self.schedule.sent += count;
        if count > 0 && self.clock.now() >= self.timetable.due {
            self.schedule.missed += count;
        }
    }

    /// How it was kept until now, which is the end.
    pub(super) fn finish(&mut self) -> Schedule {
        let now = self.clock.now();
        while self.begun && self.timetable.due < now {
            self.schedule.unsent += 1;
            self.timetable.advance(self.clock);
        }
        self.schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate_per_s: f64) -> Pace {
        let arrival = Arrival {
            rate_per_s,
            process: Process::Const,
            seed: 0,
        };
        Pace::new(&arrival, 1, 0, 1)
    }

    #[test]
    fn what_was_due_and_never_went_is_counted() {
        let mut slow = pace(0.01);
        assert!(slow.due(), "the first is due at once");
        slow.sent(1);
        assert_eq!(
            slow.finish(),
            Schedule {
                sent: 1,
                missed: 0,
                unsent: 0
            }
        );

        let mut fast = pace(1e6);
        assert!(fast.due());
        fast.sent(2);
        thread::sleep(Duration::from_millis(1));
        assert!(fast.due());
        fast.sent(1);
        let kept = fast.finish();
        assert!(
            kept.sent == 3 && kept.missed >= 1 && kept.unsent >= 900,
            "{kept:?}"
        );
    }

    #[test]
    fn a_schedule_that_never_began_owes_nothing() {
        assert_eq!(pace(1e6).finish(), Schedule::default());
    }

    fn timetable(process: Process, seed: u64) -> Vec<f64> {
        let arrival = Arrival {
            rate_per_s: 1000.0,
            process,
            seed,
        };
        let mut timetable = Timetable::new(&arrival, 0.5, 0.25, 0);
        let clock = Clock::get();
        (0..20_000)
            .map(|_| {
                let due = timetable.next_ns;
                timetable.advance(clock);
                due
            })
            .collect()
    }

    #[test]
    fn constant_arrivals_keep_their_distance() {
        let due = timetable(Process::Const, 1);
        assert!((due[0] - 500_000.0).abs() < 1e-6, "a quarter of the gap");
        let gaps = due.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.into_iter().all(|gap| (gap - 2e6).abs() < 1e-3));
    }

    #[test]
    fn poisson_arrivals_have_exponential_gaps_and_come_back_with_their_seed() {
        let due = timetable(Process::Poisson, 1);
        assert_eq!(due, timetable(Process::Poisson, 1));
        assert_ne!(due, timetable(Process::Poisson, 2));
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > 2e6).count() as f64 / gaps.len() as f64;
        assert!((mean / 2e6 - 1.0).abs() < 0.05, "mean gap {mean}");
        // e⁻¹ of all gaps are longer than the mean.
        assert!(
            (longer - 0.3679).abs() < 0.02,
            "{longer} longer than the mean"
        );
    }
}
