//! What the timed iterations of a point add up to.

use super::pace::LEAST_FOR_INTERVAL;
use crate::kernel::{Results, Timer};
use crate::merge::{self, Entry, RankTotals};
use crate::world::World;
use hdrhistogram::Histogram;
use reports::measure::{MAX_LATENCY_NS, new_histogram};
use reports::stats::MedianInterval;
use serde_json::{Value, json};

/// A batch of iterations as this rank sees it: nanoseconds, [`u64::MAX`] where a rank was late.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// This rank's times.
    pub own: &'a [u64],
    /// The largest over all ranks; this rank's own where rank 0 alone times.
    pub merged: &'a [u64],
    /// When this rank, the last and the first entered, if all ranks know; empty otherwise.
    pub entries: [&'a [u64]; 3],
}

impl Batch<'_> {
    /// How many iterations do not count, because a rank was late for their beginning.
    pub fn invalid(&self) -> u64 {
        self.merged.iter().filter(|&&ns| ns == u64::MAX).count() as u64
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let [own, latest, earliest] = self.entries.map(|ns| ns.get(index).copied());
        let entry = Entry {
            own_ns: own?,
            latest_ns: latest?,
            earliest_ns: earliest?,
        };
        // One rank without entries makes the latest the largest of all numbers.
        (entry.latest_ns != u64::MAX).then_some(entry)
    }
}

/// What the timed iterations add up to on this rank.
pub struct Tally {
    timer: Timer,
    is_root: bool,
    /// One value per iteration that counts; on rank 0 only.
    pub histogram: Histogram<u64>,
    /// The sum of these before any division.
    pub sum_ns: u64,
    /// Iterations that do not count.
    pub invalid: u64,
    own: RankTotals,
    /// Those iterations that were slow because of this rank.
    blamed: Histogram<u64>,
    /// Between the first rank's entry and the last one's; on rank 0 only.
    spread: Histogram<u64>,
}

impl Tally {
    /// Of no iterations yet.
    pub fn new(timer: Timer, world: &World) -> Self {
        Self {
            timer,
            is_root: world.is_root(),
            histogram: new_histogram(),
            sum_ns: 0,
            invalid: 0,
            own: RankTotals::default(),
            blamed: new_histogram(),
            spread: new_histogram(),
        }
    }

    /// Adds a batch.
    pub fn add(&mut self, batch: Batch<'_>) {
        self.invalid += batch.invalid();
        let divisor = match self.timer {
            Timer::RankZero { divisor } => divisor,
            Timer::SlowestRank => {
                self.own.add(batch.own, batch.merged);
                1
            }
        };
        for (index, (&own, &ns)) in batch.own.iter().zip(batch.merged).enumerate() {
            if ns == u64::MAX {
                continue;
            }
            let entry = batch.entry(index);
            if self.timer == Timer::SlowestRank && merge::is_to_blame(own, ns, entry) {
                record(&mut self.blamed, ns);
            }
            if self.is_root {
                self.sum_ns += ns;
                record(&mut self.histogram, ns / divisor);
                if let Some(entry) = entry {
                    record(&mut self.spread, entry.latest_ns - entry.earliest_ns);
                }
            }
        }
    }

    /// The interval of the median so far; on rank 0 only.
    pub fn interval(&self) -> Option<MedianInterval> {
        merge::median_interval(&self.histogram)
    }

    /// How wide that is, as a share of the median.
    pub fn interval_width(&self) -> Option<f64> {
        let interval = self.interval()?;
        let median = self.histogram.value_at_quantile(0.5).max(1);
        Some((interval.high - interval.low) / median as f64)
    }

    /// Whether the interval is no wider than this share of the median, after enough iterations.
    pub fn is_narrow(&self, width: f64) -> bool {
        let enough = self.histogram.len() >= LEAST_FOR_INTERVAL;
        enough && self.interval_width().is_some_and(|own| own <= width)
    }

    /// What the report says of the distribution beyond its metrics. All ranks call it; rank 0 gets
    /// the facts.
    pub fn facts(&self, world: &World) -> Vec<(&'static str, Value)> {
        let p99 = self.histogram.value_at_quantile(0.99);
        let [p99] = world.max([if self.is_root { p99 } else { 0 }]);
        let mut blamed = Vec::new();
        world.gather_into(&[merge::count_beyond(&self.blamed, p99)], &mut blamed);
        let mut facts = Vec::new();
        if let Some(interval) = self.interval() {
            let coverage = (interval.coverage * 1e4).round() / 1e4;
            let interval =
                json!({"low": interval.low, "high": interval.high, "coverage": coverage});
            facts.push(("median_interval_ns", interval));
        }
        if self.timer == Timer::SlowestRank && self.histogram.len() >= 100 {
            facts.push(("slowest_beyond_p99", self.slowest(world, &blamed, p99)));
        }
        if !self.spread.is_empty() {
            let spread = json!({
                "p50": self.spread.value_at_quantile(0.5),
                "p99": self.spread.value_at_quantile(0.99),
            });
            facts.push(("entry_spread_ns", spread));
        }
        facts
    }

    /// The rank that was to blame most often for iterations at or beyond p99; the lowest of several.
    fn slowest(&self, world: &World, blamed: &[u64], p99: u64) -> Value {
        let counts = blamed.iter().enumerate();
        let most = counts.max_by_key(|&(rank, count)| (count, std::cmp::Reverse(rank)));
        // There is a rank 0.
        let (rank, count) = most.map_or((0, 0), |(rank, &count)| (rank, count));
        let judged_by = if self.spread.is_empty() {
            "own time; without a common clock nobody knows who entered late"
        } else {
            "late entry, else own time"
        };
        json!({
            "rank": rank,
            "host": world.node_of(rank).name(),
            "iterations": count,
            "of": merge::count_beyond(&self.histogram, p99),
            "judged_by": judged_by,
        })
    }

    /// What the metrics are made from. All ranks call it; it is rank 0's that counts.
    pub fn results(self, world: &World, done: u64) -> Results {
        let ranks = match self.timer {
            Timer::RankZero { .. } => Vec::new(),
            Timer::SlowestRank => gather_totals(world, self.own),
        };
        Results {
            iterations: done - self.invalid,
            invalid: self.invalid,
            histogram: self.histogram,
            sum_ns: self.sum_ns,
            ranks,
        }
    }
}

fn record(histogram: &mut Histogram<u64>, ns: u64) {
    // The bound is the histogram's own.
    histogram.record(ns.min(MAX_LATENCY_NS)).expect("in bounds");
}

/// Every rank's totals, on rank 0; nothing elsewhere.
fn gather_totals(world: &World, own: RankTotals) -> Vec<RankTotals> {
    let all = world.gather([own.sum_ns, own.slowest_count]).into_iter();
    all.map(|[sum_ns, slowest_count]| RankTotals {
        sum_ns,
        slowest_count,
    })
    .collect()
}
