//! Counters that say that something went wrong on the way, or was held back.
//!
//! No list of drivers' names is complete, so a counter is known by what a word of its name begins
//! with.

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
const CONGESTION: [&str; 5] = ["cnp", "ecn", "xmit_wait", "slow_restart", "pause"];

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
    let any = |parts: &[&str]| parts.iter().any(|part| has_word(name, part));
    match () {
        () if any(&ORDINARY) => None,
        () if any(&IMPAIRMENTS) => Some(Kind::Impaired),
        () if any(&CONGESTION) => Some(Kind::Congestion),
        () if any(&ERRORS) => Some(Kind::Error),
        () => None,
    }
}

/// Whether a word of a name begins so. Words are set apart by other characters or, as irdma does it,
/// by capitals; within a word the same letters mean nothing, as in `ack_deferred`.
fn has_word(name: &str, part: &str) -> bool {
    let bytes = name.as_bytes();
    (0..bytes.len()).any(|at| {
        let begins = match at.checked_sub(1).map(|before| bytes[before]) {
            Some(before) if bytes[at].is_ascii_uppercase() => !before.is_ascii_uppercase(),
            Some(before) => !before.is_ascii_alphabetic(),
            None => true,
        };
        let rest = &bytes[at..];
        begins
            && rest.len() >= part.len()
            && rest[..part.len()].eq_ignore_ascii_case(part.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_known_by_the_words_of_their_names() {
        for (name, expected) in [
            ("hw_counters/completer_retry_err", Some(Kind::Error)),
            ("hw_counters/out_of_seq_request", Some(Kind::Error)),
            ("hw_counters/rx_drops", Some(Kind::Error)),
            ("hw_counters/tcpRetransSegs", Some(Kind::Error)),
            ("counters/VL15_dropped", Some(Kind::Error)),
            ("counters/symbol_error", Some(Kind::Error)),
            ("rx_missed_errors", Some(Kind::Error)),
            (
                "hw_counters/impaired_remote_conn_events",
                Some(Kind::Impaired),
            ),
            ("hw_counters/np_cnp_sent", Some(Kind::Congestion)),
            ("counters/port_xmit_wait", Some(Kind::Congestion)),
            ("hw_counters/req_cqe_flush_error", None),
            ("hw_counters/ack_deferred", None),
            ("hw_counters/interrupts", None),
            ("hw_counters/sent_pkts", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
