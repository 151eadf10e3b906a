//! Proof that a test's bytes went the way its report names.
//!
//! A library that finds no fast way takes a slow one and says nothing, and the number it yields
//! looks like any other. What the device on the way counted meanwhile cannot be mistaken for
//! something else: before and after a test each side reads those [`Counters`], and [`Proof::of`]
//! judges whether they account for what the side [claims](Claim) to have sent and received. Counters
//! are those of a whole port or network device, so that they give a lower bound and no more: what
//! moved beyond the claim is headers, acknowledgements, the other side where it uses the same
//! device, and other people's traffic.

mod counters;
#[cfg(test)]
mod tests;
mod trouble;
mod weigh;

pub use counters::Counters;
pub use trouble::{Kind, Trouble};

use crate::rdma::port::Path;
use reports::model::{Counter, Fact, Severity, Validity};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use weigh::Weight;

/// The share of a claim that counters have to show for it to be proved. What is missing may still be
/// on its way from the device's firmware to its driver.
pub const ENOUGH: f64 = 0.95;

/// Counters that show less than this share of a claim contradict it; between the two nothing is
/// known.
pub const CLEARLY_LESS: f64 = 0.75;

/// How long counters that show too little are read again: the firmware of mlx5 and of EFA updates
/// some of them once in a second.
const PATIENCE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(50);

/// Most counters that a proof tells of.
const MOST_TOLD: usize = 256;

/// What one side says that it sent and received, in the time between two readings of counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Payload bytes that left this side: of sends and writes it posted, of reads the peer posted.
    pub sent_bytes: u64,
    /// Operations that these are of.
    pub sent_operations: u64,
    /// Payload bytes that came in: of the peer's sends and writes, and of reads this side posted.
    pub received_bytes: u64,
    /// Operations that these are of.
    pub received_operations: u64,
    /// Whether the peer uses the same device. A device need not count what it does not put on a
    /// wire, so that counters which show too little then contradict nothing, rxe's excepted.
    pub same_device: bool,
}

/// What the counters of a path say of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The path.
    pub path: Path,
    /// What was claimed.
    pub claim: Claim,
    /// Whether the counters account for it.
    pub verdict: Verdict,
    /// Sentences about what moved far more than was claimed: other traffic on the way.
    pub other_traffic: Vec<String>,
    /// Counters of errors, retries and congestion that moved, by the driver's names.
    pub troubles: Vec<Trouble>,
    /// All counters of the path that moved.
    pub counters: Vec<Counter>,
    /// For how many seconds counters were read again until they sufficed or patience ended.
    pub waited_s: f64,
}

/// Whether counters account for a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// They show at least [`ENOUGH`] of it.
    Proved {
        /// What moved by how much and how much it had to be, a sentence each.
        evidence: Vec<String>,
    },
    /// They show less than [`CLEARLY_LESS`] of it.
    Contradicted {
        /// As above.
        evidence: Vec<String>,
    },
    /// They do not tell.
    Unproven {
        /// Why not.
        reason: String,
    },
}

impl Proof {
    /// Judges a claim by counters of before and after. As long as they show too little they are read
    /// again, for at most 1.5 s: call this when nothing is measured any more.
    #[must_use]
    pub fn of(path: &Path, before: &Counters, after: Counters, claim: &Claim) -> Self {
        Self::within(path, before, after, claim, PATIENCE)
    }

    fn within(
        path: &Path,
        before: &Counters,
        mut after: Counters,
        claim: &Claim,
        patience: Duration,
    ) -> Self {
        let started = Instant::now();
        let mut weights = weigh::weigh(path, before, &after, claim);
        while weights.iter().any(Weight::may_grow) && started.elapsed() < patience {
            std::thread::sleep(PAUSE);
            after = after.again(path);
            weights = weigh::weigh(path, before, &after, claim);
        }
        let moved = moved(before, &after);
        Self {
            path: path.clone(),
            claim: *claim,
            verdict: verdict(&weights, before, &after),
            other_traffic: weights.iter().filter_map(Weight::excess).collect(),
            troubles: trouble::among(&moved),
            counters: moved.into_iter().map(Moved::into_counter).collect(),
            waited_s: started.elapsed().as_secs_f64(),
        }
    }

    /// What speaks against numbers that were measured on this path, or has to be known of them.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let mut validity = Validity::default();
        match (&self.verdict, &self.path) {
            (Verdict::Contradicted { evidence }, _) => {
                validity.flag(Severity::Invalid, "path_contradicted", evidence.join("; "));
            }
            (Verdict::Unproven { reason }, Path::Rdma { .. } | Path::Sockets { .. }) => {
                validity.flag(Severity::Info, "path_unproven", reason.as_str());
            }
            // Of these it was known before that there is no proof.
            (Verdict::Unproven { .. }, Path::SharedMemory | Path::Unknown) => {}
            (Verdict::Proved { .. }, _) => {}
        }
        for (kind, severity, code) in [
            (Kind::Impaired, Severity::Degraded, "path_impaired"),
            (Kind::Error, Severity::Info, "path_errors"),
            (Kind::Congestion, Severity::Info, "path_congestion"),
        ] {
            let of_kind = self.troubles.iter().filter(|trouble| trouble.kind == kind);
            let told: Vec<String> = of_kind.map(ToString::to_string).collect();
            if !told.is_empty() {
                validity.flag(severity, code, told.join("; "));
            }
        }
        if !self.other_traffic.is_empty() {
            let evidence = self.other_traffic.join("; ");
            validity.flag(Severity::Info, "path_shared", evidence);
        }
        validity
    }
}

/// Contradicted where either direction is, proved where both are.
fn verdict(weights: &[Weight], before: &Counters, after: &Counters) -> Verdict {
    if let Some(reason) = before.missing.as_ref().or(after.missing.as_ref()) {
        let reason = reason.clone();
        return Verdict::Unproven { reason };
    }
    if weights.is_empty() {
        let reason = "nothing was sent or received that could be proved".to_owned();
        return Verdict::Unproven { reason };
    }
    let of = |wanted: fn(&Weight) -> bool| -> Vec<String> {
        let those = weights.iter().filter(|weight| wanted(weight));
        those.map(|weight| weight.sentence.clone()).collect()
    };
    let short = of(Weight::contradicts);
    let unknown = of(|weight| !weight.contradicts() && !weight.proves());
    match (short.is_empty(), unknown.is_empty()) {
        (false, _) => Verdict::Contradicted { evidence: short },
        (true, false) => Verdict::Unproven {
            reason: unknown.join("; "),
        },
        (true, true) => Verdict::Proved {
            evidence: of(Weight::proves),
        },
    }
}

/// A counter that moved.
struct Moved {
    place: String,
    name: String,
    before: u64,
    after: u64,
}

impl Moved {
    fn into_counter(self) -> Counter {
        // Reports hold counters as numbers of JSON; only the difference has to be exact.
        let known = |value: u64| Fact::Known(value as f64);
        Counter {
            source: self.place,
            name: self.name,
            before: known(self.before),
            after: known(self.after),
        }
    }
}

fn moved(before: &Counters, after: &Counters) -> Vec<Moved> {
    let places = after.places.iter().filter_map(|place| {
        let earlier = before.place(&place.name)?;
        Some(place.values.iter().filter_map(|(name, &value)| {
            let was = *earlier.values.get(name)?;
            (was != value).then(|| Moved {
                place: place.name.clone(),
                name: name.clone(),
                before: was,
                after: value,
            })
        }))
    });
    places.flatten().take(MOST_TOLD).collect()
}
