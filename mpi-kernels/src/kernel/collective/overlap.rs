//! Collectives that are started, and how much of them the library does while the rank computes.
//!
//! Every iteration does both in turn, each from a common beginning: the started call alone, and the
//! same call with a computation between its start and its end. What disturbs the one disturbs the
//! other as well.

use super::exchange::Exchange;
use super::{Operation, Results};
use crate::driver::MAX_BATCH;
use crate::kernel::{Extras, INVALID, Kernel};
use crate::method::{Setting, Start};
use crate::spec::Point;
use crate::sys::collective::{Call, Function};
use crate::world::World;
use hdrhistogram::Histogram;
use mpi::traits::CommunicatorCollectives;
use reports::measure::{
    Clock, MAX_LATENCY_NS, Ticks, histogram_record, latency_metrics, new_histogram,
};
use reports::model::{Aggregation, Direction, Metric, Unit};
use std::hint::black_box;

/// Calls alone that say how long to compute.
const CALIBRATION_CALLS: usize = 15;

/// A started collective, alone and with a computation.
pub struct Overlapped<'w, F: Function> {
    exchange: Exchange<'w, F>,
    start: Start<'w>,
    clock: Clock,
    computation: Computation,
    pure_ticks: Vec<Ticks>,
    pure: Pure,
    own: Own,
}

/// The calls alone: the slowest rank's time of each.
struct Pure {
    own_ns: Vec<u64>,
    largest_ns: Vec<u64>,
    histogram: Histogram<u64>,
}

/// What this rank's iterations add up to, in ticks.
#[derive(Default)]
struct Own {
    iterations: u64,
    pure: Ticks,
    overall: Ticks,
    computing: Ticks,
    testing: Ticks,
}

impl<'w, F: Operation> Overlapped<'w, F> {
    /// This rank's part, with buffers for the point's size. All ranks make theirs alike, because
    /// that communicates.
    ///
    /// # Errors
    /// Too little memory, or more ranks than the check can sum exactly.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let clock = Clock::get();
        // What all ranks must do together comes first: one that fails afterwards keeps nobody
        // waiting.
        let start = setting.start()?;
        Ok(Box::new(Self {
            exchange: Exchange::<F>::new(&setting)?,
            start,
            clock,
            computation: Computation::new(setting.point.count("tests")),
            pure_ticks: vec![0; MAX_BATCH],
            pure: Pure {
                own_ns: vec![0; MAX_BATCH],
                largest_ns: vec![0; MAX_BATCH],
                histogram: new_histogram(),
            },
            own: Own::default(),
        }))
    }

    /// Learns how long this rank must compute to last as long as its call alone. OSU takes the mean
    /// of all its calls; of these few it would be the one that something disturbed.
    fn calibrate(&mut self) -> anyhow::Result<()> {
        let mut lengths = [0; CALIBRATION_CALLS];
        for length in &mut lengths {
            self.exchange.prepare();
            let began = self.start.begin();
            self.exchange.call.start()?;
            self.exchange.call.wait()?;
            *length = self.start.length(began);
        }
        lengths.sort_unstable();
        let median_ns = match lengths[CALIBRATION_CALLS / 2] {
            // A rank that was late for most of them computes nothing.
            INVALID => 0,
            ticks => self.clock.ns(ticks),
        };
        self.computation.rounds = (median_ns as f64 / round_ns(self.clock)) as u64;
        Ok(())
    }
}

impl<F: Operation> Kernel for Overlapped<'_, F> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let first = self.exchange.turn == 0;
        let checks = self.exchange.validate(|call| {
            call.start()?;
            call.wait()
        });
        if first {
            self.calibrate()?;
        }
        checks
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let (exchange, start, own) = (&mut self.exchange, &mut self.start, &mut self.own);
        for (slot, pure) in ticks.iter_mut().zip(&mut self.pure_ticks) {
            exchange.prepare();
            let began = start.begin();
            exchange.call.start()?;
            exchange.call.wait()?;
            *pure = start.length(began);

            exchange.prepare();
            let began = start.begin();
            exchange.call.start()?;
            let started = self.clock.now();
            let testing = self.computation.run(&mut exchange.call, self.clock)?;
            let computed = self.clock.now();
            exchange.call.wait()?;
            *slot = start.length(began);
            exchange.turn += 1;
            if *slot != INVALID && *pure != INVALID {
                own.iterations += 1;
                own.pure += *pure;
                own.overall += *slot;
                own.computing += computed.saturating_sub(started + testing);
                own.testing += testing;
            }
        }
        let pure = &self.pure_ticks[..ticks.len()];
        self.pure.add(pure, self.clock, self.exchange.world());
        Ok(())
    }

    fn warmed_up(&mut self) {
        self.own = Own::default();
        self.pure.histogram.reset();
    }

    fn extras(&mut self, world: &World) -> Extras {
        let mut extras = self.exchange.extras(world);
        let mut pure = latency_metrics(PURE, &self.pure.histogram);
        pure.iter_mut().for_each(|metric| metric.headline = false);
        extras.metrics.extend(pure);
        let of_ranks = self.own.means(self.clock).of_all(world);
        extras
            .metrics
            .extend(columns(&of_ranks, self.own.iterations));
        let record = histogram_record(PURE, &self.pure.histogram);
        extras.histograms.push(record);
        extras
    }
}

