//! `congestion`: what victims measure alone and beside aggressors that load the network, as in
//! GPCNeT (Chunduri et al. 2019).
//!
//! The measurement is cut into slices, in each of which the victims measure alone, the aggressors
//! load the network alone, and then both do so at once. All ranks meet between these, so an
//! interruption is answered soon, and what drifts meanwhile hits both sides of the ratio.

mod aggressor;
mod split;
mod victim;

use super::{Frame, Numbers, bandwidth, c_rank, slowest_of};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::merge::ranges;
use crate::spec::Point;
use crate::world::World;
use aggressor::{Aggressor, Load};
use hdrhistogram::Histogram;
use mpi::topology::Color;
use mpi::traits::{Communicator, Destination, Source};
use reports::measure::{Clock, latency_metrics, new_histogram};
use reports::model::{
    Aggregation, Direction, Fact, Flag, Measurement, Metric, Severity, Unavailable, Unit, Work,
};
use reports::stats;
use reports::stats::random::Random;
use serde_json::json;
use split::Split;
use victim::{Slice, Victim};

const BEGUN_TAG: i32 = 54;
const STOP_TAG: i32 = 55;

/// The most iterations of a slice: no slice is long, however many are asked for.
const MAX_SLICE: u64 = 1000;

/// The most times of all ranks together that rank 0 gathers at once.
const MAX_GATHERED: u64 = 1 << 20;

/// How long the aggressors load the network alone in each slice.
const ALONE_NS: u64 = 40_000_000;

/// Messages out and in of an aggressor, as many as the largest pattern has.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    2 * (point.ranks * point.size()) as u64
}

/// Measures a point.
///
/// # Errors
/// Too few nodes, too little memory, a damaged message, or an interruption before a slice was
/// complete.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let world = driver.world();
    let split = split_of(world, point)?;
    let mut part = Part::of(world, &split, point)?;
    let frame = Frame::open(world);
    let mut found = Found::new();
    for slice in slices(world, &split, point) {
        if driver.stop() {
            break;
        }
        let mut own = Own::default();
        let mut fault = part.idle(&slice, &mut own);
        // Nobody loads the network before all have measured without.
        driver.stop();
        fault = fault.and(part.alone(&mut own));
        driver.stop();
        fault = fault.and(part.loaded(&slice, &mut own));
        world.agree(fault)?;
        found.add(world, point, &slice, own);
    }
    let verified = "messages and results compared: every one of the victims, and the last of every \
                    sender among the aggressors in each load";
    let checks = part.checks();
    frame.close(driver, checks, verified, || {
        numbers(world, &split, &found, point)
    })
}

fn split_of(world: &World, point: &Point) -> anyhow::Result<Split> {
    let nodes: Vec<&[usize]> = world.nodes().iter().map(|node| node.ranks()).collect();
    let (by, share) = (point.word("split"), point.count("victims"));
    let split = Split::draw(&nodes, by, share, point.count("seed"));
    split.ok_or_else(|| {
        let (found, least) = (nodes.len(), split::LEAST);
        Unavailable(format!(
            "the ranks are on {found} of the {least} nodes that it takes: --split rank draws ranks"
        ))
        .into()
    })
}

/// The parts of a measurement; the same on all ranks.
fn slices(world: &World, split: &Split, point: &Point) -> Vec<Slice> {
    let node_of = |rank: usize| world.node_of(rank).leader();
    let mut random = Random::new(point.count("seed").wrapping_add(1));
    let most = (MAX_GATHERED / world.ranks() as u64).clamp(1, MAX_SLICE);
    let mut slices = Vec::new();
    for _ in 0..point.count("pairings") {
        let order = split::pairing(&split.victims, node_of, &mut random);
        let mut left = point.iterations;
        while left > 0 {
            slices.push(Slice {
                number: slices.len() as u64,
                order: order.clone(),
                iterations: left.min(most),
            });
            left -= left.min(most);
        }
    }
    slices
}

/// What one rank does.
enum Role<'w> {
    Victim(Victim<'w>),
    Aggressor(Box<Aggressor>),
}

/// One rank's part.
struct Part<'w> {
    world: &'w World,
    role: Role<'w>,
    /// The ranks that speak for the victims and for the aggressors.
    leaders: [i32; 2],
}

/// What one rank found in a slice: times of a victim, loads of the aggressors' first rank.
#[derive(Default)]
struct Own {
    idle_ns: Vec<u64>,
    loaded_ns: Vec<u64>,
    alone: Load,
    beside: Load,
}

