//! `stream`: how fast each rank's memory is, so that a slow node can be told from a slow network.

use super::{Frame, Numbers, bandwidth, gather, least, most};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::memory::Buffer;
use crate::spec::{self, Point};
use crate::world::World;
use mpi::traits::CommunicatorCollectives;
use reports::matrix::blame;
use reports::measure::Clock;
use reports::model::{Aggregation, Flag, Measurement, Severity, Work};
use reports::stats;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;

/// The share by which a node's memory must fall short of the others' before it is named.
const LEAST: f64 = 0.25;

/// STREAM's rule: each array is at least four times the last-level caches together.
const CACHES: usize = 4;

/// The caches of a machine that tells none.
const UNKNOWN_CACHE_BYTES: usize = 32 << 20;

/// The least array of a rank, so that a machine of many ranks still has something to time.
const LEAST_ARRAY_BYTES: usize = 4 << 20;

/// Checks an array's size: `auto`, or bytes as message sizes are written.
///
/// # Errors
/// What is wrong with the text.
pub fn check_array(text: &str) -> Result<(), String> {
    match text {
        "auto" => Ok(()),
        _ => match text.parse::<spec::Sizes>()? {
            spec::Sizes { min: None, max } if max >= 4096 => Ok(()),
            _ => Err(format!(
                "{text:?} is no array: give auto, or at least 4096 bytes"
            )),
        },
    }
}

/// The bytes of each of the three arrays of this rank.
fn array_bytes(point: &Point) -> usize {
    let asked = point.word("array").parse::<spec::Sizes>();
    let bytes = match asked {
        Ok(sizes) => sizes.max,
        Err(_) => {
            let sharing = if point.flag("alone") {
                1
            } else {
                point.ranks / point.nodes.max(1)
            };
            let caches = last_level_caches().unwrap_or(UNKNOWN_CACHE_BYTES);
            (CACHES * caches / sharing.max(1)).max(LEAST_ARRAY_BYTES)
        }
    };
    bytes.next_multiple_of(size_of::<f64>())
}

/// The last-level caches of this machine together, in bytes.
fn last_level_caches() -> Option<usize> {
    let mut caches = BTreeMap::new();
    for cpu in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let last = (0..8)
            .map(|index| cpu.path().join(format!("cache/index{index}")))
            .filter_map(|index| {
                let read = |file| fs::read_to_string(index.join(file)).ok();
                let size = read("size")?;
                let kib: usize = size.trim().strip_suffix('K')?.parse().ok()?;
                Some((read("level")?, read("shared_cpu_list")?, kib << 10))
            })
            .max();
        // CPUs that share a cache tell the same list: it counts once.
        caches.extend(last.map(|(level, sharers, bytes)| ((level, sharers), bytes)));
    }
    let total = caches.values().sum();
    (total > 0).then_some(total)
}

/// Three arrays.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    3 * array_bytes(point) as u64
}

/// Runs the triad on all ranks at once, or on one rank of each node at a time.
///
/// # Errors
/// Too little memory, or a wrong element.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let world = driver.world();
    let [bytes] = world.max([array_bytes(point) as u64]);
    let mut arrays = world.agree(Arrays::new(world.rank(), usize::try_from(bytes)?))?;
    let frame = Frame::open(world);
    let own_place = world.node_of(world.rank()).ranks();
    let own_place = own_place.iter().position(|&rank| rank == world.rank());
    let turns = match point.flag("alone") {
        true => world
            .nodes()
            .iter()
            .map(|node| node.ranks().len())
            .max()
            .unwrap_or(1),
        false => 1,
    };
    let mut rates = Vec::with_capacity(point.iterations as usize);
    for turn in 0..turns {
        let plays = turns == 1 || own_place == Some(turn);
        for round in 0..point.warmup + point.iterations {
            // As well the barrier with which an iteration begins.
            if driver.stop() && round > 0 {
                break;
            }
            if plays {
                let ns = arrays.triad();
                if round >= point.warmup || driver.interrupted() {
                    rates.push(3.0 * bytes as f64 * 1e9 / ns.max(1) as f64);
                }
            }
        }
        world.comm().barrier();
    }
    if point.spoil {
        arrays.a[0] += 1.0;
    }
    let checks = world.agree(arrays.check())?;
    // An interrupted warm-up leaves some ranks without a number.
    let median = stats::median(&rates).unwrap_or(f64::NAN);
    let all = gather(world, &[median, most(&rates)]);
    let verified = "elements of the result compared exactly after the last iteration";
    frame.close(driver, checks, verified, || {
        numbers(world, &all, bytes, point)
    })
}

/// One rank's arrays of STREAM.
struct Arrays {
    a: Buffer<f64>,
    b: Buffer<f64>,
    c: Buffer<f64>,
    rank: usize,
    /// Differs between iterations, so that a result that was left from the last one shows.
    scalar: f64,
    clock: Clock,
}

/// Values repeat after so many elements: a prime, so that no two cache lines are alike for long.
const PERIOD: usize = 1021;

impl Arrays {
    fn new(rank: usize, bytes: usize) -> anyhow::Result<Self> {
        let elements = bytes / size_of::<f64>();
        let mut arrays = Self {
            a: Buffer::filled(elements, 0.0)?,
            b: Buffer::filled(elements, 0.0)?,
            c: Buffer::filled(elements, 0.0)?,
            rank,
            scalar: 2.0,
            clock: Clock::get(),
        };
        for index in 0..elements {
            (arrays.b[index], arrays.c[index]) = arrays.values(index);
        }
        Ok(arrays)
    }

