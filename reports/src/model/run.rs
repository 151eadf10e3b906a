//! Who measured, when, and as part of what.

use super::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The program and the build that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// `net-bench`, `storage-bench`, `mpi-kernels`, or the name of an imported peer.
    pub name: String,
    /// The package's version. Our programs know all about their build; a peer whose output was
    /// imported may not say.
    pub version: Fact<String>,
    /// The commit it was built from.
    pub commit: Fact<String>,
    /// Whether the tree had uncommitted changes when it was built.
    pub dirty: Fact<bool>,
    /// `release` or `debug`. Numbers of a debug build are flagged.
    pub build_profile: Fact<String>,
    /// The target triple it was built for.
    pub target: Fact<String>,
}

/// One run: a process from start to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// A random UUID: the same run is never counted twice.
    pub id: String,
    /// Start of the process's work, RFC 3339, UTC.
    pub started: String,
    /// End of it, RFC 3339, UTC.
    pub ended: String,
    /// The command line, program first.
    pub argv: Vec<String>,
    /// Environment variables that change what is measured (FI_*, OMPI_MCA_*, UCX_* and such).
    pub environment: BTreeMap<String, String>,
    /// The seed of every random choice in the run.
    pub seed: Fact<u64>,
    /// What stamped the time, and how well it agrees with the kernel's clock.
    pub clock: Fact<ClockRecord>,
    /// The launcher that started the run, if it was one.
    pub scheduler: Fact<Scheduler>,
    /// Its place among the repetitions of a suite; absent for a run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// Which clock stamped the operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockRecord {
    /// `tsc` or `clock_monotonic`.
    pub source: String,
    /// Ticks per second of the source, as calibrated.
    pub frequency_hz: f64,
    /// Why the cycle counter was refused, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How far the source drifted from CLOCK_MONOTONIC over the run, in parts per million.
    pub drift_ppm: Fact<f64>,
}

/// The batch system or launcher around a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduler {
    /// `slurm`, `aws-batch`, `open-mpi`, `mpich` and so on.
    pub kind: String,
    /// The job's id there.
    pub job_id: Fact<String>,
    /// Number of nodes in the job.
    pub nodes: Fact<u32>,
    /// Number of ranks in the job.
    pub ranks: Fact<u32>,
}

/// Where a run stands in a session of `reports run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// A random UUID per session.
    pub id: String,
    /// The suite's name.
    pub suite: String,
    /// The row of the suite this run belongs to.
    pub row: String,
    /// The place of the row and its arm in the suite, counted from 1: summaries keep that order,
    /// whatever the order in which the runs were drawn.
    pub position: u32,
    /// Which repetition of the row, counted from 1.
    pub repetition: u32,
    /// The position in the order in which the session's runs were started, counted from 1.
    pub order_index: u32,
    /// Runs that share a pair id ran next to each other and may be compared as a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_id: Option<String>,
    /// The arm of the comparison, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
}
