//! `rings`: every rank sends to both neighbours of a ring at once, as in HPCC.

use super::{Frame, Numbers, Traffic, bandwidth, c_rank, least, most, slowest_of, time};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::spec::Point;
use crate::sys::{Exchange, Link};
use crate::world::World;
use mpi::traits::CommunicatorCollectives;
use reports::measure::Clock;
use reports::model::{Aggregation, Measurement, Metric, Work};
use reports::stats;
use reports::stats::random::Random;
use serde_json::json;

const TO_RIGHT: i32 = 21;
const TO_LEFT: i32 = 22;

/// Messages of HPCC's latency.
const LATENCY_BYTES: usize = 8;

/// How often the pattern runs in one iteration, as in HPCC: for latency and for bandwidth.
const LATENCY_LOOP: u64 = 8;
const BANDWIDTH_LOOP: u64 = 3;

/// Two messages out and two in.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    4 * point.count("bandwidth_size")
}

/// The rings of a point: the natural one, or some random ones.
fn orders(ranks: usize, point: &Point) -> Vec<Vec<usize>> {
    let natural: Vec<usize> = (0..ranks).collect();
    if point.word("order") == "natural" {
        return vec![natural];
    }
    let mut random = Random::new(point.count("seed"));
    (0..point.count("rings"))
        .map(|_| {
            let mut order = natural.clone();
            random.shuffle(&mut order);
            order
        })
        .collect()
}

/// The messages of a rank in a ring: to the right from the left, and back.
fn links(order: &[usize], rank: usize) -> Vec<Link> {
    let place = order.iter().position(|&other| other == rank).unwrap_or(0);
    let ranks = order.len();
    let (left, right) = (
        order[(place + ranks - 1) % ranks],
        order[(place + 1) % ranks],
    );
    let (left, right) = (Some(c_rank(left)), Some(c_rank(right)));
    vec![
        Link {
            to: right,
            from: left,
            tag: TO_RIGHT,
        },
        Link {
            to: left,
            from: right,
            tag: TO_LEFT,
        },
    ]
}

/// What each iteration of a ring took per message, in nanoseconds: the maximum over ranks.
struct Ring {
    latency_ns: Vec<f64>,
    bandwidth_ns: Vec<f64>,
}

/// Measures the rings of a point.
///
/// # Errors
/// Too little memory, a damaged message, or an interruption before a ring was complete.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let world = driver.world();
    // A Count's limits are those of an MPI message.
    let size = point.count("bandwidth_size") as usize;
    let frame = Frame::open(world);
    let mut rings = Vec::new();
    let mut checks = 0;
    for order in orders(world.ranks(), point) {
        let links = links(&order, world.rank());
        let mut latency = Phase::new(world, links.clone(), LATENCY_BYTES, LATENCY_LOOP, point)?;
        let mut bandwidth = Phase::new(world, links, size, BANDWIDTH_LOOP, point)?;
        let latency_ns = latency.measure(driver, point)?;
        let bandwidth_ns = bandwidth.measure(driver, point)?;
        checks += latency.checks + bandwidth.checks;
        if latency_ns.is_empty() || bandwidth_ns.is_empty() {
            break;
        }
        rings.push(Ring {
            latency_ns,
            bandwidth_ns,
        });
        if driver.interrupted() {
            break;
        }
    }
    let verified = "messages compared byte by byte, of both neighbours, before and after the timed \
                    iterations of each ring";
    frame.close(driver, checks, verified, || numbers(world, &rings, point))
}

/// One message size in one ring.
struct Phase {
    traffic: Traffic,
    repeats: u64,
    checks: u64,
}

