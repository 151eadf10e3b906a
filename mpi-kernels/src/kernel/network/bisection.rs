//! `bisection`: one half of the machine against the other, all pairs at once.

use super::{Frame, Numbers, Traffic, bandwidth, c_rank, gather, least, most, slowest_of};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::spec::Point;
use crate::sys::{Exchange, Link};
use crate::world::World;
use mpi::traits::CommunicatorCollectives;
use reports::measure::Clock;
use reports::model::{Aggregation, Measurement, Work};
use reports::stats;
use reports::stats::random::Random;
use serde_json::json;

const FIRST_TAG: i32 = 31;

/// A window of messages out and one in.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    2 * (point.size() * point.window.unwrap_or(1)) as u64
}

/// The halves of a point: each an order of ranks whose first half meets its second, place by place.
fn orders(world: &World, point: &Point) -> Vec<Vec<usize>> {
    let ranks_of_nodes = world.nodes().iter().flat_map(|node| node.ranks());
    let by_node: Vec<usize> = ranks_of_nodes.copied().collect();
    if point.word("halves") == "natural" {
        return vec![by_node];
    }
    let mut random = Random::new(point.count("seed"));
    (0..point.count("bisections"))
        .map(|_| {
            let mut order = by_node.clone();
            random.shuffle(&mut order);
            order
        })
        .collect()
}

/// The partner of a rank, and whether the rank is in the first half.
fn partner(order: &[usize], rank: usize) -> (usize, bool) {
    let half = order.len() / 2;
    let place = order.iter().position(|&other| other == rank).unwrap_or(0);
    let first = place < half;
    (order[(place + half) % (2 * half)], first)
}

fn links(order: &[usize], rank: usize, point: &Point) -> Vec<Link> {
    let (peer, first) = partner(order, rank);
    let peer = c_rank(peer);
    let both = point.word("direction") == "both";
    let window = point.window.unwrap_or(1) as i32;
    (0..window)
        .map(|number| Link {
            to: (both || first).then_some(peer),
            from: (both || !first).then_some(peer),
            tag: FIRST_TAG + number,
        })
        .collect()
}

/// One bisection: what all moved per second in each iteration, and each rank's median of what it
/// received, on rank 0.
struct Halves {
    total: Vec<f64>,
    ranks: Vec<f64>,
}

/// Measures the bisections of a point.
///
/// # Errors
/// Too little memory, a damaged message, or an interruption before a bisection was complete.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let world = driver.world();
    let frame = Frame::open(world);
    let orders = orders(world, point);
    let mut measured = Vec::new();
    let mut checks = 0;
    for order in &orders {
        let links = links(order, world.rank(), point);
        let mut traffic = world.agree(Traffic::new(world, links, point.size(), point))?;
        checks += world.agree(traffic.validate(&[Exchange::all_at_once]))?;
        let halves = bisect(driver, &mut traffic, point)?;
        checks += match halves.total.is_empty() {
            true => 0,
            false => world.agree(traffic.check())?,
        };
        if halves.total.is_empty() {
            break;
        }
        measured.push(halves);
        if driver.interrupted() {
            break;
        }
    }
    let verified = "messages compared byte by byte: whole windows before the timed iterations, and \
                    the last of these";
    frame.close(driver, checks, verified, || {
        numbers(world, &orders, &measured, point)
    })
}

fn bisect(driver: &mut Driver<'_>, traffic: &mut Traffic, point: &Point) -> anyhow::Result<Halves> {
    let (world, clock) = (driver.world(), Clock::get());
    let links = traffic.exchange().links().iter();
    let arriving = links.filter(|link| link.from.is_some()).count() * point.size();
    let mut own = Vec::with_capacity(point.iterations as usize);
    for iteration in 0..point.warmup + point.iterations {
        if driver.stop() {
            break;
        }
        world.comm().barrier();
        let began = clock.now();
        let exchanged = traffic.exchange().all_at_once();
        let ns = clock.ns(clock.now().saturating_sub(began)).max(1);
        world.agree(exchanged)?;
        if iteration >= point.warmup {
            own.push(ns);
        }
    }
    let bytes = world.sum(arriving as u64) as f64;
    let rates: Vec<f64> = own
        .iter()
        .map(|&ns| arriving as f64 * 1e9 / ns as f64)
        .collect();
    let own_rate = match arriving {
        0 => f64::NAN,
        _ => stats::median(&rates).unwrap_or(f64::NAN),
    };
    let slowest = slowest_of(world, &own).into_iter();
    Ok(Halves {
        total: slowest.map(|ns| bytes * 1e9 / ns as f64).collect(),
        ranks: gather(world, &[own_rate]),
    })
}

fn numbers(
    world: &World,
    orders: &[Vec<usize>],
    measured: &[Halves],
    point: &Point,
) -> anyhow::Result<Numbers> {
    anyhow::ensure!(
        !measured.is_empty(),
        "interrupted before a bisection was measured"
    );
    let totals: Vec<f64> = measured
        .iter()
        .flat_map(|halves| &halves.total)
        .copied()
        .collect();
    let receivers = measured.iter().zip(orders).flat_map(|(halves, order)| {
        let known = halves
            .ranks
            .iter()
            .enumerate()
            .filter(|(_, rate)| rate.is_finite());
        known.map(move |(rank, &rate)| (rate, partner(order, rank).0, rank))
    });
    let receivers: Vec<(f64, usize, usize)> = receivers.collect();
    let pairs: Vec<f64> = receivers.iter().map(|&(rate, ..)| rate).collect();
    let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN);
    let mean = pairs.iter().sum::<f64>() / pairs.len() as f64;
    let (all, pair, n) = (
        "bandwidth_bytes_per_s",
        "pair_bandwidth_bytes_per_s",
        pairs.len(),
    );
    let metrics = vec![
        bandwidth(all, Aggregation::P50, median(&totals), totals.len()).headline(),
        bandwidth(all, Aggregation::Min, least(&totals), totals.len()),
        bandwidth(all, Aggregation::Max, most(&totals), totals.len()),
        bandwidth(pair, Aggregation::Min, least(&pairs), n).headline(),
        bandwidth(pair, Aggregation::P50, median(&pairs), n).headline(),
        bandwidth(pair, Aggregation::Max, most(&pairs), n),
        bandwidth(pair, Aggregation::Mean, mean, n).compat("Netgauge"),
    ];
    let slowest = receivers.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let slowest = slowest.map(|&(rate, from, to)| {
        json!({
            "from": format!("rank {from} on {}", world.node_of(from).name()),
            "to": format!("rank {to} on {}", world.node_of(to).name()),
            "bandwidth_bytes_per_s": rate,
        })
    });
    let both = 1 + u64::from(point.word("direction") == "both");
    let windows = totals.len() as u64 * (world.ranks() / 2) as u64 * both;
    let messages = windows * point.window.unwrap_or(1) as u64;
    let mut numbers = Numbers {
        work: Work {
            ops: messages,
            bytes: messages * point.size() as u64,
        },
        metrics,
        ..Numbers::default()
    };
    numbers
        .facts
        .insert("slowest_pair".to_owned(), json!(slowest));
    numbers
        .facts
        .insert("bisections_measured".to_owned(), json!(measured.len()));
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_partner_in_the_other_half() {
        let order = [4, 0, 3, 5, 1, 2];
        for rank in 0..6 {
            let (other, first) = partner(&order, rank);
            assert_eq!(partner(&order, other), (rank, !first));
        }
        assert_eq!(partner(&order, 4), (5, true));
    }
}
