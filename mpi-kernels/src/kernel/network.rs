//! Kernels that show the network and the nodes. Most have a schedule of their own, so what all of
//! them do around it is here: what disturbed the nodes meanwhile, messages whose content is
//! checked, and the measurement that comes of it.

pub mod bisection;
pub mod congestion;
pub mod halo;
pub mod pairmatrix;
pub mod random_access;
pub mod rings;
pub mod triad;

use super::damage;
use crate::driver::{self, Driver};
use crate::pattern::Stamp;
use crate::spec::Point;
use crate::sys::{Exchange, Link};
use crate::world::World;
use hdrhistogram::Histogram;
use mpi::traits::{Communicator, Root};
use reports::measure::{Clock, Ticks, Watch, histogram_record};
use reports::model::{
    Aggregation, Direction, Flag, Matrix, Measurement, Metric, Severity, Unit, Work,
};
use serde_json::{Map, Value};

/// What is watched while a kernel runs.
pub struct Frame {
    watch: Option<Watch>,
    began: Ticks,
}

/// What rank 0 makes of a kernel.
#[derive(Default)]
pub struct Numbers {
    /// What was done.
    pub work: Work,
    /// The numbers.
    pub metrics: Vec<Metric>,
    /// The distributions, by name.
    pub histograms: Vec<(&'static str, Histogram<u64>)>,
    /// The numbers between pairs.
    pub matrices: Vec<Matrix>,
    /// What was found, beyond what the world says of itself.
    pub facts: Map<String, Value>,
    /// What speaks against the numbers, or against a node.
    pub flags: Vec<Flag>,
}

impl Frame {
    /// Begins to watch; on all ranks.
    #[must_use]
    pub fn open(world: &World) -> Self {
        Self {
            watch: world.leads_node().then(Watch::start),
            began: Clock::get().now(),
        }
    }

