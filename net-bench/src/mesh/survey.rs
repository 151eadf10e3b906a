//! What a mesh has come to: the cells that were measured, and who is missing.

use super::hosts::Peer;
use super::schedule::{Step, What};
use crate::errand::{Brought, Sample};
use reports::host::Host;
use reports::matrix::pairs::Cells;
use reports::model::{Flag, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// A server that was met, and its machine.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its place in the list of servers.
    pub number: usize,
    pub peer: Peer,
    pub host: Host,
}

/// A server that takes no part, or no longer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub label: String,
    pub why: String,
}

/// A flag of cells: how many have it, and the first of them.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    pub severity: Severity,
    pub cells: usize,
    pub first: String,
}

/// The streams of a step, by who sent and who received.
pub(super) type Streams = Vec<((usize, usize), f64)>;

/// All that is known at the end.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    pub nodes: Vec<Node>,
    /// They never answered, or were refused.
    pub missing: Vec<Absent>,
    /// They answered at first.
    pub lost: Vec<Absent>,
    /// Pairs that failed though both of its nodes answer.
    pub failed: Vec<Absent>,
    pub bandwidths: Cells,
    pub latencies: Cells,
    /// Of each step of streams.
    pub streams: Vec<Streams>,
    pub cells: usize,
    pub measured_bytes: u64,
    /// What the coordinator said and was told, above TCP.
    pub coordinator_bytes: u64,
    /// Shares of lost datagrams.
    pub losses: Vec<f64>,
    /// By code.
    pub doubts: BTreeMap<String, Doubt>,
    /// What the first cell of each kind verified.
    pub verified: Vec<String>,
    /// Rounds that were planned and that were gone through.
    pub rounds: (usize, usize),
    pub interrupted: bool,
    pub elapsed_s: f64,
}

impl Survey {
    pub fn of(nodes: Vec<Node>, missing: Vec<Absent>, rounds: usize) -> Self {
        let empty = || vec![vec![None; nodes.len()]; nodes.len()];
        Self {
            bandwidths: empty(),
            latencies: empty(),
            nodes,
            missing,
            lost: Vec::new(),
            failed: Vec::new(),
            streams: Vec::new(),
            cells: 0,
            measured_bytes: 0,
            coordinator_bytes: 0,
            losses: Vec::new(),
            doubts: BTreeMap::new(),
            verified: Vec::new(),
            rounds: (rounds, 0),
            interrupted: false,
            elapsed_s: 0.0,
        }
    }

    pub fn label(&self, node: usize) -> &str {
        &self.nodes[node].peer.label
    }

    pub fn pair(&self, (from, to): (usize, usize)) -> String {
        format!("{} -> {}", self.label(from), self.label(to))
    }

    pub fn is_lost(&self, node: usize) -> bool {
        let label = self.label(node);
        self.lost.iter().any(|absent| absent.label == label)
    }

    /// Whether something of this step was measured.
    pub fn begin(&mut self, step: &Step) {
        if step.what == What::Bandwidth {
            self.streams.push(Vec::new());
        }
    }

    /// Takes in what an errand of a step brought.
    ///
    /// # Errors
    /// It brought no number of that kind.
    pub fn enter(
        &mut self,
        what: What,
        (from, to): (usize, usize),
        brought: &Brought,
    ) -> Result<(), String> {
        let sample = match what {
            What::Latency => brought.latency_ns,
            What::Bandwidth => brought.bandwidth_bytes_per_s,
        };
        let cell = sample.as_ref().and_then(Sample::cell);
        let Some(cell) = cell.filter(|_| !brought.verified.trim().is_empty()) else {
            return Err("nothing was measured: no whole slice of data arrived".to_owned());
        };
        match what {
            What::Latency => {
                // A round trip goes both ways and cannot tell them apart.
                self.latencies[from][to] = Some(cell);
                self.latencies[to][from] = Some(cell);
            }
            What::Bandwidth => {
                self.bandwidths[from][to] = Some(cell);
                if let Some(streams) = self.streams.last_mut() {
                    streams.push(((from, to), cell.median));
                }
            }
        }
        if self.cells == 0 || what == What::Bandwidth && self.verified.len() < 2 {
            self.verified.push(brought.verified.clone());
        }
        self.cells += 1;
        self.measured_bytes = self.measured_bytes.saturating_add(brought.bytes);
        self.losses.extend(brought.loss_ratio);
        let mut told = BTreeSet::new();
        for flag in &brought.flags {
            // Both ends of a cell may say the same.
            self.doubt((from, to), flag, told.insert(flag.code.as_str()));
        }
        Ok(())
    }

    fn doubt(&mut self, pair: (usize, usize), flag: &Flag, is_new: bool) {
        let first = format!("{}: {}", self.pair(pair), flag.evidence);
        let doubt = self.doubts.entry(flag.code.clone()).or_insert(Doubt {
            severity: flag.severity,
            cells: 0,
            first,
        });
        doubt.severity = doubt.severity.max(flag.severity);
        doubt.cells += usize::from(is_new);
    }

    /// The coordinator's traffic as a share of what was measured; `None` where nothing was.
    pub fn coordinator_share(&self) -> Option<f64> {
        (self.measured_bytes > 0)
            .then(|| self.coordinator_bytes as f64 / self.measured_bytes as f64)
    }
}
