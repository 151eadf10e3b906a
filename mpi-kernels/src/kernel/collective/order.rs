//! The proof that a barrier is one: nobody leaves before everybody entered.

use crate::sys::collective::{Call, Function};
use crate::world::World;
use mpi::traits::{Communicator, Destination, Source};
use std::thread;
use std::time::Duration;

/// At most so many ranks are late in turn in one validation of a barrier.
const MAX_LATE_RANKS: usize = 8;

/// How late a rank enters the barrier that is under test: time for any other to leave it wrongly,
/// and for the word of that to arrive.
const LATENESS: Duration = Duration::from_millis(2);

const LEFT_TAG: i32 = 3;

/// Runs barriers into which one rank after the other is late. `spoil` lets the others say that they
/// left before they do. Returns how many times this rank kept another in.
///
/// # Errors
/// The first rank that left too early.
pub fn validate<'w, F: Function>(
    world: &World,
    call: &mut Call<'w, F>,
    spoil: bool,
    mut barrier: impl FnMut(&mut Call<'w, F>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut checks = Ok(0);
    for late in late_ranks(world.ranks()) {
        let round = round(world, late, spoil, || barrier(call));
        checks = checks.and_then(|sum| round.map(|more| sum + more));
    }
    checks
}

/// One barrier that `late` enters late. Whoever leaves it tells `late`, and whatever `late` hears of
/// before it enters left too early. The proof is the order of messages, not a clock.
fn round(
    world: &World,
    late: usize,
    spoil: bool,
    mut barrier: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let comm = world.comm();
    // Ranks come from a C int.
    let process = |rank: usize| comm.process_at_rank(rank as i32);
    if world.rank() != late {
        let tell = || process(late).send_with_tag(&[1u8], LEFT_TAG);
        if spoil {
            tell();
        }
        let left = barrier();
        if !spoil {
            tell();
        }
        return left.map(|()| 0);
    }
    thread::sleep(LATENESS);
    let early = comm.any_process().immediate_probe_with_tag(LEFT_TAG);
    let left = barrier();
    for rank in (0..world.ranks()).filter(|&rank| rank != late) {
        let mut word = [0u8];
        process(rank).receive_into_with_tag(&mut word, LEFT_TAG);
    }
    left?;
    match early {
        None => Ok(world.ranks() as u64 - 1),
        Some(status) => anyhow::bail!(
            "rank {} left the barrier before rank {late} entered it",
            status.source_rank()
        ),
    }
}

/// The ranks that are late in turn: all of a small world, evenly spread ones of a large one.
fn late_ranks(ranks: usize) -> impl Iterator<Item = usize> {
    let rounds = ranks.min(MAX_LATE_RANKS);
    (0..rounds).map(move |round| round * ranks / rounds)
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
