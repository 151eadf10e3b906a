//! Counters that say that something went wrong on the way, or was held back.
//!
//! No list of drivers' names is complete, so a counter is known by parts of its name.

use super::Moved;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Errors and retries. `rnr`: the receiver was not ready.
const ERRORS: [&str; 18] = [
    "err",
    "retrans",
    "retry",
    "retries",
    "rnr",
    "duplicate",
    "out_of_seq",
    "out_of_buffer",
    "drop",
    "discard",
    "timeout",
    "nak",
    "missed",
    "overrun",
    "downed",
    "icrc",
    "collisions",
    "violation",
];

/// EFA's: connections whose rate the network limited, and peers that did not answer any more.
const IMPAIRMENTS: [&str; 2] = ["impaired", "unresponsive"];

/// Congestion: notifications of it (CNP), packets marked on the way (ECN), senders that had to wait.
const CONGESTION: [&str; 5] = ["cnp", "ecn_", "xmit_wait", "slow_restart", "pause"];

/// Work that is flushed when a queue pair is torn down is no error, whatever mlx5 calls it.
const ORDINARY: [&str; 1] = ["flush"];

/// What a counter is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Losses, retries and errors.
    Error,
    /// Connections that the network held back or that broke.
    Impaired,
    /// Congestion.
    Congestion,
}

/// A counter of errors, retries or congestion that grew. It is the device's: others may share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// What counts: `rxe0 port 1`, `eth0`.
    pub place: String,
    /// The driver's name for it, with its folder if it is a port's: `hw_counters/send_rnr_err`.
    pub name: String,
    /// By how much it grew.
    pub grown: u64,
    /// What it is of.
    pub kind: Kind,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} grew by {}", self.place, self.name, self.grown)
    }
}

/// The troubles among counters that moved.
pub(super) fn among(moved: &[Moved]) -> Vec<Trouble> {
    let troubles = moved.iter().filter_map(|moved| {
        // One that ran backwards was reset: what it counted meanwhile is not known.
        let grown = moved.after.checked_sub(moved.before)?;
        let kind = kind(&moved.name)?;
        Some(Trouble {
            place: moved.place.clone(),
            name: moved.name.clone(),
            grown,
            kind,
        })
    });
    troubles.collect()
}

fn kind(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    let any = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match () {
        () if any(&ORDINARY) => None,
        () if any(&IMPAIRMENTS) => Some(Kind::Impaired),
        () if any(&CONGESTION) => Some(Kind::Congestion),
        () if any(&ERRORS) => Some(Kind::Error),
        () => None,
    }
}