impl<'w> Part<'w> {
    fn of(world: &'w World, split: &Split, point: &'w Point) -> anyhow::Result<Self> {
        let place = |group: &[usize]| group.iter().position(|&rank| rank == world.rank());
        let is_victim = place(&split.victims).is_some();
        let key = place(&split.victims).or_else(|| place(&split.aggressors));
        let color = Color::with_value(i32::from(is_victim));
        let group = world
            .comm()
            .split_by_color_with_key(color, c_rank(key.unwrap_or(0)));
        let group = group.ok_or_else(|| anyhow::anyhow!("MPI_Comm_split made no communicator"));
        let role = group.and_then(|group| {
            Ok(match is_victim {
                true => Role::Victim(Victim::new(world, group, &split.victims, point)),
                false => Role::Aggressor(Box::new(Aggressor::new(world, group, split, point)?)),
            })
        });
        Ok(Self {
            world,
            role: world.agree(role)?,
            leaders: [c_rank(split.victims[0]), c_rank(split.aggressors[0])],
        })
    }

    fn checks(&self) -> u64 {
        match &self.role {
            Role::Victim(victim) => victim.checks,
            Role::Aggressor(aggressor) => aggressor.checks,
        }
    }

    fn idle(&mut self, slice: &Slice, own: &mut Own) -> anyhow::Result<()> {
        let Role::Victim(victim) = &mut self.role else {
            return Ok(());
        };
        let fault = victim.measure(slice);
        own.idle_ns.clone_from(&victim.ns);
        fault
    }

    fn alone(&mut self, own: &mut Own) -> anyhow::Result<()> {
        let Role::Aggressor(aggressor) = &mut self.role else {
            return Ok(());
        };
        let clock = Clock::get();
        let began = clock.now();
        let enough = || clock.ns(clock.now().saturating_sub(began)) >= ALONE_NS;
        own.alone = aggressor.load(|| {}, enough)?;
        Ok(())
    }

    /// The victims begin when the aggressors have all done a burst, and these stop when the victims
    /// have done all.
    fn loaded(&mut self, slice: &Slice, own: &mut Own) -> anyhow::Result<()> {
        let [victims, aggressors] = self
            .leaders
            .map(|rank| self.world.comm().process_at_rank(rank));
        match &mut self.role {
            Role::Victim(victim) => {
                if victim.leads() {
                    aggressors.receive_into_with_tag(&mut [0u8][..], BEGUN_TAG);
                }
                victim.meet();
                let fault = victim.measure(slice);
                victim.meet();
                if victim.leads() {
                    aggressors.send_with_tag(&[0u8][..], STOP_TAG);
                }
                own.loaded_ns.clone_from(&victim.ns);
                fault
            }
            Role::Aggressor(aggressor) => {
                let begun = || victims.send_with_tag(&[0u8][..], BEGUN_TAG);
                let enough = || {
                    let stop = victims.immediate_probe_with_tag(STOP_TAG).is_some();
                    if stop {
                        victims.receive_into_with_tag(&mut [0u8][..], STOP_TAG);
                    }
                    stop
                };
                own.beside = aggressor.load(begun, enough)?;
                Ok(())
            }
        }
    }
}

/// What was found in all slices, on rank 0.
struct Found {
    idle: Histogram<u64>,
    loaded: Histogram<u64>,
    alone_rates: Vec<f64>,
    loaded_rates: Vec<f64>,
    /// Messages of the aggressors.
    messages: u64,
}

impl Found {
    fn new() -> Self {
        Self {
            idle: new_histogram(),
            loaded: new_histogram(),
            alone_rates: Vec::new(),
            loaded_rates: Vec::new(),
            messages: 0,
        }
    }

    /// Takes in a slice of all ranks.
    fn add(&mut self, world: &World, point: &Point, slice: &Slice, own: Own) {
        for (histogram, mut ns) in [
            (&mut self.idle, own.idle_ns),
            (&mut self.loaded, own.loaded_ns),
        ] {
            // An aggressor has none.
            ns.resize(slice.iterations as usize, 0);
            let all = match point.word("test") {
                "latency" => {
                    let mut all = Vec::new();
                    world.gather_into(&ns, &mut all);
                    all
                }
                _ => slowest_of(world, &ns),
            };
            all.iter()
                .filter(|&&ns| ns > 0)
                .for_each(|&ns| histogram.saturating_record(ns));
        }
        let messages = own.alone.messages + own.beside.messages;
        let [alone, beside, messages] = world.max([own.alone.rate, own.beside.rate, messages]);
        self.alone_rates.push(alone as f64);
        self.loaded_rates.push(beside as f64);
        self.messages += messages;
    }
}

