//! Instance types, or whatever else runs differ by, side by side: in which order they stand, how
//! far apart, what an hour of them costs, and how near they come to what is documented of them.
//!
//! A rank is a claim, so it is made only where the runs show it. The unit is a run
//! ([`crate::stats::Runs`]), every pair of groups is tested (`contest` says why), and the p values
//! of all of them are adjusted together as [`mod@crate::compare`] adjusts those of its metrics. A
//! group then has a [`Place`], a range: `1–2` beside `1–2` are two that cannot be told apart.
//!
//! Prices and documented limits are the user's files ([`Prices`], [`InstanceTypes`]); nothing of
//! the kind is built in. A rate is divided by the price. A latency is not: halving it is no amount
//! that money buys twice of, so its cost stands beside it, and both together make the front of
//! cost and performance ([`Front`]).

mod cases;
mod contest;
mod cost;
mod document;
mod groups;
mod instance_types;
mod judge;
mod limits;
mod prices;

pub use cost::{Front, Standpoint};
pub use document::DocumentError;
pub use instance_types::{InstanceTypes, Limit, TypeLimits};
pub use limits::Share;
pub use prices::{EXAMPLE as PRICES_EXAMPLE, Prices};

use crate::compare::fields::{Surroundings, Values, fact_fields, gather};
use crate::compare::{Axis, Effect, Verdict, environment};
use crate::model::{Direction, Fact, Report, Severity, Unit};
use crate::stats::{MedianInterval, false_discovery};
use groups::{Field, Found, Grouped};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of a ranking.
#[derive(Debug, Clone)]
pub struct Options {
    /// The field that runs are grouped by.
    pub by: Axis,
    /// The metrics, by name or by name and aggregation; the headlines if there are none.
    pub metrics: Vec<String>,
    /// The group that ratios refer to; the best of each metric if there is none.
    pub baseline: Option<String>,
    /// What hours cost.
    pub prices: Option<Prices>,
    /// What is documented of the instance types.
    pub instance_types: Option<InstanceTypes>,
}

impl Options {
    /// The headlines of groups by this field.
    #[must_use]
    pub fn by(by: Axis) -> Self {
        Self {
            by,
            metrics: Vec::new(),
            baseline: None,
            prices: None,
            instance_types: None,
        }
    }
}

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

/// Ranks the groups of these runs.
///
/// # Errors
/// [`RankError`]. What concerns some cases only is in the [`Ranking`] instead.
pub fn rank(reports: &[Report], options: &Options) -> Result<Ranking, RankError> {
    let surroundings = Surroundings::of(reports);
    let field = Field::find(&options.by, reports, &surroundings)?;
    let Grouped {
        names,
        found,
        without,
        twice,
    } = groups::group(&field, reports, &surroundings)?;
    if let Some(name) = options
        .baseline
        .as_ref()
        .filter(|name| !names.contains(name))
    {
        let (name, groups) = (name.clone(), names);
        return Err(RankError::NoSuchBaseline { name, groups });
    }
    check_metrics(&options.metrics, &found)?;
    let groups = summarise(&names, &found);
    let confounders = confounders(&names, &found, &surroundings, &field);
    let cases::Cases {
        matched,
        mut blocked,
        only_in,
    } = cases::match_cases(found, &field, &names);
    let mut judge = judge::Judge::new(&names, options);
    let mut rounds: Vec<judge::Round<'_>> = Vec::new();
    for case in &matched {
        rounds.push(judge.enter(case, &field));
    }
    // Everything is tested before anything is concluded: the p values are adjusted together.
    let p_values: Vec<f64> = rounds.iter().flat_map(judge::Round::p_values).collect();
    let mut adjusted = false_discovery::adjust(&p_values).into_iter();
    let cases = rounds.into_iter();
    let cases: Vec<RankedCase> = cases
        .map(|round| judge.conclude(round, &mut adjusted))
        .collect();
    blocked.append(&mut judge.blocked);
    let left_out = left_out(judge.left_out, without, twice);
    let mut ranking = Ranking {
        by: field.name(),
        groups,
        baseline: options.baseline.clone(),
        prices: options.prices.as_ref().map(|prices| PriceSource {
            file: prices.file.clone(),
            currency: prices.currency.clone(),
            source: prices.source.clone(),
            as_of: prices.as_of.clone(),
        }),
        instance_types: options
            .instance_types
            .as_ref()
            .map(|types| types.file.clone()),
        confounders,
        cases,
        blocked,
        only_in,
        left_out,
        status: Status::Ranked,
    };
    ranking.status = status(&ranking);
    tally(&mut ranking);
    Ok(ranking)
}

/// A misspelt metric would rank nothing and say nothing.
fn check_metrics(asked: &[String], found: &[Found<'_>]) -> Result<(), RankError> {
    let measurements = found
        .iter()
        .filter_map(|one| one.case.outcome.measurement());
    let metrics = measurements.flat_map(|measurement| &measurement.metrics);
    let known: BTreeSet<(String, String)> = metrics
        .map(|metric| (metric.key(), metric.name.clone()))
        .collect();
    let is_known = |name: &String| {
        known
            .iter()
            .any(|(key, plain)| key == name || plain == name)
    };
    match asked.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(RankError::NoSuchMetric {
            name: name.clone(),
            known: known.into_iter().map(|(key, _)| key).collect(),
        }),
    }
}

