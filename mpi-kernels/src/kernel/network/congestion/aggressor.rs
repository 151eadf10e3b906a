//! An aggressor: loads the network in bursts until its group is told to stop.
//!
//! How many rounds the next burst has is the word of the group's first rank, which all get by
//! MPI_Bcast; none means the end. So all do as many rounds, and nobody waits for one that left.

use super::super::{Traffic, c_rank};
use super::split::Split;
use crate::spec::Point;
use crate::sys::{Exchange, Link, Together};
use crate::world::World;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;
use reports::measure::{Clock, Ticks};

const TAG: i32 = 51;

/// How long a burst is to last: long against the word between bursts, during which the network
/// rests, and short against what the victims measure.
const BURST_NS: u64 = 20_000_000;

/// No burst has more rounds.
const MAX_ROUNDS: u64 = 1 << 20;

type Way = fn(&mut Exchange) -> anyhow::Result<()>;

/// What a group moved together, on its first rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Messages.
    pub messages: u64,
    /// Bytes of messages per second.
    pub rate: u64,
}

/// One rank's part of the load.
pub struct Aggressor {
    group: SimpleCommunicator,
    traffic: Traffic,
    way: Way,
    /// Messages of the whole group in a round.
    messages: u64,
    size: usize,
    /// Of the next burst, on the group's first rank.
    rounds: u64,
    clock: Clock,
    /// How many messages were compared.
    pub checks: u64,
}

impl Aggressor {
    /// The part of a rank of this group, whose order is the split's.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(
        world: &World,
        group: SimpleCommunicator,
        split: &Split,
        point: &Point,
    ) -> anyhow::Result<Self> {
        let pattern = point.word("pattern");
        let links = links(pattern, &split.aggressors, world.rank());
        let way: Way = match pattern {
            "alltoall" => Exchange::one_by_one,
            _ => Exchange::all_at_once,
        };
        Ok(Self {
            group,
            traffic: Traffic::new(world, links, point.size(), point)?,
            way,
            messages: messages(pattern, split.aggressors.len()),
            size: point.size(),
            rounds: 1,
            clock: Clock::get(),
            checks: 0,
        })
    }

    /// Loads the network: a burst, then `begun`, then bursts until `enough`, at least one. Both are
    /// called by the group's first rank alone. Returns what the group moved since `begun`.
    ///
    /// # Errors
    /// A damaged message, of those of the last round.
    pub fn load(
        &mut self,
        begun: impl FnOnce(),
        mut enough: impl FnMut() -> bool,
    ) -> anyhow::Result<Load> {
        let leads = self.group.rank() == 0;
        self.traffic.load();
        let first = self.word(self.rounds);
        self.burst(first)?;
        if leads {
            begun();
        }
        let (mut done, began) = (0, self.clock.now());
        loop {
            let is_over = leads && done > 0 && enough();
            let rounds = self.word(if is_over { 0 } else { self.rounds });
            if rounds == 0 {
                break;
            }
            self.burst(rounds)?;
            done += rounds;
        }
        let ns = self.elapsed_ns(began).max(1);
        self.checks += self.traffic.check()?;
        let messages = done * self.messages;
        let bytes = u128::from(messages) * self.size as u128;
        Ok(match leads {
            true => Load {
                messages,
                rate: u64::try_from(bytes * 1_000_000_000 / u128::from(ns))?,
            },
            false => Load::default(),
        })
    }

    /// The first rank's number.
    fn word(&self, own: u64) -> u64 {
        // At most MAX_ROUNDS.
        let word = Together::of(&self.group).broadcast(own.cast_signed());
        word.cast_unsigned()
    }

    fn burst(&mut self, rounds: u64) -> anyhow::Result<()> {
        let began = self.clock.now();
        let exchange = self.traffic.exchange();
        for _ in 0..rounds {
            (self.way)(exchange)?;
        }
        self.rounds = next(rounds, self.elapsed_ns(began));
        Ok(())
    }

    fn elapsed_ns(&self, began: Ticks) -> u64 {
        self.clock.ns(self.clock.now().saturating_sub(began))
    }
}

/// The rounds of a burst after one of so many that took so long.
fn next(rounds: u64, ns: u64) -> u64 {
    let fit = u128::from(rounds) * u128::from(BURST_NS) / u128::from(ns.max(1));
    let fit = u64::try_from(fit).unwrap_or(MAX_ROUNDS);
    fit.clamp(1, (2 * rounds).min(MAX_ROUNDS))
}

/// The messages of a rank in a round.
fn links(pattern: &str, group: &[usize], rank: usize) -> Vec<Link> {
    let ranks = group.len();
    let place = group.iter().position(|&other| other == rank).unwrap_or(0);
    let link = |to: Option<usize>, from: Option<usize>| Link {
        to: to.map(c_rank),
        from: from.map(c_rank),
        tag: TAG,
    };
    let others = group[1..].iter();
    match (pattern, place) {
        ("incast", 0) => others.map(|&other| link(None, Some(other))).collect(),
        ("incast", _) => vec![link(Some(group[0]), None)],
        ("broadcast", 0) => others.map(|&other| link(Some(other), None)).collect(),
        ("broadcast", _) => vec![link(None, Some(group[0]))],
        _ => (1..ranks)
            .map(|step| {
                let (to, from) = ((place + step) % ranks, (place + ranks - step) % ranks);
                link(Some(group[to]), Some(group[from]))
            })
            .collect(),
    }
}

/// The messages of a whole group in a round.
fn messages(pattern: &str, ranks: usize) -> u64 {
    let others = ranks as u64 - 1;
    match pattern {
        "incast" | "broadcast" => others,
        _ => ranks as u64 * others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_sends_the_other_awaits() {
        let group = [5, 2, 9, 0, 7];
        for pattern in ["incast", "broadcast", "alltoall"] {
            let mut sent = Vec::new();
            let mut awaited = Vec::new();
            for &rank in &group {
                for link in links(pattern, &group, rank) {
                    sent.extend(link.to.map(|to| (c_rank(rank), to)));
                    awaited.extend(link.from.map(|from| (from, c_rank(rank))));
                }
            }
            sent.sort_unstable();
            awaited.sort_unstable();
            assert_eq!(sent, awaited, "{pattern}");
            assert_eq!(sent.len() as u64, messages(pattern, group.len()));
        }
    }

    #[test]
    fn in_each_step_of_an_alltoall_the_ends_meet() {
        let group = [3, 1, 4, 0];
        for &rank in &group {
            for (step, link) in links("alltoall", &group, rank).iter().enumerate() {
                let to = link.to.expect("it has both ends") as usize;
                assert_eq!(links("alltoall", &group, to)[step].from, Some(c_rank(rank)));
            }
        }
    }

    #[test]
    fn bursts_become_as_long_as_wanted_and_never_empty() {
        assert_eq!(next(100, BURST_NS), 100);
        assert_eq!(next(100, BURST_NS / 10), 200, "step by step");
        assert_eq!(next(100, 4 * BURST_NS), 25);
        assert_eq!(next(1, 100 * BURST_NS), 1);
        assert_eq!(next(MAX_ROUNDS, 0), MAX_ROUNDS);
    }
}
