//! The numbers of one case: metrics, distributions, what happened over time, how far to trust it.

use super::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::ops::{Add, AddAssign};

/// An amount of work: completed operations and the bytes they moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// Completed operations.
    pub ops: u64,
    /// Payload bytes those operations moved.
    pub bytes: u64,
}

impl Work {
    /// One operation that moved `bytes`.
    #[must_use]
    pub const fn op(bytes: u64) -> Self {
        Self { ops: 1, bytes }
    }
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            ops: self.ops + other.ops,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// The fact under which a measurement keeps what was observed while it ran: an outcome, so it is
/// never compared as a setting. Its texts are for everybody; what is nested in it, series and
/// counters of single flows, cores and queues, is for those who read the report itself.
pub const OBSERVED: &str = "observed";

/// Everything measured for one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// Length of the measured window in seconds, warm-up excluded. Known to our programs; a peer
    /// whose output was imported may not say.
    pub elapsed_s: Fact<f64>,
    /// Work completed in that window; likewise.
    pub work: Fact<Work>,
    /// What was verified, in words and numbers. A case that verified nothing is not measured.
    pub verified: String,
    /// The numbers. The first headline metric is the case's result in one figure.
    pub metrics: Vec<Metric>,
    /// Whole distributions, mergeable over threads, ranks, hosts and runs.
    #[serde(default)]
    pub histograms: Vec<HistogramRecord>,
    /// The window in slices, in order.
    #[serde(default)]
    pub intervals: Vec<Interval>,
    /// Numbers between pairs of nodes or ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matrices: Vec<Matrix>,
    /// Counters of the machine before and after.
    #[serde(default)]
    pub counters: Vec<Counter>,
    /// What was really used, where the parameters leave it to the machine: the engine's features
    /// that the kernel granted, the device behind a file. Parameters say what was asked and are
    /// equal on every machine that may be compared; facts say what came of it and may differ.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
    /// How far the numbers may be trusted.
    pub validity: Validity,
}

impl Measurement {
    /// The metric of this name and aggregation, by the suite's own definition.
    #[must_use]
    pub fn metric(&self, name: &str, aggregation: Aggregation) -> Option<&Metric> {
        self.metrics
            .iter()
            .find(|m| m.name == name && m.aggregation == aggregation && m.compat.is_none())
    }
}

/// One number with its name, unit and direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// The field's word with the unit last: `round_trip_ns`, `bandwidth_bytes_per_s`.
    pub name: String,
    /// How the samples became one number.
    pub aggregation: Aggregation,
    /// The unit of `value`.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// The number, finite by construction, or why there is none.
    pub value: Fact<f64>,
    /// How many samples went into it; a peer whose output was imported may not say.
    pub n: Fact<u64>,
    /// Whether summaries show it.
    #[serde(default)]
    pub headline: bool,
    /// The peer whose definition this follows, where that differs from ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compat: Option<String>,
}

impl Metric {
    /// A metric. A value that is not finite becomes unavailable: no report holds NaN or infinity.
    pub fn new(
        name: &str,
        aggregation: Aggregation,
        unit: Unit,
        direction: Direction,
        value: impl Into<Fact<f64>>,
        n: impl Into<Fact<u64>>,
    ) -> Self {
        let value = match value.into() {
            Fact::Known(v) if !v.is_finite() => {
                Fact::unavailable(format!("the computation gave {v}, which is not a number"))
            }
            value => value,
        };
        let name = name.to_owned();
        Self {
            name,
            aggregation,
            unit,
            direction,
            value,
            n: n.into(),
            headline: false,
            compat: None,
        }
    }

    /// Marks the metric as one that summaries show.
    #[must_use]
    pub fn headline(mut self) -> Self {
        self.headline = true;
        self
    }

    /// Marks the metric as following a peer's definition instead of ours.
    #[must_use]
    pub fn compat(mut self, peer: &str) -> Self {
        self.compat = Some(peer.to_owned());
        self
    }

    /// Name, aggregation and peer: what makes a metric unique within its case.
    #[must_use]
    pub fn key(&self) -> String {
        let compat = self
            .compat
            .as_ref()
            .map(|peer| format!(" ({peer})"))
            .unwrap_or_default();
        match self.aggregation {
            Aggregation::Total => format!("{}{compat}", self.name),
            aggregation => format!("{} {aggregation}{compat}", self.name),
        }
    }
}

