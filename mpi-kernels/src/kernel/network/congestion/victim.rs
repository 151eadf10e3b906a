//! A victim: measures what its messages take.

use super::split;
use crate::kernel::damage;
use crate::spec::Point;
use crate::sys::{Endpoint, Together};
use crate::world::World;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use reports::measure::Clock;

const TAG: i32 = 52;

/// Bytes of a ping, and of a number that is reduced.
pub const BYTES: usize = 8;

/// Factors that tell the iterations apart: as many as keep every sum of ranks exact in a double.
const FACTORS: u64 = 1024;

/// A part of the measurement: iterations in one pairing.
pub struct Slice {
    /// Its number, which its messages contain.
    pub number: u64,
    /// The order of victims by which they are paired.
    pub order: Vec<usize>,
    /// Timed iterations.
    pub iterations: u64,
}

/// One rank's part of the measurement.
pub struct Victim<'w> {
    world: &'w World,
    group: SimpleCommunicator,
    point: &'w Point,
    /// What the ranks of all victims, counted from 1, add up to.
    sum: u64,
    clock: Clock,
    /// One per iteration of the slice; 0 where another rank times.
    pub ns: Vec<u64>,
    /// How many messages or results were compared.
    pub checks: u64,
}

impl<'w> Victim<'w> {
    /// The part of a rank of this group.
    #[must_use]
    pub fn new(
        world: &'w World,
        group: SimpleCommunicator,
        victims: &[usize],
        point: &'w Point,
    ) -> Self {
        Self {
            world,
            group,
            point,
            sum: victims.iter().map(|&rank| rank as u64 + 1).sum(),
            clock: Clock::get(),
            ns: Vec::new(),
            checks: 0,
        }
    }

    /// Whether this rank speaks for the victims.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.group.rank() == 0
    }

    /// Returns when all victims are here.
    pub fn meet(&self) {
        Together::of(&self.group).barrier();
    }

    /// Measures a slice after its warm-up; all victims together.
    ///
    /// # Errors
    /// The first fault, after this rank's part of the communication.
    pub fn measure(&mut self, slice: &Slice) -> anyhow::Result<()> {
        self.ns.clear();
        self.ns.resize(slice.iterations as usize, 0);
        match self.point.word("test") {
            "latency" => self.ping_pong(slice),
            _ => self.allreduce(slice),
        }
    }

    /// Half round trips of all pairs at once; the one in the first half times.
    fn ping_pong(&mut self, slice: &Slice) -> anyhow::Result<()> {
        let own = self.world.rank();
        let Some((peer, times)) = split::partner(&slice.order, own) else {
            return Ok(());
        };
        let mut end = Endpoint::new(self.world.comm(), peer, TAG, BYTES, 1)?;
        let mut fault = Ok(());
        for iteration in 0..self.point.warmup + slice.iterations {
            let word = |rank: usize| word(rank, slice.number, iteration);
            end.outgoing().copy_from_slice(&word(own));
            let began = self.clock.now();
            if times {
                end.send()?;
            }
            end.receive()?;
            let ticks = self.clock.now().saturating_sub(began);
            if self.point.spoil {
                damage(end.arrived());
            }
            let arrived = end.arrived() == word(peer);
            if !times {
                end.send()?;
            }
            if !arrived && fault.is_ok() {
                fault = Err(anyhow::anyhow!(
                    "message {iteration} of rank {peer} is damaged"
                ));
            }
            self.checks += 1;
            if let (true, Some(timed)) = (times, iteration.checked_sub(self.point.warmup)) {
                self.ns[timed as usize] = (self.clock.ns(ticks) / 2).max(1);
            }
        }
        fault
    }

    /// MPI_Allreduce of one double, each after an MPI_Barrier of the victims.
    fn allreduce(&mut self, slice: &Slice) -> anyhow::Result<()> {
        let together = Together::of(&self.group);
        let own = self.world.rank() as u64 + 1;
        let mut fault = Ok(());
        for iteration in 0..self.point.warmup + slice.iterations {
            let factor = 1 + (slice.number + iteration) % FACTORS;
            let (value, mut result) = ((own * factor) as f64, 0.0_f64);
            together.barrier();
            let began = self.clock.now();
            let sum = SystemOperation::sum();
            self.group.all_reduce_into(&value, &mut result, sum);
            let ticks = self.clock.now().saturating_sub(began);
            if self.point.spoil {
                result += 1.0;
            }
            let expected = (self.sum * factor) as f64;
            // Sums of integers below 2^53 are exact.
            if result != expected && fault.is_ok() {
                let text = "the sum of iteration";
                fault = Err(anyhow::anyhow!(
                    "{text} {iteration} is {result} instead of {expected}"
                ));
            }
            self.checks += 1;
            if let Some(timed) = iteration.checked_sub(self.point.warmup) {
                self.ns[timed as usize] = self.clock.ns(ticks).max(1);
            }
        }
        fault
    }
}

/// What a rank sends in an iteration of a slice. Each factor is odd, so that two that differ in one
/// of the three differ.
fn word(rank: usize, slice: u64, iteration: u64) -> [u8; BYTES] {
    let rank = (rank as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let slice = slice.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = rank.wrapping_add(slice);
    word.wrapping_add(iteration.wrapping_mul(0x94d0_49bb_1331_11eb))
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_message_is_another() {
        let words: BTreeSet<_> = (0..8)
            .flat_map(|rank| (0..8).map(move |slice| (rank, slice)))
            .flat_map(|(rank, slice)| (0..50).map(move |iteration| word(rank, slice, iteration)))
            .collect();
        assert_eq!(words.len(), 8 * 8 * 50);
    }
}