fn numbers(world: &World, split: &Split, found: &Found, point: &Point) -> anyhow::Result<Numbers> {
    anyhow::ensure!(
        !found.loaded.is_empty(),
        "interrupted before the first slice was measured"
    );
    let (idle_name, loaded_name) = match point.word("test") {
        "latency" => ("idle_latency_ns", "loaded_latency_ns"),
        _ => ("idle_allreduce_ns", "loaded_allreduce_ns"),
    };
    let idle = latency_metrics(idle_name, &found.idle);
    let loaded = latency_metrics(loaded_name, &found.loaded);
    let ratios = [Aggregation::Mean, Aggregation::P50, Aggregation::P99];
    let mut metrics: Vec<Metric> = ratios
        .iter()
        .map(|&aggregation| ratio(&loaded, &idle, aggregation))
        .collect();
    let rate = |name: &str, rates: &[f64]| {
        let median = stats::median(rates).unwrap_or(f64::NAN);
        bandwidth(name, Aggregation::P50, median, rates.len())
    };
    metrics.extend(loaded);
    metrics.extend(idle);
    metrics.extend([
        rate("aggressor_bandwidth_bytes_per_s", &found.loaded_rates).headline(),
        rate("aggressor_alone_bandwidth_bytes_per_s", &found.alone_rates),
    ]);
    let samples = found.idle.len() + found.loaded.len();
    let mut numbers = Numbers {
        work: Work {
            ops: samples + found.messages,
            bytes: samples * victim::BYTES as u64 + found.messages * point.size() as u64,
        },
        metrics,
        histograms: vec![
            (loaded_name, found.loaded.clone()),
            (idle_name, found.idle.clone()),
        ],
        flags: shared_nodes(world, split).into_iter().collect(),
        ..Numbers::default()
    };
    let sorted = |group: &[usize]| {
        let mut group = group.to_vec();
        group.sort_unstable();
        ranges(&group)
    };
    for (name, fact) in [
        (
            "split_by",
            json!(if split.by_node { "node" } else { "rank" }),
        ),
        ("victims", json!(sorted(&split.victims))),
        ("aggressors", json!(sorted(&split.aggressors))),
        ("first_aggressor", json!(split.aggressors[0])),
    ] {
        numbers.facts.insert(name.to_owned(), fact);
    }
    Ok(numbers)
}

/// How many times as much it was under load: GPCNeT's congestion impact factor.
fn ratio(loaded: &[Metric], idle: &[Metric], aggregation: Aggregation) -> Metric {
    let of = |metrics: &[Metric]| {
        let mut metrics = metrics.iter();
        let found = metrics.find(|metric| metric.aggregation == aggregation);
        found.map(|metric| (metric.value.clone(), metric.n.clone()))
    };
    let (value, n) = match (of(loaded), of(idle)) {
        (Some((Fact::Known(loaded), n)), Some((Fact::Known(idle), _))) => {
            (Fact::Known(loaded / idle), n)
        }
        (Some((Fact::Known(_), n)), Some((why, _))) | (Some((why, n)), _) => (why, n),
        (None, _) => (Fact::unavailable("nothing was measured"), Fact::Known(0)),
    };
    let (unit, direction) = (Unit::Ratio, Direction::LowerIsBetter);
    let metric = Metric::new(
        "congestion_impact_ratio",
        aggregation,
        unit,
        direction,
        value,
        n,
    );
    match aggregation {
        Aggregation::P50 => metric,
        _ => metric.headline(),
    }
}

/// Where both groups are on a node, they contend for more than the network.
fn shared_nodes(world: &World, split: &Split) -> Option<Flag> {
    let has = |group: &[usize], ranks: &[usize]| group.iter().any(|rank| ranks.contains(rank));
    let shares = |ranks: &[usize]| has(&split.victims, ranks) && has(&split.aggressors, ranks);
    let shared = world
        .nodes()
        .iter()
        .filter(|node| shares(node.ranks()))
        .count();
    (shared > 0).then(|| Flag {
        code: "shared_nodes".to_owned(),
        severity: Severity::Degraded,
        evidence: format!(
            "victims and aggressors share {shared} of {} nodes: the ratio holds what they take from \
             each other there, CPUs and memory, beside the network (--split node keeps them apart)",
            world.nodes().len()
        ),
    })
}