/// How samples became one number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// A count or rate over the whole window.
    Total,
    /// Smallest sample.
    Min,
    /// Arithmetic mean.
    Mean,
    /// Standard deviation of the samples (n in the denominator, as HdrHistogram defines it).
    Stddev,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    P999,
    /// 99.99th percentile.
    #[serde(rename = "p99.99")]
    P9999,
    /// 99.999th percentile.
    #[serde(rename = "p99.999")]
    P99999,
    /// Largest sample.
    Max,
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Total => "total",
            Self::Min => "min",
            Self::Mean => "mean",
            Self::Stddev => "stddev",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::P9999 => "p99.99",
            Self::P99999 => "p99.999",
            Self::Max => "max",
        })
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Bytes per second; 10⁶ and 10⁹ when a terminal shortens it.
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    /// Events per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// A plain count.
    #[serde(rename = "count")]
    Count,
    /// A dimensionless ratio.
    #[serde(rename = "ratio")]
    Ratio,
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better: bandwidth, rates.
    HigherIsBetter,
    /// Less is better: latency, CPU seconds.
    LowerIsBetter,
    /// Neither: it describes.
    Neutral,
}

/// One distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramRecord {
    /// The name of the metric family it belongs to: `round_trip_ns`.
    pub name: String,
    /// The unit of its values.
    pub unit: Unit,
    /// Number of recorded values.
    pub count: u64,
    /// Whether latency counts from the intended start (open loop), so that a stall is charged to
    /// every operation it delayed.
    pub co_corrected: bool,
    /// HdrHistogram V2, deflated, base64: other HdrHistogram implementations decode it.
    pub hdr_v2_base64: String,
}

/// A slice of the measured window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Start, in seconds since the window opened.
    pub t0_s: f64,
    /// End, likewise.
    pub t1_s: f64,
    /// Work completed in the slice.
    pub work: Work,
    /// Median latency of the slice, where operations were timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<f64>,
    /// 99th percentile of the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<f64>,
    /// Largest latency of the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<f64>,
    /// All latencies of the slice, to two significant digits: HdrHistogram V2, deflated, base64.
    /// Only where the program asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hdr_v2_base64: Option<String>,
    /// What held the machine back during the slice, by the codes of flags: `cpu_steal`,
    /// `cgroup_throttled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// One metric between every pair of nodes or ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Matrix {
    /// The metric's name: `latency_ns`, `bandwidth_bytes_per_s`.
    pub name: String,
    /// How the samples of a pair became one number.
    pub aggregation: Aggregation,
    /// The unit of the values.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// The nodes or ranks, in the order of rows and columns.
    pub nodes: Vec<MatrixNode>,
    /// `values[from][to]`; `null` for a pair that was not measured: a node with itself, or a pair
    /// that failed, which a flag then names.
    pub values: Vec<Vec<Option<f64>>>,
}

/// A row and column of a [`Matrix`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MatrixNode {
    /// Its name: a host's, or host and rank.
    pub name: String,
    /// The index of its host among the report's hosts, which know its placement.
    pub host: u32,
}

/// A counter of the machine, read before and after the measured window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    /// Where it was read: `/proc/stat`, `getrusage`, `ethtool eth0`.
    pub source: String,
    /// The counter's own name there.
    pub name: String,
    /// Its value before.
    pub before: Fact<f64>,
    /// Its value after.
    pub after: Fact<f64>,
}

/// How far numbers may be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    /// What the flags come to.
    pub status: ValidityStatus,
    /// Everything that speaks against them, with evidence. Empty: nothing found.
    pub flags: Vec<Flag>,
}

impl Validity {
    /// Adds a flag.
    pub fn flag(&mut self, severity: Severity, code: &str, evidence: impl Into<String>) {
        self.status = self.status.max(severity.into());
        self.flags.push(Flag {
            code: code.to_owned(),
            severity,
            evidence: evidence.into(),
        });
    }

    /// What the flags come to, whoever put them there.
    #[must_use]
    pub fn of_flags(&self) -> ValidityStatus {
        self.worst().map(Into::into).unwrap_or_default()
    }

    /// The worst severity among the flags.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.flags.iter().map(|flag| flag.severity).max()
    }

    /// Whether some flag makes the numbers unusable.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.worst() == Some(Severity::Invalid)
    }
}

/// What all flags together mean for the numbers.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ValidityStatus {
    /// The numbers stand.
    #[default]
    Valid,
    /// They stand for less than they seem to.
    Degraded,
    /// They do not stand.
    Invalid,
}

impl From<Severity> for ValidityStatus {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Valid,
            Severity::Degraded => Self::Degraded,
            Severity::Invalid => Self::Invalid,
        }
    }
}

/// One reason for doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flag {
    /// A stable name: `cpu_steal`, `debug_build`, `interrupted`.
    pub code: String,
    /// What it means for the numbers.
    pub severity: Severity,
    /// What was seen, with figures.
    pub evidence: String,
}

/// What a flag means for the numbers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; the numbers stand.
    Info,
    /// The numbers stand for less than they seem to.
    Degraded,
    /// The numbers do not stand.
    Invalid,
}
