//! Kernels between pairs of ranks: ping-pongs and windows of messages.
//!
//! A kernel of two ranks pairs 0 with 1, and all others wait. A kernel of all ranks pairs rank i of
//! the lower half with rank i + n/2, as OSU's multi-pair tests do. In each pair the first rank
//! begins and times.

pub(super) mod pairs;
mod ping_pong;
pub(super) mod stream;

pub use ping_pong::{
    MultiPingPong, PingPong, multi_ping_pong_metrics, multi_ping_pong_work, ping_pong_metrics,
    ping_pong_work,
};
pub use stream::{
    BidirectionalStream, MultiStream, Stream, bidirectional_metrics, bidirectional_work,
    multi_stream_metrics, multi_stream_work, stream_metrics, stream_work,
};

use crate::method::Setting;
use crate::pattern::Stamp;
use crate::sys::Endpoint;

/// Untimed rounds in each validation.
const ROUNDS: u64 = 2;

/// The number that the timed messages carry; the validation's own count from 0.
const TIMED: u64 = 200;

/// The tag of messages; the next one is that of acknowledgements.
const TAG: i32 = 10;

/// What a rank does in its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Begins and times.
    First,
    /// Answers.
    Second,
    /// Is in no pair.
    Idle,
}

/// A rank's part, and the other rank of its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Role {
    part: Part,
    peer: usize,
}

impl Role {
    /// Among ranks of which 0 and 1 are a pair and all others idle.
    fn of_two(rank: usize) -> Self {
        match rank {
            0 => Self {
                part: Part::First,
                peer: 1,
            },
            1 => Self {
                part: Part::Second,
                peer: 0,
            },
            _ => Self {
                part: Part::Idle,
                peer: rank,
            },
        }
    }

    /// Among an even number of ranks, each of the lower half paired with one of the upper.
    fn of_halves(rank: usize, ranks: usize) -> Self {
        let half = ranks / 2;
        if rank < half {
            Self {
                part: Part::First,
                peer: rank + half,
            }
        } else {
            Self {
                part: Part::Second,
                peer: rank - half,
            }
        }
    }
}

/// The calls that a kernel times, by the choice of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    Blocking,
    Nonblocking,
    Persistent,
}

impl Calls {
    fn of(word: &str) -> Self {
        match word {
            "blocking" => Self::Blocking,
            "persistent" => Self::Persistent,
            _ => Self::Nonblocking,
        }
    }
}

/// This rank's end of its pair, and what the buffers contain.
struct Messages {
    rank: usize,
    peer: usize,
    size: usize,
    spoil: bool,
    end: Endpoint,
    validations: u64,
}

impl Messages {
    fn new(setting: Setting<'_, '_>, role: Role, calls: Calls) -> anyhow::Result<Self> {
        let Setting { world, point, .. } = setting;
        let (size, window) = match role.part {
            Part::Idle => (0, 1),
            _ => (point.size(), point.window.unwrap_or(1)),
        };
        let end = Endpoint::new(world.comm(), role.peer, TAG, size, window)?;
        Ok(Self {
            rank: world.rank(),
            peer: role.peer,
            size,
            spoil: point.spoil,
            end: match calls {
                Calls::Persistent => end.make_persistent()?,
                _ => end,
            },
            validations: 0,
        })
    }

    fn stamp(&self, sender: usize, iteration: u64) -> Stamp {
        Stamp {
            sender,
            iteration,
            size: self.size,
        }
    }

    /// Makes ready for a message: its content in the one buffer, something else in the other.
    fn load(&mut self, iteration: u64) {
        self.stamp(self.rank, iteration).fill(self.end.outgoing());
        // What the peer sends, with every byte inverted: wherever nothing arrives, it shows.
        let awaited = self.stamp(self.peer, iteration);
        awaited.fill(self.end.arrived());
        self.end
            .arrived()
            .iter_mut()
            .for_each(|byte| *byte = !*byte);
    }

    /// Compares what arrived with what the peer sends as `iteration`.
    fn check(&mut self, iteration: u64) -> anyhow::Result<()> {
        let stamp = self.stamp(self.peer, iteration);
        let arrived = self.end.arrived();
        if self.spoil {
            super::damage(arrived);
        }
        stamp.check(arrived)
    }

    /// Runs rounds of `exchange`, each with a content of its own, and ends with the buffers ready
    /// for the timed loop. `receives` says whether this rank gets the peer's messages, and so has
    /// something to compare. The first fault is returned when all rounds are over.
    fn validate(
        &mut self,
        receives: bool,
        mut exchange: impl FnMut(&mut Endpoint) -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        let mut checks = 0;
        let mut fault = Ok(());
        if self.validations > 0 && receives {
            fault = self.check(TIMED);
            checks += 1;
        }
        for round in 0..ROUNDS {
            let iteration = self.validations * ROUNDS + round;
            self.load(iteration);
            let exchanged = exchange(&mut self.end);
            if receives {
                fault = fault.and_then(|()| self.check(iteration));
            }
            match exchanged {
                Ok(messages) => checks += messages,
                Err(error) => fault = fault.and(Err(error)),
            }
        }
        self.validations += 1;
        self.load(TIMED);
        fault.map(|()| checks)
    }
}

/// Compares the lengths of a window's messages with the size, and returns how many there are.
fn count_messages(end: &Endpoint, size: usize) -> anyhow::Result<u64> {
    let mut messages = 0;
    for bytes in end.received_bytes() {
        anyhow::ensure!(
            usize::try_from(bytes) == Ok(size),
            "message {messages} of a window has {bytes} bytes instead of {size}"
        );
        messages += 1;
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_is_its_peers_peer() {
        for ranks in [2, 4, 10] {
            let roles: Vec<_> = (0..ranks).map(|r| Role::of_halves(r, ranks)).collect();
            for (rank, role) in roles.iter().enumerate() {
                assert_eq!(roles[role.peer].peer, rank);
                assert_ne!(roles[role.peer].part, role.part);
            }
            assert_eq!(roles[0].peer, ranks / 2);
        }
        let two: Vec<_> = (0..3).map(Role::of_two).collect();
        assert_eq!((two[0].peer, two[1].peer), (1, 0));
        assert_eq!(two[2].part, Part::Idle);
    }
}
