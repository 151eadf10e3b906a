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
mod ranking;

pub use cost::{Front, Standpoint};
pub use document::DocumentError;
pub use instance_types::{InstanceTypes, Limit, TypeLimits};
pub use limits::Share;
pub use prices::{EXAMPLE as PRICES_EXAMPLE, Prices};
pub use ranking::{
    Blocked, Confounder, Group, GroupValues, LeftOut, OnlyIn, PerPrice, Place, PriceSource,
    RankError, RankedCase, RankedMetric, Ranking, Standing, Status,
};

use crate::compare::fields::{Surroundings, Values, fact_fields, gather};
use crate::compare::{Axis, environment};
use crate::model::{Report, Severity};
use crate::stats::false_discovery;
use groups::{Field, Found, Grouped};
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
