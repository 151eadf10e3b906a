//! What comes of ranking: groups, their places by metric, what stands in the way, and what was
//! asked that cannot be.

use super::groups;
use super::{Front, Share};
use crate::compare::{Effect, Verdict};
use crate::model::{Direction, Fact, Unit};
use crate::stats::MedianInterval;
use serde::Serialize;

/// Groups of runs in order, case by case and metric by metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// The field that the runs are grouped by.
    pub by: String,
    /// The groups, in the order in which the reports first name them.
    pub groups: Vec<Group>,
    /// The group that ratios refer to, if one was named.
    pub baseline: Option<String>,
    /// Where the prices come from, if there are any.
    pub prices: Option<PriceSource>,
    /// The file of documented limits, if there is one.
    pub instance_types: Option<String>,
    /// What else differs between the groups, and may explain an order as well.
    pub confounders: Vec<Confounder>,
    /// The cases, in the order of their suite.
    pub cases: Vec<RankedCase>,
    /// Cases and metrics that cannot be ranked, and why.
    pub blocked: Vec<Blocked>,
    /// Cases that one group alone has.
    pub only_in: Vec<OnlyIn>,
    /// Runs that were left out, and why.
    pub left_out: Vec<LeftOut>,
    /// What it all comes to.
    pub status: Status,
}

/// Where prices come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceSource {
    /// The file.
    pub file: String,
    /// The currency's code.
    pub currency: String,
    /// Who says so.
    pub source: String,
    /// Of which day they are.
    pub as_of: String,
}

/// A group of runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its name: an instance type, several joined by `+`, or `host` and a name.
    pub name: String,
    /// How many runs.
    pub runs: usize,
    /// On how many different machines they ran. One machine may be a lucky one.
    pub machines: usize,
    /// In how many metrics it is shown to be better than every other group.
    pub best: usize,
    /// In how many more no group is shown to be better.
    pub may_be_best: usize,
    /// In how many metrics it was ranked.
    pub ranked: usize,
    /// Flags that make numbers stand for less, with the number of results that have them.
    pub degraded: Vec<(String, usize)>,
    /// Why it is named by its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The values of a field in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupValues {
    /// The group.
    pub group: String,
    /// Every value among its runs.
    pub values: Vec<String>,
}

/// A field that differs between the groups and is not what they are grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confounder {
    /// The field's path.
    pub field: String,
    /// Its values, group by group.
    pub values: Vec<GroupValues>,
}

/// A case whose results do not measure the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The case.
    pub case: String,
    /// What differs: `definition_hash`, `params.size_bytes`, `unit of …`, `node count`.
    pub field: String,
    /// Its values, group by group.
    pub values: Vec<GroupValues>,
}

/// A case that one group alone has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnlyIn {
    /// The group.
    pub group: String,
    /// The case.
    pub case: String,
}

/// Runs that were left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// Their group, if they have one.
    pub group: Option<String>,
    /// The case.
    pub case: String,
    /// Why.
    pub why: String,
    /// How many.
    pub runs: usize,
}

/// One case of several groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedCase {
    /// Id and parameters.
    pub case: String,
    /// How many hosts took part in each run.
    pub nodes: usize,
    /// Groups without this case.
    pub absent: Vec<String>,
    /// What was really used and differs between the groups.
    pub confounders: Vec<Confounder>,
    /// The metrics.
    pub metrics: Vec<RankedMetric>,
}

/// One metric of several groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedMetric {
    /// Name, aggregation and peer: `round_trip_ns p50`.
    pub metric: String,
    /// The unit.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// The groups, best median first; those with too few runs come last.
    pub standings: Vec<Standing>,
    /// The same per unit of money, if there are prices: its own order, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_price: Option<Fact<PerPrice>>,
}

/// A rate divided by the price.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerPrice {
    /// What one unit of money buys: `bytes/USD`.
    pub unit: String,
    /// The groups, best first.
    pub standings: Vec<Standing>,
}

/// How a group stands in a metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The group.
    pub group: String,
    /// The places it may have among the groups with enough runs; `None` if it has too few.
    pub place: Option<Place>,
    /// Whether it cannot be told apart from the one above it.
    pub level_with_above: bool,
    /// How many runs its numbers are of.
    pub runs: usize,
    /// How many of those are flagged as degraded.
    pub degraded: usize,
    /// How many more were left out: invalid, failed, skipped, or without the metric.
    pub left_out: usize,
    /// The median over runs.
    pub median: Option<f64>,
    /// Its order-statistic interval, from six runs on.
    pub interval: Option<MedianInterval>,
    /// How it stands to the reference (the best, or the baseline): ratio or difference, with a
    /// 95 % interval. `None` of the reference itself.
    pub to_reference: Option<Effect>,
    /// The p value of the test against the reference.
    pub p_value: Option<f64>,
    /// The same, adjusted over everything that was tested.
    pub adjusted_p_value: Option<f64>,
    /// The smallest relative difference to the reference that these runs would have shown with a
    /// chance of 80 %.
    pub detectable: Option<f64>,
    /// What the runs show against the reference; `None` of the reference itself.
    pub verdict: Option<Verdict>,
    /// Why it has no place, or no ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What an hour of all machines of a run costs, if there are prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Fact<f64>>,
    /// Where it stands to the front of cost and performance, if there are prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front: Option<Fact<Front>>,
    /// Its share of the documented limit, if there is a file of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Fact<Share>>,
}

/// The places that a group may have, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// One more than the number of groups that are shown to be better.
    pub first: usize,
    /// The number of groups without those that are shown to be worse.
    pub last: usize,
}

/// What a ranking comes to. Each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every group has its place in every metric.
    Ranked,
    /// Something does not measure the same thing.
    Incomparable,
    /// Some group has too few valid runs, or there is nothing to rank it against.
    Insufficient,
}

impl Status {
    /// 0 ranked, 3 incomparable, 4 insufficient, as of `compare`; 2 is wrong usage.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ranked => 0,
            Self::Incomparable => 3,
            Self::Insufficient => 4,
        }
    }
}

/// Why nothing can be ranked as asked: each is wrong usage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// No report has the field.
    #[error("--by {by}: no report has such a field; `reports env --json` shows the names")]
    NoSuchField {
        /// The field.
        by: String,
    },
    /// Several fields end like this.
    #[error(
        "--by {by}: several fields are called so; give the path of one: {}",
        some(names)
    )]
    AmbiguousField {
        /// What was asked for.
        by: String,
        /// The paths.
        names: Vec<String>,
    },
    /// There are more groups than can be told apart.
    #[error(
        "--by {by} makes {groups} groups, and {} is the most: group by a field with fewer values, \
         or give fewer reports",
        groups::MAX_GROUPS
    )]
    TooManyGroups {
        /// The field.
        by: String,
        /// How many groups.
        groups: usize,
    },
    /// No group is called so.
    #[error(
        "--baseline {name:?}: no group is called so; there are {}",
        some(groups)
    )]
    NoSuchBaseline {
        /// What was asked for.
        name: String,
        /// The groups.
        groups: Vec<String>,
    },
    /// No case has the metric.
    #[error("--metric {name:?}: no case has it; there are {}", some(known))]
    NoSuchMetric {
        /// What was asked for.
        name: String,
        /// The metrics.
        known: Vec<String>,
    },
}

/// The first names of a list, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).cloned();
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