impl Phase {
    fn new(
        world: &World,
        links: Vec<Link>,
        size: usize,
        repeats: u64,
        point: &Point,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            traffic: world.agree(Traffic::new(world, links, size, point))?,
            repeats,
            checks: 0,
        })
    }

    /// The maxima over ranks of each iteration's time per message; fewer than asked for if a rank
    /// was told to stop.
    fn measure(&mut self, driver: &mut Driver<'_>, point: &Point) -> anyhow::Result<Vec<f64>> {
        let world = driver.world();
        let ways = [Exchange::one_by_one, Exchange::all_at_once];
        self.checks += world.agree(self.traffic.validate(&ways))?;
        let mut own = Vec::with_capacity(point.iterations as usize);
        let mut exchanged = false;
        for iteration in 0..point.warmup + point.iterations {
            if driver.stop() {
                break;
            }
            let ns = world.agree(self.iteration(world))?;
            exchanged = true;
            if iteration >= point.warmup {
                own.push(ns);
            }
        }
        // Before the first iteration there is nothing in the buffers that could be right.
        if exchanged {
            self.checks += world.agree(self.traffic.check())?;
        }
        let per_message = 2.0 * self.repeats as f64;
        let slowest = slowest_of(world, &own).into_iter();
        Ok(slowest.map(|ns| ns as f64 / per_message).collect())
    }

    /// The better of both ways to exchange, each begun together and once run before it is timed.
    fn iteration(&mut self, world: &World) -> anyhow::Result<u64> {
        let clock = Clock::get();
        let exchange = self.traffic.exchange();
        world.comm().barrier();
        exchange.one_by_one()?;
        let began = clock.now();
        for _ in 0..self.repeats {
            exchange.one_by_one()?;
        }
        let in_turn = clock.now().saturating_sub(began);
        world.comm().barrier();
        exchange.all_at_once()?;
        let began = clock.now();
        for _ in 0..self.repeats {
            exchange.all_at_once()?;
        }
        let at_once = clock.now().saturating_sub(began);
        Ok(clock.ns(in_turn.min(at_once)))
    }
}

fn numbers(world: &World, rings: &[Ring], point: &Point) -> anyhow::Result<Numbers> {
    anyhow::ensure!(!rings.is_empty(), "interrupted before a ring was measured");
    let size = point.count("bandwidth_size") as f64;
    let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN);
    let latencies: Vec<f64> = rings.iter().map(|ring| median(&ring.latency_ns)).collect();
    let rate = |ring: &Ring| size * 1e9 / median(&ring.bandwidth_ns);
    let bandwidths: Vec<f64> = rings.iter().map(rate).collect();
    let n = rings.len();
    let per_rank = "rank_bandwidth_bytes_per_s";
    let mut metrics: Vec<Metric> = vec![
        bandwidth(per_rank, Aggregation::P50, median(&bandwidths), n).headline(),
        time("latency_ns", Aggregation::P50, median(&latencies), n).headline(),
    ];
    if n > 1 {
        metrics.extend([
            bandwidth(per_rank, Aggregation::Min, least(&bandwidths), n),
            bandwidth(per_rank, Aggregation::Max, most(&bandwidths), n),
            time("latency_ns", Aggregation::Min, least(&latencies), n),
            time("latency_ns", Aggregation::Max, most(&latencies), n),
        ]);
    }
    let hpcc = |of: fn(&Ring) -> &Vec<f64>| {
        geometric_mean(rings.iter().map(|ring| least(of(ring)))).unwrap_or(f64::NAN)
    };
    let (latency, transfer) = (
        hpcc(|ring| &ring.latency_ns),
        hpcc(|ring| &ring.bandwidth_ns),
    );
    metrics.extend([
        bandwidth(per_rank, Aggregation::Total, size * 1e9 / transfer, n).compat("HPCC"),
        time("latency_ns", Aggregation::Total, latency, n).compat("HPCC"),
    ]);
    let iterations: usize = rings.iter().map(|ring| ring.bandwidth_ns.len()).sum();
    let messages = iterations as u64 * 4 * BANDWIDTH_LOOP * world.ranks() as u64;
    let mut numbers = Numbers {
        work: Work {
            ops: messages,
            bytes: messages * point.count("bandwidth_size"),
        },
        metrics,
        ..Numbers::default()
    };
    numbers.facts.insert("rings_measured".to_owned(), json!(n));
    Ok(numbers)
}

fn geometric_mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    let logs: f64 = values.map(f64::ln).sum();
    (count > 0).then(|| (logs / count as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_ring_know_each_other() {
        for order in [vec![0, 1], vec![2, 0, 1], vec![3, 1, 4, 0, 2]] {
            for rank in 0..order.len() {
                let own = links(&order, rank);
                for (index, link) in own.iter().enumerate() {
                    let to = link.to.expect("a ring has no end") as usize;
                    let back = links(&order, to)[index];
                    assert_eq!(back.from, Some(rank as i32));
                    assert_eq!(back.tag, link.tag);
                }
            }
        }
    }

    #[test]
    fn geometric_means_are_means_of_logarithms() {
        let mean = geometric_mean([1.0, 100.0].into_iter()).expect("two values");
        assert!((mean - 10.0).abs() < 1e-9);
        assert_eq!(geometric_mean([].into_iter()), None);
    }
}