/// The time of the started call alone; the name that imports of OSU give it as well.
const PURE: &str = "pure_communication_ns";

impl Pure {
    /// Adds a batch; all ranks find the largest together.
    fn add(&mut self, ticks: &[Ticks], clock: Clock, world: &World) {
        let (own_ns, largest_ns) = (&mut self.own_ns, &mut self.largest_ns[..ticks.len()]);
        for (ns, &ticks) in own_ns.iter_mut().zip(ticks) {
            *ns = match ticks {
                INVALID => u64::MAX,
                ticks => clock.ns(ticks),
            };
        }
        world.max_into(&own_ns[..ticks.len()], largest_ns);
        for &ns in largest_ns.iter().filter(|&&ns| ns != u64::MAX) {
            // The bound is the histogram's own.
            self.histogram
                .record(ns.min(MAX_LATENCY_NS))
                .expect("in bounds");
        }
    }
}

impl Own {
    fn means(&self, clock: Clock) -> Means {
        let mean = |ticks| clock.ns(ticks) as f64 / self.iterations as f64;
        Means {
            pure_ns: mean(self.pure),
            overall_ns: mean(self.overall),
            compute_ns: mean(self.computing),
            test_ns: mean(self.testing),
        }
    }
}

/// Means of an iteration's parts, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Means {
    /// The call alone.
    pure_ns: f64,
    /// The call with the computation.
    overall_ns: f64,
    /// The computation without MPI_Test.
    compute_ns: f64,
    /// MPI_Test.
    test_ns: f64,
}

impl Means {
    /// Every rank's means, on all ranks.
    fn of_all(&self, world: &World) -> Vec<Self> {
        let own = [self.pure_ns, self.overall_ns, self.compute_ns, self.test_ns];
        let mut all = vec![0.0; own.len() * world.ranks()];
        world.comm().all_gather_into(&own[..], &mut all[..]);
        let of_rank = |means: &[f64]| Self {
            pure_ns: means[0],
            overall_ns: means[1],
            compute_ns: means[2],
            test_ns: means[3],
        };
        all.chunks_exact(own.len()).map(of_rank).collect()
    }

    /// The mean over ranks.
    fn over(ranks: &[Self]) -> Self {
        let mean =
            |part: fn(&Self) -> f64| ranks.iter().map(part).sum::<f64>() / ranks.len() as f64;
        Self {
            pure_ns: mean(|rank| rank.pure_ns),
            overall_ns: mean(|rank| rank.overall_ns),
            compute_ns: mean(|rank| rank.compute_ns),
            test_ns: mean(|rank| rank.test_ns),
        }
    }

    /// OSU's overlap. Its computation contains the tests, which it subtracts; ours does not.
    fn osu_overlap(&self) -> f64 {
        // Unlike `max`, this leaves no number where there was none.
        (1.0 - (self.overall_ns - self.compute_ns) / self.pure_ns).clamp(0.0, f64::INFINITY)
    }

    /// IMB's overlap: what was saved, of the most that could be.
    fn imb_overlap(&self) -> f64 {
        let saved = self.pure_ns + self.compute_ns - self.overall_ns;
        (saved / self.pure_ns.max(self.compute_ns)).clamp(0.0, 1.0)
    }
}

/// What OSU and IMB print of all ranks: OSU works with means over ranks, IMB with the rank that
/// needed longest overall.
fn columns(ranks: &[Means], n: u64) -> Vec<Metric> {
    let means = Means::over(ranks);
    let slowest = ranks
        .iter()
        .copied()
        .max_by(|a, b| a.overall_ns.total_cmp(&b.overall_ns));
    let overlap = |value, peer| {
        let (how, better) = (Aggregation::Total, Direction::HigherIsBetter);
        Metric::new("overlap_ratio", how, Unit::Ratio, better, value, n).compat(peer)
    };
    let pure = ranks.iter().map(|rank| rank.pure_ns);
    let (least, most) = (
        pure.clone().fold(f64::INFINITY, f64::min),
        pure.fold(0.0, f64::max),
    );
    vec![
        overlap(means.osu_overlap(), "OSU").headline(),
        // There is a rank at least.
        overlap(slowest.map_or(0.0, |rank| rank.imb_overlap()), "IMB"),
        time("overall_ns", Aggregation::Mean, means.overall_ns, n).compat("OSU"),
        time("compute_ns", Aggregation::Mean, means.compute_ns, n),
        time("test_ns", Aggregation::Mean, means.test_ns, n),
        time(PURE, Aggregation::Mean, means.pure_ns, n).compat("OSU"),
        time(PURE, Aggregation::Min, least, n).compat("OSU"),
        time(PURE, Aggregation::Max, most, n).compat("OSU"),
    ]
}

