//! Drives one point: preparation, validation, warm-up, timed iterations, validation, numbers.
//!
//! Iterations run in batches of about 100 ms. Between batches, outside of what is timed, the ranks
//! agree whether somebody was asked to stop and how long the next batch is, and put their times
//! together. So an interruption is answered soon, memory does not grow with the iterations, and
//! all ranks always do the same number of them.

use crate::kernel::{Kernel, Results, Timer};
use crate::kernels::Row;
use crate::memory;
use crate::merge::{self, RankTotals};
use crate::spec::Point;
use crate::world::World;
use hdrhistogram::Histogram;
use reports::measure::{
    Clock, MAX_LATENCY_NS, Ticks, Watch, histogram_record, new_histogram, stop_requested,
};
use reports::model::{Counter, Measurement, Severity, Validity};
use serde_json::{Map, Value, json};

/// How long a batch is meant to take.
const BATCH_NS: f64 = 1e8;

/// The most iterations in a batch: their stamps fit into a second-level cache.
const MAX_BATCH: usize = 8192;

/// The driver of one rank: its stamps, and what lasts from point to point.
pub struct Driver<'w> {
    world: &'w World,
    clock: Clock,
    ticks: Vec<Ticks>,
    own_ns: Vec<u64>,
    largest_ns: Vec<u64>,
    interrupted: bool,
}

/// What the timed iterations add up to on this rank.
struct Tally {
    histogram: Histogram<u64>,
    sum_ns: u64,
    own: RankTotals,
}

impl<'w> Driver<'w> {
    /// A driver for one rank of the world.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            clock: Clock::get(),
            ticks: vec![0; MAX_BATCH],
            own_ns: vec![0; MAX_BATCH],
            largest_ns: vec![0; MAX_BATCH],
            interrupted: false,
        }
    }

    /// Whether some rank was asked to stop. All ranks know the same.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Measures a point. Only rank 0 gets the measurement.
    ///
    /// # Errors
    /// The same on all ranks: the first fault of the lowest rank that had one.
    pub fn measure(&mut self, row: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
        let world = self.world;
        world.agree(enough_memory(world, row, point))?;
        let mut kernel = world.agree((row.build)(world, point))?;
        let kernel = kernel.as_mut();
        let mut checks = world.agree(kernel.validate())?;

        let mut pace = Pace::default();
        self.repeat(kernel, &mut pace, point.warmup, |_, _| ())?;
        // An interrupted warm-up still leads to one iteration: a number, flagged as worthless,
        // says more than none.
        let wanted = if self.interrupted {
            1
        } else {
            point.iterations
        };
        let mut tally = Tally {
            histogram: new_histogram(),
            sum_ns: 0,
            own: RankTotals::default(),
        };
        let watch = world.leads_node().then(Watch::start);
        let iterations = self.repeat(kernel, &mut pace, wanted, |driver, length| {
            driver.take(row.timer, length, &mut tally);
        })?;
        let (counters, mut validity) = disturbances(world, watch);

        checks += world.agree(kernel.validate())?;
        let checks = world.sum(checks);
        anyhow::ensure!(checks > 0, "nothing was verified");
        let ranks = match row.timer {
            Timer::RankZero { .. } => Vec::new(),
            Timer::SlowestRank => world.gather_totals(tally.own),
        };
        if !world.is_root() {
            return Ok(None);
        }
        if self.interrupted {
            let evidence = format!(
                "a signal ended the measurement after {iterations} of {} iterations",
                point.iterations
            );
            validity.flag(Severity::Invalid, "interrupted", evidence);
        }
        world.flag_oversubscription(&mut validity);
        let results = Results {
            iterations,
            histogram: tally.histogram,
            sum_ns: tally.sum_ns,
            ranks,
        };
        Ok(Some(Measurement {
            elapsed_s: results.elapsed_s().into(),
            work: (row.work)(iterations, point).into(),
            verified: format!("{checks} {}", row.verified),
            metrics: (row.metrics)(&results, point),
            facts: facts(world, &results),
            histograms: vec![histogram_record(row.histogram, &results.histogram)],
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters,
            validity,
        }))
    }

    /// Runs iterations until there are as many as wanted or a rank was asked to stop, and hands
    /// the stamps of each batch to `take`. Returns how many it were.
    fn repeat(
        &mut self,
        kernel: &mut dyn Kernel,
        pace: &mut Pace,
        wanted: u64,
        mut take: impl FnMut(&mut Self, usize),
    ) -> anyhow::Result<u64> {
        let mut done = 0;
        while done < wanted {
            let length = pace.next(wanted - done);
            let start = self.clock.now();
            let ran = kernel.run(&mut self.ticks[..length]);
            let batch_ns = self.clock.ns(self.clock.now().saturating_sub(start));
            self.world.agree(ran)?;
            take(self, length);
            done += length as u64;
            let stop = u64::from(stop_requested());
            let [stop, batch_ns] = self.world.max([stop, batch_ns]);
            pace.learn(batch_ns, length);
            if stop > 0 {
                self.interrupted = true;
                break;
            }
        }
        Ok(done)
    }

    /// Adds a batch of stamps to the tally; for collectives all ranks first find the largest.
    fn take(&mut self, timer: Timer, length: usize, tally: &mut Tally) {
        for (ns, &ticks) in self.own_ns.iter_mut().zip(&self.ticks[..length]) {
            *ns = self.clock.ns(ticks);
        }
        let own = &self.own_ns[..length];
        let (values, divisor) = match timer {
            Timer::RankZero { divisor } => (own, divisor),
            Timer::SlowestRank => {
                let largest = &mut self.largest_ns[..length];
                self.world.max_into(own, largest);
                tally.own.add(own, largest);
                (&*largest, 1)
            }
        };
        if self.world.is_root() {
            for &ns in values {
                tally.sum_ns += ns;
                // The bound is the histogram's own.
                tally
                    .histogram
                    .record((ns / divisor).min(MAX_LATENCY_NS))
                    .expect("in bounds");
            }
        }
    }
}

