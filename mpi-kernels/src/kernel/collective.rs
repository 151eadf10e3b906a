//! Kernels of all ranks: every iteration begins with a barrier, and each rank times its own call.

use super::{Kernel, Results};
use crate::memory::Buffer;
use crate::merge;
use crate::pattern::{MAX_RANKS_OF_SUM, check_sum, fill_contribution};
use crate::spec::Point;
use crate::world::World;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use reports::measure::{Clock, Ticks, latency_metrics};
use reports::model::{Aggregation, Direction, Metric, Unavailable, Unit, Work};
use std::thread;
use std::time::Duration;

/// Untimed rounds in each validation of a reduction.
const ROUNDS: usize = 2;

/// The number that the timed contributions carry; the validation's own count from 0.
const TIMED: usize = 100;

/// `allreduce`: the sum over all ranks, element by element.
pub struct Allreduce<'w> {
    comm: &'w SimpleCommunicator,
    rank: usize,
    ranks: usize,
    clock: Clock,
    out: Buffer<f32>,
    into: Buffer<f32>,
    validations: usize,
}

impl<'w> Allreduce<'w> {
    /// This rank's part, with buffers for the point's size.
    ///
    /// # Errors
    /// Too little memory, or more ranks than the check can sum exactly.
    pub fn build(world: &'w World, point: &Point) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        if world.ranks() > MAX_RANKS_OF_SUM {
            anyhow::bail!(Unavailable(format!(
                "with more than {MAX_RANKS_OF_SUM} ranks the sums are not exact in f32 and \
                 cannot be verified: use fewer ranks"
            )));
        }
        let elements = point.size() / size_of::<f32>();
        Ok(Box::new(Self {
            comm: world.comm(),
            rank: world.rank(),
            ranks: world.ranks(),
            clock: Clock::get(),
            out: Buffer::filled(elements, 0.0)?,
            into: Buffer::filled(elements, 0.0)?,
            validations: 0,
        }))
    }

    /// Makes ready for a round: this rank's contribution in the one buffer, no numbers in the
    /// other.
    fn load(&mut self, round: usize) {
        fill_contribution(&mut self.out, self.rank, round);
        self.into.fill(f32::NAN);
    }
}

impl Kernel for Allreduce<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let mut fault = Ok(());
        let mut checks = 0;
        if self.validations > 0 {
            fault = check_sum(&self.into, self.ranks, TIMED);
            checks += self.into.len() as u64;
        }
        for round in self.validations * ROUNDS..(self.validations + 1) * ROUNDS {
            self.load(round);
            self.comm
                .all_reduce_into(&self.out[..], &mut self.into[..], SystemOperation::sum());
            fault = fault.and_then(|()| check_sum(&self.into, self.ranks, round));
            checks += self.into.len() as u64;
        }
        self.validations += 1;
        self.load(TIMED);
        fault.map(|()| checks)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let (out, into) = (&self.out[..], &mut self.into[..]);
        for slot in ticks {
            self.comm.barrier();
            let start = self.clock.now();
            self.comm.all_reduce_into(out, into, SystemOperation::sum());
            *slot = self.clock.now().saturating_sub(start);
        }
        Ok(())
    }
}

/// At most so many ranks are late in turn in one validation of a barrier.
const MAX_LATE_RANKS: usize = 8;

/// How late a rank enters the barrier that is under test: time for any other to leave it wrongly,
/// and for the word of that to arrive.
const LATENESS: Duration = Duration::from_millis(2);

const LEFT_TAG: i32 = 3;

/// `barrier`: nobody leaves before everybody entered.
pub struct Barrier<'w> {
    comm: &'w SimpleCommunicator,
    rank: usize,
    ranks: usize,
    clock: Clock,
}

impl<'w> Barrier<'w> {
    /// This rank's part.
    ///
    /// # Errors
    /// None.
    pub fn build(world: &'w World, _: &Point) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        Ok(Box::new(Self {
            comm: world.comm(),
            rank: world.rank(),
            ranks: world.ranks(),
            clock: Clock::get(),
        }))
    }

    /// One barrier that `late` enters late. Whoever leaves it tells `late`, and whatever `late`
    /// hears of before it enters left too early. The proof is the order of messages, not a clock.
    fn round(&self, late: usize) -> anyhow::Result<u64> {
        let others = (0..self.ranks).filter(|&rank| rank != late);
        if self.rank != late {
            self.comm.barrier();
            self.process(late).send_with_tag(&[1u8], LEFT_TAG);
            return Ok(0);
        }
        thread::sleep(LATENESS);
        let early = self.comm.any_process().immediate_probe_with_tag(LEFT_TAG);
        self.comm.barrier();
        for rank in others {
            let mut word = [0u8];
            self.process(rank)
                .receive_into_with_tag(&mut word, LEFT_TAG);
        }
        match early {
            None => Ok(self.ranks as u64 - 1),
            Some(status) => anyhow::bail!(
                "rank {} left the barrier before rank {late} entered it",
                status.source_rank()
            ),
        }
    }

    fn process(&self, rank: usize) -> mpi::topology::Process<'_> {
        // Ranks come from a C int.
        self.comm.process_at_rank(rank as i32)
    }
}

impl Kernel for Barrier<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let mut checks = Ok(0);
        for late in late_ranks(self.ranks) {
            let round = self.round(late);
            checks = checks.and_then(|sum| round.map(|more| sum + more));
        }
        checks
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        for slot in ticks {
            self.comm.barrier();
            let start = self.clock.now();
            self.comm.barrier();
            *slot = self.clock.now().saturating_sub(start);
        }
        Ok(())
    }
}

/// The ranks that are late in turn: all of a small world, evenly spread ones of a large one.
fn late_ranks(ranks: usize) -> impl Iterator<Item = usize> {
    let rounds = ranks.min(MAX_LATE_RANKS);
    (0..rounds).map(move |round| round * ranks / rounds)
}

/// The distribution over iterations of the slowest rank's time, and OSU's columns.
#[must_use]
pub fn metrics(results: &Results, _: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("collective_ns", &results.histogram);
    let osu = merge::osu_columns(&results.ranks, results.iterations);
    let columns = [
        (Aggregation::Mean, osu.mean_ns),
        (Aggregation::Min, osu.min_ns),
        (Aggregation::Max, osu.max_ns),
    ];
    metrics.extend(columns.map(|(aggregation, value)| {
        let metric = Metric::new(
            "collective_ns",
            aggregation,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            value,
            results.iterations,
        );
        metric.compat("OSU")
    }));
    metrics
}

/// Calls, and the bytes that each rank put into them.
#[must_use]
pub fn work(iterations: u64, point: &Point) -> Work {
    Work {
        ops: iterations,
        bytes: iterations * point.size() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_ranks_are_distinct_and_spread() {
        assert_eq!(late_ranks(2).collect::<Vec<_>>(), [0, 1]);
        let spread: Vec<_> = late_ranks(100).collect();
        assert_eq!(spread, [0, 12, 25, 37, 50, 62, 75, 87]);
    }
}