fn time(name: &str, aggregation: Aggregation, value_ns: f64, n: u64) -> Metric {
    let better = match name {
        // It is as long as it was chosen to be.
        "compute_ns" => Direction::Neutral,
        _ => Direction::LowerIsBetter,
    };
    Metric::new(name, aggregation, Unit::Nanoseconds, better, value_ns, n)
}

/// The distribution of the call with the computation, the slowest rank's time of each.
#[must_use]
pub fn metrics(results: &Results, _: &Point) -> Vec<Metric> {
    latency_metrics("overall_ns", &results.histogram)
}

/// A dummy computation of so many rounds, interrupted by tests.
struct Computation {
    rounds: u64,
    tests: u64,
}

impl Computation {
    fn new(tests: u64) -> Self {
        Self { rounds: 0, tests }
    }

    /// Computes, and lets the library make progress between equal parts; returns for how long.
    #[inline(always)]
    fn run<F: Function>(&self, call: &mut Call<'_, F>, clock: Clock) -> anyhow::Result<Ticks> {
        let part = self.rounds / (self.tests + 1);
        let mut testing = 0;
        for _ in 0..self.tests {
            compute(part);
            let began = clock.now();
            call.test()?;
            testing += clock.now().saturating_sub(began);
        }
        compute(self.rounds - part * self.tests);
        Ok(testing)
    }
}

/// A chain of multiplications and additions, each of which needs the one before.
fn compute(rounds: u64) {
    let mut value = black_box(0.5f64);
    for _ in 0..rounds {
        value = value * 0.75 + 0.25;
    }
    black_box(value);
}

/// How long a round of the computation takes: the least of a few tries.
fn round_ns(clock: Clock) -> f64 {
    const ROUNDS: u64 = 50_000;
    let tries = (0..5).map(|_| {
        let began = clock.now();
        compute(ROUNDS);
        clock.ns(clock.now().saturating_sub(began))
    });
    // A clock that stood still would make it endless.
    tries.min().unwrap_or(0).max(ROUNDS / 10) as f64 / ROUNDS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(pure_ns: f64, compute_ns: f64, overall_ns: f64) -> Means {
        Means {
            pure_ns,
            overall_ns,
            compute_ns,
            test_ns: 3.0,
        }
    }

    #[test]
    fn overlap_is_what_the_computation_hid() {
        let all = means(100.0, 100.0, 100.0);
        assert_eq!((all.osu_overlap(), all.imb_overlap()), (1.0, 1.0));
        let half = means(100.0, 100.0, 150.0);
        assert_eq!((half.osu_overlap(), half.imb_overlap()), (0.5, 0.5));
        let none = means(100.0, 100.0, 230.0);
        assert_eq!((none.osu_overlap(), none.imb_overlap()), (0.0, 0.0));
        // A computation shorter than the call: IMB still sees all that could be saved.
        let short = means(100.0, 50.0, 125.0);
        assert_eq!((short.osu_overlap(), short.imb_overlap()), (0.25, 0.25));
        let long = means(100.0, 200.0, 250.0);
        assert_eq!((long.osu_overlap(), long.imb_overlap()), (0.5, 0.25));
    }

    #[test]
    fn osu_takes_means_over_ranks_and_imb_the_slowest() {
        let ranks = [means(100.0, 100.0, 100.0), means(100.0, 100.0, 180.0)];
        let columns = columns(&ranks, 5);
        let value = |index: usize| *columns[index].value.known().expect("a number");
        assert!((value(0) - 0.6).abs() < 1e-9 && (value(1) - 0.2).abs() < 1e-9);
        assert_eq!((value(2), value(6), value(7)), (140.0, 100.0, 100.0));
    }

    #[test]
    fn nothing_measured_gives_no_number() {
        let columns = columns(&[means(f64::NAN, 0.0, 0.0)], 0);
        assert!(
            [0, 1, 5]
                .iter()
                .all(|&index| columns[index].value.known().is_none())
        );
    }

    #[test]
    fn the_computation_takes_time_in_proportion() {
        assert!(round_ns(Clock::get()) >= 0.1);
    }
}