    /// Ends watching, adds up the checks of all ranks, and has rank 0 make its numbers; on all
    /// ranks.
    ///
    /// # Errors
    /// Nothing was verified, or what `numbers` finds wrong.
    pub fn close(
        self,
        driver: &Driver<'_>,
        checks: u64,
        verified: &str,
        numbers: impl FnOnce() -> anyhow::Result<Numbers>,
    ) -> anyhow::Result<Option<Measurement>> {
        let world = driver.world();
        let clock = Clock::get();
        let elapsed_ns = clock.ns(clock.now().saturating_sub(self.began));
        let (counters, mut validity) = driver::disturbances(world, self.watch);
        let checks = world.sum(checks);
        anyhow::ensure!(checks > 0, "nothing was verified");
        if !world.is_root() {
            return Ok(None);
        }
        let mut numbers = numbers()?;
        if driver.interrupted() {
            let evidence = "a signal ended the measurement before it was complete";
            validity.flag(Severity::Invalid, "interrupted", evidence);
        }
        world.flag_oversubscription(&mut validity);
        for flag in numbers.flags {
            validity.flag(flag.severity, &flag.code, flag.evidence);
        }
        let mut facts = world.facts();
        facts.append(&mut numbers.facts);
        let histograms = numbers.histograms.iter();
        Ok(Some(Measurement {
            elapsed_s: (elapsed_ns as f64 / 1e9).into(),
            work: numbers.work.into(),
            verified: format!("{checks} {verified}"),
            metrics: numbers.metrics,
            facts,
            histograms: histograms
                .map(|(name, histogram)| histogram_record(name, histogram))
                .collect(),
            intervals: Vec::new(),
            matrices: numbers.matrices,
            counters,
            validity,
        }))
    }
}

/// Each rank's numbers on rank 0, `own.len()` from each in the order of ranks; nothing elsewhere.
fn gather(world: &World, own: &[f64]) -> Vec<f64> {
    let root = world.comm().process_at_rank(0);
    if !world.is_root() {
        root.gather_into(own);
        return Vec::new();
    }
    let mut all = vec![0.0; own.len() * world.ranks()];
    root.gather_into_root(own, &mut all[..]);
    all
}

/// For each iteration the largest of the ranks' times; on all ranks.
fn slowest_of(world: &World, own_ns: &[u64]) -> Vec<u64> {
    let mut largest = vec![0; own_ns.len()];
    world.max_into(own_ns, &mut largest);
    largest
}

/// A bandwidth.
fn bandwidth(name: &str, aggregation: Aggregation, value: f64, n: usize) -> Metric {
    let (unit, direction) = (Unit::BytesPerSecond, Direction::HigherIsBetter);
    Metric::new(name, aggregation, unit, direction, value, n as u64)
}

/// A time.
fn time(name: &str, aggregation: Aggregation, value: f64, n: usize) -> Metric {
    let (unit, direction) = (Unit::Nanoseconds, Direction::LowerIsBetter);
    Metric::new(name, aggregation, unit, direction, value, n as u64)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// A rank as an MPI library counts.
fn c_rank(rank: usize) -> i32 {
    // Ranks come from a C int.
    rank as i32
}

/// An [`Exchange`] whose messages say who sent them, over which link and in which round.
pub struct Traffic {
    exchange: Exchange,
    rank: usize,
    size: usize,
    round: u64,
    /// Whether what arrives is damaged before it is compared.
    spoil: bool,
}

/// How far the content moves on from round to round: further than the tags of rings and stencils
/// reach, and a prime, so that a stale message of another link does not pass either.
const LINKS: u64 = 67;

impl Traffic {
    /// Messages of `size` bytes over these links of the world; damaged where they arrive, if the
    /// point wants that.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(
        world: &World,
        links: Vec<Link>,
        size: usize,
        point: &Point,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            exchange: Exchange::new(world.comm(), links, size)?,
            rank: world.rank(),
            size,
            round: 0,
            spoil: point.spoil,
        })
    }

    /// The links with their buffers, for the timed loop.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    fn stamp(&self, sender: usize, tag: i32) -> Stamp {
        Stamp {
            sender,
            // Tags are small and not negative.
            iteration: self.round * LINKS + tag.unsigned_abs() as u64,
            size: self.size,
        }
    }

    /// Makes ready for messages of a new round: their content goes into the one buffer of each
    /// link, and what must arrive, with every byte inverted, into the other.
    pub fn load(&mut self) {
        self.round += 1;
        for index in 0..self.exchange.links().len() {
            let Link { to, from, tag } = self.exchange.links()[index];
            if to.is_some() {
                self.stamp(self.rank, tag).fill(self.exchange.out(index));
            }
            if let Some(from) = from {
                let stamp = self.stamp(from.unsigned_abs() as usize, tag);
                poison(stamp, self.exchange.arrived(index));
            }
        }
    }

    /// Compares every message with what its sender sends in this round; returns how many.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&mut self) -> anyhow::Result<u64> {
        let mut checks = 0;
        for index in 0..self.exchange.links().len() {
            let Link { from, tag, .. } = self.exchange.links()[index];
            if let Some(from) = from {
                let stamp = self.stamp(from.unsigned_abs() as usize, tag);
                let arrived = self.exchange.arrived(index);
                if self.spoil {
                    damage(arrived);
                }
                stamp.check(arrived)?;
                checks += 1;
            }
        }
        Ok(checks)
    }

    /// Loads, exchanges in this way and compares; ends with everything loaded anew for the timed
    /// iterations, whose last messages [`Self::check`] then compares.
    ///
    /// # Errors
    /// The first fault, after this rank's part of the communication.
    pub fn validate(
        &mut self,
        ways: &[fn(&mut Exchange) -> anyhow::Result<()>],
    ) -> anyhow::Result<u64> {
        let mut checks = Ok(0);
        for way in ways {
            self.load();
            let exchanged = way(&mut self.exchange);
            let checked = exchanged.and_then(|()| self.check());
            checks = checks.and_then(|sum| checked.map(|more| sum + more));
        }
        self.load();
        checks
    }
}

/// Fills a buffer with what will arrive there, every byte inverted: wherever nothing arrives, it
/// shows.
fn poison(stamp: Stamp, buffer: &mut [u8]) {
    stamp.fill(buffer);
    buffer.iter_mut().for_each(|byte| *byte = !*byte);
}
