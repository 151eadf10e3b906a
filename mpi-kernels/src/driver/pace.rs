//! How many iterations make a batch, and when there have been enough.

use serde::Serialize;
use std::time::Duration;

/// How long a batch is meant to take.
const BATCH_NS: f64 = 1e8;

/// The most iterations in a batch: their stamps fit into a second-level cache.
pub const MAX_BATCH: usize = 8192;

/// Before so many iterations no interval counts as narrow.
pub const LEAST_FOR_INTERVAL: u64 = 30;

/// How many iterations make a batch, judged by how long the last ones took. All ranks feed it the
/// same numbers, so all get the same answers.
#[derive(Debug)]
pub struct Pace {
    iteration_ns: Option<f64>,
    largest: usize,
}

impl Pace {
    /// For batches of at most so many iterations.
    #[must_use]
    pub fn up_to(largest: usize) -> Self {
        Self {
            iteration_ns: None,
            largest: largest.clamp(1, MAX_BATCH),
        }
    }

    /// The length of the next batch: as long as a batch is meant to take, no more than are left and
    /// no more than fit into the time that is left, but at least one.
    #[must_use]
    pub fn next(&self, left: u64, left_ns: u64) -> usize {
        let fitting = match self.iteration_ns {
            // Nothing is known of the first: it may take seconds.
            None => 1,
            Some(ns) => (BATCH_NS.min(left_ns as f64) / ns.max(1.0)) as usize,
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        fitting.clamp(1, self.largest).min(left)
    }

    /// Learns from a batch.
    pub fn learn(&mut self, batch_ns: u64, length: usize) {
        self.iteration_ns = Some(batch_ns as f64 / length as f64);
    }
}

/// When iterations end.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most iterations.
    pub iterations: u64,
    /// The longest time.
    pub budget_ns: u64,
}

impl Limits {
    /// So many iterations within the time, if it is limited.
    #[must_use]
    pub fn of(iterations: u64, budget_s: Option<f64>) -> Self {
        let budget = budget_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let ns = budget.and_then(|budget| u64::try_from(budget.as_nanos()).ok());
        Self {
            iterations,
            budget_ns: ns.unwrap_or(u64::MAX),
        }
    }

    /// Which of them is reached, if one is.
    #[must_use]
    pub fn reached(&self, done: u64, elapsed_ns: u64) -> Option<StoppedBy> {
        if done >= self.iterations {
            Some(StoppedBy::Iterations)
        } else if elapsed_ns >= self.budget_ns {
            Some(StoppedBy::TimeBudget)
        } else {
            None
        }
    }
}

/// What ended the iterations of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoppedBy {
    /// All that were asked for were done.
    Iterations,
    /// They had lasted as long as they may.
    #[serde(rename = "time budget")]
    TimeBudget,
    /// The median's interval was narrow enough.
    Interval,
    /// A rank was asked to stop.
    Signal,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: u64 = u64::MAX;

    #[test]
    fn batches_follow_the_pace_within_bounds() {
        let mut pace = Pace::up_to(MAX_BATCH);
        assert_eq!(pace.next(1000, NO_LIMIT), 1, "nothing is known yet");
        pace.learn(1_000_000, 1);
        assert_eq!(pace.next(1000, NO_LIMIT), 100, "100 of 1 ms take 100 ms");
        assert_eq!(pace.next(1000, 20_000_000), 20, "20 ms are left");
        assert_eq!(pace.next(1000, 0), 1);
        assert_eq!(pace.next(7, NO_LIMIT), 7, "no more than are left");
        pace.learn(100, 1);
        assert_eq!(pace.next(u64::MAX, NO_LIMIT), MAX_BATCH);
        pace.learn(10_000_000_000, 1);
        assert_eq!(pace.next(5, NO_LIMIT), 1, "ten seconds each");
        pace.learn(0, 1);
        assert_eq!(pace.next(5, NO_LIMIT), 5, "a clock that stands still");
        let mut short = Pace::up_to(25);
        short.learn(100, 1);
        assert_eq!(short.next(1000, NO_LIMIT), 25);
    }

    #[test]
    fn iterations_end_at_the_first_limit() {
        let limits = Limits::of(100, Some(2.0));
        assert_eq!(limits.reached(99, 1_999_999_999), None);
        let budget = limits.reached(99, 2_000_000_000);
        assert_eq!(budget, Some(StoppedBy::TimeBudget));
        assert_eq!(limits.reached(100, 0), Some(StoppedBy::Iterations));
        assert_eq!(Limits::of(1, None).budget_ns, u64::MAX);
    }
}