fn enough_memory(world: &World, row: &Row, point: &Point) -> anyhow::Result<()> {
    let buffers = row.sizes.map_or(0, |rule| rule.buffers);
    let on_this_node = world.node_of(world.rank()).ranks();
    let users = match row.timer {
        Timer::RankZero { .. } => on_this_node.iter().filter(|&&rank| rank < 2).count(),
        Timer::SlowestRank => on_this_node.len(),
    };
    memory::ensure_available(buffers * point.size() as u64, users as u64)
}

/// What disturbed the nodes while the iterations were timed, and the counters of rank 0's node.
fn disturbances(world: &World, watch: Option<Watch>) -> (Vec<Counter>, Validity) {
    let (counters, own) = watch.map(Watch::stop).unwrap_or_default();
    // A struct of strings always serialises.
    let texts = world.gather_from_nodes(|| serde_json::to_string(&own).unwrap_or_default());
    let mut all = Validity::default();
    for (node, text) in world.nodes().iter().zip(texts) {
        let of_node: Validity = serde_json::from_str(&text).unwrap_or_default();
        for flag in of_node.flags {
            let evidence = format!("on {}: {}", node.name(), flag.evidence);
            all.flag(flag.severity, &flag.code, evidence);
        }
    }
    (counters, all)
}

/// What was really used, and who was slow.
fn facts(world: &World, results: &Results) -> Map<String, Value> {
    let mut facts = world.facts();
    if let Some((rank, count)) = merge::slowest_rank(&results.ranks) {
        let slowest = json!({
            "rank": rank,
            "host": world.node_of(rank).name(),
            "iterations": count,
            "of": results.iterations,
        });
        facts.insert("most_often_slowest".to_owned(), slowest);
    }
    facts
}

/// How many iterations make a batch, judged by how long the last ones took. All ranks feed it the
/// same numbers, so all get the same answers.
#[derive(Debug, Default)]
struct Pace {
    iteration_ns: Option<f64>,
}

impl Pace {
    fn next(&self, left: u64) -> usize {
        let fitting = match self.iteration_ns {
            // Nothing is known of the first: it may take seconds.
            None => 1,
            Some(ns) => (BATCH_NS / ns.max(1.0)) as usize,
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        fitting.clamp(1, MAX_BATCH).min(left)
    }

    fn learn(&mut self, batch_ns: u64, length: usize) {
        self.iteration_ns = Some(batch_ns as f64 / length as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_pace_within_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(1000), 1, "nothing is known yet");
        pace.learn(1_000_000, 1);
        assert_eq!(pace.next(1000), 100, "100 iterations of 1 ms take 100 ms");
        assert_eq!(pace.next(7), 7, "no more than are left");
        pace.learn(100, 1);
        assert_eq!(pace.next(u64::MAX), MAX_BATCH);
        pace.learn(10_000_000_000, 1);
        assert_eq!(pace.next(5), 1, "ten seconds each");
        pace.learn(0, 1);
        assert_eq!(pace.next(5), 5, "a clock that stands still");
    }
}