fn summarise(names: &[String], found: &[Found<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = names
        .iter()
        .map(|name| Group {
            name: name.clone(),
            runs: 0,
            machines: 0,
            best: 0,
            may_be_best: 0,
            ranked: 0,
            degraded: Vec::new(),
            note: None,
        })
        .collect();
    let mut runs = vec![BTreeSet::new(); names.len()];
    let mut machines = vec![BTreeSet::new(); names.len()];
    let mut degraded = vec![BTreeMap::<String, usize>::new(); names.len()];
    for one in found {
        runs[one.group].insert(one.run);
        machines[one.group].extend(one.report.hosts.iter().map(groups::identity));
        let measurement = one.case.outcome.measurement();
        let flags = measurement.iter().flat_map(|m| &m.validity.flags);
        let codes: BTreeSet<&str> = flags
            .filter(|flag| flag.severity == Severity::Degraded)
            .map(|flag| flag.code.as_str())
            .collect();
        for code in codes {
            *degraded[one.group].entry(code.to_owned()).or_default() += 1;
        }
        let group = &mut groups[one.group];
        if group.note.is_none() && group.name.contains("host ") {
            group.note = one
                .report
                .hosts
                .iter()
                .find_map(groups::why_unknown)
                .map(str::to_owned);
        }
    }
    for (index, group) in groups.iter_mut().enumerate() {
        group.runs = runs[index].len();
        group.machines = machines[index].len();
        group.degraded = std::mem::take(&mut degraded[index]).into_iter().collect();
    }
    groups
}

/// What differs between the environments of the groups, beside what they are grouped by.
fn confounders(
    names: &[String],
    found: &[Found<'_>],
    surroundings: &Surroundings,
    field: &Field,
) -> Vec<Confounder> {
    let mut runs = vec![BTreeSet::new(); names.len()];
    for one in found {
        runs[one.group].insert(one.run);
    }
    let groups: Vec<Values> = runs
        .into_iter()
        .map(|runs| surroundings.values(runs))
        .collect();
    named(
        environment::confounders_among(&groups, &field.axes()),
        names,
    )
}

/// What was really used in a case and differs between the groups. A fact that varies among the runs
/// of one group is an outcome, not a setting, and is passed over.
fn fact_confounders(names: &[String], found: &[Found<'_>], field: &Field) -> Vec<Confounder> {
    let mut by_group: BTreeMap<usize, Values> = BTreeMap::new();
    for one in found {
        if let Some(measurement) = one.case.outcome.measurement() {
            let values = by_group.entry(one.group).or_default();
            gather(values, fact_fields(&measurement.facts));
        }
    }
    let (groups, values): (Vec<usize>, Vec<Values>) = by_group.into_iter().unzip();
    let names: Vec<String> = groups
        .into_iter()
        .map(|group| names[group].clone())
        .collect();
    let mut differing = environment::confounders_among(&values, &field.axes());
    differing.retain(|(_, values)| values.iter().all(|values| values.len() == 1));
    named(differing, &names)
}

fn named(fields: Vec<(String, Vec<BTreeSet<String>>)>, names: &[String]) -> Vec<Confounder> {
    fields
        .into_iter()
        .map(|(field, values)| Confounder {
            field,
            values: values
                .into_iter()
                .zip(names)
                .map(|(values, group)| GroupValues {
                    group: group.clone(),
                    values: values.into_iter().collect(),
                })
                .collect(),
        })
        .collect()
}

fn left_out(
    of_cases: BTreeMap<[String; 3], (String, usize)>,
    without: BTreeMap<String, BTreeSet<usize>>,
    twice: usize,
) -> Vec<LeftOut> {
    let every = || "every case".to_owned();
    let without = without.into_iter().map(|(why, runs)| LeftOut {
        group: None,
        case: every(),
        why,
        runs: runs.len(),
    });
    let twice = (twice > 0).then(|| LeftOut {
        group: None,
        case: every(),
        why: "given twice, and a run counts once".to_owned(),
        runs: twice,
    });
    let of_cases = of_cases
        .into_iter()
        .map(|([group, case, _], (why, runs))| LeftOut {
            group: Some(group),
            case,
            why,
            runs,
        });
    twice.into_iter().chain(without).chain(of_cases).collect()
}

/// The worst of everything: what cannot be compared, then what cannot be told.
fn status(ranking: &Ranking) -> Status {
    let metrics = || ranking.cases.iter().flat_map(|case| &case.metrics);
    let lacking = |metric: &RankedMetric| {
        let placed = metric
            .standings
            .iter()
            .filter(|standing| standing.place.is_some());
        placed.count() < metric.standings.len().max(2)
    };
    if !ranking.blocked.is_empty() {
        Status::Incomparable
    } else if metrics().next().is_none() || metrics().any(lacking) {
        Status::Insufficient
    } else {
        Status::Ranked
    }
}

/// Counts for each group in how many metrics it comes first.
fn tally(ranking: &mut Ranking) {
    let metrics = ranking.cases.iter().flat_map(|case| &case.metrics);
    for metric in metrics {
        let placed = metric
            .standings
            .iter()
            .filter_map(|s| Some((&s.group, s.place?)));
        let placed: Vec<_> = placed.collect();
        if placed.len() < 2 {
            continue;
        }
        for (name, place) in placed {
            let Some(group) = ranking.groups.iter_mut().find(|group| group.name == *name) else {
                continue;
            };
            group.ranked += 1;
            match (place.first, place.last) {
                (1, 1) => group.best += 1,
                (1, _) => group.may_be_best += 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
