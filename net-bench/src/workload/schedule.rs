//! Moments that are set beforehand, for load that waits for nobody: requests of an open loop, and
//! the sends of streams at a rate.

use crate::test::{Arrival, Process};
use reports::measure::{Clock, Ticks};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long before something is due the thread stops sleeping. The kernel's default timer slack is
/// half of it.
pub(super) const SPIN: Duration = Duration::from_micros(100);

/// How a schedule was kept, of requests or of a stream's sends. All counts are from the first one,
/// warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Requests or datagrams sent; of other streams, buffers.
    pub sent: u64,
    /// Calls that sent after the next one had become due as well.
    pub missed: u64,
    /// What was due at the end and not sent.
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

/// When requests or sends are due.
pub(super) struct Timetable {
    process: Process,
    random: fastrand::Rng,
    gap_ns: f64,
    /// Nanoseconds after the start at which the next one is due, with their fraction.
    next_ns: f64,
    start: Ticks,
    due: Ticks,
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

    /// When the next one is to go.
    #[inline]
    pub(super) fn due(&self) -> Ticks {
        self.due
    }

    /// How many more are due by now and did not go; the timetable ends here.
    pub(super) fn overdue(&mut self, clock: Clock) -> u64 {
        let now_ns = clock.ns(clock.now().saturating_sub(self.start)) as f64;
        if self.process == Process::Const {
            // At a high rate there may be more than could be counted one by one.
            let gaps = (now_ns - self.next_ns) / self.gap_ns;
            return if gaps < 0.0 { 0 } else { gaps as u64 + 1 };
        }
        let mut count = 0;
        while self.next_ns < now_ns {
            count += 1;
            self.advance(clock, 1);
        }
        count
    }

    /// Goes on to the one after the next `count`.
    #[inline]
    pub(super) fn advance(&mut self, clock: Clock, count: u64) {
        self.next_ns += match self.process {
            Process::Const => self.gap_ns * count as f64,
            Process::Poisson => (0..count).map(|_| self.exponential_ns()).sum(),
        };
        self.due = self.start + clock.ticks(Duration::from_nanos(self.next_ns as u64));
    }

    /// The gaps of a Poisson process are exponential; 1 − u is never 0.
    fn exponential_ns(&mut self) -> f64 {
        -(1.0 - self.random.f64()).ln() * self.gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                timetable.advance(clock, 1);
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