    /// Whole numbers, so that every result is exact.
    fn values(&self, index: usize) -> (f64, f64) {
        let place = index + 7 * self.rank;
        ((place % PERIOD) as f64, ((place * 3) % PERIOD) as f64)
    }

    /// One triad, a = b + q·c; returns its nanoseconds.
    fn triad(&mut self) -> u64 {
        self.scalar = if self.scalar > 1000.0 {
            3.0
        } else {
            self.scalar + 1.0
        };
        let began = self.clock.now();
        let (b, c, scalar) = (&self.b[..], &self.c[..], black_box(self.scalar));
        for ((a, b), c) in self.a.iter_mut().zip(b).zip(c) {
            *a = b + scalar * c;
        }
        black_box(&mut self.a[..]);
        self.clock.ns(self.clock.now().saturating_sub(began))
    }

    fn check(&self) -> anyhow::Result<u64> {
        for (index, &found) in self.a.iter().enumerate() {
            let (b, c) = self.values(index);
            let expected = b + self.scalar * c;
            anyhow::ensure!(
                found == expected,
                "element {index} of the triad is {found} instead of {expected}: this node's memory \
                 or CPU is at fault"
            );
        }
        Ok(self.a.len() as u64)
    }
}

fn numbers(world: &World, all: &[f64], bytes: u64, point: &Point) -> anyhow::Result<Numbers> {
    let (medians, best): (Vec<f64>, Vec<f64>) = all
        .chunks_exact(2)
        .map(|numbers| (numbers[0], numbers[1]))
        .unzip();
    anyhow::ensure!(
        medians.iter().all(|median| median.is_finite()),
        "interrupted before every rank was measured"
    );
    let ranks = medians.len();
    let name = "rank_bandwidth_bytes_per_s";
    let total: f64 = medians.iter().sum();
    let metrics = vec![
        bandwidth(
            name,
            Aggregation::P50,
            stats::median(&medians).unwrap_or(f64::NAN),
            ranks,
        )
        .headline(),
        bandwidth(name, Aggregation::Min, least(&medians), ranks).headline(),
        bandwidth(name, Aggregation::Max, most(&medians), ranks),
        bandwidth("bandwidth_bytes_per_s", Aggregation::Total, total, ranks),
        bandwidth(
            "bandwidth_bytes_per_s",
            Aggregation::Total,
            best.iter().sum(),
            ranks,
        )
        .compat("STREAM"),
    ];
    let of_node = |node: &crate::world::Node| {
        let of_ranks: Vec<f64> = node.ranks().iter().map(|&rank| medians[rank]).collect();
        stats::median(&of_ranks).unwrap_or(f64::NAN)
    };
    let nodes: Vec<f64> = world.nodes().iter().map(of_node).collect();
    let slowest = (0..ranks).min_by(|&a, &b| medians[a].total_cmp(&medians[b]));
    let (slow, usual) = blame::outliers(&nodes, LEAST);
    let flag = |&node: &usize| Flag {
        code: "slow_node_memory".to_owned(),
        severity: Severity::Degraded,
        evidence: format!(
            "the memory of {} gives each rank {:.1} GB/s, the median node's {:.1} GB/s: what is \
             slow there need not be the network",
            world.nodes()[node].name(),
            nodes[node] / 1e9,
            usual / 1e9
        ),
    };
    let passes = point.iterations * ranks as u64;
    let slowest = slowest.map(|rank| {
        json!({
            "rank": rank,
            "host": world.node_of(rank).name(),
            "bandwidth_bytes_per_s": medians[rank],
        })
    });
    let mut numbers = Numbers {
        work: Work {
            ops: passes,
            bytes: passes * 3 * bytes,
        },
        metrics,
        flags: slow.iter().map(flag).collect(),
        ..Numbers::default()
    };
    numbers.facts.insert("array_bytes".to_owned(), json!(bytes));
    numbers
        .facts
        .insert("slowest_rank".to_owned(), json!(slowest));
    let by_node = world.nodes().iter().zip(&nodes);
    let by_node = by_node.map(|(node, rate)| (node.name().to_owned(), json!(rate)));
    let by_node = serde_json::Value::Object(by_node.collect());
    numbers
        .facts
        .insert("rank_bandwidth_on_host".to_owned(), by_node);
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triad_is_checked_element_by_element() {
        let mut arrays = Arrays::new(3, 80_000).expect("that is little");
        arrays.triad();
        assert_eq!(arrays.check().expect("it is right"), 10_000);
        arrays.a[9_999] += 0.5;
        assert!(arrays.check().is_err(), "half too much");
        arrays.triad();
        assert!(arrays.check().is_ok());
        arrays.scalar += 1.0;
        assert!(arrays.check().is_err(), "the last iteration's result");
    }

    #[test]
    fn arrays_are_asked_for_in_bytes() {
        for text in ["auto", "64M", "4096"] {
            assert_eq!(check_array(text), Ok(()), "{text}");
        }
        for text in ["", "8", "1:8192", "many", "-1", "5G"] {
            assert!(check_array(text).is_err(), "{text}");
        }
    }
}
