//! The history of results over weeks and months: since when is a number what it is, by how much
//! did it change, and what changed with it.
//!
//! [`append`] keeps what matters of every run in a file ([`store`](History) and its lines), and
//! [`trend`] reads it: runs of the same case on the same kind of hosts, in the order of time, with
//! the places where their level changed.
//!
//! Two kinds of change are told apart. Where the *environment* changed (another kernel, AMI,
//! driver, build profile: all that `reports compare` calls a confounder), the history is split and
//! the shift over the place is stated as confounded. Between such places e-divisive
//! ([`crate::stats::changes`]) looks for changes of the level. What is hunted there is the program,
//! so a changed commit, version or dirty tree splits nothing: it is named where it falls together
//! with a change. In the words of `compare`, a trend declares the axis `program.commit`; further
//! axes can be declared, and then they split nothing either and are named likewise.
//!
//! What `compare` does not count (names, ids, free memory) neither splits nor explains, but other
//! hosts are mentioned beside a change. What a case really used (its facts) may be an outcome, so
//! it never splits; a fact with one value before and another after a change confounds it.
//!
//! A trend advises. It looks at many series again and again and must by chance find changes where
//! there are none; the gate is `reports compare --gate`.

mod analysis;
mod courses;
mod line;
mod near;
mod series;
mod store;
mod surroundings;

pub use courses::{Courses, courses};
pub use line::{Entry, Environment, HISTORY_VERSION, State};
pub use series::{Options, TrendError, trend};
pub use store::{Added, Batch, History, HistoryError, LineFault, MAX_LINE_BYTES, append, load};

use crate::compare::{Difference, Effect, LeftOut, Verdict};
use crate::model::{Aggregation, Direction, Unit};
use serde::Serialize;
use serde_json::{Map, Value};

/// A change is kept if at most this share of random orders of its runs splits as well. Stricter
/// than a single comparison, because a history has many series and is looked at every day.
pub const LEVEL: f64 = 0.01;

/// The fewest runs between two changes of level.
pub const MIN_SEGMENT: usize = 5;

/// A history, case by case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// How many runs are shown.
    pub runs: usize,
    /// The level at which changes are found: see [`LEVEL`].
    pub level: f64,
    /// The cases, in the order of their first runs.
    pub cases: Vec<CaseTrend>,
}

/// The runs of one case by one definition on one kind of hosts, in the order of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseTrend {
    /// Id and parameters in one line.
    pub case: String,
    /// The benchmark's id.
    pub id: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// The hash of its definition.
    pub definition_hash: String,
    /// The suite's row, if the runs belong to one.
    pub row: Option<String>,
    /// The arm of the row, if it has several.
    pub arm: Option<String>,
    /// The kind of hosts: how many, and their instance type or processor.
    pub hosts: String,
    /// What tells the environment of these runs from others that took turns with it; empty if none
    /// did.
    pub environment: Vec<String>,
    /// The runs that count.
    pub runs: Vec<RunPoint>,
    /// The runs that do not, and why.
    pub left_out: Vec<LeftOut>,
    /// The metrics.
    pub metrics: Vec<MetricTrend>,
}

/// One run of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunPoint {
    /// The run's id.
    pub run: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// The session it belongs to, if it was not run by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The commit its program was built from, or why that is unknown.
    pub commit: String,
    /// The hosts' names.
    pub hosts: Vec<String>,
    /// Why the numbers stand for less than they seem; empty if nothing speaks against them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// One metric over the runs of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricTrend {
    /// Name and aggregation in one, and the peer where it follows one: what `--metric` takes.
    pub title: String,
    /// The metric's name.
    pub name: String,
    /// How each run's samples became its number.
    pub aggregation: Aggregation,
    /// The peer whose definition it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<String>,
    /// The unit.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// One number per run that has it.
    pub points: Vec<Point>,
    /// How many runs count but have no number for this metric.
    pub missing: usize,
    /// Stretches of one level, without gaps.
    pub segments: Vec<Segment>,
    /// The places between the segments.
    pub changes: Vec<Change>,
}

/// One run's number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The index of the run in [`CaseTrend::runs`].
    pub run: usize,
    /// The number.
    pub value: f64,
}

/// Points of one level, from `start` up to and without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Segment {
    /// The index of its first point.
    pub start: usize,
    /// The index after its last point.
    pub end: usize,
    /// The median of its points.
    pub median: f64,
}

/// Why a history is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The numbers changed while the environment stayed.
    Level,
    /// The environment changed, whatever the numbers did.
    Environment,
}

/// A place where a history is divided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Why.
    pub kind: ChangeKind,
    /// The index of the first point after it.
    pub point: usize,
    /// The first and the last point that may be the first after it, with about 95 % confidence.
    pub place: [usize; 2],
    /// The run of the first point after it.
    pub run: String,
    /// When that run started.
    pub since: String,
    /// The segment after it against the one before, with a 95 % interval that takes the place for
    /// given.
    pub effect: Option<Effect>,
    /// How often a random order of the runs splits as well; `None` where the environment split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// What the numbers say by themselves. `~`: not the level changed but the spread.
    pub observed: Verdict,
    /// What can be concluded.
    pub verdict: Verdict,
    /// What differs across it: before, and what came within its place.
    pub differs: Vec<Difference>,
    /// What a reader should bear in mind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CaseTrend {
    /// The run of a metric's last point, and its number.
    #[must_use]
    pub fn latest(&self, metric: &MetricTrend) -> Option<(&RunPoint, f64)> {
        let point = metric.points.last()?;
        Some((self.runs.get(point.run)?, point.value))
    }
}

#[cfg(test)]
mod tests;
